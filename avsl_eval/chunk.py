"""A chunk of maps, upsampled in one way: order statistics once, and the masks of every rule counted.

See `avsl_eval.engine` for why masks can be counted on raw values. Shapes: n maps, P = S * S pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import DrawnTruth
from avsl_eval.maps import compared, mask_of, normalise, rank_of, rescale
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


class Chunk:
    """The maps of a chunk, upsampled in one way; one of them is selected at a time."""

    def __init__(self, x: Float32, truths: Sequence[DrawnTruth], rules: Sequence[Rule]) -> None:
        self._all, self._truths = x, truths
        n, pixels = x.shape
        self._low, self._top = x.min(axis=1), x.argmax(axis=1)
        self._high = x[np.arange(n), self._top]
        self._ranks: dict[str, Ints] = {}
        for rule in rules:
            protocol = rule.protocol
            if rule.kind == "rank" and protocol.threshold not in self._ranks:
                ranks = [rank_of(protocol, pixels, t.n_inside) for t in truths]
                self._ranks[protocol.threshold] = np.array(ranks, np.intp)
            if protocol.floor_at_median:
                self._ranks.setdefault("median", np.full(n, pixels // 2, np.intp))
            if protocol.confidence == "top_quarter":
                quarter = pixels - max(1, pixels // TOP_QUARTER)
                self._ranks.setdefault("top_quarter", np.full(n, quarter, np.intp))
        # The five raw values that decide a rank rule: lowest, next below t, t, next above t, highest.
        self._five = {name: np.empty((n, 1, 5), np.float32) for name in self._ranks}
        samples = sorted_samples(x, math.isqrt(pixels)) if self._ranks else x[:, :0]
        for name, five in self._five.items():
            five[:, 0, 0], five[:, 0, 4] = self._low, self._high
            five[:, 0, 1:4] = neighbours_at(x, samples, self._ranks[name])
        self._decided = {r.protocol.name: self._decide(r.protocol) for r in rules if r.kind == "rank"}
        self._confidences: dict[tuple[Any, ...], Float64] = {}
        self._above: dict[tuple[str, bool], tuple[Ints, Ints]] = {}
        self._processed: dict[tuple[Any, ...], Float32] = {}
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
        self._inside: Float32 | None = None
        self._counted: dict[tuple[str, float], tuple[float, float]] = {}

    def pointing(self) -> Float64:
        """Return the share of each map's largest pixels that lie on g > 0, float64 [n]."""
        n, pixels = self._all.shape
        found = np.empty(n)
        for k, (x, first, high) in enumerate(zip(self._all, self._top.tolist(), self._high, strict=True)):
            inside = self._truths[k].inside
            found[k] = inside[first]
            if first + 1 < pixels and x[first + 1 :].max() == high:  # several share the maximum
                top = x == high
                found[k] = np.count_nonzero(top & inside) / np.count_nonzero(top)
        return found

    def confidence(self, protocol: Protocol) -> Float64:
        """Return what ranks the clips, float64 [n]; NaN where the rule does not say."""
        key = (protocol.confidence, protocol.scale, protocol.offset, protocol.sigmoid)
        if key not in self._confidences:
            self._confidences[key] = self._confidence(protocol)
        return self._confidences[key]

    def _confidence(self, protocol: Protocol) -> Float64:
        n, pixels = self._all.shape
        if protocol.confidence == "stored":
            return np.full(n, np.nan)
        if protocol.confidence == "max":
            return rescale(self._high, protocol).astype(np.float64, copy=False)
        found = np.empty(n)
        for k, (x, t) in enumerate(zip(self._all, self._five["top_quarter"][:, 0, 2], strict=True)):
            above = x[x > t]
            lacking = max(1, pixels // TOP_QUARTER) - len(
                above
            )  # t itself, as often as it is among the largest
            found[k] = rescale(np.append(above, np.full(lacking, t)), protocol).mean(dtype=np.float64)
        return found

    def ranked(self, protocol: Protocol) -> tuple[Float64, Float64, NDArray[np.bool_]]:
        """Count the masks of a rank rule, of all maps at once.

        Parameters
        ----------
        protocol
            The rule.

        Returns
        -------
        intersection, false_positive : float64 [n]
            Of the maps without ties at the threshold, whose mask's area is known; 0 for the others.
        open : bool [n]
            The others: `masks` counts them one by one.
        """
        simple, empty, _ = self._decided[protocol.name]
        if not simple.any():
            return np.zeros(len(simple)), np.zeros(len(simple)), ~simple & ~empty
        strictly = protocol.comparison == ">" and not protocol.exact_area
        key = protocol.threshold, strictly
        if key not in self._above:
            covered, double = np.empty((2, len(simple)), np.intp)
            compare = np.greater if strictly else np.greater_equal
            thresholds = self._five[protocol.threshold][:, 0, 2]
            for k, (x, t, truth) in enumerate(zip(self._all, thresholds, self._truths, strict=True)):
                mask = compare(x, t)
                covered[k] = double[k] = np.count_nonzero(mask & truth.inside)
                if truth.double is not None:
                    double[k] = np.count_nonzero(mask & truth.double)
            self._above[key] = covered, covered + double
        covered, twice = self._above[key]
        area = self._all.shape[1] - self._ranks[protocol.threshold] - strictly
        return simple * (twice / 2), simple * (area - covered).astype(np.float64), ~(simple | empty)

    def ties(self, protocol: Protocol) -> Ints:
        """Count the other pixels of each map that equal a rank rule's threshold, int [n]."""
        found = np.zeros(len(self._all), np.intp)
        for k in np.flatnonzero(self._decided[protocol.name][2]).tolist():
            self.select(k)
            found[k] = np.count_nonzero(self._p(protocol) == self._ranked_p(protocol)) - 1
        return found

    def masks(self, rule: Rule) -> tuple[Any, Any]:
        """Return intersections and false positives of the selected map's masks."""
        protocol = rule.protocol
        if rule.kind == "cut":
            counted = [self._cut(cut) for cut in rule.cuts]
        elif rule.kind == "rank":
            counted = [self._count(self._tied_mask(protocol))]
        else:
            counted = [self._count(self._plain_mask(protocol, single)) for single in rule.singles]
        return [c[0] for c in counted], [c[1] for c in counted]

    def _tied_mask(self, protocol: Protocol) -> NDArray[np.bool_]:
        p = self._p(protocol)
        if protocol.exact_area:
            return mask_of(p, protocol, int(self._ranks[protocol.threshold][self._k]))
        return compared(p, self._ranked_p(protocol), protocol)

    def _plain_mask(self, protocol: Protocol, single: Protocol) -> NDArray[np.bool_]:
        p = self._p(protocol)
        if not protocol.floor_at_median or (single.threshold_value or 0) <= 0 or np.isnan(p[0]):
            return mask_of(p, single, p.size // 2)
        # What is set to 0 is below a positive threshold: the mask is above the median and the threshold.
        unfloored = compared(p, np.float32(single.threshold_value or 0), single)
        return unfloored & (p >= self._ranked_p(protocol))

    def _ranked_p(self, protocol: Protocol) -> np.float32:
        """Return p of the order statistic that the rule takes, of the selected map."""
        five = self._five["adaptive" if protocol.threshold == "adaptive" else "median"][self._k][None]
        p: np.float32 = normalise(rescale(five, protocol), protocol.normalisation, protocol.constant)[0, 0, 2]
        return p

    def _covered(self, compare: Any, value: np.float32) -> tuple[float, float]:
        """Count the true pixels that compare with a value, plainly and weighted by g."""
        truth = self._truth
        if self._many:  # with many cuts it pays to gather the true pixels once; with a few, to compare all
            if self._inside is None:
                self._inside = self._x.take(truth.pixels)
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
        key = (self._k, protocol.scale, protocol.offset, protocol.sigmoid, protocol.normalisation, constant)
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
