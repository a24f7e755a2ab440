"""Upsampled maps, known by bounds: pixels are computed only in the tiles that a threshold runs through.

An upsampled map is smooth. In most tiles of 8 x 8 pixels (`avsl_eval.tiles`) all values are on one side of
a threshold, and bounds tell on which. A resize is two products with matrices of weights, one after the other,
and so are bounds: of the columns of a tile the smallest and the largest value in each row of the input, and
of these, weighted by the positive and the negative weights of each row of pixels, the extremes.

Where a linear interpolation has no knot, its extremes are at the ends: of a tile's rows and columns only the
first, the last and those next to a knot are looked at. Bounds are widened by more than all rounding.

Pixels that are computed equal those of `avsl_eval.resizing.resize` bit by bit: the same products of matrices
with the same weights in the same order, of fewer rows and columns.

Shapes: n maps [h, w]; P = S * S pixels in T = G * G tiles, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.protocol import Interpolation
from avsl_eval.resizing import interpolation_matrix, strips
from avsl_eval.tiles import (
    PIXELS,
    TILE,
    Words,
    count_bits,
    divided,
    inside_map,
    ones,
    tiles_along,
    whole_words,
    words_of_rows,
)

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

ROUNDING = np.float32(2.0**-18)
"""More than rounding does to a pixel, of the map's largest absolute value.

