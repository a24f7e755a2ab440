"""What readers share: checks of what a file declares, before anything of that size is allocated."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import MOST_IDS
from avsl_eval.errors import EvalInputError, brief, first_few
from avsl_eval.masks import LARGEST_SIDE
from avsl_eval.predictions import KNOWN_FORMATS, MOST_SOURCES

Result = TypeVar("Result")

MOST_DEFLATED = 1032
"""Bytes that a byte of DEFLATE can at most stand for: a constant map comes near, nothing can be beyond."""

LARGEST_META = 16 * 1024**2
"""Bytes of what a program may say about itself."""


class Problems:
    """Collect what is wrong with a file, so that one error can name all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, step: Callable[[], Result], otherwise: Result) -> Result:
        """Run a step; keep its problems and return ``otherwise`` if it fails."""
        try:
            return step()
        except EvalInputError as error:
            self.found += error.problems
            return otherwise

    def raise_any(self) -> None:
        """Raise one error of all problems, if there are any."""
        if self.found:
            raise EvalInputError.of(self.found)


def count(shape: Iterable[int]) -> int:
    """Return the number of elements, in Python's integers: a forged shape cannot overflow."""
    return math.prod(shape)


def check_names(needed: set[str], names: Iterable[str], where: str) -> None:
    """Check that the parts of a file are there.

    Parameters
    ----------
    needed, names
        What should be there, and what is.
    where
        The file, for the message.

    Raises
    ------
    EvalInputError
        If something is lacking.
    """
    held = sorted(names)
    if not held:
        raise EvalInputError(f"{where} hold no array; expected {KNOWN_FORMATS}")
    if lacking := sorted(needed - set(held)):
        raise EvalInputError(
            f"{where} lack {' and '.join(lacking)}; they hold {first_few([name[:80] for name in held])}; "
            f"expected {KNOWN_FORMATS}"
        )


def check_shape(shape: Sequence[int], n: int | None, where: str) -> None:
    """Check the declared shape of all heatmaps together.

    Parameters
    ----------
    shape
        As declared.
    n
        Number of ids, None if they are not known.
    where
        The file, for the message.

    Raises
    ------
    EvalInputError
        If it is neither [N, h, w] nor [N, K, h, w], or a length is not plausible.
    """
    shape = tuple(shape)
    if len(shape) not in (3, 4):
        hint = "; drop the axes of length 1" if len(shape) > 4 and 1 in shape[1:] else ""
        raise EvalInputError(
            f"{where}: heatmap has shape {shape}; expected [N, h, w]"
            f"{f' with N = {n}' if n is not None else ''}, one map per clip{hint}"
        )
    if n is not None and shape[0] != n:
        raise EvalInputError(f"{where}: {n} clip_id but {shape[0]} heatmap; N must be the same")
    plausible = all(1 <= side <= LARGEST_SIDE for side in shape[-2:]) and 0 <= shape[0] <= MOST_IDS
    if not plausible or (len(shape) == 4 and not 1 <= shape[1] <= MOST_SOURCES):
        raise EvalInputError(
            f"{where}: heatmap has shape {shape}, maps of {shape[1:]}; expected sides of 1 to {LARGEST_SIDE}"
            f" and at most {MOST_SOURCES} sources; is the file damaged?"
        )


def check_numeric(dtype: np.dtype[Any], first_id: str, where: str) -> None:
    """Check that heatmaps are numbers; the message names the first clip."""
    if dtype.kind not in "fiub":
        hint = "; take their absolute or real values" if dtype.kind == "c" else ""
        raise EvalInputError(f"{where}: heatmap of clip {first_id} has dtype {dtype}; expected floats{hint}")


