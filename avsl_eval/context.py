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

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import best_column, ciou_of
from avsl_eval.drawn import Drawer, DrawnTruths
from avsl_eval.maps import tie_free_area
from avsl_eval.priors import BLOCK, PriorMasks, center_prior_map, deal_folds, mean_truth_maps
from avsl_eval.protocol import Protocol
from avsl_eval.truth import Annotations

Float64 = NDArray[np.float64]
Ints = NDArray[np.intp]

CONTEXT = ("ceiling", "center_prior", "mean_truth_prior", "whole_image")
"""Names of the answers, in the order of reports."""

PRIORS = ("center_prior", "mean_truth_prior")
"""Those of them that are maps."""


class Context:
    """Score the answers of the context, clip by clip.

    Parameters
    ----------
    annotations
        The test set.
    protocols
        The rules.
    drawer
        What draws the clips' truth, if there is one already.
    """

    def __init__(
        self, annotations: Annotations, protocols: Sequence[Protocol], drawer: Drawer | None = None
    ) -> None:
        sizes = {rule.map_size for rule in protocols}
        self.drawer = drawer or Drawer(annotations.clips, annotations.truth, sizes)
        sounding = np.array([not clip.is_silent for clip in annotations.clips], bool)
        n, self._unit = len(sounding), annotations.unit
        self.fold_of = np.full(n, -1, np.intp)
        ids = [clip.clip_id for clip, sounds in zip(annotations.clips, sounding, strict=True) if sounds]
        self.fold_of[sounding] = deal_folds(ids)
        self._masks: dict[int, dict[str, PriorMasks]] = {}
        self._counts: dict[int, NDArray[np.int64]] = {}
        for size in sorted({rule.map_size for rule in protocols}):
            rules = [rule for rule in protocols if rule.map_size == size]
            means = mean_truth_maps(self.drawer, size, self.fold_of)
            self._masks[size] = {
                "center_prior": PriorMasks.of_maps(center_prior_map(size)[None], rules),
                "mean_truth_prior": PriorMasks.of_maps(means, rules),
            }
            self._counts[size] = np.zeros((2, n), np.int64)
        self._statistics = {
            (answer, rule.name): np.zeros((2, n, max(1, len(rule.thresholds))))
            for answer in PRIORS
            for rule in protocols
        }
        self._ciou: dict[str, dict[str, Float64]] = {}
        self._pointing = {(answer, size): np.zeros(n) for answer in CONTEXT for size in self._masks}

    def record(self, rows: Sequence[int], truths: Mapping[int, DrawnTruths]) -> None:
        """Score the answers on some clips.

        Parameters
        ----------
        rows
            Of the clips; silent clips are passed over.
        truths
            Their ground truth by map size.
        """
        folds = self.fold_of[np.asarray(rows)]
        sounding = folds >= 0
        where, folds = np.asarray(rows)[sounding], folds[sounding]
        if not len(where):
            return
        for size, every in truths.items():
            truth = every.some(sounding)
            self._counts[size][:, where] = truth.n_inside, truth.n_double
            for answer, masks in self._masks[size].items():
                which = folds if len(masks.bits) > 1 else np.zeros_like(folds)  # one map for every clip
                self._record_fixed(answer, masks, where, which, truth)
                self._record_adaptive(answer, masks, where, which, truth)
            self._pointing["ceiling", size][where] = truth.n_inside > 0
            self._pointing["whole_image", size][where] = truth.n_inside / size**2

    def _record_fixed(
        self, answer: str, masks: PriorMasks, rows: Ints, which: Ints, truth: DrawnTruths
    ) -> None:
        """Count masks that do not depend on the clip."""
        one = which[:1] if len(masks.bits) == 1 else which
        found = [truth.count(masks.bits[one, k]) for k in range(masks.bits.shape[1])]
        covered, weighted = (np.stack(side, axis=1) for side in zip(*found, strict=True))
        areas = masks.areas[which]
        for name, columns in masks.columns.items():
            out = self._statistics[answer, name]
            out[0, rows], out[1, rows] = weighted[:, columns], (areas - covered)[:, columns]
        self._pointing[answer, truth.size][rows] = covered[:, -1] / areas[:, -1]

    def _record_adaptive(
        self, answer: str, masks: PriorMasks, rows: Ints, which: Ints, truth: DrawnTruths
    ) -> None:
        """Count masks that are as large as the clip's truth."""
        for name, ranked in masks.adaptive.items():
            areas = ranked.areas(which, truth.n_inside)
            covered, weighted = truth.count(ranked.masks(which, areas))
            out = self._statistics[answer, name]
            out[0, rows, 0], out[1, rows, 0] = weighted, areas - covered

    def ciou(self, protocol: Protocol) -> dict[str, Float64]:
        """Return the cIoU of each answer, float64 [N]; of silent clips NaN."""
        if protocol.name not in self._ciou:
            self._ciou[protocol.name] = self._ciou_of(protocol)
        return self._ciou[protocol.name]

    def _ciou_of(self, protocol: Protocol) -> dict[str, Float64]:
        size = protocol.map_size
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
    size = protocol.map_size
    for begin in range(0, len(annotations.clips), BLOCK):
        rows = range(begin, min(begin + BLOCK, len(annotations.clips)))
        context.record(rows, {size: context.drawer.draw(rows, size)})
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
    # Of all the sizes of truths, only an empty one makes a difference besides its size.
    with_truth, without = (tie_free_area(protocol, k) or 0 for k in (1, 0))
    area = np.full(inside.shape, without, np.int64)
    area[inside > 0] = with_truth
    if protocol.threshold == "adaptive":
        area[inside > 0] += inside[inside > 0] - 1
    certain = np.minimum(area, double)
    half = np.minimum(area - certain, inside - double)
    return ciou_of(certain + half / 2, total, (area - certain - half).astype(np.float64))
