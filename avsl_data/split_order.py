"""The orders that splits are cut from: by a hash, evenly over the classes, the same everywhere.

A budget is the beginning of an order, so that a smaller one is part of a larger one. Everything here works on
whole columns; ten million clips are ordered in seconds.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avsl_data.clip_table import codes_of, hashes_of
from avsl_data.errors import DataInputError
from avsl_data.ids import hash_of, shown

Budget = int | float
"""A number of clips, or a fraction in (0, 1] of the recipe's training clips."""


def parse_budget(text: str) -> Budget:
    """Read a label budget.

    Parameters
    ----------
    text
        Digits only for a number of clips; with a point or a percent sign, a fraction.

    Returns
    -------
    int or float
        Clips, or a fraction in (0, 1].

    Raises
    ------
    DataInputError
        If it is neither, or out of range.

    Examples
    --------
    >>> parse_budget("0.03"), parse_budget("3%"), parse_budget("256")
    (0.03, 0.03, 256)
    """
    if text.isascii() and text.isdigit():
        if int(text) > 0:
            return int(text)
    elif text.isascii():
        try:
            fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            fraction = 0.0
        if 0 < fraction <= 1:
            return fraction
    raise DataInputError(
        f"--labels {shown(text)} is no budget: give a number of clips from 1 (256) or a fraction up "
        "to 1.0 (0.03 or 3%)"
    )


def stratified_order(
    keys: pa.Array | pa.ChunkedArray, labels: pa.Array | pa.ChunkedArray, seed: int, salt: str
) -> NDArray[np.int64]:
    """Order units by a hash, evenly over the classes.

    Parameters
    ----------
    keys : [n] of string
        Distinct names of the units, such as clip ids; in an order of their own, best sorted.
    labels : [n] of string
        Class of each unit.
    seed, salt
        Of the hash.

    Returns
    -------
    int64 [n]
        Positions of the units. Every beginning holds each class in nearly its share of the whole: the unit
        of rank r (by hash) among n of its class stands at (r + 1/2) / n; classes that tie are ordered by
        the hash of their name.

    Examples
    --------
    >>> keys, labels = pa.array(["a", "b", "c", "d"]), pa.array(["dog", "dog", "dog", "cat"])
    >>> stratified_order(keys, labels, 0, "labels").tolist()
    [1, 3, 2, 0]
    """
    hashes = hashes_of(keys, salt, seed)
    (classes,), names = codes_of(labels)
    by_class = np.lexsort((hashes, classes))  # stable: equal hashes stay in the order of the keys
    sizes = np.bincount(classes, minlength=len(names))
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(len(classes), np.int64)
    ranks[by_class] = np.arange(len(classes)) - np.repeat(starts, sizes)
    places = (ranks + 0.5) / sizes[classes]
    ties = np.array([hash_of(salt, seed, "class", name) for name in names.to_pylist()], np.uint64)
    alphabet = np.argsort(pc.sort_indices(names).to_numpy()) if len(names) else np.empty(0, np.int64)
    return np.lexsort((alphabet[classes], ties[classes], places))


def video_units(videos: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], pa.Array]:
    """Group clips by their video.

    Parameters
    ----------
    videos : [n] of string
        Video id of each clip.

    Returns
    -------
    unit : int64 [n]
        Number of each clip's video.
    first : int64 [m]
        Position of each video's first clip.
    names : pyarrow.Array [m] of string
        Video id of each number.
    """
    (unit,), names = codes_of(videos)
    first = np.unique(unit, return_index=True)[1].astype(np.int64)
    return unit, first, names


def budget_count(budget: Budget, n_clips: int) -> int:
    """Return how many clips a budget is.

    Parameters
    ----------
    budget
        A count, or a fraction of the clips.
    n_clips
        Clips that there are.

    Returns
    -------
    int
        A fraction gives at least 1.

    Raises
    ------
    DataInputError
        If there are not so many.
    """
    count = budget if isinstance(budget, int) else max(1, round(budget * n_clips))
    if count > n_clips:
        raise DataInputError(f"--labels {count} is more than the {n_clips} training clips that have boxes")
    return count
