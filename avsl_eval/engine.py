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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl_eval.context import DrawnTruth
from avsl_eval.maps import at_threshold, mask_of, normalise, rank_of, rescale, resize
from avsl_eval.protocol import Protocol

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

TOP_QUARTER = 4
"""SLAVC's confidence is the mean of the largest 1 / 4 of the values."""

Kind = Literal["rank", "cut", "plain"]


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
class _Rule:
    """A protocol, made ready: how its mask is found, and the cuts that do not depend on the map."""

    protocol: Protocol
    kind: Kind
    cuts: tuple[float, ...] = ()
    singles: tuple[Protocol, ...] = ()


@dataclass(frozen=True)
class _Upsampling:
    """A way of upsampling, and the rules that share it."""

    size: int
    interpolation: Any
    align_corners: bool
    rules: list[_Rule] = field(default_factory=list)


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
        for key, way in self._ways.items():
            x = resize(heatmaps, way.size, way.interpolation, way.align_corners).reshape(len(rows), -1)
            chunk = _Chunk(x, [t[way.size] for t in truths], way.rules)
            for n, row in enumerate(rows):
                chunk.select(n)
                self._pointing[key][row] = chunk.pointing()
                for rule in way.rules:
                    out = self.statistics[rule.protocol.name]
                    out.intersection[row], out.false_positive[row] = chunk.masks(rule)
                    out.ties[row] = chunk.ties
                    out.confidence[row] = chunk.confidence(rule.protocol)


def _way(protocol: Protocol) -> tuple[int, str, bool]:
    return protocol.map_size, protocol.interpolation, protocol.align_corners


def _prepare(protocol: Protocol) -> _Rule:
    """Decide how a rule's masks are found."""
    if protocol.is_rank_rule:
        return _Rule(protocol, "rank")
    values = protocol.thresholds or (protocol.threshold_value,)
    if None in values:
        raise ValueError(f"protocol {protocol.name}: no threshold is known yet")
    singles = tuple(at_threshold(protocol, float(v)) for v in values if v is not None)
    if protocol.normalisation == "none" and not (protocol.floor_at_median or protocol.rescue_saturated):
        return _Rule(protocol, "cut", tuple(smallest_taken(rule) for rule in singles), singles)
    return _Rule(protocol, "plain", (), singles)


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


