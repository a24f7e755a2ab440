"""A chunk of maps, upsampled in one way: order statistics once, and the masks of every rule counted.

See `avsl_eval.engine` for why masks can be counted on raw values. Shapes: n maps, P = S * S pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import DrawnTruth
from avsl_eval.maps import mask_of, normalise, rank_of, rescale
from avsl_eval.protocol import Protocol

Float32 = NDArray[np.float32]

TOP_QUARTER = 4
"""SLAVC's confidence is the mean of the largest 1 / 4 of the values."""

_FEW_CUTS = 3

Kind = Literal["rank", "cut", "plain"]


@dataclass(frozen=True)
class Rule:
    """Hold a protocol, made ready.

    Parameters
    ----------
    protocol
        The rule.
    kind
        How its masks are found: by a rank, by cuts that do not depend on the map, or plainly.
    cuts
        The smallest raw value that each threshold takes.
    singles
        The rules ``fixed`` that it consists of, one per threshold.
    """

    protocol: Protocol
    kind: Kind
    cuts: tuple[float, ...] = ()
    singles: tuple[Protocol, ...] = ()


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


class Chunk:
    """The maps of a chunk, upsampled in one way; one of them is selected at a time."""

    def __init__(self, x: Float32, truths: Sequence[DrawnTruth], rules: Sequence[Rule]) -> None:
        self._all, self._truths = x, truths
        self._low, self._high = x.min(axis=1), x.max(axis=1)
        n, pixels = x.shape
        self._ranks: dict[str, list[int]] = {}
        for rule in rules:
            protocol = rule.protocol
            if rule.kind == "rank" and protocol.threshold not in self._ranks:
                self._ranks[protocol.threshold] = [rank_of(protocol, pixels, t.n_inside) for t in truths]
            if protocol.floor_at_median:
                self._ranks.setdefault("median", [pixels // 2] * len(truths))
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
        self._many = sum(max(1, len(rule.cuts)) for rule in rules) > _FEW_CUTS

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
        # With many cuts it pays to gather the true pixels once; with a few, to compare all.
        self._inside = self._x.take(truth.pixels) if self._many else None
        self._counted: dict[tuple[str, float], tuple[float, float]] = {}
        self._areas: dict[float, int] = {}
        self._processed: dict[tuple[Any, ...], Float32] = {}
        self.ties = 0

    def pointing(self) -> float:
        """Return the share of the map's largest pixels that lie on g > 0."""
        top = np.flatnonzero(self._x == self._high[self._k])
        return float(np.count_nonzero(self._truth.inside[top]) / len(top))

    def confidence(self, protocol: Protocol) -> float:
        """Return what ranks the clip, NaN where the rule does not say."""
        if protocol.confidence == "stored":
            return float("nan")
        values = self._high[self._k : self._k + 1]
        if protocol.confidence == "top_quarter":
            values = self._tops[self._k]
        return float(rescale(values, protocol).mean(dtype=np.float64))

    def masks(self, rule: Rule) -> tuple[Any, Any]:
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
                self.ties = int(np.count_nonzero(self._p(protocol) == self._ranked_p(protocol))) - 1
            if simple:
                return self._above(protocol)
            rank = self._ranks[protocol.threshold][self._k]
            return self._count(mask_of(self._p(protocol), protocol, rank))
        counted = [self._count(self._plain_mask(protocol, single)) for single in rule.singles]
        return [c[0] for c in counted], [c[1] for c in counted]

    def _plain_mask(self, protocol: Protocol, single: Protocol) -> NDArray[np.bool_]:
        p = self._p(protocol)
        if not protocol.floor_at_median or (single.threshold_value or 0) <= 0 or np.isnan(p[0]):
            return mask_of(p, single, p.size // 2)
        # What is set to 0 is below a positive threshold: the mask is above the median and the threshold.
        unfloored = mask_of(p, replace(single, floor_at_median=False), p.size // 2)
        return unfloored & (p >= self._ranked_p(protocol))

    def _ranked_p(self, protocol: Protocol) -> np.float32:
        """Return p of the order statistic that the rule takes, of the selected map."""
        five = self._five["adaptive" if protocol.threshold == "adaptive" else "median"][self._k][None]
        p: np.float32 = normalise(rescale(five, protocol), protocol.normalisation, protocol.constant)[0, 0, 2]
        return p

    def _above(self, protocol: Protocol) -> tuple[float, float]:
        """Count the mask of a rank rule without ties at its threshold: its area is known."""
        rank = self._ranks[protocol.threshold][self._k]
        strictly = protocol.comparison == ">" and not protocol.exact_area
        t = self._five[protocol.threshold][self._k, 0, 2]
        key = (">" if strictly else ">=", float(t))
        if key not in self._counted:
            compare = np.greater if strictly else np.greater_equal
            covered, weighted = self._covered(compare, t)
            self._counted[key] = weighted, self._x.size - rank - strictly - covered
        return self._counted[key]

    def _covered(self, compare: Any, value: np.float32) -> tuple[float, float]:
        """Count the true pixels that compare with a value, plainly and weighted by g."""
        truth = self._truth
        if self._inside is not None:
            covered = weighted = float(np.count_nonzero(compare(self._inside, value)))
        else:
            covered = weighted = float(np.count_nonzero(compare(self._x, value) & truth.inside))
        if truth.double is not None:
            weighted = (covered + np.count_nonzero(compare(self._x, value) & truth.double)) / 2
        return covered, weighted

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
                covered, weighted = self._covered(np.greater_equal, value)
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
