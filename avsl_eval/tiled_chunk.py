"""A chunk of maps that are known by bounds: the masks of every rule, counted.

Every step of a rule after upsampling is a non-decreasing function of a pixel's value, so that a mask is a
comparison of raw values with a *cut*, the smallest raw value of the map that the rule takes. Of a rule with a
rank, the values about the rank are known in order (`avsl_eval.neighbourhood`); processed as the rule says,
they show which of them tie with the threshold, and hence the cut. What is not settled by the values at hand
(`TiledChunk.settled`) has to be looked at in full, by `avsl_eval.chunk`.

Shapes: n maps of P = S * S pixels in T tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.chunk import TOP_QUARTER, Rule
from avsl_eval.drawn import DrawnTruths
from avsl_eval.maps import Normaliser, rescale, tie_order
from avsl_eval.neighbourhood import Neighbourhood, neighbourhood, sorted_middles
from avsl_eval.protocol import Protocol
from avsl_eval.tiled import Level, TiledMaps
from avsl_eval.tiles import TILE, Words, count_bits, ones, words_of_rows

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_AT_ONCE = 16
"""Maps of which the largest quarter of the pixels is computed together."""
_WINDOW = 32
"""Float32 numbers on each side of the guessed cut of a fixed threshold, between which it is looked for."""


def is_settled_by_tiles(rule: Rule) -> bool:
    """Say whether the masks of a rule are those of one cut per threshold, whatever the map."""
    protocol = rule.protocol
    if rule.kind != "plain":
        return True
    positive = all((single.threshold_value or 0) > 0 for single in rule.singles)
    return not protocol.rescue_saturated and (positive or not protocol.floor_at_median)


@dataclass(frozen=True)
class Counted:
    """Hold what one rule's masks cover, of n maps.

    Parameters
    ----------
    intersection, false_positive : float64 [n, K]
        sum(m g) and sum(m [g = 0]) in pixels, one column per threshold.
    ties : int64 [n]
        Other pixels that equal the threshold, of a rank rule; else 0.
    """

    intersection: Float64
    false_positive: Float64
    ties: Ints


@dataclass(frozen=True)
class _Resolved:
    """Hold where a rank rule's threshold is among the values of a neighbourhood: its first and last tie."""

    around: Neighbourhood
    less: Ints
    up_to: Ints

    def cut(self, strictly: bool) -> tuple[Float32, Ints]:
        """Return the smallest value of each map that is taken, and how many pixels are."""
        around = self.around
        inner = self.up_to if strictly else self.less
        values = np.append(around.values, np.float32(np.inf))
        place = np.where(inner < around.count, around.first + inner, len(values) - 1)
        return values[place], around.level.size**2 - around.below - inner


