"""Confidence intervals of means over clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
_BLOCK = 100
"""Bootstrap samples that are drawn before they are multiplied."""


def mean_intervals(
    values: Float64, *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> Float64:
    """Compute percentile bootstrap intervals of the means of columns.

    Clips are drawn with replacement, all columns of a clip together. The interval says how much the value
    would move with another draw of test clips; it knows nothing of training seeds.

    Parameters
    ----------
    values : float64 [N, K]
        One row per clip, one column per metric.
    resamples
        Number of bootstrap samples.
    seed
        Of the draw; the same seed gives the same interval.
    level
        Coverage, for example 0.95.

    Returns
    -------
    float64 [K, 2]
        Lower and upper bound of each column's mean.

    Notes
    -----
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Examples
    --------
    >>> mean_intervals(np.ones((5, 1))).tolist()
    [[1.0, 1.0]]
    """
    return intervals_of_several([values], resamples=resamples, seed=seed, level=level)[0]


def intervals_of_several(
    tables: Sequence[Float64], *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> list[Float64]:
    """Compute `mean_intervals` of several tables of the same clips, with the same draws.

    Parameters
    ----------
    tables : sequence of float64 [N, K]
        One row per clip each.
    resamples, seed, level
        As for `mean_intervals`.

    Returns
    -------
    list of float64 [K, 2]
        Each equal, bit by bit, to what `mean_intervals` returns for the table alone.
    """
    n = len(tables[0])
    tail = (1 - level) / 2
    found = []
    for sums, table in zip(_resampled_sums(tables, resamples, seed), tables, strict=True):
        low, high = np.quantile(sums / n, [tail, 1 - tail], axis=0)
        centre = table.mean(axis=0)  # rounding must not put it outside where all clips are equal
        found.append(np.column_stack([np.minimum(low, centre), np.maximum(high, centre)]))
    return found


def ratio_intervals(
    above: Float64, below: Float64, *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> Float64:
    """Compute percentile bootstrap intervals of ratios of sums, such as a mean over the sources of clips.

    Parameters
    ----------
    above, below : float64 [N, K]
        One row per clip; the ratio of column k is ``sum(above[:, k]) / sum(below[:, k])``. Below is positive.
    resamples, seed, level
        As for `mean_intervals`.

    Returns
    -------
    float64 [K, 2]
        Lower and upper bound of each ratio.

    Examples
    --------
    >>> ratio_intervals(np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]])).tolist()
    [[0.5, 0.5]]
    """
    sums_above, sums_below = _resampled_sums([above, below], resamples, seed)
    tail = (1 - level) / 2
    low, high = np.quantile(sums_above / sums_below, [tail, 1 - tail], axis=0)
    centre = above.sum(axis=0) / below.sum(axis=0)
    return np.column_stack([np.minimum(low, centre), np.maximum(high, centre)])


def _resampled_sums(tables: Sequence[Float64], resamples: int, seed: int) -> list[Float64]:
    """Draw clips with replacement and sum their rows: [resamples, K] for each table, with the same draws."""
    rng = np.random.default_rng(seed)
    n = len(tables[0])
    sums = [np.empty((resamples, table.shape[1])) for table in tables]
    for begin in range(0, resamples, _BLOCK):
        end = min(begin + _BLOCK, resamples)
        counts = np.empty((end - begin, n))
        drawn = rng.integers(0, n, size=counts.shape, dtype=np.int32)
        for row, clips in zip(counts, drawn, strict=True):
            row[:] = np.bincount(clips, minlength=n)
        for total, table in zip(sums, tables, strict=True):
            total[begin:end] = counts @ table
    return sums
