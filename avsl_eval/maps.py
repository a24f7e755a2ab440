"""From a model's heatmaps to masks: upsample, normalise, threshold.

Shapes: N maps, [h, w] a model's resolution, S the protocol's map size, P = S * S pixels. All arithmetic is
float32, as in the published evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.protocol import Interpolation, Normalisation, Protocol

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

CUBIC_A = -0.75
"""The free parameter of cubic convolution (Keys 1981); OpenCV and torch both use this value."""


@lru_cache(maxsize=64)
def interpolation_matrix(
    size_in: int, size_out: int, interpolation: Interpolation, align_corners: bool
) -> Float32:
    """Compute the weights of a one-dimensional resize.

    Parameters
    ----------
    size_in, size_out
        Lengths in samples, at least 1.
    interpolation
        ``bilinear`` (2 inputs make an output) or ``bicubic`` (4).
    align_corners
        Whether the centres of the first and last samples coincide; otherwise the outer edges do.

    Returns
    -------
    float32 [size_out, size_in]
        Weight of each input in each output; rows sum to 1. Beyond the border the border's sample is repeated.

    Examples
    --------
    >>> interpolation_matrix(2, 4, "bilinear", False).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    out = np.arange(size_out, dtype=np.float64)
    if align_corners:
        position = out * ((size_in - 1) / (size_out - 1)) if size_out > 1 else np.zeros_like(out)
    else:
        position = (out + 0.5) * (size_in / size_out) - 0.5
    if interpolation == "bilinear":
        # Both libraries clamp the position, so that the border is flat and not extrapolated.
        position = np.clip(position, 0, size_in - 1)
    base = np.floor(position)
    f = position - base
    if interpolation == "bilinear":
        taps = [(0, 1 - f), (1, f)]
    else:
        taps = [(-1, _cubic(f + 1)), (0, _cubic(f)), (1, _cubic(1 - f)), (2, _cubic(2 - f))]
    matrix = np.zeros((size_out, size_in))
    for offset, weight in taps:
        column = np.clip(base + offset, 0, size_in - 1).astype(np.intp)
        np.add.at(matrix, (np.arange(size_out), column), weight)
    return matrix.astype(np.float32)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate the cubic convolution kernel at distances in [0, 2]."""
    d, a = distance, CUBIC_A
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def resize(maps: NDArray[Any], size: int, interpolation: Interpolation, align_corners: bool) -> Float32:
    """Resize square or oblong maps to [size, size].

    Parameters
    ----------
    maps : float [N, h, w]
        Any resolution, also above `size` (no antialiasing, as in the published code).
    size
        Output height and width S in pixels.
    interpolation, align_corners
        As in `Protocol`.

    Returns
    -------
    float32 [N, S, S]
        Resized maps. A constant map stays exactly constant, and a map that already has the size is returned
        as it is.

    Notes
    -----
    Equal to OpenCV's INTER_LINEAR and INTER_CUBIC and to torch's ``interpolate`` up to float32 rounding.

    Examples
    --------
    >>> resize(np.array([[[0.0, 1.0]]]), 3, "bilinear", True)[0, 0].tolist()
    [0.0, 0.5, 1.0]
    """
    x = np.asarray(maps, dtype=np.float32)
    if x.shape[1:] == (size, size):
        return x
    rows = interpolation_matrix(x.shape[1], size, interpolation, align_corners)
    columns = interpolation_matrix(x.shape[2], size, interpolation, align_corners)
    out = rows @ (x @ columns.T)
    constant = x.min(axis=(1, 2)) == x.max(axis=(1, 2))
    if constant.any():  # rounding would turn it into noise, and minmax would blow that up to [0, 1]
        out[constant] = x[constant, :1, :1]
    return out


def normalise(values: Float32, rule: Normalisation) -> Float32:
    """Normalise each map by itself.

    Parameters
    ----------
    values : float32 [N, S, S]
        Upsampled maps.
    rule
        As in `Protocol`.

    Returns
    -------
    float32 [N, S, S]
        ``minmax``: (x - min) / (max - min), or x where max == min. ``lvs_minmax``: 1 - minmax(-x). ``none``:
        x.

    Examples
    --------
    >>> normalise(np.array([[[1.0, 3.0]], [[0.25, 0.25]]], np.float32), "minmax").tolist()
    [[[0.0, 1.0]], [[0.25, 0.25]]]
    """
    if rule == "none":
        return values
    if rule == "minmax":
        return _minmax(values)
    return np.float32(1) - _minmax(-values)


def _minmax(x: Float32) -> Float32:
    low = x.min(axis=(1, 2), keepdims=True)
    span = x.max(axis=(1, 2), keepdims=True) - low
    constant = span == 0
    low[constant], span[constant] = 0, 1
    out: Float32 = x - low
    out /= span
    return out


def to_probability(maps: NDArray[Any], protocol: Protocol) -> Float32:
    """Upsample and normalise maps as a protocol does.

    Parameters
    ----------
    maps : float [N, h, w]
        A model's maps.
    protocol
        Whose rule.

    Returns
    -------
    float32 [N, S, S]
        The values p that the protocol compares with its threshold.
    """
    upsampled = resize(maps, protocol.map_size, protocol.interpolation, protocol.align_corners)
    return normalise(upsampled, protocol.normalisation)


def binarise(p: Float32, protocol: Protocol, true_pixels: Sequence[int] | NDArray[np.integer[Any]]) -> Bools:
    """Threshold processed maps as a protocol does.

    Parameters
    ----------
    p : float32 [N, S, S]
        Output of `to_probability`.
    protocol
        Whose rule.
    true_pixels : int [N]
        Number of pixels with ground truth > 0 of each clip; only the rule ``adaptive`` looks at it.

    Returns
    -------
    bool [N, S, S]
        Masks.

    Examples
    --------
    >>> from avsl_eval.protocol import PROTOCOLS
    >>> p = np.array([[[0.2, 0.5], [0.7, 0.6]]], np.float32)
    >>> binarise(p, PROTOCOLS["ezvsl"], [1]).tolist()
    [[[False, False], [True, True]]]
    """
    flat = p.reshape(len(p), -1)
    threshold = np.empty((len(p), 1), np.float32)
    for row, k in enumerate(true_pixels):
        threshold[row] = _threshold(flat[row], protocol, int(k))
    mask = flat > threshold if protocol.comparison == ">" else flat >= threshold
    if protocol.rescue_saturated:
        mask |= flat >= 1
    return mask.reshape(p.shape)


def _threshold(p: Float32, protocol: Protocol, true_pixels: int) -> float:
    if protocol.threshold_value is not None:
        return protocol.threshold_value
    rank = p.size // 2
    if protocol.threshold == "adaptive" and true_pixels:
        rank = p.size - true_pixels
    return float(np.partition(p, rank)[rank])


def tie_free_area(protocol: Protocol, true_pixels: int) -> int | None:
    """Count the pixels that a protocol's mask has for any map without ties.

    Parameters
    ----------
    protocol
        Whose rule.
    true_pixels
        Number of pixels with ground truth > 0.

    Returns
    -------
    int or None
        Pixels, or None where the map itself decides (rule ``fixed``).

    Examples
    --------
    >>> from avsl_eval.protocol import PROTOCOLS
    >>> [tie_free_area(PROTOCOLS[name], 100) for name in ("lvs", "ezvsl", "fixed", "adaptive")]
    [25087, 25088, None, 99]
    """
    if protocol.threshold == "fixed":
        return None
    n = protocol.map_size**2
    rank = n - true_pixels if protocol.threshold == "adaptive" and true_pixels else n // 2
    # n - rank values are >= s[rank]; the rescue of p >= 1 adds the maximum, which is above s[rank] already.
    return n - rank - (protocol.comparison == ">")
