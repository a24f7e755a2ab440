"""The values about a rank of each of several maps that are known by bounds, in order: exact, without sorting.

How many pixels of a tile are below a value is about linear between its bounds. The sum over tiles says where
in the map the wanted value is, to some hundred pixels, without computing any. Only the tiles that meet a
narrow bracket about it are computed; what is below it is counted, and the few values in it are sorted. Where
it misses, a wide one is taken; where that does too, the map is `unknown` and has to be looked at in full; so
the result is exact, whatever the guess.

Shapes: n maps of P pixels in T tiles; m values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsl_eval.tiled import Level, TiledMaps

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

MARGIN = 1 / 64
"""Half of the wide bracket's width, as a share of the tiles."""
NARROW = 256 / 224**2
"""Half of the narrow bracket's width, as a share of the pixels: more than the guess is mostly wrong by."""
CLOSE, CLOSEST = 1 / 4, 24
"""Half of what is sorted: a share of the pixels by which the guess was wrong, and pixels besides."""
SMOOTH = 3 / 8
"""Share of the tiles that meet a bracket of a map for which tiles pay."""
MOST, FEW = 1 / 8, 512
"""Share of a map's pixels in a bracket above which they are one large tie, and the map unknown; if they are
not few anyway."""


@dataclass(frozen=True)
class Neighbourhood:
    """Hold the values about a rank of each map.

    Parameters
    ----------
    values : float32 [m]
        Ascending within each map, map after map.
    clip : int64 [m]
        Whose they are.
    first, count : int64 [n]
        Where each map's begin, and how many they are.
    below : int64 [n]
        Pixels of each map that are smaller than all of its values here.
    ranks : int64 [n]
        Wanted rank, counted from 0 upwards.
    known : bool [n]
        Whether the rank is among the values.
    level
        The computed tiles; masks with a cut among the values can be drawn from them.
    """

    values: Float32
    clip: Ints
    first: Ints
    count: Ints
    below: Ints
    ranks: Ints
    known: Bools
    level: Level

    @property
    def wanted(self) -> Ints:
        """Where among the values the wanted one is, int64 [n]; 0 where it is unknown."""
        return np.where(self.known, self.first + self.ranks - self.below, 0)


def neighbourhood(
    maps: TiledMaps, middles: Float32, ranks: Ints, low: Float32, high: Float32
) -> Neighbourhood:
    """Find the values about a rank of each map.

    Parameters
    ----------
    maps
        The maps.
    middles : float32 [n, T]
        Of `sorted_middles`.
    ranks : int64 [n]
        Rank in each map, counted from 0 upwards.
    low, high : float32 [n]
        Smallest and largest pixel of each map.

    Returns
    -------
    Neighbourhood
        Of the ranks.
    """
    guess = _Guess.of(maps, middles, ranks, low, high)
    level, crowded = maps.between_few(guess.least, guess.most, SMOOTH)
    found = _Bracket.of(level, *guess.refined(level, ranks), ranks)
    missed = ~found.known & ~crowded
    if missed.any():
        found = found.filled(_Bracket.of(level.of(missed), guess.least, guess.most, ranks), missed)
        missed &= ~found.known
    if missed.any():
        wide, _ = maps.between_few(np.where(missed, guess.begin, np.float32(np.nan)), guess.end, SMOOTH)
        found = found.filled(_Bracket.of(wide, guess.begin, guess.end, ranks), missed)
        level = level.joined(wide, missed)
    values, clip = _sorted(found.values, found.clip)
    count = np.bincount(clip, minlength=maps.n)
    first = np.cumsum(count) - count
    return Neighbourhood(values, clip, first, count, found.below, ranks, found.known, level)


