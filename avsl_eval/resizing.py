"""Resizing maps, equal on every machine.

Shapes: N maps, [h, w] a model's resolution, S the protocol's map size. All arithmetic is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.protocol import Interpolation

Float32 = NDArray[np.float32]

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
    # Positions are rounded to float32, as both libraries do: where pixels rank within rounding of each other,
    # this decides which of them is above the median.
    one = np.float32
    out = np.arange(size_out, dtype=np.float32)
    if align_corners:
        position = out * (one(size_in - 1) / one(max(1, size_out - 1)))
    else:
        position = (out + one(0.5)) * (one(size_in) / one(size_out)) - one(0.5)
    if interpolation == "bilinear":
        # Both libraries clamp the position, so that the border is flat and not extrapolated.
        position = np.clip(position, 0, size_in - 1)
    base = np.floor(position)
    f = position - base
    if interpolation == "bilinear":
        taps = [(0, 1 - f), (1, f)]
    else:
        taps = [(-1, _cubic(f + 1)), (0, _cubic(f)), (1, _cubic(1 - f)), (2, _cubic(2 - f))]
    matrix = np.zeros((size_out, size_in), np.float32)
    for offset, weight in taps:
        column = np.clip(base + offset, 0, size_in - 1).astype(np.intp)
        np.add.at(matrix, (np.arange(size_out), column), weight)
    return matrix


def _cubic(distance: Float32) -> Float32:
    """Evaluate the cubic convolution kernel at distances in [0, 2]."""
    d, a = distance, CUBIC_A
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, far), np.float32)


STRIP = 8
"""Pixels that are computed together where a map is much larger than its input."""
_FEW_INPUTS = 6
"""Terms that every BLAS sums one after another."""


@dataclass(frozen=True)
class Strips:
    """Hold the weights of a resize, strip by strip: 8 pixels and the few inputs that they are made from.

    Parameters
    ----------
    first : sequence of int
        Number of each strip's first input, counted from the last input backwards.
    weights : float32 [G, K, 8]
        Of K inputs in 8 pixels, inputs last to first; beyond the border the last pixel's.
    """

    first: Sequence[int]
    weights: Float32

    @property
    def n_inputs(self) -> int:
        """K, the inputs of a strip."""
        return int(self.weights.shape[1])


@lru_cache(maxsize=64)
def strips(size_in: int, size_out: int, interpolation: Interpolation, align_corners: bool) -> Strips | None:
    """Return the weights of a one-dimensional resize by strips.

    A product of matrices adds its terms in an order that depends on the BLAS, the processor and the shapes,
    and float32 rounds accordingly; of up to 6 terms the order is the given one everywhere. With inputs last
    to first and fused multiply-add that rounds as torch's bilinear does: the product with the second
    neighbour is rounded, and then the first one's is added in one step.

    Parameters
    ----------
    size_in, size_out, interpolation, align_corners
        As of `interpolation_matrix`.

    Returns
    -------
    Strips or None
        None where strips would have too many inputs, or there is but one.
    """
    matrix = interpolation_matrix(size_in, size_out, interpolation, align_corners)[:, ::-1]
    lacking = -size_out % STRIP
    matrix = np.concatenate([matrix, np.repeat(matrix[-1:], lacking, axis=0)])
    used = (matrix != 0).reshape(-1, STRIP, size_in).any(axis=1)
    first, last = used.argmax(axis=1), size_in - used[:, ::-1].argmax(axis=1)
    n_inputs = int((last - first).max())
    if n_inputs > _FEW_INPUTS or size_in == 1:
        return None
    begin = np.minimum(first, size_in - n_inputs).tolist()
    weights = [matrix[STRIP * k : STRIP * (k + 1), b : b + n_inputs].T for k, b in enumerate(begin)]
    return Strips(begin, np.ascontiguousarray(weights))


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
    backwards = np.ascontiguousarray(x[:, ::-1, ::-1])
    rows, columns = (strips(side, size, interpolation, align_corners) for side in x.shape[1:])
    if rows is not None and columns is not None:
        out = _resize_by_strips(backwards, size, rows, columns)
    else:
        down, across = (
            np.ascontiguousarray(interpolation_matrix(side, size, interpolation, align_corners)[:, ::-1])
            for side in x.shape[1:]
        )
        out = down @ (backwards @ across.T)
    constant = x.min(axis=(1, 2)) == x.max(axis=(1, 2))
    if constant.any():  # rounding would turn it into noise, and minmax would blow that up to [0, 1]
        out[constant] = x[constant, :1, :1]
    return out


def _resize_by_strips(backwards: Float32, size: int, rows: Strips, columns: Strips) -> Float32:
    n, height, _ = backwards.shape
    wide = STRIP * len(columns.first)
    across = np.empty((n, height, wide), np.float32)
    for k, begin in enumerate(columns.first):
        inputs = backwards[:, :, begin : begin + columns.n_inputs]
        across[:, :, STRIP * k : STRIP * (k + 1)] = inputs @ columns.weights[k]
    out = np.empty((n, STRIP * len(rows.first), wide), np.float32)
    for k, begin in enumerate(rows.first):
        inputs = across[:, begin : begin + rows.n_inputs]
        out[:, STRIP * k : STRIP * (k + 1)] = rows.weights[k].T @ inputs
    return out[:, :size, :size]