def as_text(ids: NDArray[Any], where: str) -> list[str]:
    """Convert an array of ids to text.

    Parameters
    ----------
    ids
        Text or bytes, [N].
    where
        The file, for the message.

    Returns
    -------
    list of str
        The ids.

    Raises
    ------
    EvalInputError
        If they are something else.
    """
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        raise EvalInputError(
            f"{where}: clip_id has shape {ids.shape} and dtype {ids.dtype}; expected text, [N]"
        )
    if ids.dtype.kind == "U" and ids.dtype.itemsize and ids.size:
        points = np.ascontiguousarray(ids).view(np.dtype(np.uint32).newbyteorder(ids.dtype.byteorder))
        if points.max() > sys.maxunicode:  # of which NumPy would make invalid strings
            raise EvalInputError(f"{where}: a text holds code points beyond Unicode; the file is damaged")
    try:
        return [i.decode("utf-8") if isinstance(i, bytes) else i for i in ids.tolist()]
    except ValueError as error:
        raise EvalInputError(f"{where}: clip_id is not Unicode text: {brief(error)}") from error


def check_confidence(
    clip_ids: Sequence[str], values: Sequence[Any] | NDArray[Any], where: str
) -> dict[str, float]:
    """Check one confidence per clip.

    Parameters
    ----------
    clip_ids, values
        Ids and confidences, in the same order.
    where
        The file, for the message.

    Returns
    -------
    dict
        Clip id to confidence.

    Raises
    ------
    EvalInputError
        If the numbers differ, or a confidence is not a finite number.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.shape != (len(clip_ids),):
        raise EvalInputError(
            f"{where}: confidence has shape {array.shape} and dtype {array.dtype}; expected one number per "
            "clip, "
            f"[{len(clip_ids)}]"
        )
    finite = np.isfinite(array)
    if not finite.all():
        raise EvalInputError(
            f"{where}: confidence of clip {clip_ids[int(np.argmin(finite))]} is NaN or infinite"
        )
    return dict(zip(clip_ids, array.astype(np.float64).tolist(), strict=True))


def read_confidence(path: Path, clip_ids: Sequence[str]) -> dict[str, float]:
    """Read a ``confidence.csv``: header ``clip_id,confidence``, one line per clip.

    Parameters
    ----------
    path
        The file.
    clip_ids
        The clips that must be in it, and no others.

    Returns
    -------
    dict
        Clip id to confidence, in the order of ``clip_ids``.

    Raises
    ------
    EvalInputError
        If it is malformed, or lacks, repeats or adds a clip.
    """
    where = f"predictions {path}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvalInputError(f"{where} cannot be read: {brief(error)}") from error
    if not rows or rows[0] != ["clip_id", "confidence"] or any(len(row) != 2 for row in rows):
        raise EvalInputError(f"{where}: expected two columns with the header clip_id,confidence")
    try:
        found = {clip_id: float(value) for clip_id, value in rows[1:]}
    except ValueError as error:
        raise EvalInputError(f"{where}: a confidence is not a number: {brief(error)}") from error
    if len(found) < len(rows) - 1:
        raise EvalInputError(f"{where}: a clip occurs more than once; keep one line of each")
    wanted = set(clip_ids)
    if found.keys() != wanted:
        lacking = [i for i in clip_ids if i not in found]
        extra = [i[:80] for i in found if i not in wanted]
        raise EvalInputError(
            f"{where}: {len(lacking)} heatmaps have no confidence ({first_few(lacking, 2) or 'none'}), "
            f"{len(extra)} confidences have no heatmap ({first_few(map(repr, extra), 2) or 'none'})"
        )
    return check_confidence(clip_ids, [found[i] for i in clip_ids], where)


def parse_meta(text: str, where: str) -> dict[str, Any]:
    """Parse what the predicting program says about itself.

    Parameters
    ----------
    text
        JSON.
    where
        The file, for the message.

    Returns
    -------
    dict
        Its content; empty if it is JSON of something else.

    Raises
    ------
    EvalInputError
        If it is not JSON.
    """
    try:
        meta = json.loads(text, parse_constant=str)  # JSON proper has no NaN
    except (ValueError, RecursionError) as error:
        raise EvalInputError(f"{where}: meta is not JSON: {brief(error)}") from error
    return meta if isinstance(meta, dict) else {}
