"""A chunk of maps, upsampled in one way: order statistics once, and the masks of every rule counted.

See `avsl_eval.engine` for why masks can be counted on raw values. Shapes: n maps, P = S * S pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import DrawnTruth
from avsl_eval.maps import mask_of, normalise, rank_of, rescale
from avsl_eval.protocol import Protocol
from avsl_eval.selection import neighbours_at, sorted_samples

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.intp]

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


def count_rows(masks: NDArray[np.bool_]) -> Ints:
    """Count the true pixels of masks [n, P]: int [n]."""
    return np.array([np.count_nonzero(mask) for mask in masks], np.intp)


class Chunk:
    """The maps of a chunk, upsampled in one way; one of them is selected at a time."""

    def __init__(
        self, x: Float32, truths: Sequence[DrawnTruth], inside: NDArray[np.bool_], rules: Sequence[Rule]
    ) -> None:
        self._all, self._truths, self._all_inside = x, truths, inside
        self._low, self._high = x.min(axis=1), x.max(axis=1)
        n, pixels = x.shape
        self._ranks: dict[str, Ints] = {}
        for rule in rules:
            protocol = rule.protocol
            if rule.kind == "rank" and protocol.threshold not in self._ranks:
                ranks = [rank_of(protocol, pixels, t.n_inside) for t in truths]
                self._ranks[protocol.threshold] = np.array(ranks, np.intp)
            if protocol.floor_at_median:
                self._ranks.setdefault("median", np.full(n, pixels // 2, np.intp))
        # The five raw values that decide a rank rule: lowest, next below t, t, next above t, highest.
        self._five = {name: np.empty((n, 1, 5), np.float32) for name in self._ranks}
        samples = sorted_samples(x, math.isqrt(pixels)) if self._ranks else x[:, :0]
        for name, five in self._five.items():
            five[:, 0, 0], five[:, 0, 4] = self._low, self._high
            five[:, 0, 1:4] = neighbours_at(x, samples, self._ranks[name])
        self._decided = {r.protocol.name: self._decide(r.protocol) for r in rules if r.kind == "rank"}
        self._tops: Float32 | None = None
        if any(rule.protocol.confidence == "top_quarter" for rule in rules):
            quarter = pixels - max(1, pixels // TOP_QUARTER)
            self._tops = np.partition(x, quarter, axis=1)[:, quarter:]
        self._above: dict[tuple[str, bool], tuple[Ints, Ints]] = {}
        self._many = sum(len(rule.cuts) for rule in rules) > _FEW_CUTS

    def _decide(self, protocol: Protocol) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Find out of which maps the mask is a comparison with t, for which it is empty, and which have ties.

        Each is bool [n].
        """
        five = normalise(
            rescale(self._five[protocol.threshold], protocol), protocol.normalisation, protocol.constant
        )[:, 0]
        ranks = self._ranks[protocol.threshold]
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
        self._processed: dict[tuple[Any, ...], Float32] = {}
        self.ties = 0

    def pointing(self) -> Float64:
        """Return the share of each map's largest pixels that lie on g > 0, float64 [n]."""
        n, pixels = self._all.shape
        flat = np.flatnonzero(self._all == self._high[:, None])  # ten times as fast as in two dimensions
        rows, hits = flat // pixels, self._all_inside.ravel()[flat]
        found: Float64 = np.bincount(rows, weights=hits, minlength=n) / np.bincount(rows, minlength=n)
        return found

    def confidence(self, protocol: Protocol) -> float:
        """Return what ranks the clip, NaN where the rule does not say."""
        if protocol.confidence == "stored":
            return float("nan")
        values = self._high[self._k : self._k + 1]
        if self._tops is not None and protocol.confidence == "top_quarter":
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
                return self._ranked(protocol)
            rank = int(self._ranks[protocol.threshold][self._k])
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

    def _ranked(self, protocol: Protocol) -> tuple[float, float]:
        """Count the mask of a rank rule without ties at its threshold: its area is known."""
        strictly = protocol.comparison == ">" and not protocol.exact_area
        key = protocol.threshold, strictly
        if key not in self._above:  # for all maps of the chunk at once
            t = self._five[protocol.threshold][:, 0, 2, None]
            mask = self._all > t if strictly else self._all >= t
            covered = count_rows(mask & self._all_inside)
            double = covered
            if self._truths[0].double is not None:
                double = count_rows(mask & np.stack([t.double for t in self._truths if t.double is not None]))
            self._above[key] = covered, covered + double
        covered, twice = (counts[self._k] for counts in self._above[key])
        area = self._x.size - int(self._ranks[protocol.threshold][self._k]) - strictly
        return float(twice) / 2, float(area - covered)

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
