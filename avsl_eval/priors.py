"""Blind answers that are one map for many clips: the maps, and their masks under many rules as bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsl_eval.box_counts import BoxCounts
from avsl_eval.drawn import Drawer
from avsl_eval.maps import at_threshold, binarise, normalise, tie_order
from avsl_eval.neighbourhood import rising_bits
from avsl_eval.protocol import Protocol
from avsl_eval.tiles import (
    PIXELS,
    Words,
    count_bits,
    packed,
    pixels_of_words,
    tiles_of_pixels,
    whole_words,
    words_of_pixels,
)

Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

FOLDS = 10
"""Of the mean-truth prior."""

BLOCK = 64
"""Clips that are drawn together."""


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


def mean_truth_maps(drawer: Drawer, boxes: BoxCounts, fold_of: NDArray[np.intp]) -> Float32:
    """Compute the mean ground truth of the clips outside each fold.

    Parameters
    ----------
    drawer
        Of the test set.
    boxes
        Of its clips with a fold, at the map size S.
    fold_of : int [N]
        Fold of each clip; clips with -1 are left out.

    Returns
    -------
    float32 [K, S, S]
        For each fold the mean g of all clips of other folds; 0 where there is none.
    """
    n_folds = int(fold_of.max(initial=0)) + 1
    sums = boxes.sums_of_levels(fold_of, n_folds)
    others = np.flatnonzero((fold_of >= 0) & ~boxes.few)
    for row, fold in zip(others.tolist(), fold_of[others].tolist(), strict=True):
        one = drawer.draw([row], boxes.size)
        for layer in (one.inside, one.double):
            if layer is not None:
                sums[fold] += pixels_of_words(layer, boxes.size)[0]
    counts = np.bincount(fold_of[fold_of >= 0], minlength=n_folds)
    outside = (counts.sum() - counts) * drawer.unit
    total = sums.sum(axis=0)
    return np.stack(
        [((total - own) / max(1, int(n))).astype(np.float32) for own, n in zip(sums, outside, strict=True)]
    )


@dataclass(frozen=True)
class PriorMasks:
    """Hold the masks that fixed maps give under many rules, each different one once.

    Parameters
    ----------
    bits : uint64 [M, K, T]
        K masks of each of M maps, as tiles; the last one holds the map's largest pixels.
    areas : int64 [M, K]
        Their sizes.
    columns
        Rule to the columns of K that are its masks, one per threshold.
    adaptive
        Rule to what its masks are made from: they depend on the clip.
    """

    bits: NDArray[np.uint64]
    areas: NDArray[np.int64]
    columns: Mapping[str, Sequence[int]]
    adaptive: Mapping[str, RankedMaps]

    @classmethod
    def of_maps(cls, priors: Float32, rules: Sequence[Protocol]) -> PriorMasks:
        """Draw the masks of maps [M, S, S], which are scores s in [0, 1]."""
        columns: dict[str, Sequence[int]] = {}
        adaptive: dict[str, RankedMaps] = {}
        known: dict[bytes, int] = {}
        drawn: list[NDArray[np.uint64]] = []
        for rule in rules:
            p = normalise(priors, rule.normalisation, rule.constant)
            if rule.threshold == "adaptive":
                adaptive[rule.name] = RankedMaps(p, rule)
                continue
            own = []
            for single in _single_rules(rule):
                bits = words_of_pixels(binarise(p, single, [0] * len(p)))
                key = bits.tobytes()
                if key not in known:
                    known[key] = len(drawn)
                    drawn.append(bits)
                own.append(known[key])
            columns[rule.name] = own
        drawn.append(words_of_pixels(priors == priors.max(axis=(1, 2), keepdims=True)))
        stacked = np.stack(drawn, axis=1)
        return cls(stacked, count_bits(stacked), columns, adaptive)


class RankedMaps:
    """Draw the masks of maps under an adaptive rule: of each the largest pixels, as many as a clip asks for.

    Parameters
    ----------
    p : float32 [M, S, S]
        The maps, processed.
    rule
        The rule.
    """

    def __init__(self, p: Float32, rule: Protocol) -> None:
        self._rule, self._size = rule, p.shape[1]
        self._ordered = np.sort(p.reshape(len(p), -1), axis=1)
        self._empty = np.isnan(p[:, 0, 0])  # constant maps that the rule makes nothing of
        # Of each pixel the number of those that come before it from the largest down, ties in `tie_order`;
        # tile by tile, and beyond the border more than there are.
        ranks = np.stack([_ranks(one) for one in p])
        tiles = tiles_of_pixels(ranks, self._size**2)
        self._least, self._most = tiles.min(axis=2), tiles.max(axis=2)
        self._first_taken = _first_taken(self._ordered, strictly=rule.comparison == ">")
        self._n_tiles = tiles.shape[1]
        self._tiles = tiles.reshape(-1, PIXELS)

    def areas(self, which: Ints, true_pixels: Ints) -> Ints:
        """Return the sizes of masks, int64 [n].

        Parameters
        ----------
        which : int [n]
            Number of a map.
        true_pixels : int [n]
            Size of a clip's truth, in pixels.
        """
        rule, n = self._rule, self._ordered.shape[1]
        ranks = np.where(true_pixels > 0, n - true_pixels, n // 2)
        if rule.exact_area:
            return np.where(self._empty[which], 0, n - ranks)
        found = n - self._first_taken[which, ranks]
        if rule.rescue_saturated:
            saturated = np.array([n - one.searchsorted(np.float32(1), "left") for one in self._ordered])
            found = np.where(self._ordered[which, ranks] >= 1, saturated[which], found)
        return np.where(self._empty[which], 0, found)

    def masks(self, which: Ints, areas: Ints) -> Words:
        """Draw masks of the largest pixels, uint64 [n, T]; of each map `which` as many as `areas`."""
        words = whole_words(self._most[which] < areas[:, None], self._size)
        partly = (self._least[which] < areas[:, None]) & (self._most[which] >= areas[:, None])
        clip, tile = np.nonzero(partly)
        values = self._tiles.take(which[clip] * self._n_tiles + tile, axis=0)
        words[clip, tile] = packed(values < areas[clip, None])
        return words


def _first_taken(ordered: Float32, strictly: bool) -> Ints:
    """Return of each of sorted values, as a threshold, the number of the first value that it takes."""
    n = ordered.shape[1]
    number = np.arange(n)
    differs = ordered[:, 1:] != ordered[:, :-1]
    if strictly:
        after = np.full(ordered.shape, n)  # the next larger value's, from the last one downwards
        after[:, :-1] = np.where(differs, number[1:], n)
        return np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]
    first = np.zeros(ordered.shape, np.int64)
    first[:, 1:] = np.where(differs, number[1:], 0)
    return np.maximum.accumulate(first, axis=1)


def _ranks(p: Float32) -> NDArray[np.int32]:
    flat, order = p.ravel(), tie_order(p.size)
    # One sort of whole numbers is faster than lexsort; those of larger values are smaller.
    keys = (~rising_bits(flat)).astype(np.uint64) << np.uint64(32) | order
    by_order = np.empty(flat.size, np.intp)
    by_order[order] = np.arange(flat.size)
    ranks = np.empty(flat.size, np.int32)
    ranks[by_order[np.sort(keys).astype(np.uint32)]] = np.arange(flat.size)
    return ranks.reshape(p.shape)


def _single_rules(rule: Protocol) -> list[Protocol]:
    """Return the rules ``fixed`` that a rule consists of, on maps in [0, 1]."""
    if rule.threshold == "sweep":
        return [at_threshold(rule, value) for value in rule.thresholds]
    if rule.threshold == "universal":  # see the module: the mask of a map that does not listen is empty
        return [at_threshold(rule, float("inf"))]
    return [rule]