class TiledChunk:
    """Score maps that are known by bounds.

    Parameters
    ----------
    maps
        n maps.
    truths
        Their ground truth.
    rules
        All that share this way of upsampling, each of which `is_settled_by_tiles`.

    Attributes
    ----------
    settled : bool [n]
        The maps for which all that was asked for is exact; complete when everything has been.
    """

    def __init__(self, maps: TiledMaps, truths: DrawnTruths, rules: list[Rule]) -> None:
        self._maps, self._truths = maps, truths
        self._n, self._pixels = maps.n, maps.size**2
        self.settled = np.ones(maps.n, bool)
        self._low, self._high, self._ends = maps.extremes()
        self._around: dict[str, Neighbourhood] = {}
        self._covered: dict[bytes, tuple[Ints, Float64]] = {}
        self._confidences: dict[tuple[Any, ...], Float64] = {}
        self._at: dict[float, tuple[Float64, Float64]] = {}
        ranks = {}
        half = np.full(self._n, self._pixels // 2)
        for rule in rules:
            protocol = rule.protocol
            if protocol.threshold == "adaptive":
                k = truths.n_inside
                ranks["adaptive"] = np.where(k > 0, self._pixels - k, half)
            elif rule.kind == "rank" or protocol.floor_at_median:
                ranks["median"] = half
            if protocol.confidence == "top_quarter":
                ranks["top_quarter"] = np.full(self._n, self._pixels - max(1, self._pixels // TOP_QUARTER))
        if ranks:
            middles = sorted_middles(maps)
            for name, wanted in ranks.items():
                found = neighbourhood(maps, middles, wanted, self._low, self._high)
                self._around[name] = found
                self.settled &= found.known
                maps.given_up |= ~found.known

    def pointing(self) -> Float64:
        """Return the share of each map's largest pixels that lie on g > 0, float64 [n]."""
        top = self._ends
        words = words_of_rows(top.values == top.each(self._high))
        inside = ones(words & self._truths.inside[top.clip, top.tile])
        covered = np.bincount(top.clip, inside, minlength=self._n)
        return covered / np.bincount(top.clip, ones(words), minlength=self._n)

    def confidence(self, protocol: Protocol) -> Float64:
        """Return what ranks the clips, float64 [n]; NaN where the rule does not say."""
        key = (protocol.confidence, protocol.scale, protocol.offset, protocol.sigmoid)
        if key not in self._confidences:
            self._confidences[key] = self._confidence(protocol)
        return self._confidences[key]

    def _confidence(self, protocol: Protocol) -> Float64:
        if protocol.confidence == "stored":
            return np.full(self._n, np.nan)
        if protocol.confidence == "max":
            return rescale(self._high, protocol).astype(np.float64)
        around = self._around["top_quarter"]
        t = around.values[around.wanted] if len(around.values) else np.zeros(self._n, np.float32)
        # Above t are some pixels of the tiles that were computed about it, and all of the tiles above them.
        level = around.level
        taken = level.values > level.each(t)
        above = level.count_where(taken)
        # Bits are cleared where pixels are not taken: choosing by a mask is slow where it is like noise.
        scores = rescale(level.values, protocol).view(np.int32) & -taken.astype(np.int32)
        sums = _sums(scores.view(np.float32), level.clip, self._n)
        whole = level.above & around.known[:, None]
        for begin in range(0, self._n, _AT_ONCE):  # a quarter of the pixels is much, of many maps
            some = np.zeros_like(whole)
            some[begin : begin + _AT_ONCE] = whole[begin : begin + _AT_ONCE]
            values, clip = self._maps.pixels(some)
            values = rescale(values, protocol)
            sums += _sums(values if self._maps.size % TILE == 0 else np.nan_to_num(values), clip, self._n)
        wanted = max(1, self._pixels // TOP_QUARTER)
        # t itself counts as often as it is among the largest
        return (sums + (wanted - above) * rescale(t, protocol).astype(np.float64)) / wanted

    def masks(self, rule: Rule) -> Counted:
        """Count the masks of a rule."""
        if rule.kind == "rank":
            return self._ranked(rule.protocol)
        if rule.kind == "cut":
            columns = [self._cut(cut) for cut in rule.cuts]
        else:
            columns = [self._plain(rule.protocol, single) for single in rule.singles]
        intersection, false_positive = (np.stack(side, axis=1) for side in zip(*columns, strict=True))
        return Counted(intersection, false_positive, np.zeros(self._n, np.int64))

    def _resolve(self, protocol: Protocol, kind: str) -> tuple[_Resolved, Float32]:
        """Find the values that tie with a rank rule's threshold, and the processed threshold."""
        around = self._around[kind]
        normalised = Normaliser(protocol, self._low, self._high)
        p = normalised(around.values, around.clip)
        t = p[around.wanted] if len(p) else np.zeros(self._n, np.float32)
        threshold = t[around.clip]
        less = np.bincount(around.clip[p < threshold], minlength=self._n)
        up_to = np.bincount(around.clip[p <= threshold], minlength=self._n)
        ends_below = (less > 0) | (around.below == 0)
        ends_above = (up_to < around.count) | (around.below + around.count == self._pixels)
        self.settled &= ends_below & ends_above & ~normalised.flat
        return _Resolved(around, less, up_to), t

    def _ranked(self, protocol: Protocol) -> Counted:
        found, t = self._resolve(protocol, protocol.threshold)
        if protocol.rescue_saturated:
            self.settled &= t < 1  # then every p >= 1 is above t already
        ties = found.up_to - found.less - 1
        cuts, area = found.cut(protocol.comparison == ">" and not protocol.exact_area)
        tied = (ties > 0) & self.settled
        if protocol.exact_area and tied.any():
            covered, weighted, area = self._with_ties(found, tied, cuts, area)
        else:
            covered, weighted = self._count(found.around, cuts)
        return Counted(weighted[:, None], (area - covered)[:, None].astype(np.float64), ties)

    def _with_ties(
        self, found: _Resolved, tied: Bools, cuts: Float32, area: Ints
    ) -> tuple[Ints, Float64, Ints]:
        """Count masks of exactly the prescribed area: of the ties, the first in `tie_order` join."""
        above, sure = found.cut(strictly=True)
        wanted = self._pixels - found.around.ranks
        masks = found.around.level.masks(np.where(tied, above, cuts))
        least = np.where(tied, cuts, np.float32(np.inf))
        self._add(masks, found.around.level, least, above, wanted - sure)
        return *self._truths.count(masks), np.where(tied, wanted, area)

    def _add(self, masks: Words, level: Level, least: Float32, below: Float32, lacking: Ints) -> None:
        """Add pixels least <= x < below to masks, the lacking ones, in `tie_order`."""
        at, size = level.values, self._maps.size
        row, which, column = np.nonzero((at >= level.each(least)) & (at < level.each(below)))
        tile_row, tile_column = np.divmod(level.tile[which], self._maps.side)
        pixel = (tile_row * TILE + row) * size + tile_column * TILE + column
        clip = level.clip[which]
        first_come = np.lexsort((tie_order(self._pixels)[pixel], clip))
        per_map = np.bincount(clip, minlength=self._n)
        place = np.arange(len(clip)) - np.repeat(np.cumsum(per_map) - per_map, per_map)
        joins = first_come[place < np.repeat(lacking, per_map)]
        byte = level.tile[which] * TILE + column
        bit = np.uint8(1) << row.astype(np.uint8)
        np.bitwise_or.at(masks.view(np.uint8), (clip[joins], byte[joins]), bit[joins])

    def _count(self, around: Neighbourhood, cuts: Float32) -> tuple[Ints, Float64]:
        key = cuts.tobytes()
        if key not in self._covered:
            self._covered[key] = self._truths.count(around.level.masks(cuts))
        return self._covered[key]

    def _cut(self, cut: float) -> tuple[Float64, Float64]:
        """Count the masks x >= cut, of a cut that does not depend on the map."""
        if cut not in self._at:
            value = np.float32(cut)
            if value > self._high.max():
                self._at[cut] = np.zeros(self._n), np.zeros(self._n)
            elif value <= self._low.min():
                outside = self._pixels - self._truths.n_inside
                self._at[cut] = self._truths.total, outside.astype(np.float64)
            else:
                self._at[cut] = self._counted_at(np.full(self._n, value))
        return self._at[cut]

    def _counted_at(self, cuts: Float32) -> tuple[Float64, Float64]:
        masks = self._maps.between(cuts, cuts).masks(cuts)
        covered, weighted = self._truths.count(masks)
        return weighted, (count_bits(masks) - covered).astype(np.float64)

    def _plain(self, protocol: Protocol, single: Protocol) -> tuple[Float64, Float64]:
        """Count the masks of a fixed threshold on processed values."""
        normalised = Normaliser(protocol, self._low, self._high)
        self.settled &= ~normalised.flat
        cuts = self._smallest_taken(normalised, single)
        if protocol.floor_at_median:
            # What is set to 0 is below a positive threshold: the mask is above the median and the threshold.
            resolved, _ = self._resolve(protocol, "median")
            cuts = np.maximum(cuts, resolved.cut(strictly=False)[0])
        return self._counted_at(cuts)

    def _smallest_taken(self, normalised: Normaliser, single: Protocol) -> Float32:
        """Find the smallest raw value of each map that a fixed threshold takes, by bisection."""
        threshold = np.float32(single.threshold_value or 0.0)
        every = np.arange(self._n)

        def taken(keys: Ints) -> Bools:
            p = normalised(_floats_of(keys), every)
            return p > threshold if single.comparison == ">" else p >= threshold

        share = min(max(float(threshold), 0.0), 1.0)
        guess = _keys_of(self._low + (self._high - self._low) * np.float32(share))
        lowest, highest = _keys_of(self._low) - 1, _keys_of(self._high) + 1
        below, above = np.maximum(guess - _WINDOW, lowest), np.minimum(guess + _WINDOW, highest)
        below = np.where((below > lowest) & ~taken(np.maximum(below, lowest + 1)), below, lowest)
        above = np.where((above < highest) & taken(np.minimum(above, highest - 1)), above, highest)
        while (above - below > 1).any():  # p of `below` is not taken, p of `above` is, or is no map's
            middle = np.maximum((below + above) // 2, lowest + 1)
            takes = taken(np.minimum(middle, highest - 1)) & (above - below > 1)
            stays = ~takes & (above - below > 1)
            below, above = np.where(stays, middle, below), np.where(takes, middle, above)
        return _floats_of(above)


def _sums(values: Float32, clip: Ints, n: int) -> Float64:
    """Sum the pixels of tiles, float32 [8, p, 8], map by map, float64 [n]."""
    of_columns = values[0].astype(np.float64)
    for row in values[1:]:
        of_columns += row
    return np.asarray(np.bincount(clip, of_columns @ np.ones(TILE), minlength=n), np.float64)


def _keys_of(values: Float32) -> Ints:
    """Return the numbers of float32 in their order: neighbours differ by 1."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))


def _floats_of(keys: Ints) -> Float32:
    bits = np.where(keys >= 0, keys, -keys | 0x80000000).astype(np.uint32)
    return bits.view(np.float32)