At most 4 products per stage, weights of a sum below 1.4 in absolute value: below 20 * 2**-24 each.
"""
_TINY = np.float32(1e-37)
"""The same where values are so small that float32 loses bits."""

SMALLEST_RATIO = 8
"""How many times larger than its input a map has to be for tiles to pay."""


def pays(height: int, width: int, size: int) -> bool:
    """Say whether maps of a resolution are so much smaller than S that it pays to know them by bounds."""
    return min(height, width) > 1 and size >= SMALLEST_RATIO * max(height, width)


@lru_cache(maxsize=64)
def _extreme_weights(length: int, size: int, interpolation: Interpolation, align_corners: bool) -> Float32:
    """Return the weights [R, G, length] of R pixels of each tile where extremes can be, last input first."""
    plain = interpolation_matrix(length, size, interpolation, align_corners)
    padded = np.concatenate([plain, np.repeat(plain[-1:], -size % TILE, axis=0)])
    first_input = (padded != 0).argmax(axis=1)
    chosen = []
    for begin in range(0, len(padded), TILE):
        knots = np.flatnonzero(np.diff(first_input[begin : begin + TILE])).tolist()
        among = {0, TILE - 1, *knots, *(k + 1 for k in knots)}
        if interpolation == "bicubic":  # its extremes can be anywhere
            among = set(range(TILE))
        chosen.append([begin + k for k in sorted(among)])
    most = max(map(len, chosen))
    rows = np.array([[*tile, *tile[-1:] * (most - len(tile))] for tile in chosen]).T
    return np.ascontiguousarray(padded[:, ::-1][rows])


class TiledMaps:
    """Hold n maps as bounds of their tiles.

    Parameters
    ----------
    maps : float32 [n, h, w]
        Finite maps, none of them constant.
    size, interpolation, align_corners
        As of `avsl_eval.resizing.resize`.

    Attributes
    ----------
    lower, upper : float32 [n, T]
        Bounds of the pixels of each tile.
    given_up : bool [n]
        Maps of which no tiles are computed any more, because they are looked at in full anyway.
    """

    def __init__(self, maps: Float32, size: int, interpolation: Interpolation, align_corners: bool) -> None:
        n, height, width = maps.shape
        self.size, self.n, self.side = size, n, tiles_along(size)
        self.given_up = np.zeros(n, bool)
        backwards = np.ascontiguousarray(maps[:, ::-1, ::-1])
        rows, columns = (strips(side, size, interpolation, align_corners) for side in (height, width))
        if rows is None or columns is None:
            raise ValueError(f"maps of {height} x {width} are too large for tiles of {size} x {size}")
        self._rows, self._height = rows, height
        # [tile's column, n, input row, its 8 columns of pixels]
        self._stretched = np.empty((self.side, n * height, TILE), np.float32)
        inputs = backwards.reshape(n * height, width)
        for k, begin in enumerate(columns.first):
            np.matmul(inputs[:, begin : begin + columns.n_inputs], columns.weights[k], out=self._stretched[k])
        self.lower, self.upper = self._bounds(
            backwards,
            _extreme_weights(height, size, interpolation, align_corners),
            _extreme_weights(width, size, interpolation, align_corners),
        )

    def _bounds(self, backwards: Float32, down: Float32, across: Float32) -> tuple[Float32, Float32]:
        n, height, width = backwards.shape
        side = self.side
        inputs = np.ascontiguousarray(backwards.transpose(2, 1, 0)).reshape(width, height * n)
        stretched = (across.reshape(-1, width) @ inputs).reshape(-1, side, height, n)
        low, high = stretched.min(axis=0), stretched.max(axis=0)  # [G, h, n]
        rows = down.reshape(-1, height)
        if (rows < 0).any():
            rows = np.concatenate([np.maximum(rows, 0), np.minimum(rows, 0)], axis=1)
            low, high = np.concatenate([low, high], axis=1), np.concatenate([high, low], axis=1)
        margin = np.abs(backwards).max(axis=(1, 2)) * ROUNDING + _TINY
        least = np.matmul(rows, low).reshape(side, -1, side, n).min(axis=1) - margin
        most = np.matmul(rows, high).reshape(side, -1, side, n).max(axis=1) + margin
        # [tile's column, tile's row, n] -> [n, T]
        return tuple(  # type: ignore[return-value]
            np.ascontiguousarray(bound.transpose(2, 1, 0)).reshape(n, -1) for bound in (least, most)
        )

    def between(self, low: Float32, high: Float32) -> Level:
        """Compute the pixels of every tile that may have values from `low` to `high`.

        Parameters
        ----------
        low, high : float32 [n]
            Bounds for each map.

        Returns
        -------
        Level
            They, and what is known of the others.
        """
        above = self.lower > high[:, None]
        needed = (self.upper >= low[:, None]) & ~above
        needed[self.given_up] = False
        return self._level(needed, above)

    def between_few(self, low: Float32, high: Float32, share: float) -> tuple[Level, Bools]:
        """Compute as `between`, but no tile of maps of which more than a share of all tiles is needed.

        Parameters
        ----------
        low, high : float32 [n]
            Bounds for each map.
        share
            In [0, 1].

        Returns
        -------
        level : Level
            As of `between`.
        crowded : bool [n]
            Maps of which no tile is computed, and which of them are above is meaningless.
        """
        above = self.lower > high[:, None]
        needed = (self.upper >= low[:, None]) & ~above
        crowded = np.count_nonzero(needed, axis=1) > share * self.side**2
        needed[crowded | self.given_up] = False
        return self._level(needed, above), crowded

    def share_below(self, values: Float32) -> Float32:
        """Estimate the share of each map's pixels that are below a value, float32 [n], from bounds alone."""
        with np.errstate(over="ignore"):
            share = (values[:, None] - self.lower) * self._per_span
        return np.asarray(np.clip(share, 0, 1, out=share).mean(axis=1))

    @cached_property
    def _per_span(self) -> Float32:
        return np.float32(1) / (self.upper - self.lower)

    def extremes(self) -> tuple[Float32, Float32, Level]:
        """Find the smallest and largest pixel of each map, and compute the tiles that may have them."""
        needed = self.lower <= self.upper.min(axis=1, keepdims=True)
        needed |= self.upper >= self.lower.max(axis=1, keepdims=True)
        level = self._level(needed, None)
        low, high = np.full(self.n, np.inf, np.float32), np.full(self.n, -np.inf, np.float32)
        np.minimum.at(low, level.clip, np.fmin.reduce(np.fmin.reduce(level.values), axis=1))
        np.maximum.at(high, level.clip, np.fmax.reduce(np.fmax.reduce(level.values), axis=1))
        return low, high, level

    def pixels(self, needed: Bools) -> tuple[Float32, Ints]:
        """Compute the pixels of tiles, bool [n, T]: `Level.values` and `Level.clip`."""
        level = self._level(needed, None)
        return level.values, level.clip

    def _level(self, needed: Bools, above: Bools | None) -> Level:
        """Compute the pixels of tiles."""
        by_row = needed.reshape(self.n, self.side, self.side).transpose(1, 0, 2)
        where = np.flatnonzero(by_row)  # sorted by the tiles' rows: those share weights
        row, rest = divided(where, self.n * self.side)
        clip, column = divided(rest, self.side)
        ends = (np.searchsorted(row, np.arange(self.side + 1)) * TILE).tolist()
        # Of each input of the tiles' rows, the 8 columns of pixels, tile after tile.
        begin = (column * self.n + clip) * self._height + np.asarray(self._rows.first)[row]
        inputs = begin + np.arange(self._rows.n_inputs)[:, None]
        stretched = self._stretched.reshape(-1, TILE).take(inputs, axis=0).reshape(len(inputs), -1)
        flat = np.empty((TILE, len(where) * TILE), np.float32)
        for k in range(self.side):
            if ends[k] < ends[k + 1]:
                some = slice(ends[k], ends[k + 1])
                np.matmul(self._rows.weights[k].T, stretched[:, some], out=flat[:, some])
        values = flat.reshape(TILE, -1, TILE)
        tile = row * self.side + column
        if self.size % TILE:
            inside = np.unpackbits(inside_map(self.size)[tile].view(np.uint8), bitorder="little")
            beyond = inside.reshape(-1, TILE, TILE).transpose(2, 0, 1) == 0
            values[beyond] = np.nan  # never above, below or equal to anything
        if above is None:
            above = np.zeros_like(needed)
        return Level(self.size, above, clip, tile, values)


