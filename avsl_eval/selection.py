"""Order statistics of maps, exact and without sorting them.

The values of a regular sample of pixels, sorted, say between which two values the wanted one lies almost
certainly; one pass over the map counts what is below and picks what is between, and only that is partitioned.
Where the bracket misses, the whole map is. The result is the order statistic itself, whatever the sample.

Shapes: n maps of P = S * S pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Ints = NDArray[np.intp]

SAMPLE_SIDE = 28
"""Sampled pixels along each side of a map."""
MARGIN = 1 / 40
"""Half of the bracket's width, as a share of the sample: it often misses noise, and smooth maps seldom."""


def sorted_samples(x: Float32, size: int) -> Float32:
    """Sort a regular sample of each map.

    Parameters
    ----------
    x : float32 [n, P]
        Maps.
    size
        Their height and width S.

    Returns
    -------
    float32 [n, m]
        Ascending; m = 0 where the maps are so small that partitioning them whole is as fast.
    """
    step = size // SAMPLE_SIDE
    if step < 2:
        return np.empty((len(x), 0), np.float32)
    sample = x.reshape(len(x), size, size)[:, step // 2 :: step, step // 2 :: step].reshape(len(x), -1)
    return np.sort(sample, axis=1)


def neighbours_at(x: Float32, samples: Float32, ranks: Ints) -> Float32:
    """Find the value of a rank in each map, and the values next to it in order.

    Parameters
    ----------
    x : float32 [n, P]
        Maps.
    samples : float32 [n, m]
        Of `sorted_samples`.
    ranks : int [n]
        Rank in each map, counted from 0 upwards.

    Returns
    -------
    float32 [n, 3]
        Of the sorted values those of ranks - 1, ranks and ranks + 1; at an end the value of the rank itself.

    Examples
    --------
    >>> x = np.array([[3, 0, 2, 1]], np.float32)
    >>> neighbours_at(x, sorted_samples(x, 2), np.array([1])).tolist()
    [[0.0, 1.0, 2.0]]
    """
    out = np.empty((len(x), 3), np.float32)
    n_samples, pixels = samples.shape[1], x.shape[1]
    if not n_samples:
        for row, rank in enumerate(ranks.tolist()):
            out[row] = _neighbours(x[row].copy(), rank)
        return out
    rows, margin = np.arange(len(x)), max(4, round(MARGIN * n_samples))
    place = ranks * n_samples // pixels
    low = samples[rows, np.maximum(place - margin, 0)]
    high = samples[rows, np.minimum(place + margin, n_samples - 1)]
    low[place < margin], high[place + margin >= n_samples] = -np.inf, np.inf
    for row, (values, rank) in enumerate(zip(x, ranks.tolist(), strict=True)):
        below = values < low[row]
        within = rank - int(np.count_nonzero(below))
        between = values <= high[row]
        between ^= below
        picked = values[between]
        if 0 < within < len(picked) - 1:
            out[row] = _neighbours(picked, within)
        else:
            out[row] = _neighbours(values.copy(), rank)
    return out


def _neighbours(values: Float32, rank: int) -> tuple[np.float32, np.float32, np.float32]:
    """Return the values of ranks - 1, rank and rank + 1; the values are reordered."""
    values.partition(rank)
    t: np.float32 = values[rank]
    below = values[:rank].max() if rank else t
    above = values[rank + 1 :].min() if rank + 1 < len(values) else t
    return below, t, above