def order_at(values: Float32, ranks: Sequence[int]) -> Float32:
    """Partition values at several ranks.

    Parameters
    ----------
    values : float32 [P]
        Any values.
    ranks
        Ascending and distinct, each below P.

    Returns
    -------
    float32 [P]
        The values, those of these ranks in their places, smaller ones before and larger ones after them.

    Notes
    -----
    numpy partitions at one rank with vector instructions and at several without; so a part at a time.

    Examples
    --------
    >>> order_at(np.array([3, 0, 2, 1], np.float32), [1, 2])[1:3].tolist()
    [1.0, 2.0]
    """
    ordered = values.copy()
    begin, left = 0, list(ranks)
    middle = left.pop(len(left) // 2)
    ordered.partition(middle)
    for rank in (r for r in left if r < middle):
        ordered[begin:middle].partition(rank - begin)
        begin = rank + 1
    begin = middle + 1
    for rank in (r for r in left if r > middle):
        ordered[begin:].partition(rank - begin)
        begin = rank + 1
    return ordered


class _Chunk:
    """The maps of a chunk, upsampled in one way; one of them is selected at a time."""

    def __init__(self, x: Float32, truths: Sequence[DrawnTruth], rules: Sequence[_Rule]) -> None:
        self._all, self._truths = x, truths
        self._low, self._high = x.min(axis=1), x.max(axis=1)
        n, pixels = x.shape
        self._ranks: dict[str, list[int]] = {}
        for rule in rules:
            protocol = rule.protocol
            if rule.kind == "rank" and protocol.threshold not in self._ranks:
                self._ranks[protocol.threshold] = [rank_of(protocol, pixels, t.n_inside) for t in truths]
        quarter = pixels - max(1, pixels // TOP_QUARTER)
        with_top = any(rule.protocol.confidence == "top_quarter" for rule in rules)
        self._tops: list[Float32] = []
        # The five raw values that decide a rank rule: lowest, next below t, t, next above t, highest.
        self._five = {name: np.empty((n, 1, 5), np.float32) for name in self._ranks}
        for k in range(n):
            ranks = {name: r[k] for name, r in self._ranks.items()}
            wanted = sorted({*ranks.values(), *([quarter] if with_top else [])})
            if not wanted:
                continue
            ordered = order_at(x[k], wanted)
            if with_top:
                self._tops.append(ordered[quarter:].copy())
            for name, rank in ranks.items():
                t = ordered[rank]
                below = ordered[:rank].max() if rank else t
                above = ordered[rank + 1 :].min() if rank + 1 < pixels else t
                self._five[name][k, 0] = self._low[k], below, t, above, self._high[k]
        self._decided = {r.protocol.name: self._decide(r.protocol) for r in rules if r.kind == "rank"}
        self._confidences: dict[tuple[Any, ...], Float64] = {}

    def _decide(self, protocol: Protocol) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Find out of which maps the mask is a comparison with t, for which it is empty, and which have ties.

        Each is bool [n].
        """
        five = normalise(
            rescale(self._five[protocol.threshold], protocol), protocol.normalisation, protocol.constant
        )[:, 0]
        ranks = np.array(self._ranks[protocol.threshold])
        pixels = self._all.shape[1]
        clean_below = (five[:, 1] < five[:, 2]) | (ranks == 0)
        clean_above = (five[:, 2] < five[:, 3]) | (ranks == pixels - 1)
        simple = clean_above if protocol.comparison == ">" and not protocol.exact_area else clean_below
        if protocol.rescue_saturated:
            simple = simple & (five[:, 2] < 1)  # then every p >= 1 is above t already
        empty = np.isnan(five[:, 2])
        return simple & ~empty, empty, ~(clean_below & clean_above) & ~empty

    def select(self, k: int) -> None:
        """Turn to one map of the chunk."""
        self._k, self._x, self._truth = k, self._all[k], self._truths[k]
        truth = self._truth
        self._inside = self._x.take(truth.pixels)
        self._double = None if truth.double is None else self._x[truth.double]
        self._counted: dict[tuple[str, float], tuple[float, float]] = {}
        self._areas: dict[float, int] = {}
        self._processed: dict[tuple[Any, ...], Float32] = {}
        self.ties = 0

    def pointing(self) -> float:
        """Return the share of the map's largest pixels that lie on g > 0."""
        high = self._high[self._k]
        if not self._inside.size or self._inside.max() < high:
            return 0.0
        return int(np.count_nonzero(self._inside == high)) / int(np.count_nonzero(self._x == high))

    def confidence(self, protocol: Protocol) -> float:
        """Return what ranks the clip, NaN where the rule does not say."""
        if protocol.confidence == "stored":
            return float("nan")
        values = self._high[self._k : self._k + 1]
        if protocol.confidence == "top_quarter":
            values = self._tops[self._k]
        return float(rescale(values, protocol).mean(dtype=np.float64))

    def masks(self, rule: _Rule) -> tuple[Any, Any]:
        """Return intersections and false positives of the selected map's masks."""
        protocol = rule.protocol
        self.ties = 0
        if rule.kind == "cut":
            counted = [self._cut(cut) for cut in rule.cuts]
            return [c[0] for c in counted], [c[1] for c in counted]
        if rule.kind == "rank":
            simple, empty, tied = (flags[self._k] for flags in self._decided[protocol.name])
            if empty:
                return 0.0, 0.0
            if tied:
                p = self._p(protocol)
                rank = self._ranks[protocol.threshold][self._k]
                t_raw = self._five[protocol.threshold][self._k]
                t = normalise(rescale(t_raw[None], protocol), protocol.normalisation, protocol.constant)[
                    0, 0, 2
                ]
                self.ties = int(np.count_nonzero(p == t)) - 1
            if simple:
                return self._above(protocol)
            rank = self._ranks[protocol.threshold][self._k]
            return self._count(mask_of(self._p(protocol), protocol, rank))
        counted = [
            self._count(mask_of(self._p(protocol), single, self._x.size // 2)) for single in rule.singles
        ]
        return [c[0] for c in counted], [c[1] for c in counted]

    def _above(self, protocol: Protocol) -> tuple[float, float]:
        """Count the mask of a rank rule without ties at its threshold: its area is known."""
        rank = self._ranks[protocol.threshold][self._k]
        strictly = protocol.comparison == ">" and not protocol.exact_area
        t = self._five[protocol.threshold][self._k, 0, 2]
        key = (">" if strictly else ">=", float(t))
        if key not in self._counted:
            compare = np.greater if strictly else np.greater_equal
            covered = weighted = float(np.count_nonzero(compare(self._inside, t)))
            if self._double is not None:
                weighted = (covered + np.count_nonzero(compare(self._double, t))) / 2
            self._counted[key] = weighted, self._x.size - rank - strictly - covered
        return self._counted[key]

    def _cut(self, cut: float) -> tuple[float, float]:
        """Count the mask x >= cut."""
        key = ("cut", cut)
        if key not in self._counted:
            truth, pixels = self._truth, self._x.size
            if cut > self._high[self._k]:
                found = 0.0, 0.0
            elif cut <= self._low[self._k]:
                found = truth.total, float(pixels - truth.n_inside)
            else:
                value = np.float32(cut)
                covered = weighted = float(np.count_nonzero(self._inside >= value))
                if self._double is not None:
                    weighted = (covered + np.count_nonzero(self._double >= value)) / 2
                found = weighted, float(np.count_nonzero(self._x >= value)) - covered
            self._counted[key] = found
        return self._counted[key]

    def _p(self, protocol: Protocol) -> Float32:
        """Return the selected map, processed in full."""
        constant = protocol.constant if self._low[self._k] == self._high[self._k] else ""
        key = (protocol.scale, protocol.offset, protocol.sigmoid, protocol.normalisation, constant)
        if key not in self._processed:
            s = rescale(self._x.reshape(1, 1, -1), protocol)
            self._processed[key] = normalise(s, protocol.normalisation, protocol.constant).ravel()
        return self._processed[key]

    def _count(self, mask: NDArray[np.bool_]) -> tuple[float, float]:
        truth = self._truth
        covered = weighted = float(np.count_nonzero(mask & truth.inside))
        if truth.double is not None:
            weighted = (covered + np.count_nonzero(mask & truth.double)) / 2
        return weighted, float(np.count_nonzero(mask)) - covered
