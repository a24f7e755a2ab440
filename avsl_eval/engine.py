"""Score maps under many protocols in one pass.

Each map is upsampled once per way of upsampling, and its order statistics are taken once, on the raw values:
scale, sigmoid and normalisation are non-decreasing functions of a pixel's value, so they commute with
sorting, and the k-th value of p is p of the k-th value. A mask is then one comparison of raw values with a
*cut*, the smallest raw value that the rule takes. Where rounding maps neighbours of the threshold to one p (a
tie), the map goes the long way through `avsl_eval.maps`, so that results are those of the plain definition,
bit by bit.

Shapes: n maps of a chunk, P = S * S pixels, N clips. Memory holds a chunk and a few numbers per clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.chunk import Chunk, Rule
from avsl_eval.drawn import DrawnTruths
from avsl_eval.maps import at_threshold, rescale
from avsl_eval.protocol import Protocol
from avsl_eval.resizing import resize
from avsl_eval.tiled import TiledMaps, pays
from avsl_eval.tiled_chunk import TiledChunk, is_settled_by_tiles

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Way = tuple[int, str, bool]
Part = tuple[dict[str, tuple[Float64, Float64, Ints, Float64]], dict[Way, Float64]]

TOGETHER = 192
"""Maps that are scored together: they share the costs of calls, and what is computed stays in a cache."""
_IN_FULL = 8
"""Maps that are looked at in full together: 8 of 224 x 224, and what is computed from them, stay near the
processor."""


@dataclass
class RuleStatistics:
    """Hold what one protocol found, for N clips.

    Parameters
    ----------
    intersection, false_positive : float64 [N, K]
        sum(m g) and sum(m [g = 0]) in pixels, K = 1 or the number of a sweep's thresholds.
    ties : int64 [N]
        Other pixels that equal the threshold; rules ``median`` and ``adaptive`` only.
    confidence : float64 [N]
        As the rule defines it, NaN where it does not.
    """

    intersection: Float64
    false_positive: Float64
    ties: Ints
    confidence: Float64

    @classmethod
    def zeros(cls, n: int, thresholds: int) -> RuleStatistics:
        """Return the statistics of empty masks."""
        return cls(
            np.zeros((n, thresholds)), np.zeros((n, thresholds)), np.zeros(n, np.int64), np.full(n, np.nan)
        )


@dataclass(frozen=True)
class _Upsampling:
    """A way of upsampling, and the rules that share it."""

    size: int
    interpolation: Any
    align_corners: bool
    rules: list[Rule] = field(default_factory=list)


class Engine:
    """Score maps under several protocols.

    Parameters
    ----------
    protocols
        The rules; a universal threshold must be known.
    n_clips
        N.

    Attributes
    ----------
    statistics : dict
        Protocol name to `RuleStatistics`.
    truth : dict
        Map size to sum(g) in pixels, float64 [N].
    pointing : dict
        Way of upsampling (see `pointing_of`) to float64 [N].
    """

    def __init__(self, protocols: Sequence[Protocol], n_clips: int) -> None:
        self.statistics = {
            p.name: RuleStatistics.zeros(n_clips, max(1, len(p.thresholds))) for p in protocols
        }
        self.truth = {size: np.zeros(n_clips) for size in sorted({p.map_size for p in protocols})}
        self._ways: dict[Way, _Upsampling] = {}
        for protocol in protocols:
            way = self._ways.setdefault(
                _way(protocol),
                _Upsampling(protocol.map_size, protocol.interpolation, protocol.align_corners),
            )
            way.rules.append(_prepare(protocol))
        self._pointing = {way: np.zeros(n_clips) for way in self._ways}

    def pointing_of(self, protocol: Protocol) -> Float64:
        """Return the share of each map's largest pixels that lie on g > 0, float64 [N]."""
        return self._pointing[_way(protocol)]

    def leave_out(self, name: str) -> None:
        """Score no further maps under a protocol."""
        for way in self._ways.values():
            way.rules[:] = [rule for rule in way.rules if rule.protocol.name != name]

    def part(self, rows: Sequence[int]) -> Part:
        """Return what was found of some clips, for `put` of another engine of the same protocols."""
        where = np.asarray(rows)
        columns = {
            name: (s.intersection[where], s.false_positive[where], s.ties[where], s.confidence[where])
            for name, s in self.statistics.items()
        }
        return columns, {way: found[where] for way, found in self._pointing.items()}

    def put(self, rows: Sequence[int], part: Part) -> None:
        """Take over what another engine found of some clips."""
        where = np.asarray(rows)
        for name, (intersection, false_positive, ties, confidence) in part[0].items():
            out = self.statistics[name]
            out.intersection[where], out.false_positive[where] = intersection, false_positive
            out.ties[where], out.confidence[where] = ties, confidence
        for way, found in part[1].items():
            self._pointing[way][where] = found

    def record_truth(self, rows: Sequence[int], truths: Mapping[int, DrawnTruths]) -> None:
        """Note the size of clips' truth.

        Parameters
        ----------
        rows
            Of the clips.
        truths
            Their ground truth by map size.
        """
        for size, truth in truths.items():
            self.truth[size][np.asarray(rows)] = truth.total

    def score(self, heatmaps: Float32, rows: Sequence[int], truths: Mapping[int, DrawnTruths]) -> None:
        """Score a chunk of maps.

        Parameters
        ----------
        heatmaps : float32 [n, h, w]
            Finite maps of one resolution.
        rows
            Row of each.
        truths
            Ground truth of all of them by map size.
        """
        where = np.asarray(rows)
        if len(where) > TOGETHER:
            for begin in range(0, len(where), TOGETHER):
                some = np.arange(len(where))[begin : begin + TOGETHER]
                self.score(heatmaps[some], where[some].tolist(), {s: t.some(some) for s, t in truths.items()})
            return
        # Rounding would turn a constant map into noise; it is looked at in full, which keeps it constant.
        varied = heatmaps.min(axis=(1, 2)) < heatmaps.max(axis=(1, 2))
        for key, way in self._ways.items():
            rest = np.arange(len(where))
            height, width = heatmaps.shape[1:]
            if pays(height, width, way.size) and all(map(is_settled_by_tiles, way.rules)):
                rest = np.flatnonzero(~self._score_by_tiles(key, heatmaps, where, truths[way.size], varied))
            for begin in range(0, len(rest), _IN_FULL):
                some = rest[begin : begin + _IN_FULL]
                self._score_in_full(key, heatmaps[some], where[some], truths[way.size].some(some))

    def _score_by_tiles(
        self, key: Way, heatmaps: Float32, rows: Ints, truths: DrawnTruths, varied: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Score maps by bounds of their tiles; return which are settled, bool [n]."""
        settled, way = varied.copy(), self._ways[key]
        if not varied.any():
            return settled
        maps = TiledMaps(heatmaps[varied], way.size, way.interpolation, way.align_corners)
        chunk = TiledChunk(maps, truths.some(varied), way.rules)
        where = rows[varied]
        self._pointing[key][where] = chunk.pointing()
        for rule in way.rules:
            out = self.statistics[rule.protocol.name]
            out.confidence[where] = chunk.confidence(rule.protocol)
            found = chunk.masks(rule)
            out.intersection[where], out.false_positive[where] = found.intersection, found.false_positive
            out.ties[where] = found.ties
        settled[varied] = chunk.settled
        return settled

    def _score_in_full(self, key: Way, heatmaps: Float32, rows: Ints, truths: DrawnTruths) -> None:
        """Score maps pixel by pixel."""
        way = self._ways[key]
        x = resize(heatmaps, way.size, way.interpolation, way.align_corners).reshape(len(rows), -1)
        chunk = Chunk(x, [truths[k] for k in range(len(rows))], way.rules)
        self._pointing[key][rows] = chunk.pointing()
        one_by_one: dict[int, list[Rule]] = {}
        for rule in way.rules:
            out = self.statistics[rule.protocol.name]
            out.confidence[rows] = chunk.confidence(rule.protocol)
            rest = list(range(len(rows)))
            if rule.kind == "rank":
                out.intersection[rows, 0], out.false_positive[rows, 0], unknown = chunk.ranked(rule.protocol)
                out.ties[rows] = chunk.ties(rule.protocol)
                rest = np.flatnonzero(unknown).tolist()
            for n in rest:
                one_by_one.setdefault(n, []).append(rule)
        for n, left in one_by_one.items():
            chunk.select(n)  # what the rules share is computed once per map
            for rule in left:
                out = self.statistics[rule.protocol.name]
                out.intersection[rows[n]], out.false_positive[rows[n]] = chunk.masks(rule)


def _way(protocol: Protocol) -> Way:
    return protocol.map_size, protocol.interpolation, protocol.align_corners


def _prepare(protocol: Protocol) -> Rule:
    """Decide how a rule's masks are found."""
    if protocol.is_rank_rule:
        return Rule(protocol, "rank")
    values = protocol.thresholds or (protocol.threshold_value,)
    if None in values:
        raise ValueError(f"protocol {protocol.name}: no threshold is known yet")
    singles = tuple(at_threshold(protocol, float(v)) for v in values if v is not None)
    if protocol.normalisation == "none" and not (protocol.floor_at_median or protocol.rescue_saturated):
        return Rule(protocol, "cut", tuple(smallest_taken(rule) for rule in singles), singles)
    return Rule(protocol, "plain", (), singles)


def smallest_taken(protocol: Protocol) -> float:
    """Find the smallest raw value that a rule without normalisation per map takes.

    Parameters
    ----------
    protocol
        A rule ``fixed`` with normalisation ``none``.

    Returns
    -------
    float
        Pixels x >= it are the mask: the bisection runs over all float32 and uses that s does not decrease.
        Infinity where no value is taken.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> smallest_taken(PROTOCOLS["fixed"]), smallest_taken(PROTOCOLS["avsbench"]) > 0
    (0.5, True)
    """
    threshold = np.float32(protocol.threshold_value or 0.0)

    def taken(key: int) -> bool:
        with np.errstate(over="ignore"):
            s = rescale(np.array([[[_float_of(key)]]], np.float32), protocol)[0, 0, 0]
        return bool(s > threshold if protocol.comparison == ">" else s >= threshold)

    low, high = _key_of(-np.inf), _key_of(np.inf)
    if not taken(high):
        return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if taken(middle) else (middle, high)
    return float(_float_of(low if taken(low) else high))


def _key_of(value: float) -> int:
    """Return the number of a float32 in their order: neighbours differ by 1."""
    bits = int(np.array(value, np.float32).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float_of(key: int) -> np.float32:
    bits = key if key >= 0 else -key - 0x80000000
    return np.float32(np.array(bits, np.int32).view(np.float32))
