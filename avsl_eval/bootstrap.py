"""Confidence intervals of means over clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
_BLOCK = 100
"""Bootstrap samples that are drawn before they are multiplied."""
KEPT_BYTES = 32 * 1024**2
"""What samples that are drawn ahead take at most, a byte per clip and sample."""


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
    return intervals_of_several([values], Draws(len(values), resamples, seed), level=level)[0]


def intervals_of_several(
    tables: Sequence[Float64], draws: Draws | None = None, *, level: float = LEVEL
) -> list[Float64]:
    """Compute `mean_intervals` of several tables of the same clips, with the same draws.

    Parameters
    ----------
    tables : sequence of float64 [N, K]
        One row per clip each.
    draws
        Of the N clips, if there are some already.
    level
        As for `mean_intervals`.

    Returns
    -------
    list of float64 [K, 2]
        Each equal, bit by bit, to what `mean_intervals` returns for the table alone.
    """
    n = len(tables[0])
    tail = (1 - level) / 2
    found = []
    for sums, table in zip(_resampled_sums(tables, draws or Draws(n)), tables, strict=True):
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
    sums_above, sums_below = _resampled_sums([above, below], Draws(len(above), resamples, seed))
    tail = (1 - level) / 2
    low, high = np.quantile(sums_above / sums_below, [tail, 1 - tail], axis=0)
    centre = above.sum(axis=0) / below.sum(axis=0)
    return np.column_stack([np.minimum(low, centre), np.maximum(high, centre)])


class Draws:
    """Draw clips with replacement: how often each is in each bootstrap sample.

    Parameters
    ----------
    n
        Number of clips.
    resamples, seed
        As for `mean_intervals`.

    Examples
    --------
    >>> draws = Draws(3, resamples=2)
    >>> [block.sum(axis=1).tolist() for block in draws.blocks()]
    [[3.0, 3.0]]
    """

    def __init__(self, n: int, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        self.n, self.resamples = n, resamples
        self._rng = np.random.default_rng(seed)
        self._seed, self._kept = seed, n * resamples <= KEPT_BYTES
        self._counts: list[NDArray[np.uint8]] = []

    def more(self) -> bool:
        """Draw a few samples ahead, if all of them can be kept; return whether there are more."""
        done = _BLOCK * len(self._counts)
        if not self._kept or done >= self.resamples:
            return False
        block = np.empty((min(_BLOCK, self.resamples - done), self.n), np.uint8)
        self._counts.append(_draw(self._rng, block))
        return True

    def blocks(self) -> Iterator[Float64]:
        """Yield how often each clip was drawn, float64 [b, n], all samples in turn; the same each time."""
        if self._kept:
            while self.more():
                pass
            yield from (counts.astype(np.float64) for counts in self._counts)
            return
        rng = np.random.default_rng(self._seed)
        for begin in range(0, self.resamples, _BLOCK):
            yield _draw(rng, np.empty((min(_BLOCK, self.resamples - begin), self.n)))


def _draw(rng: np.random.Generator, counts: NDArray[Any]) -> NDArray[Any]:
    # The numbers are those of int32, which bincount would have to convert.
    drawn = rng.integers(0, counts.shape[1], size=counts.shape, dtype=np.int64)
    for row, clips in zip(counts, drawn, strict=True):
        row[:] = np.bincount(clips, minlength=len(row))
    return counts


def _resampled_sums(tables: Sequence[Float64], draws: Draws) -> list[Float64]:
    """Sum the rows of drawn clips: [resamples, K] for each table, with the same draws."""
    sums = [np.empty((draws.resamples, table.shape[1])) for table in tables]
    begin = 0
    for counts in draws.blocks():
        for total, table in zip(sums, tables, strict=True):
            total[begin : begin + len(counts)] = counts @ table
        begin += len(counts)
    return sums
