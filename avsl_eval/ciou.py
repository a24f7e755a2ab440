"""cIoU and its three summaries, from sufficient statistics.

Conventions
-----------
The ground truth g of a pixel is in [0, 1]: 0 or 1 where boxes are united (VGG-SS), 0, 1/2 or 1 where
annotators vote (Flickr). With a mask m::

    cIoU = sum(m g) / ( sum(g) + sum(m [g = 0]) )

so that a pixel which one of two annotators marked is never a false positive. With binary g this is
intersection over union.

Metrics (fractions; larger is better)
-------------------------------------
``ciou@0.5``
    The fraction of clips with cIoU >= 0.5. Papers call it cIoU, CIoU, AP50 or LocAcc.
``auc``
    The area under the curve "fraction of clips with cIoU >= x" by the trapezoid rule over x = 0, 0.05, ...,
    1.
``mean_iou``
    The mean cIoU.

Where both mask and truth are empty, cIoU is 0/0: NaN. Comparisons make it a failure at every threshold (0
too), and the mean counts it as 0. All three are means over clips of one number per clip, which is what
`per_clip_metrics` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

METRICS = ("ciou@0.5", "auc", "mean_iou")
"""Names of the metrics, in the order of `per_clip_metrics`' columns."""

# The float product matters: 0.05 * 3 is 0.15000000000000002, and a cIoU of 0.15 fails there.
AUC_THRESHOLDS: Float64 = 0.05 * np.arange(21, dtype=np.float64)
_AREAS: Float64 = np.asarray(np.trapezoid(np.tri(22, 21, -1), AUC_THRESHOLDS, axis=1))
"""A clip's area under the curve, by how many thresholds its cIoU reaches."""


@dataclass(frozen=True)
class CiouStatistics:
    """Hold what a cIoU is the ratio of, for N clips.

    Parameters
    ----------
    intersection : float64 [N]
        sum(m g), in pixels.
    truth : float64 [N]
        sum(g), in pixels.
    false_positive : float64 [N]
        sum(m [g = 0]), in pixels.
    """

    intersection: Float64
    truth: Float64
    false_positive: Float64

    @classmethod
    def zeros(cls, n: int) -> CiouStatistics:
        """Return the statistics of n clips without truth and without prediction.

        Parameters
        ----------
        n
            Number of clips.

        Returns
        -------
        CiouStatistics
            All zero.
        """
        return cls(np.zeros(n), np.zeros(n), np.zeros(n))

    @property
    def ciou(self) -> Float64:
        """The cIoU of each clip, NaN where it is 0/0."""
        return ciou_of(self.intersection, self.truth, self.false_positive)

    def record(
        self,
        rows: Sequence[int] | NDArray[np.integer[Any]],
        masks: NDArray[np.bool_],
        levels: NDArray[np.uint8],
        unit: int,
    ) -> None:
        """Fill in the rows of some clips.

        Parameters
        ----------
        rows : int [n]
            Which rows.
        masks : bool [n, S, S]
            Predicted masks.
        levels : uint8 [n, S, S]
            Ground truth times `unit`, see `avsl_eval.truth.rasterise`.
        unit
            1 (g is 0 or 1) or 2 (g is 0, 1/2 or 1).

        Examples
        --------
        >>> statistics = CiouStatistics.zeros(1)
        >>> mask = np.array([[[True, True, False, False]]])
        >>> statistics.record([0], mask, np.array([[[1, 0, 2, 0]]], np.uint8), unit=2)
        >>> float(statistics.ciou[0])  # 0.5 / (1.5 + 1)
        0.2
        """
        for row, mask, level in zip(rows, masks, levels, strict=True):
            # One flat count per level is some ten times faster than a product in floats.
            covered = np.count_nonzero(mask & (level > 0))
            weighted, total = covered, np.count_nonzero(level)
            for step in range(2, unit + 1):
                weighted += np.count_nonzero(mask & (level >= step))
                total += np.count_nonzero(level >= step)
            self.intersection[row] = weighted / unit
            self.truth[row] = total / unit
            self.false_positive[row] = np.count_nonzero(mask) - covered


def ciou_of(intersection: Float64, truth: Float64, false_positive: Float64) -> Float64:
    """Compute cIoU from its statistics.

    Parameters
    ----------
    intersection, truth, false_positive : float64 [...]
        sum(m g), sum(g) and sum(m [g = 0]).

    Returns
    -------
    float64 [...]
        cIoU, NaN where it is 0/0.

    Examples
    --------
    >>> ciou_of(np.array([1.0, 0.0]), np.array([1.5, 0.0]), np.array([1.0, 0.0])).tolist()
    [0.4, nan]
    """
    denominator = truth + false_positive
    out = np.full(denominator.shape, np.nan)
    np.divide(intersection, denominator, out=out, where=denominator > 0)
    return out


def best_column(ciou: Float64) -> int:
    """Choose the threshold that a sweep reports.

    Parameters
    ----------
    ciou : float64 [N, K]
        cIoU of each clip at each threshold.

    Returns
    -------
    int
        The column with the largest ciou@0.5, the first of equals.

    Examples
    --------
    >>> best_column(np.array([[0.4, 0.6, 0.9], [0.1, 0.2, 0.3]]))
    1
    """
    return int((ciou >= 0.5).sum(axis=0).argmax())


def per_clip_metrics(ciou: Float64) -> Float64:
    """Turn cIoU values into the numbers whose means are the metrics.

    Parameters
    ----------
    ciou : float64 [N]
        cIoU of each clip, NaN for 0/0.

    Returns
    -------
    float64 [N, 3]
        Columns in the order of `METRICS`: [cIoU >= 0.5], the clip's own area under [cIoU >= x], and cIoU with
        0 for NaN.

    Examples
    --------
    >>> per_clip_metrics(np.array([0.6, np.nan])).round(3).tolist()
    [[1.0, 0.575, 0.6], [0.0, 0.0, 0.0]]
    """
    reached = AUC_THRESHOLDS.searchsorted(ciou, "right")  # all up to the last one that it reaches
    reached[np.isnan(ciou)] = 0
    return np.column_stack([ciou >= 0.5, _AREAS[reached], np.nan_to_num(ciou, nan=0.0)])


def metrics(ciou: Float64) -> dict[str, float]:
    """Summarise cIoU values.

    Parameters
    ----------
    ciou : float64 [N]
        cIoU of each clip, NaN for 0/0; at least one.

    Returns
    -------
    dict
        Metric name to value.

    Examples
    --------
    >>> metrics(np.array([0.6, 0.4]))["ciou@0.5"]
    0.5
    """
    return dict(zip(METRICS, per_clip_metrics(ciou).mean(axis=0).tolist(), strict=True))
