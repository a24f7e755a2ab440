"""Pointing accuracy: whether the map's maximum lies on the source.

Source: Zhang et al., Top-Down Neural Attention by Excitation Backprop, ECCV 2016 (the pointing game, there
with a tolerance of 15 pixels; here without). The rule for ties is this project's: where several pixels
share the maximum, as in saturated or 8-bit maps, the clip counts the share of them that lies on the source,
which is what a random choice among them would reach on average.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pointing(truth: NDArray[np.bool_], maps: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Compute the pointing accuracy of maps.

    Parameters
    ----------
    truth : bool [N, h, w]
        Pixels with ground truth g > 0.
    maps : float [N, h, w]
        Finite values at the same resolution, larger where the source is; any range.

    Returns
    -------
    float64 [N]
        The share of the pixels at each map's maximum that lie on its truth, in [0, 1]: 0 or 1 without ties,
        the truth's share of the image for a constant map, 0 for an empty truth.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> truth = np.array([[[True, True, False, False]]])
    >>> [pointing(truth, np.array([[row]])).item() for row in ([1, 0, 0, 0.5], [1, 0, 1, 0], [1, 1, 1, 1])]
    [1.0, 0.5, 0.5]
    """
    if truth.shape != maps.shape:
        raise ValueError(
            f"truth has shape {truth.shape} and maps {maps.shape}; they must be of one resolution"
        )
    top = maps == maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((top & truth).sum(axis=(1, 2)) / top.sum(axis=(1, 2)))
