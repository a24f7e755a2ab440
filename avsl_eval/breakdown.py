"""Scores of parts of a test set: by class, size, number of boxes, or any subsets.

Every metric here is a mean over clips of one number per clip (see `avsl_eval.ciou.per_clip_metrics`), so
that a part's score is the mean over its clips. A row is ``{"name", "n", "metrics": {metric: mean}}``; ``n``
says how much to believe it: the 95 % interval of a share from 20 clips is some 40 points wide.

Sources: size classes are SLAVC's (`avsl_eval.detection.SIZES`); heard and unheard classes EZ-VSL's. Classes
of boxes and the order of rows are this project's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import LONGEST_ID
from avsl_eval.detection import SIZES, subset_rows
from avsl_eval.errors import EvalInputError

Float64 = NDArray[np.float64]
Values = Mapping[str, Float64]
"""Metric to float64 [N], one number per clip."""

Row = dict[str, Any]

MANY_BOXES = 5
"""So many boxes and more share a row."""


def _row(name: str, values: Values, chosen: NDArray[Any]) -> Row:
    return {
        "name": name,
        "n": int(np.count_nonzero(chosen)) if chosen.dtype == bool else len(chosen),
        "metrics": {metric: float(column[chosen].mean()) for metric, column in values.items()},
    }


def by_label(labels: Sequence[str], values: Values) -> list[Row]:
    """Score each class.

    Parameters
    ----------
    labels
        Class of each clip; clips with an empty one are left out.
    values
        One number per clip for each metric.

    Returns
    -------
    list of dict
        Rows, the largest class first, equally large ones by name.

    Examples
    --------
    >>> rows = by_label(["dog", "cat", "dog"], {"ciou@0.5": np.array([1.0, 0.0, 0.0])})
    >>> [(row["name"], row["n"], row["metrics"]["ciou@0.5"]) for row in rows]
    [('dog', 2, 0.5), ('cat', 1, 0.0)]
    """
    members: dict[str, list[int]] = {}
    for clip, label in enumerate(labels):
        if label:
            members.setdefault(label, []).append(clip)
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_row(label, values, np.array(clips)) for label, clips in ordered]


def by_size(gt_area: Float64, values: Values) -> list[Row]:
    """Score each size class.

    Parameters
    ----------
    gt_area : float64 [N]
        sum(g) of each (sounding) clip in pixels of a 224 x 224 map.
    values
        One number per clip for each metric.

    Returns
    -------
    list of dict
        Rows from ``small`` to ``huge``; classes without a clip are left out.
    """
    rows = subset_rows(np.ones(len(gt_area), bool), gt_area)
    return [_row(name, values, rows[name]) for name in SIZES if rows[name].any()]


def by_boxes(n_boxes: Sequence[int] | NDArray[np.integer[Any]], values: Values) -> list[Row]:
    """Score clips by their number of boxes.

    Parameters
    ----------
    n_boxes : int [N]
        Number of usable boxes of each (sounding) clip.
    values
        One number per clip for each metric.

    Returns
    -------
    list of dict
        Rows ``0``, ``1``, ..., ``5 or more``; numbers without a clip are left out.
    """
    capped = np.minimum(np.asarray(n_boxes), MANY_BOXES)
    return [
        _row(f"{n} or more" if n == MANY_BOXES else str(n), values, capped == n)
        for n in np.unique(capped).tolist()
    ]


def by_subset(clip_ids: Sequence[str], subsets: Mapping[str, Collection[str]], values: Values) -> list[Row]:
    """Score given subsets, which may overlap and need not cover all clips.

    Parameters
    ----------
    clip_ids
        Id of each clip.
    subsets
        Name to the ids of its clips; ids that are not in the test set are ignored.
    values
        One number per clip for each metric.

    Returns
    -------
    list of dict
        Rows in the order given.

    Raises
    ------
    EvalInputError
        If a subset has no clip in common with the test set.

    Examples
    --------
    >>> rows = by_subset(["a", "b"], {"heard": ["b", "x"]}, {"auc": np.array([0.2, 0.6])})
    >>> rows[0]["n"], rows[0]["metrics"]["auc"]
    (1, 0.6)
    """
    rows = []
    for name, wanted in subsets.items():
        members = set(wanted)
        chosen = np.array([clip_id in members for clip_id in clip_ids], dtype=bool)
        if not chosen.any():
            example = next(iter(wanted), None)
            raise EvalInputError(
                f"subset {name!r} has no clip of the test set"
                + (
                    f": it holds ids like {example[:LONGEST_ID]!r}, the test set {clip_ids[0]!r}"
                    if example
                    else ": it is empty"
                )
            )
        rows.append(_row(name, values, chosen))
    return rows


def label_subsets(
    clip_ids: Sequence[str], labels: Sequence[str], classes: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    """Turn subsets of classes, such as heard and unheard, into subsets of clips.

    Parameters
    ----------
    clip_ids, labels
        Id and class of each clip.
    classes
        Name of the subset to its classes.

    Returns
    -------
    dict
        Name of the subset to the ids of its clips, for `by_subset`.

    Examples
    --------
    >>> label_subsets(["a", "b"], ["dog", "cat"], {"heard": {"cat"}, "unheard": {"dog"}})
    {'heard': ['b'], 'unheard': ['a']}
    """
    return {
        name: [i for i, label in zip(clip_ids, labels, strict=True) if label in wanted]
        for name, wanted in ((name, set(members)) for name, members in classes.items())
    }
