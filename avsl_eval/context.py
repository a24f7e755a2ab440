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

FOLDS = 10
"""Of the mean-truth prior."""


@dataclass(frozen=True)
class DrawnTruth:
    """Hold the ground truth of one clip at one map size.

    Parameters
    ----------
    inside : bool [P]
        Pixels with g > 0.
    double : bool [P] or None
        Pixels with g = 1 where g has two levels (consensus); None where g is 0 or 1.
    n_inside, n_double
        Their numbers.
    """

    inside: Bools
    double: Bools | None
    n_inside: int
    n_double: int

    @classmethod
    def of_levels(cls, levels: NDArray[np.uint8], unit: int) -> DrawnTruth:
        """Make it of the levels of `avsl_eval.truth.AnnotatedClip.levels`."""
        flat = levels.reshape(-1)
        if unit == 1:
            inside = flat.view(np.bool_)
            return cls(inside, None, int(np.count_nonzero(inside)), 0)
        inside, double = flat > 0, flat > 1
        return cls(inside, double, int(np.count_nonzero(inside)), int(np.count_nonzero(double)))

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
    sums = np.zeros((n_folds, size, size), np.int32)
    counts = np.zeros(n_folds, np.int64)
    for clip, fold in zip(annotations.clips, fold_of.tolist(), strict=True):
        if fold >= 0:
            sums[fold] += clip.levels(size, annotations.truth)
            counts[fold] += 1
    others = (counts.sum() - counts) * annotations.unit
    total = sums.sum(axis=0, dtype=np.int64)
    return np.stack(
        [((total - own) / max(1, int(n))).astype(np.float32) for own, n in zip(sums, others, strict=True)]
    )


class _Prior:
    """Score one fixed map against many clips under many rules.

    A rule whose mask does not depend on the clip gives one mask, or one per threshold, drawn once and kept as
    bits. The adaptive rules' masks follow from the map's sorted values.
    """

    def __init__(self, prior: Float32, rules: Sequence[Protocol]) -> None:
        self._columns: dict[str, list[int]] = {}
        self._adaptive: dict[str, tuple[Protocol, Float32, Float32, NDArray[np.uint32] | None]] = {}
        masks: dict[bytes, int] = {}
        for rule in rules:
            p = normalise(prior[None], rule.normalisation, rule.constant)
            if rule.threshold == "adaptive" and not np.isnan(p[0, 0, 0]):
                self._adaptive[rule.name] = _ranked(p.ravel(), rule)
                continue
            drawn = [_bits(binarise(p, single, [0])[0].ravel()) for single in _single_rules(rule)]
            self._columns[rule.name] = [masks.setdefault(bits.tobytes(), len(masks)) for bits in drawn]
        self._bits = np.stack([np.frombuffer(raw, np.uint64) for raw in masks] or [np.zeros(1, np.uint64)])
        self._areas = _count_bits(self._bits)
        top = prior == prior.max()
        self._top, self._n_top = top.ravel(), int(np.count_nonzero(top))

    def pointing(self, truth: DrawnTruth) -> float:
        return int(np.count_nonzero(self._top & truth.inside)) / self._n_top

    def statistics(self, truth: DrawnTruth, bits: Sequence[NDArray[np.uint64]]) -> dict[str, Float64]:
        """Return [2, thresholds] of each rule: intersections and false positives, in pixels."""
        covered = _count_bits(self._bits & bits[0])
        weighted = covered if len(bits) == 1 else (covered + _count_bits(self._bits & bits[1])) / 2
        both = np.stack([weighted, self._areas - covered])
        found: dict[str, Float64] = {name: both[:, columns] for name, columns in self._columns.items()}
        for name, ranked in self._adaptive.items():
            found[name] = _adaptive_statistics(*ranked, truth)
        return found


def _single_rules(rule: Protocol) -> list[Protocol]:
    """Return the rules ``fixed`` that a rule consists of, on maps in [0, 1]."""
    if rule.threshold == "sweep":
        return [at_threshold(rule, value) for value in rule.thresholds]
    if rule.threshold == "universal":  # see the module: the mask of a map that does not listen is empty
        return [at_threshold(rule, float("inf"))]
    return [rule]


def _ranked(p: Float32, rule: Protocol) -> tuple[Protocol, Float32, Float32, NDArray[np.uint32] | None]:
    """Prepare an adaptive rule: the map, its sorted values and, where ties are broken, each pixel's rank."""
    if not rule.exact_area:
        return rule, p, np.sort(p), None
    ranks = np.empty(p.size, np.uint32)
    ranks[np.lexsort((tie_order(p.size), -p))] = np.arange(p.size, dtype=np.uint32)
    return rule, p, p, ranks


