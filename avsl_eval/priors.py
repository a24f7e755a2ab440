"""Blind answers that are one map for many clips: the maps, and their masks under many rules as bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import DrawnTruth
from avsl_eval.maps import at_threshold, binarise, normalise, rank_of, tie_order
from avsl_eval.protocol import Protocol
from avsl_eval.truth import Annotations

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

FOLDS = 10
"""Of the mean-truth prior."""

BLOCK = 64
"""Clips whose truth is kept until they are counted together."""


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
class PriorMasks:
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
    def of_maps(cls, priors: Float32, rules: Sequence[Protocol]) -> PriorMasks:
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
        return cls(stacked, count_bits(stacked), columns, adaptive)


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
    ranks : uint16 or uint32 [P]
        Of each pixel from the largest down, ties in `tie_order`: those of rank < n are the n largest.
    """

    rule: Protocol
    p: Float32
    ordered: Float32
    ranks: NDArray[np.unsignedinteger[Any]]

    @classmethod
    def of_map(cls, p: Float32, rule: Protocol) -> _Ranked:
        """Prepare a map."""
        ranks = np.empty(p.size, np.min_scalar_type(p.size))
        ranks[np.lexsort((tie_order(p.size), -p))] = np.arange(p.size)
        return cls(rule, p, np.sort(p), ranks)

    def statistics(self, truth: DrawnTruth) -> tuple[float, float]:
        """Return intersection and false positive on one clip, in pixels."""
        p, rule = self.p, self.rule
        if np.isnan(p[0]):  # a constant map that the rule makes nothing of
            return 0.0, 0.0
        k = p.size - rank_of(rule, p.size, truth.n_inside)
        threshold = self.ordered[p.size - k]
        if rule.exact_area:
            area = k
        else:
            strictly = rule.comparison == ">"
            if rule.rescue_saturated and threshold >= 1:
                threshold, strictly = np.float32(1), False
            side: Literal["left", "right"] = "right" if strictly else "left"
            area = p.size - int(self.ordered.searchsorted(threshold, side))
        mask = self.ranks < area
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


def count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the set bits of rows of words.

    Parameters
    ----------
    words : uint64 [..., W]
        Packed masks.

    Returns
    -------
    int64 [...]
        Pixels of each.
    """
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))
    return np.asarray(_ONES_OF_A_BYTE[words.view(np.uint8)].sum(axis=-1, dtype=np.int64))


class TruthBlock:
    """Keep the truth of a few clips as bits until they are counted together."""

    def __init__(self, size: int, two_levels: bool) -> None:
        words = -(-size * size // 64)
        self.rows: list[int] = []
        self.inside = np.zeros((BLOCK, words), np.uint64)
        self.double = np.zeros((BLOCK, words), np.uint64) if two_levels else None

    def add(self, row: int, truth: DrawnTruth) -> bool:
        """Note a clip; return whether the block is full."""
        n = len(self.rows)
        packed = np.packbits(truth.inside)
        self.inside[n].view(np.uint8)[: len(packed)] = packed
        if self.double is not None and truth.double is not None:
            self.double[n].view(np.uint8)[: len(packed)] = np.packbits(truth.double)
        self.rows.append(row)
        return n + 1 == BLOCK
