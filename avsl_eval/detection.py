"""Confidence-aware detection: whether a visible source sounds, and where.

Conventions
-----------
N clips. Every clip has a *confidence* c_i that something in the picture sounds; a *sounding* clip has at
least one box and a cIoU (see `avsl_eval.ciou`), a *silent* one has none and its cIoU is not looked at. At a
confidence threshold c and a cIoU threshold u::

                          c_i >= c                      c_i < c
    sounding, cIoU >= u   true positive                 false negative
    sounding, cIoU <  u   false positive                false negative
    silent                false positive                -

    P = TP / (TP + FP), 1 if nothing is detected      R = TP / (TP + FN), 1 if there is nothing to detect

A cIoU of NaN (0/0) is below every u. Note that a source which is found in the wrong place is a false positive
and never a false negative: R is not the share of sources that were found, and it is 1 at the lowest threshold
even of a model that finds nothing.

Source: Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source Localization (SLAVC), NeurIPS
2022, and its published evaluator, with which `average_precision`, `f1_list` and the subsets agree, quirks
included. What is named ``exact`` is this project's.

Metrics (fractions; larger is better)
-------------------------------------
See `detection_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import metrics as ciou_metrics

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

IOU_THRESHOLDS = (0.5, 0.75)

SIZES: dict[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 144**2),
    "huge": (144**2, float("inf")),
}
"""Bounds [low, high) of sum(g), in pixels of a 224 x 224 map. Where no box can be used, a clip is small."""

SUBSETS = ("all", "visible", *SIZES)
"""``all``: every clip. ``visible``: sounding clips. The sizes: sounding clips of that size."""

EVERYTHING = -1000.0
"""The published evaluator's confidence threshold that detects every clip."""


@dataclass(frozen=True)
class DetectionCounts:
    """Count detections at K thresholds; counts of disjoint sets of clips at the same thresholds add up.

    Parameters
    ----------
    true_positive, false_positive, false_negative : int64 [K]
        As defined at the top of the module.
    """

    true_positive: Counts
    false_positive: Counts
    false_negative: Counts

    @classmethod
    def zeros(cls, k: int) -> DetectionCounts:
        """Return the counts of no clip at k thresholds."""
        return cls(*(np.zeros(k, np.int64) for _ in range(3)))

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        return DetectionCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def precision(self) -> Float64:
        """TP / (TP + FP), 1 where nothing is detected."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive, 1.0)

    @property
    def recall(self) -> Float64:
        """TP / (TP + FN), 1 where there is nothing to detect."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative, 1.0)

    @property
    def f1(self) -> Float64:
        """2 P R / (P + R), 0 where P and R are 0."""
        precision, recall = self.precision, self.recall
        return _ratio(2 * precision * recall, precision + recall, 0.0)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any], otherwise: float) -> Float64:
    out = np.full(denominator.shape, otherwise)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def count_detections(
    sounding: Bools, ciou: Floats, confidence: Floats, thresholds: Floats, iou: float = 0.5
) -> DetectionCounts:
    """Count detections at several confidence thresholds.

    Parameters
    ----------
    sounding : bool [N]
        Whether a clip has at least one box (usable or not).
    ciou : float [N]
        cIoU, NaN for 0/0; of silent clips any value.
    confidence : float [N]
        Larger means more certain that a visible source sounds; finite, any range.
    thresholds : float [K]
        Confidences c, in any order.
    iou
        cIoU u that a correct location reaches.

    Returns
    -------
    DetectionCounts
        K counts each, in time O((N + K) log N).

    Raises
    ------
    ValueError
        If lengths differ or a confidence is NaN.

    Examples
    --------
    >>> sounding, ciou = np.array([True, True, False]), np.array([0.6, 0.2, 0.0])
    >>> found = count_detections(sounding, ciou, np.array([0.9, 0.4, 0.5]), np.array([0.5]))
    >>> [int(n[0]) for n in (found.true_positive, found.false_positive, found.false_negative)]
    [1, 1, 1]
    """
    _check(sounding, ciou, confidence)
    order = np.argsort(confidence, kind="stable")
    below = np.searchsorted(confidence[order], np.asarray(thresholds), side="left")
    correct = _before((sounding & (ciou >= iou))[order])
    true_positive = correct[-1] - correct[below]
    return DetectionCounts(
        true_positive=true_positive,
        false_positive=len(order) - below - true_positive,
        false_negative=_before(sounding[order])[below],
    )


