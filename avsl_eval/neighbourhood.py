"""The values about a rank of each of several maps that are known by bounds, in order: exact, without sorting.

The tiles' middles, sorted, say between which two values the wanted one lies almost certainly. The tiles that
meet this bracket are computed, what is outside of it is counted, and where in it the rank falls says how far
the bracket can shrink. Few values are left, and only they are sorted. Where a bracket misses, the map is
`unknown` and has to be looked at in full; so the result is exact, whatever the guess.

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
"""Half of the first bracket's width, as a share of the tiles."""
SMOOTH = 3 / 8
"""Share of the tiles that meet a bracket of a map for which tiles pay."""
NARROW = 1 / 16
"""Half of the second bracket's width, as a share of the first's."""
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
    n, n_tiles = middles.shape
    pixels = maps.size**2
    rows, margin = np.arange(n), max(2, round(MARGIN * n_tiles))
    place = ranks * n_tiles // pixels
    least, most = np.maximum(place - margin, 0), np.minimum(place + margin, n_tiles - 1)
    # Within margin of an end there is no room for a bracket: it is that end.
    begin = np.where(place < margin, low, np.clip(middles[rows, least], low, high))
    end = np.where(place + margin >= n_tiles, high, np.clip(middles[rows, most], low, high))
    # Of a map like noise most tiles meet the bracket; it is faster in full.
    smooth = maps.n_between(begin, end) <= SMOOTH * n_tiles
    level = maps.between(np.where(smooth, begin, np.float32(np.nan)), end)
    below, within = _below_and_within(level, begin, end)
    inner = ranks - below
    known = smooth & (inner >= 0) & (inner < within)
    guess = begin + (end - begin) * ((inner + 0.5) / np.maximum(within, 1)).astype(np.float32)
    half = (end - begin) * np.float32(NARROW)
    closer, closer_end = np.clip(guess - half, begin, end), np.clip(guess + half, begin, end)
    closer_below, closer_within = _below_and_within(level, closer, closer_end)
    shrinks = (closer_below < ranks) & (ranks < closer_below + closer_within - 1)
    begin, end = np.where(shrinks, closer, begin), np.where(shrinks, closer_end, end)
    below, within = np.where(shrinks, closer_below, below), np.where(shrinks, closer_within, within)
    known &= within <= max(MOST * pixels, FEW)
    begin = np.where(known, begin, np.float32(np.nan))  # nothing of the unknown is picked
    at = level.values
    picked = np.flatnonzero((at >= begin[level.clip, None]) & (at <= end[level.clip, None]))
    values, clip = _sorted(at.reshape(-1)[picked], level.clip[picked // at.shape[1]])
    count = np.bincount(clip, minlength=n)
    return Neighbourhood(values, clip, np.cumsum(count) - count, count, below, ranks, known, level)


def sorted_middles(maps: TiledMaps) -> Float32:
    """Return the middles of the bounds of each map's tiles, ascending, float32 [n, T]."""
    return np.sort((maps.lower + maps.upper) * np.float32(0.5), axis=1)


def _below_and_within(level: Level, begin: Float32, end: Float32) -> tuple[Ints, Ints]:
    at_least = level.count(begin)
    return level.size**2 - at_least, at_least - level.count(end, np.greater)


def _sorted(values: Float32, clip: NDArray[np.intp]) -> tuple[Float32, Ints]:
    """Sort values map by map: as whole numbers that begin with the map's, all at once."""
    bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0
    sign, one = np.uint32(2**31), np.uint32(31)
    rising = bits ^ (np.negative(bits >> one) | sign)  # all bits of negative numbers, the sign of others
    keys = (clip.astype(np.uint64) << np.uint64(32)) | rising
    keys.sort()
    rising = keys.astype(np.uint32)
    bits = rising ^ (((rising >> one) - np.uint32(1)) | sign)
    return bits.view(np.float32), (keys >> np.uint64(32)).astype(np.int64)