@dataclass(frozen=True)
class Level:
    """Hold the pixels of n maps that may lie in a range.

    Parameters
    ----------
    size
        S.
    above : bool [n, T]
        Tiles all pixels of which are above the range; what is neither they nor computed is below.
    clip, tile : int [p]
        Of which map, and which of its tiles, the computed tiles are.
    values : float32 [8, p, 8]
        Their pixels by row, tile and column, so that many tiles are compared at once; NaN beyond the map's
        border.
    """

    size: int
    above: Bools
    clip: Ints
    tile: Ints
    values: Float32

    def each(self, cuts: Float32) -> Float32:
        """Repeat a number per map, float32 [n], for each column of the computed tiles, float32 [p, 8]."""
        return np.asarray(cuts.take(self._clip_of_columns).reshape(-1, TILE))

    def clip_of(self, places: Ints) -> Ints:
        """Return of which map values are, int [m], whose places among all of them are given."""
        if not len(places):
            return places
        _, column = divided(places, self.clip.size * TILE)
        return np.asarray(self._clip_of_columns[column])

    @cached_property
    def _clip_of_columns(self) -> Ints:
        return np.repeat(self.clip, TILE)

    def masks(self, cuts: Any, compare: Any = np.greater_equal) -> Words:
        """Return the masks x >= cut, or > cut.

        Parameters
        ----------
        cuts : float32 [n]
            Within the range.
        compare
            ``np.greater_equal`` or ``np.greater``.

        Returns
        -------
        uint64 [n, T]
            Masks.
        """
        words = whole_words(self.above, self.size)
        words[self.clip, self.tile] = words_of_rows(compare(self.values, self.each(cuts)))
        return words

    def count(self, cuts: Any, compare: Any = np.greater_equal) -> NDArray[np.int64]:
        """Count the pixels x >= cut, or > cut, int64 [n]."""
        return self.count_where(compare(self.values, self.each(cuts)))

    def count_where(self, taken: Bools) -> NDArray[np.int64]:
        """Count the computed pixels that are taken, bool [8, p, 8], and all of tiles above, int64 [n]."""
        computed = ones(words_of_rows(taken))
        return self.n_above + np.bincount(self.clip, computed, minlength=len(self.above)).astype(np.int64)

    def of(self, maps: Bools) -> Level:
        """Return the tiles of some maps, bool [n]."""
        kept = maps[self.clip]
        return Level(self.size, self.above, self.clip[kept], self.tile[kept], self.values[:, kept])

    def joined(self, other: Level, maps: Bools) -> Level:
        """Return another level's tiles of some maps, bool [n], and this one's of the rest."""
        rest = self.of(~maps)
        return Level(
            self.size,
            np.where(maps[:, None], other.above, self.above),
            np.concatenate([rest.clip, other.clip]),
            np.concatenate([rest.tile, other.tile]),
            np.concatenate([rest.values, other.values], axis=1),
        )

    @cached_property
    def n_above(self) -> NDArray[np.int64]:
        """Pixels of the tiles above the range, int64 [n]."""
        if self.size % TILE == 0:
            return np.asarray(np.count_nonzero(self.above, axis=1) * PIXELS, np.int64)
        return count_bits(whole_words(self.above, self.size))
