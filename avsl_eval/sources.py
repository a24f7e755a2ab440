"""Several sources at once: which predicted map belongs to which source, and how good it is.

Conventions
-----------
A sample has K true sources, each a binary map, and P predicted ones, each a map of scores and a mask; P
need not be K and nothing says which is which. `score_sample` matches them one to one so that the sum of IoU
is largest (ties by the sum of average precision), as Hu et al., Mix and Localize, CVPR 2022, do. A true
source without a match has IoU 0 and average precision 0; so have the sources of a sample without any
prediction, which Kim et al., Learning to Visually Localize Sound Sources from Mixtures without Prior Source
Knowledge, CVPR 2024, drop. Predictions that match nothing are counted (``n_extra``) and cost nothing.

*Average precision* of pixels (`pixel_average_precision`) is ``sum_i (R_i - R_{i-1}) P_i`` over the distinct
scores in descending order, pixels of equal score together, without interpolation: scikit-learn's
``average_precision_score``.

Metrics (fractions; larger is better)
-------------------------------------
``ciou@0.3``
    The fraction of true sources whose match has IoU >= 0.3.
``auc``
    The area under the curve "fraction of true sources with IoU >= x", as in `avsl_eval.ciou`.
``cap``
    The mean average precision of the matches, over true sources (class-aware).
``piap``
    The mean over samples of the average precision of the sum of all maps against the union of all true
    sources (permutation-invariant).

The two evaluators above differ from each other, and from this one, in details: Kim et al. match greedily in
the order of the predictions, and take cap and piap of the masks, not of the scores. The latter is had by
giving masks as maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import AUC_THRESHOLDS

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

IOU_THRESHOLD = 0.3

_TIE = 1e-12
"""Weight of average precision against IoU in the matching: it decides ties only."""


@dataclass(frozen=True)
class SampleScores:
    """Hold the scores of one sample.

    Parameters
    ----------
    match : int64 [K]
        Index of the prediction that each true source got, -1 for none.
    iou, ap : float64 [K]
        Of the matches, 0 without one.
    piap
        Average precision of the sum of all maps, 0 without a prediction.
    n_predicted
        P.
    """

    match: Ints
    iou: Float64
    ap: Float64
    piap: float
    n_predicted: int


@dataclass(frozen=True)
class SourceStatistics:
    """Hold sums over samples, of which the metrics are ratios; those of disjoint sets of samples add up.

    Parameters
    ----------
    n_samples, n_sources, n_extra
        Samples, true sources, and predictions that match none.
    n_unanswered
        Samples without any prediction.
    found
        True sources whose match has IoU >= 0.3.
    reached : int64 [21]
        True sources that reach each threshold of the AUC.
    ap, piap
        Sums of average precision, over true sources and over samples.
    """

    n_samples: int
    n_sources: int
    n_extra: int
    n_unanswered: int
    found: int
    reached: Ints
    ap: float
    piap: float

    @classmethod
    def zero(cls) -> SourceStatistics:
        """Return the statistics of no sample."""
        return cls(0, 0, 0, 0, 0, np.zeros(len(AUC_THRESHOLDS), np.int64), 0.0, 0.0)

    @classmethod
    def of(cls, sample: SampleScores) -> SourceStatistics:
        """Return the statistics of one sample."""
        return cls(
            n_samples=1,
            n_sources=len(sample.match),
            n_extra=sample.n_predicted - int((sample.match >= 0).sum()),
            n_unanswered=int(sample.n_predicted == 0),
            found=int((sample.iou >= IOU_THRESHOLD).sum()),
            reached=(sample.iou[:, None] >= AUC_THRESHOLDS).sum(axis=0),
            ap=float(sample.ap.sum()),
            piap=sample.piap,
        )

    def __add__(self, other: SourceStatistics) -> SourceStatistics:
        return SourceStatistics(
            self.n_samples + other.n_samples,
            self.n_sources + other.n_sources,
            self.n_extra + other.n_extra,
            self.n_unanswered + other.n_unanswered,
            self.found + other.found,
            self.reached + other.reached,
            self.ap + other.ap,
            self.piap + other.piap,
        )

    def metrics(self) -> dict[str, float]:
        """Compute the metrics.

        Returns
        -------
        dict
            ``ciou@0.3``, ``auc``, ``cap`` and ``piap``; empty without a true source.
        """
        if not self.n_sources:
            return {}
        return {
            "ciou@0.3": self.found / self.n_sources,
            "auc": float(np.trapezoid(self.reached / self.n_sources, AUC_THRESHOLDS)),
            "cap": self.ap / self.n_sources,
            "piap": self.piap / self.n_samples,
        }


def pixel_average_precision(truth: Bools, scores: Floats) -> float:
    """Compute the average precision of pixels.

    Parameters
    ----------
    truth : bool, any shape
        Pixels of the source.
    scores : float, the same shape
        Larger where the source is; finite, any range.

    Returns
    -------
    float
        In [0, 1]; the share of true pixels where all scores are equal, 0 where there is no true pixel.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> pixel_average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.1])).__round__(3)
    0.833
    """
    if truth.shape != scores.shape:
        raise ValueError(f"truth has shape {truth.shape} and scores {scores.shape}; they must be equal")
    return _Ranking.of(scores).average_precision(truth)


@dataclass(frozen=True)
class _Ranking:
    """Hold the pixels of a map from the largest score down: sorted once, compared with every true source."""

    order: NDArray[np.intp]
    last: NDArray[np.intp]
    """Where each group of equal scores ends."""

    @classmethod
    def of(cls, scores: Floats) -> _Ranking:
        order = np.argsort(scores, axis=None)[::-1]
        ranked = scores.ravel()[order]
        # A group of equal scores ends where the next score is another.
        return cls(order, np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1))

    def average_precision(self, truth: Bools) -> float:
        if not self.order.size:
            return 0.0
        hits = np.cumsum(truth.ravel()[self.order])[self.last]
        if not hits[-1]:
            return 0.0
        return float(np.sum(np.diff(hits, prepend=0) * hits / (self.last + 1)) / hits[-1])


def best_assignment(gain: Float64) -> Ints:
    """Match rows to columns one to one so that the sum of gains is largest.

    Parameters
    ----------
    gain : float64 [K, P]
        What matching row k with column p gains; finite.

    Returns
    -------
    int64 [K]
        Column of each row, -1 for the rows left over where K > P.

    Notes
    -----
    Kuhn (1955) and Munkres (1957) in the form of shortest augmenting paths, O(K^2 P) steps: sources are
    few, and scipy is not needed.

    Examples
    --------
    >>> best_assignment(np.array([[0.9, 0.8], [0.7, 0.1]])).tolist()
    [1, 0]
    """
    n_rows, n_columns = gain.shape
    if n_rows > n_columns:
        of_column = best_assignment(gain.T)
        out = np.full(n_rows, -1, np.int64)
        out[of_column] = np.arange(n_columns)
        return out
    # Row and column 0 stand for "free"; cost - row_price - column_price >= 0, and = 0 on matched pairs.
    cost = np.zeros((n_rows + 1, n_columns + 1))
    cost[1:, 1:] = -gain
    row_price, column_price = np.zeros(n_rows + 1), np.zeros(n_columns + 1)
    row_of = np.zeros(n_columns + 1, np.int64)
    for row in range(1, n_rows + 1):
        row_of[0], column = row, 0
        distance = np.full(n_columns + 1, np.inf)
        came_from = np.zeros(n_columns + 1, np.int64)
        done = np.zeros(n_columns + 1, bool)
        while row_of[column]:
            done[column] = True
            at = row_of[column]
            reduced = cost[at] - row_price[at] - column_price
            closer = ~done & (reduced < distance)
            distance[closer], came_from[closer] = reduced[closer], column
            open_columns = np.flatnonzero(~done)
            nearest = open_columns[distance[open_columns].argmin()]
            step = distance[nearest]
            row_price[row_of[done]] += step
            column_price[done] -= step
            distance[~done] -= step
            column = int(nearest)
        while column:  # flip the path: each column takes the row that its predecessor had
            row_of[column] = row_of[came_from[column]]
            column = int(came_from[column])
    out = np.empty(n_rows, np.int64)
    taken = np.flatnonzero(row_of[1:])
    out[row_of[1:][taken] - 1] = taken
    return out


def score_sample(truth: Bools, masks: Bools, maps: Floats) -> SampleScores:
    """Match the predicted sources of a sample to the true ones, and score them.

    Parameters
    ----------
    truth : bool [K, h, w]
        True sources, K >= 1.
    masks : bool [P, h, w]
        Masks of the predicted sources, P >= 0.
    maps : float [P, h, w]
        Their scores, larger where the source is, comparable with each other.

    Returns
    -------
    SampleScores
        Of this sample.

    Raises
    ------
    ValueError
        If shapes do not agree, or there is no true source.

    Examples
    --------
    >>> truth = np.array([[[True, False, False]], [[False, False, True]]])
    >>> maps = np.array([[[0.1, 0.2, 0.9]], [[0.8, 0.3, 0.1]]])
    >>> scores = score_sample(truth, maps > 0.5, maps)
    >>> scores.match.tolist(), scores.iou.tolist(), scores.piap
    ([1, 0], [1.0, 1.0], 1.0)
    """
    if masks.shape != maps.shape or truth.ndim != 3 or truth.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"truth has shape {truth.shape}, masks {masks.shape} and maps {maps.shape}; expected [K, h, w], "
            "[P, h, w] and [P, h, w]"
        )
    n_true, n_predicted = len(truth), len(maps)
    if not n_true:
        raise ValueError("a sample without a true source cannot be scored; leave it out")
    iou, ap = np.zeros((n_true, n_predicted)), np.zeros((n_true, n_predicted))
    for p, scores in enumerate(maps):
        ranking = _Ranking.of(scores)
        for k, source in enumerate(truth):
            union = np.count_nonzero(source | masks[p])
            iou[k, p] = np.count_nonzero(source & masks[p]) / union if union else 0.0
            ap[k, p] = ranking.average_precision(source)
    match = best_assignment(iou + _TIE * ap)
    rows = np.flatnonzero(match >= 0)
    matched_iou, matched_ap = np.zeros(n_true), np.zeros(n_true)
    matched_iou[rows], matched_ap[rows] = iou[rows, match[rows]], ap[rows, match[rows]]
    anywhere = np.asarray(truth.any(axis=0))
    # Sorted, so that rounding is the same in whatever order the maps come.
    together = np.sort(maps, axis=0).sum(axis=0, dtype=np.float64)
    piap = pixel_average_precision(anywhere, together) if n_predicted else 0.0
    return SampleScores(match, matched_iou, matched_ap, piap, n_predicted)