def _before(flags: Bools) -> Counts:
    """Count the true flags before each of N + 1 positions."""
    return np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])


def _check(sounding: Bools, ciou: Floats, confidence: Floats) -> None:
    if not len(sounding) == len(ciou) == len(confidence):
        raise ValueError(
            f"one sounding flag, cIoU and confidence per clip: got {len(sounding)}, {len(ciou)} and "
            f"{len(confidence)}"
        )
    if np.isnan(confidence).any():
        raise ValueError(
            f"confidence of clip {int(np.isnan(confidence).argmax())} (counted from 0) is NaN; "
            "did the model divide by zero?"
        )


def average_precision(sounding: Bools, ciou: Floats, confidence: Floats, iou: float = 0.5) -> float:
    """Compute the published AP.

    Parameters
    ----------
    sounding, ciou, confidence, iou
        As for `count_detections`.

    Returns
    -------
    float
        With thresholds c_0 >= c_1 >= ..., every (N // 200)-th of the sorted confidences from the second
        largest down, and ``pmax_i = max(P_i, P_{i+1}, ...)``: the sum of ``pmax_i (R_{i+1} - R_i)``. In
        [0, 1]; 0 where there are fewer than two thresholds, or all confidences are equal.

    Notes
    -----
    The value depends on N through the thinning, leaves out what lies before R_0, and takes each step at its
    left, higher precision; see `exact_average_precision`.
    """
    _check(sounding, ciou, confidence)
    step = max(1, len(confidence) // 200)
    counts = count_detections(sounding, ciou, confidence, np.sort(confidence)[:-1][::-step], iou)
    envelope = _envelope(counts.precision)
    return float(np.sum(envelope[:-1] * np.diff(counts.recall)))


def _envelope(precision: Float64) -> Float64:
    """Return the largest precision at each position or after it."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def exact_curve(
    sounding: Bools, ciou: Floats, confidence: Floats, iou: float = 0.5
) -> tuple[Float64, DetectionCounts]:
    """Compute precision and recall at every distinct confidence.

    Parameters
    ----------
    sounding, ciou, confidence, iou
        As for `count_detections`.

    Returns
    -------
    thresholds : float64 [K]
        The distinct confidences, descending.
    counts : DetectionCounts
        At these.
    """
    thresholds = np.unique(confidence)[::-1].astype(np.float64)
    return thresholds, count_detections(sounding, ciou, confidence, thresholds, iou)


def exact_average_precision(
    sounding: Bools, ciou: Floats, confidence: Floats, iou: float = 0.5
) -> float | None:
    """Compute AP over every distinct confidence: this project's, with the published P and R.

    Parameters
    ----------
    sounding, ciou, confidence, iou
        As for `count_detections`.

    Returns
    -------
    float or None
        ``sum_i pmax_i (R_i - R_{i-1})`` with R_{-1} = 0, clips of equal confidence together: the area under
        the interpolated curve from recall 0 on (Everingham et al., PASCAL VOC, since 2010). None without a
        sounding clip.

    Examples
    --------
    >>> sounding, ciou = np.array([True, True, False]), np.array([0.6, 0.7, 0.0])
    >>> exact_average_precision(sounding, ciou, np.array([0.9, 0.1, 0.5])).__round__(3)
    0.833
    """
    if not sounding.any():
        return None
    counts = exact_curve(sounding, ciou, confidence, iou)[1]
    return float(np.sum(_envelope(counts.precision) * np.diff(counts.recall, prepend=0.0)))


def f1_list(sounding: Bools, ciou: Floats, confidence: Floats, iou: float = 0.5) -> list[float]:
    """Compute the published list of F1 values.

    Parameters
    ----------
    sounding, ciou, confidence, iou
        As for `count_detections`.

    Returns
    -------
    list of float
        F1 at every (N // 10)-th of the sorted confidences, from the smallest up, rounded to a tenth of a
        percent as it is printed. Its maximum is the published max-F1.
    """
    _check(sounding, ciou, confidence)
    step = max(1, len(confidence) // 10)
    f1 = count_detections(sounding, ciou, confidence, np.sort(confidence)[::step], iou).f1
    return [float(f"{100 * value:.1f}") / 100 for value in f1]


def subset_rows(sounding: Bools, gt_area: Floats) -> dict[str, Bools]:
    """Find the clips of each subset.

    Parameters
    ----------
    sounding : bool [N]
        Whether a clip has at least one box.
    gt_area : float [N]
        sum(g) in pixels of a 224 x 224 map.

    Returns
    -------
    dict
        Name (`SUBSETS`) to bool [N].

    Examples
    --------
    >>> rows = subset_rows(np.array([True, False]), np.array([5000.0, 0.0]))
    >>> {name: int(flags.sum()) for name, flags in rows.items()}
    {'all': 2, 'visible': 1, 'small': 0, 'medium': 1, 'large': 0, 'huge': 0}
    """
    rows = {"all": np.ones(len(sounding), bool), "visible": np.asarray(sounding, bool)}
    for name, (low, high) in SIZES.items():
        rows[name] = sounding & (gt_area >= low) & (gt_area < high)
    return rows


def detection_scores(
    sounding: Bools,
    ciou: Floats,
    confidence: Floats,
    gt_area: Floats,
    ious: Sequence[float] = IOU_THRESHOLDS,
    confidence_threshold: float = 0.5,
) -> dict[str, dict[str, Any]]:
    """Compute every detection metric of every subset.

    Parameters
    ----------
    sounding, ciou, confidence
        As for `count_detections`.
    gt_area : float [N]
        As for `subset_rows`.
    ious
        cIoU thresholds u.
    confidence_threshold
        Where ``f1`` is taken (the published default is 0.5).

    Returns
    -------
    dict
        Subset (`SUBSETS`) to ``n``, ``n_sounding``, ``auc`` (of its sounding clips) and, for every u, for
        example ``precision@0.5``:

        ``precision``
            P with every clip detected. Of ``visible`` it is the published "Precision" or LocAcc.
        ``ap``, ``max_f1``, ``f1_list``
            The published ones: `average_precision`, `f1_list` and its maximum.
        ``f1``
            F1 at `confidence_threshold`.
        ``accuracy_strict``
            The share of sounding clips with cIoU > u (the published ``precision_at_50``).
        ``ap_exact``, ``max_f1_exact``
            Over every distinct confidence; this project's.

        A value that no clip defines is None.

    Examples
    --------
    >>> scores = detection_scores(
    ...     np.array([True, False]), np.array([0.6, 0.0]), np.array([0.9, 0.1]), np.array([5000.0, 0.0])
    ... )
    >>> scores["all"]["precision@0.5"], scores["visible"]["precision@0.5"], scores["all"]["ap_exact@0.5"]
    (0.5, 1.0, 1.0)
    """
    sounding = np.asarray(sounding, bool)
    _check(sounding, ciou, confidence)
    return {
        name: _subset_scores(sounding[rows], ciou[rows], confidence[rows], ious, confidence_threshold)
        for name, rows in subset_rows(sounding, np.asarray(gt_area)).items()
    }


def _subset_scores(
    sounding: Bools, ciou: Floats, confidence: Floats, ious: Sequence[float], confidence_threshold: float
) -> dict[str, Any]:
    located = np.asarray(ciou[sounding], np.float64)
    scores: dict[str, Any] = {
        "n": len(sounding),
        "n_sounding": len(located),
        "auc": ciou_metrics(located)["auc"] if len(located) else None,
    }
    for u in ious:
        values: dict[str, Any] = dict.fromkeys(
            ("precision", "ap", "max_f1", "f1_list", "f1", "accuracy_strict", "ap_exact", "max_f1_exact")
        )
        if len(sounding):
            clips = (sounding, ciou, confidence)
            some = count_detections(*clips, np.array([EVERYTHING, confidence_threshold]), u)
            values["precision"], values["f1"] = float(some.precision[0]), float(some.f1[1])
            values["ap"] = average_precision(*clips, u)
            values["f1_list"] = f1_list(*clips, u)
            values["max_f1"] = max(values["f1_list"])
            values["max_f1_exact"] = float(exact_curve(*clips, u)[1].f1.max())
            values["ap_exact"] = exact_average_precision(*clips, u)
        if len(located):
            values["accuracy_strict"] = float(np.mean(located > u))
        scores |= {f"{name}@{u:g}": value for name, value in values.items()}
    return scores
