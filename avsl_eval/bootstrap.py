"""Confidence intervals of means over clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95


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
    rng = np.random.default_rng(seed)
    n = len(values)
    means = np.empty((resamples, values.shape[1]))
    for b in range(resamples):
        counts = np.bincount(rng.integers(0, n, size=n, dtype=np.int32), minlength=n)
        means[b] = counts @ values
    means /= n
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    mean = values.mean(axis=0)  # rounding must not put it outside where all clips are equal
    return np.column_stack([np.minimum(low, mean), np.maximum(high, mean)])