def _adaptive_statistics(
    rule: Protocol, p: Float32, ordered: Float32, ranks: NDArray[np.uint32] | None, truth: DrawnTruth
) -> Float64:
    k = p.size - rank_of(rule, p.size, truth.n_inside)
    if ranks is not None:
        mask, area = ranks < k, k
    else:
        threshold = ordered[p.size - k]
        if rule.comparison == ">":
            mask = p > threshold
            area = p.size - int(np.searchsorted(ordered, threshold, side="right"))
        else:
            mask = p >= threshold
            area = p.size - int(np.searchsorted(ordered, threshold, side="left"))
        if rule.rescue_saturated and threshold >= 1:
            mask = mask | (p >= 1)
            area = int(np.count_nonzero(mask))
    covered = weighted = float(np.count_nonzero(mask & truth.inside))
    if truth.double is not None:
        weighted = (covered + np.count_nonzero(mask & truth.double)) / 2
    return np.array([[weighted], [area - covered]])


def _bits(mask: Bools) -> NDArray[np.uint64]:
    """Pack a mask into words; what is lacking to a whole word is 0."""
    packed = np.packbits(mask)
    lacking = -len(packed) % 8
    return (np.concatenate([packed, np.zeros(lacking, np.uint8)]) if lacking else packed).view(np.uint64)


_ONES_OF_A_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def _count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the set bits of rows of words."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))
    return np.asarray(_ONES_OF_A_BYTE[words.view(np.uint8)].sum(axis=-1, dtype=np.int64))


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
        self._protocols = protocols
        sounding = np.array([not clip.is_silent for clip in annotations.clips], bool)
        self.fold_of = np.full(len(sounding), -1, np.intp)
        ids = [clip.clip_id for clip, sounds in zip(annotations.clips, sounding, strict=True) if sounds]
        self.fold_of[sounding] = deal_folds(ids)
        self._disc: dict[int, _Prior] = {}
        self._mean: dict[int, list[_Prior]] = {}
        for size in sorted({rule.map_size for rule in protocols}):
            rules = [rule for rule in protocols if rule.map_size == size]
            self._disc[size] = _Prior(center_prior_map(size), rules)
            means = mean_truth_maps(annotations, size, self.fold_of)
            self._mean[size] = [_Prior(prior, rules) for prior in means]
        n = len(sounding)
        self._ceiling = {rule.name: np.full(n, np.nan) for rule in protocols}
        self._statistics = {
            (answer, rule.name): np.zeros((3, n, max(1, len(rule.thresholds))))
            for answer in CONTEXT[1:]
            for rule in protocols
        }
        self._pointing = {(answer, size): np.zeros(n) for answer in CONTEXT for size in self._disc}

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
            bits = [_bits(truth.inside)] + ([] if truth.double is None else [_bits(truth.double)])
            disc, mean = self._disc[size], self._mean[size][fold]
            found = {
                "center_prior": disc.statistics(truth, bits),
                "mean_truth_prior": mean.statistics(truth, bits),
            }
            whole = (truth.total, size * size - truth.n_inside)
            for rule in self._protocols:
                if rule.map_size != size:
                    continue
                self._ceiling[rule.name][row] = best_ciou(truth, rule)
                for answer, statistics in found.items():
                    out = self._statistics[answer, rule.name]
                    out[0, row], out[2, row] = statistics[rule.name]
                    out[1, row] = truth.total
                out = self._statistics["whole_image", rule.name]
                out[0, row], out[1, row], out[2, row] = whole[0], truth.total, whole[1]
            self._pointing["ceiling", size][row] = float(truth.n_inside > 0)
            self._pointing["center_prior", size][row] = disc.pointing(truth)
            self._pointing["mean_truth_prior", size][row] = mean.pointing(truth)
            self._pointing["whole_image", size][row] = truth.n_inside / size**2

    def ciou(self, protocol: Protocol) -> dict[str, Float64]:
        """Return the cIoU of each answer, float64 [N]; of silent clips NaN."""
        found = {"ceiling": self._ceiling[protocol.name]}
        sounding = self.fold_of >= 0
        for answer in CONTEXT[1:]:
            values = ciou_of(*self._statistics[answer, protocol.name])
            found[answer] = values[:, best_column(values[sounding])]
            found[answer][~sounding] = np.nan
        return found

    def pointing(self, protocol: Protocol) -> dict[str, Float64]:
        """Return the pointing accuracy of each answer, float64 [N]."""
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


def best_ciou(truth: DrawnTruth, protocol: Protocol) -> float:
    """Compute the best cIoU that a map without ties can reach on a clip.

    Parameters
    ----------
    truth
        Of the clip.
    protocol
        The rule.

    Returns
    -------
    float
        In [0, 1]; NaN where truth and mask are empty.
    """
    total = truth.total
    area = tie_free_area(protocol, truth.n_inside)
    if area is None:
        return 1.0 if total else float("nan")
    counts = [truth.n_inside] if truth.double is None else [truth.n_double, truth.n_inside - truth.n_double]
    intersection, left = 0.0, area
    for weight, count in zip((1.0, 0.5), counts, strict=False):
        taken = min(left, count)
        intersection += taken * weight
        left -= taken
    denominator = total + left
    return intersection / denominator if denominator else float("nan")
