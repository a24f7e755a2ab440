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
from avsl_eval.drawn import DrawnTruth
from avsl_eval.maps import at_threshold, rescale, resize
from avsl_eval.protocol import Protocol

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


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
        self._ways: dict[tuple[int, str, bool], _Upsampling] = {}
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

    def record_truth(self, row: int, truths: Mapping[int, DrawnTruth]) -> None:
        """Note the size of a clip's truth.

        Parameters
        ----------
        row
            Of the clip.
        truths
            Its ground truth by map size.
        """
        for size, truth in truths.items():
            self.truth[size][row] = truth.total

    def score(
        self, heatmaps: Float32, rows: Sequence[int], truths: Sequence[Mapping[int, DrawnTruth]]
    ) -> None:
        """Score a chunk of maps.

        Parameters
        ----------
        heatmaps : float32 [n, h, w]
            Finite maps of one resolution.
        rows
            Row of each.
        truths
            Ground truth of each by map size.
        """
        inside = {size: np.stack([t[size].inside for t in truths]) for size in self.truth}
        for key, way in self._ways.items():
            x = resize(heatmaps, way.size, way.interpolation, way.align_corners).reshape(len(rows), -1)
            rules = tuple(way.rules)  # another thread may leave one out while this one scores
            chunk = Chunk(x, [t[way.size] for t in truths], inside[way.size], rules)
            where = np.asarray(rows)
            self._pointing[key][where] = chunk.pointing()
            one_by_one: dict[int, list[Rule]] = {}
            for rule in rules:
                out = self.statistics[rule.protocol.name]
                out.confidence[where] = chunk.confidence(rule.protocol)
                rest = list(range(len(rows)))
                if rule.kind == "rank":
                    out.intersection[where, 0], out.false_positive[where, 0], unknown = chunk.ranked(
                        rule.protocol
                    )
                    out.ties[where] = chunk.ties(rule.protocol)
                    rest = np.flatnonzero(unknown).tolist()
                for n in rest:
                    one_by_one.setdefault(n, []).append(rule)
            for n, left in one_by_one.items():
                chunk.select(n)  # what the rules share is computed once per map
                for rule in left:
                    out = self.statistics[rule.protocol.name]
                    out.intersection[rows[n]], out.false_positive[rows[n]] = chunk.masks(rule)


def _way(protocol: Protocol) -> tuple[int, str, bool]:
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