@dataclass(frozen=True)
class _Guess:
    """Hold between which values the wanted one of each map lies, float32 [n] each.

    Parameters
    ----------
    begin, end
        Wide bounds.
    middle
        About it.
    least, most
        Narrow bounds.
    per_pixel
        How much the values increase about there from pixel to pixel, in their order.
    """

    begin: Float32
    end: Float32
    middle: Float32
    least: Float32
    most: Float32
    per_pixel: Float32

    @classmethod
    def of(cls, maps: TiledMaps, middles: Float32, ranks: Ints, low: Float32, high: Float32) -> _Guess:
        """Guess from bounds alone."""
        n_tiles, pixels = middles.shape[1], maps.size**2
        rows, margin = np.arange(maps.n), max(2, round(MARGIN * n_tiles))
        place = ranks * n_tiles // pixels
        first, last = np.maximum(place - margin, 0), np.minimum(place + margin, n_tiles - 1)
        # Within margin of an end there is no room for a bracket: it is that end.
        begin = np.where(place < margin, low, np.clip(middles[rows, first], low, high))
        end = np.where(place + margin >= n_tiles, high, np.clip(middles[rows, last], low, high))
        per_pixel = (end - begin) / ((last - first) * np.float32(pixels / n_tiles))
        # From the middle one of the tiles' middles one step along the slope, as far as it has too few below.
        middle = middles[rows, np.minimum(place, n_tiles - 1)]
        lacking = (ranks - maps.share_below(middle) * pixels).astype(np.float32)
        middle = np.clip(middle + lacking * per_pixel, begin, end)
        half = per_pixel * np.float32(max(NARROW * pixels, 8))
        return cls(
            begin, end, middle, np.maximum(middle - half, low), np.minimum(middle + half, high), per_pixel
        )

    def refined(self, level: Level, ranks: Ints) -> tuple[Float32, Float32]:
        """Count what is below the guess, and bracket the wanted value more narrowly."""
        lacking = (ranks - level.size**2 + level.count(self.middle)).astype(np.float32)
        half = np.float32(CLOSE) * np.abs(lacking) + np.float32(CLOSEST)
        middle, half = self.middle + lacking * self.per_pixel, half * self.per_pixel
        return np.maximum(middle - half, self.least), np.minimum(middle + half, self.most)


@dataclass(frozen=True)
class _Bracket:
    """Hold the values between two of each map, and how many are below.

    Parameters
    ----------
    values, clip : [m]
        The values, in no order, and whose they are; none of maps that are not known.
    below : int64 [n]
        Pixels of each map that are smaller.
    known : bool [n]
        Whether the wanted one is among them, with both of its neighbours if there are any.
    """

    values: Float32
    clip: Ints
    below: Ints
    known: Bools

    @classmethod
    def of(cls, level: Level, begin: Float32, end: Float32, ranks: Ints) -> _Bracket:
        """Look for it among the computed tiles of a level that holds all tiles from `begin` to `end`."""
        pixels = level.size**2
        taken = level.values >= level.each(begin)
        below = pixels - level.count_where(taken)
        taken &= level.values <= level.each(end)
        picked = np.flatnonzero(taken)
        clip = level.clip_of(picked)
        within = np.bincount(clip, minlength=len(ranks))
        inner = ranks - below
        after_first = (inner > 0) | ((inner == 0) & (ranks == 0))
        before_last = (inner < within - 1) | ((inner < within) & (ranks == pixels - 1))
        known = after_first & before_last & (within <= max(MOST * pixels, FEW))
        values = level.values.reshape(-1)[picked]
        if known.all():
            return cls(values, clip, below, known)
        kept = known[clip]
        return cls(values[kept], clip[kept], below, known)

    def filled(self, other: _Bracket, maps: Bools) -> _Bracket:
        """Take over another bracket for some maps, which are not known here."""
        return _Bracket(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.clip, other.clip]),
            np.where(maps, other.below, self.below),
            np.where(maps, other.known, self.known),
        )


def sorted_middles(maps: TiledMaps) -> Float32:
    """Return the middles of the bounds of each map's tiles, ascending, float32 [n, T]."""
    return np.sort((maps.lower + maps.upper) * np.float32(0.5), axis=1)


def _sorted(values: Float32, clip: NDArray[np.intp]) -> tuple[Float32, Ints]:
    """Sort values map by map: as whole numbers that begin with the map's, all at once."""
    sign, one = np.uint32(2**31), np.uint32(31)
    keys = (clip.astype(np.uint64) << np.uint64(32)) | rising_bits(values)
    keys.sort()
    rising = keys.astype(np.uint32)
    bits = rising ^ (((rising >> one) - np.uint32(1)) | sign)
    return bits.view(np.float32), (keys >> np.uint64(32)).astype(np.int64)


def rising_bits(values: Float32) -> NDArray[np.uint32]:
    """Return whole numbers, uint32, that are ordered as float32 values are; equal ones are equal.

    Examples
    --------
    >>> numbers = rising_bits(np.array([-1, -0.0, 0.0, 2], np.float32))
    >>> bool(numbers[0] < numbers[1] == numbers[2] < numbers[3])
    True
    """
    bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0
    # All bits of negative numbers are turned over, the sign of others.
    return np.asarray(bits ^ (np.negative(bits >> np.uint32(31)) | np.uint32(2**31)))
