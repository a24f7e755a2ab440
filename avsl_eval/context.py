"""What a score has to be read against: the best and blind answers under the same rule, on the same clips.

- ``ceiling``: the best cIoU that any map without ties can reach. A rule that prescribes the mask's size
  (k pixels, see `avsl_eval.maps.tie_free_area`) allows only
  ``min(k, |g = 1|) + min(k - |g = 1|, |g = 1/2|) / 2`` over ``sum(g) + what is left of k``; a rule that
  does not prescribe it allows the perfect mask.
- ``center_prior``: one fixed map for every clip and protocol, falling linearly with the distance from the
  image's centre and exactly 0.5 on the circle whose disc covers half of the image. It knows nothing but
  that photographers centre things.
- ``mean_truth_prior``: the mean ground truth of *other* clips: clips are dealt into `FOLDS` folds by a digest
  of their id, and a clip's map is the mean truth of the other folds. It knows the test set's habits and
  nothing of the clip.
- ``whole_image``: the mask that covers everything.

The priors are taken as scores s, in [0, 1]: a rule's affine function and sigmoid, which are made for one
family of models, are not applied to them, its normalisation is. Under a rule with a sweep each answer has the
threshold that suits it best, as the model has. Under a universal threshold that negative maps set, a map
which does not listen is the same for positives and negatives, and its mask is empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import best_column, ciou_of
from avsl_eval.maps import at_threshold, binarise, normalise, rank_of, tie_free_area, tie_order
from avsl_eval.protocol import Protocol
from avsl_eval.truth import Annotations

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

CONTEXT = ("ceiling", "center_prior", "mean_truth_prior", "whole_image")
"""Names of the answers, in the order of reports."""

PRIORS = ("center_prior", "mean_truth_prior")
"""Those of them that are maps."""

FOLDS = 10
"""Of the mean-truth prior."""

_BLOCK = 64
"""Clips whose truth is kept until they are counted together."""


@dataclass(frozen=True)
class DrawnTruth:
    """Hold the ground truth of one clip at one map size.

    Parameters
    ----------
    inside : bool [P]
        Pixels with g > 0.
    pixels : int [n_inside]
        Where they are.
    double : bool [P] or None
        Pixels with g = 1 where g has two levels (consensus); None where g is 0 or 1.
    n_inside, n_double
        Their numbers.
    """

    inside: Bools
    pixels: NDArray[np.intp]
    double: Bools | None
    n_inside: int
    n_double: int

    @classmethod
    def of_levels(cls, levels: NDArray[np.uint8], unit: int) -> DrawnTruth:
        """Make it of the levels of `avsl_eval.truth.AnnotatedClip.levels`."""
        flat = levels.reshape(-1)
        if unit == 1:
            inside = flat.view(np.bool_)
            pixels = np.flatnonzero(inside)
            return cls(inside, pixels, None, len(pixels), 0)
        inside, double = flat > 0, flat > 1
        pixels = np.flatnonzero(inside)
        return cls(inside, pixels, double, len(pixels), int(np.count_nonzero(double)))

    @property
    def total(self) -> float:
        """sum(g), in pixels."""
        return float(self.n_inside) if self.double is None else (self.n_inside + self.n_double) / 2


def center_prior_map(size: int) -> Float32:
    """Draw the centre prior.

    Parameters
    ----------
    size
        Map size S in pixels.

    Returns
    -------
    float32 [S, S]
        ``1 - r / (2 R)`` with r the distance of a pixel's centre from the image's centre and pi R^2 = S^2 /
        2; in [0, 1].

    Examples
    --------
    >>> float((center_prior_map(224) >= 0.5).mean().round(3))
    0.5
    """
    offset = np.arange(size) + 0.5 - size / 2
    # Squared distances of equally far pixels are equal exactly, and so are their values: the map is
    # symmetric.
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    radius = np.sqrt(size * size / (2 * np.pi))
    return np.asarray(1 - np.sqrt(squared) / (2 * radius), dtype=np.float32)


def deal_folds(clip_ids: Sequence[str], folds: int = FOLDS) -> NDArray[np.intp]:
    """Deal clips into folds of almost equal size, in a way that depends on their ids alone.

    Parameters
    ----------
    clip_ids
        N distinct ids.
    folds
        The most folds; never more than clips.

    Returns
    -------
    int [N]
        Fold of each clip.

    Examples
    --------
    >>> sorted(deal_folds(["a", "b", "c", "d"], 2).tolist())
    [0, 0, 1, 1]
    """
    order = sorted(range(len(clip_ids)), key=lambda k: hashlib.sha256(clip_ids[k].encode()).digest())
    out = np.empty(len(clip_ids), np.intp)
    out[order] = np.arange(len(clip_ids)) % min(folds, max(1, len(clip_ids)))
    return out


def mean_truth_maps(annotations: Annotations, size: int, fold_of: NDArray[np.intp]) -> Float32:
    """Compute the mean ground truth of the clips outside each fold.

    Parameters
    ----------
    annotations
        The test set.
    size
        Map size S in pixels.
    fold_of : int [N]
        Fold of each clip; clips with -1 are left out.

    Returns
    -------
    float32 [K, S, S]
        For each fold the mean g of all clips of other folds; 0 where there is none.
    """
    n_folds = int(fold_of.max(initial=0)) + 1
    sums = np.zeros((n_folds, size, size), np.int64)
    block = np.zeros((n_folds, size, size), np.uint8)  # adding bytes to bytes is some ten times faster
    counts = np.zeros(n_folds, np.int64)
    room = 255 // annotations.unit
    for clip, fold in zip(annotations.clips, fold_of.tolist(), strict=True):
        if fold < 0:
            continue
        block[fold] += clip.levels(size, annotations.truth)
        counts[fold] += 1
        if counts[fold] % room == 0:
            sums[fold] += block[fold]
            block[fold] = 0
    sums += block
    others = (counts.sum() - counts) * annotations.unit
    total = sums.sum(axis=0)
    return np.stack(
        [((total - own) / max(1, int(n))).astype(np.float32) for own, n in zip(sums, others, strict=True)]
    )


@dataclass(frozen=True)
class _Masks:
    """Hold the masks that fixed maps give under many rules, each different one once.

    Parameters
    ----------
    bits : uint64 [M, K, W]
        K masks of each of M maps, packed; the last one holds the map's largest pixels.
    areas : int64 [M, K]
        Their sizes.
    columns
        Rule to the columns of K that are its masks, one per threshold.
    adaptive
        Rule to what its masks are made from, for each map: they depend on the clip.
    """

    bits: NDArray[np.uint64]
    areas: NDArray[np.int64]
    columns: Mapping[str, Sequence[int]]
    adaptive: Mapping[str, Sequence[_Ranked]]

    @classmethod
    def of_maps(cls, priors: Float32, rules: Sequence[Protocol]) -> _Masks:
        """Draw the masks of maps [M, S, S], which are scores s in [0, 1]."""
        columns: dict[str, Sequence[int]] = {}
        adaptive: dict[str, Sequence[_Ranked]] = {}
        known: dict[bytes, int] = {}
        drawn: list[NDArray[np.uint64]] = []
        for rule in rules:
            p = normalise(priors, rule.normalisation, rule.constant)
            if rule.threshold == "adaptive":
                adaptive[rule.name] = [_Ranked.of_map(one.ravel(), rule) for one in p]
                continue
            own = []
            for single in _single_rules(rule):
                bits = _pack(binarise(p, single, [0] * len(p)))
                key = bits.tobytes()
                if key not in known:
                    known[key] = len(drawn)
                    drawn.append(bits)
                own.append(known[key])
            columns[rule.name] = own
        drawn.append(_pack(priors == priors.max(axis=(1, 2), keepdims=True)))
        stacked = np.stack(drawn, axis=1)
        return cls(stacked, _count_bits(stacked), columns, adaptive)


@dataclass(frozen=True)
class _Ranked:
    """Hold one map for the adaptive rules.

    Parameters
    ----------
    rule
        The rule.
    p : float32 [P]
        The map.
    ordered : float32 [P]
        Its values, ascending.
    ranks : uint32 [P] or None
        Where ties are broken, the rank of each pixel from the largest down, ties in `tie_order`.
    """

    rule: Protocol
    p: Float32
    ordered: Float32
    ranks: NDArray[np.uint32] | None

    @classmethod
    def of_map(cls, p: Float32, rule: Protocol) -> _Ranked:
        """Prepare a map."""
        ranks = None
        if rule.exact_area:
            ranks = np.empty(p.size, np.uint32)
            ranks[np.lexsort((tie_order(p.size), -p))] = np.arange(p.size, dtype=np.uint32)
        return cls(rule, p, np.sort(p), ranks)

    def statistics(self, truth: DrawnTruth) -> tuple[float, float]:
        """Return intersection and false positive on one clip, in pixels."""
        p, rule = self.p, self.rule
        if np.isnan(p[0]):  # a constant map that the rule makes nothing of
            return 0.0, 0.0
        k = p.size - rank_of(rule, p.size, truth.n_inside)
        threshold = self.ordered[p.size - k]
        if self.ranks is not None:
            mask, area = self.ranks < k, k
        elif rule.rescue_saturated and threshold >= 1:
            mask = p >= (threshold if rule.comparison == ">=" else 1)
            area = int(np.count_nonzero(mask))
        else:
            strictly = rule.comparison == ">"
            mask = p > threshold if strictly else p >= threshold
            area = p.size - int(
                np.searchsorted(self.ordered, threshold, side="right" if strictly else "left")
            )
        covered = weighted = float(np.count_nonzero(mask & truth.inside))
        if truth.double is not None:
            weighted = (covered + np.count_nonzero(mask & truth.double)) / 2
        return weighted, area - covered


def _single_rules(rule: Protocol) -> list[Protocol]:
    """Return the rules ``fixed`` that a rule consists of, on maps in [0, 1]."""
    if rule.threshold == "sweep":
        return [at_threshold(rule, value) for value in rule.thresholds]
    if rule.threshold == "universal":  # see the module: the mask of a map that does not listen is empty
        return [at_threshold(rule, float("inf"))]
    return [rule]


def _pack(masks: Bools) -> NDArray[np.uint64]:
    """Pack masks [M, ...] into words [M, W]; what is lacking to a whole word is 0."""
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    lacking = -packed.shape[1] % 8
    if lacking:
        packed = np.pad(packed, ((0, 0), (0, lacking)))
    return packed.view(np.uint64)


_ONES_OF_A_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def _count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the set bits of rows of words."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))
    return np.asarray(_ONES_OF_A_BYTE[words.view(np.uint8)].sum(axis=-1, dtype=np.int64))


class _Block:
    """Keep the truth of a few clips as bits until they are counted together."""

    def __init__(self, size: int, two_levels: bool) -> None:
        words = -(-size * size // 64)
        self.rows: list[int] = []
        self.inside = np.zeros((_BLOCK, words), np.uint64)
        self.double = np.zeros((_BLOCK, words), np.uint64) if two_levels else None

    def add(self, row: int, truth: DrawnTruth) -> bool:
        """Note a clip; return whether the block is full."""
        n = len(self.rows)
        packed = np.packbits(truth.inside)
        self.inside[n].view(np.uint8)[: len(packed)] = packed
        if self.double is not None and truth.double is not None:
            self.double[n].view(np.uint8)[: len(packed)] = np.packbits(truth.double)
        self.rows.append(row)
        return n + 1 == _BLOCK


class Context:
    """Score the answers of the context, clip by clip.

    Parameters
    ----------
    annotations
        The test set.
    protocols
        The rules.
    """

    def __init__(self, annotations: Annotations, protocols: Sequence[Protocol]) -> None:
        sounding = np.array([not clip.is_silent for clip in annotations.clips], bool)
        n, self._unit = len(sounding), annotations.unit
        self.fold_of = np.full(n, -1, np.intp)
        ids = [clip.clip_id for clip, sounds in zip(annotations.clips, sounding, strict=True) if sounds]
        self.fold_of[sounding] = deal_folds(ids)
        self._masks: dict[int, dict[str, _Masks]] = {}
        self._blocks: dict[int, _Block] = {}
        self._counts: dict[int, NDArray[np.int64]] = {}
        for size in sorted({rule.map_size for rule in protocols}):
            rules = [rule for rule in protocols if rule.map_size == size]
            means = mean_truth_maps(annotations, size, self.fold_of)
            self._masks[size] = {
                "center_prior": _Masks.of_maps(center_prior_map(size)[None], rules),
                "mean_truth_prior": _Masks.of_maps(means, rules),
            }
            self._blocks[size] = _Block(size, self._unit > 1)
            self._counts[size] = np.zeros((2, n), np.int64)
        self._statistics = {
            (answer, rule.name): np.zeros((2, n, max(1, len(rule.thresholds))))
            for answer in PRIORS
            for rule in protocols
        }
        self._pointing = {(answer, size): np.zeros(n) for answer in CONTEXT for size in self._masks}

    def record(self, row: int, truths: Mapping[int, DrawnTruth]) -> None:
        """Score the answers on one clip.

        Parameters
        ----------
        row
            Of the clip; silent clips are passed over.
        truths
            Its ground truth by map size.
        """
        fold = int(self.fold_of[row])
        if fold < 0:
            return
        for size, truth in truths.items():
            self._counts[size][:, row] = truth.n_inside, truth.n_double
            for answer, masks in self._masks[size].items():
                for name, maps in masks.adaptive.items():
                    ranked = maps[fold if len(maps) > 1 else 0]
                    self._statistics[answer, name][:, row, 0] = ranked.statistics(truth)
            if self._blocks[size].add(row, truth):
                self._count(size)

    def _count(self, size: int) -> None:
        """Count a block of clips."""
        block = self._blocks[size]
        rows, n = np.array(block.rows, np.intp), len(block.rows)
        if not n:
            return
        folds = self.fold_of[rows]
        for answer, masks in self._masks[size].items():
            which = folds if len(masks.bits) > 1 else np.zeros(n, np.intp)
            covered = np.empty((n, masks.bits.shape[1]))
            weighted = np.empty_like(covered)
            for k in range(masks.bits.shape[1]):
                bits = masks.bits[which, k]
                covered[:, k] = weighted[:, k] = _count_bits(bits & block.inside[:n])
                if block.double is not None:
                    weighted[:, k] = (covered[:, k] + _count_bits(bits & block.double[:n])) / 2
            areas = masks.areas[which]
            for name, columns in masks.columns.items():
                out = self._statistics[answer, name]
                out[0, rows], out[1, rows] = weighted[:, columns], (areas - covered)[:, columns]
            self._pointing[answer, size][rows] = covered[:, -1] / areas[:, -1]
        inside = self._counts[size][0, rows]
        self._pointing["ceiling", size][rows] = inside > 0
        self._pointing["whole_image", size][rows] = inside / size**2
        block.rows.clear()

    def ciou(self, protocol: Protocol) -> dict[str, Float64]:
        """Return the cIoU of each answer, float64 [N]; of silent clips NaN."""
        size = protocol.map_size
        self._count(size)
        inside, double = self._counts[size]
        truth = (inside + double) / 2 if self._unit > 1 else inside.astype(np.float64)
        found = {"ceiling": best_ciou(inside, double if self._unit > 1 else inside, protocol)}
        sounding = self.fold_of >= 0
        for answer in PRIORS:
            intersection, false_positive = self._statistics[answer, protocol.name]
            values = ciou_of(intersection, truth[:, None], false_positive)
            found[answer] = values[:, best_column(values[sounding])]
        found["whole_image"] = ciou_of(truth, truth, (size**2 - inside).astype(np.float64))
        for values in found.values():
            values[~sounding] = np.nan
        return found

    def pointing(self, protocol: Protocol) -> dict[str, Float64]:
        """Return the pointing accuracy of each answer, float64 [N]."""
        self._count(protocol.map_size)
        return {answer: self._pointing[answer, protocol.map_size] for answer in CONTEXT}


def context_ciou(annotations: Annotations, protocol: Protocol) -> dict[str, Float64]:
    """Compute the cIoU of the context answers.

    Parameters
    ----------
    annotations
        The test set.
    protocol
        The rule.

    Returns
    -------
    dict
        Name (`CONTEXT`) to float64 [N], in the annotations' order; NaN for silent clips.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> from avsl_eval.truth import read_annotations
    >>> truth = read_annotations({"a_000001": [[0.0, 0.0, 1.0, 0.25]], "b_000001": [[0.0, 0.0, 1.0, 0.25]]})
    >>> {name: round(float(v[0]), 3) for name, v in context_ciou(truth, PROTOCOLS["ezvsl"]).items()}
    {'ceiling': 0.5, 'center_prior': 0.094, 'mean_truth_prior': 0.25, 'whole_image': 0.25}
    """
    context = Context(annotations, [protocol])
    for row, clip in enumerate(annotations.clips):
        levels = clip.levels(protocol.map_size, annotations.truth)
        context.record(row, {protocol.map_size: DrawnTruth.of_levels(levels, annotations.unit)})
    return context.ciou(protocol)


def best_ciou(inside: NDArray[np.int64], double: NDArray[np.int64], protocol: Protocol) -> Float64:
    """Compute the best cIoU that a map without ties can reach.

    Parameters
    ----------
    inside, double : int64 [N]
        Pixels of each clip with g > 0 and with g = 1; equal where g is 0 or 1.
    protocol
        The rule.

    Returns
    -------
    float64 [N]
        In [0, 1]; NaN where truth and mask are empty.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> pixels = np.array([12544, 25088, 50176])
    >>> best_ciou(pixels, pixels, PROTOCOLS["ezvsl"]).tolist()
    [0.5, 1.0, 0.5]
    """
    total = (inside + double) / 2
    if not protocol.is_rank_rule:
        return np.where(total > 0, 1.0, np.nan)
    area = np.array([tie_free_area(protocol, int(k)) for k in inside], np.int64)
    certain = np.minimum(area, double)
    half = np.minimum(area - certain, inside - double)
    return ciou_of(certain + half / 2, total, (area - certain - half).astype(np.float64))
