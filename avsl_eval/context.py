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

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.box_counts import BoxCounts
from avsl_eval.ciou import best_column, ciou_of
from avsl_eval.drawn import Drawer, DrawnTruths
from avsl_eval.maps import tie_free_area
from avsl_eval.priors import BLOCK, PriorMasks, center_prior_map, deal_folds, mean_truth_maps
from avsl_eval.protocol import Protocol
from avsl_eval.tiles import pixels_of_words
from avsl_eval.truth import Annotations

Float64 = NDArray[np.float64]
Ints = NDArray[np.intp]
ContextPart = list[NDArray[Any]]

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
        sizes = sorted({rule.map_size for rule in protocols})
        self.drawer = drawer or Drawer(annotations.clips, annotations.truth, sizes)
        self._protocols, self._sounding, self._unit = list(protocols), annotations.sounding, annotations.unit
        sounding, n = self._sounding, len(self._sounding)
        self._clips = annotations.clips
        self._boxes = {size: BoxCounts(self.drawer, size, sounding) for size in sizes}
        self._counts = {size: np.stack(boxes.pixels()) for size, boxes in self._boxes.items()}
        # Clips that cannot be counted by boxes; the same at every size.
        self._others = sounding & ~np.logical_or.reduce([boxes.few for boxes in self._boxes.values()])
        is_adaptive = any(rule.threshold == "adaptive" for rule in protocols)
        self._drawn = sounding if is_adaptive else self._others
        self._statistics = {
            (answer, rule.name): np.zeros((2, n, max(1, len(rule.thresholds))))
            for answer in PRIORS
            for rule in protocols
        }
        self._ciou: dict[str, dict[str, Float64]] = {}
        self._pointing = {(answer, size): np.zeros(n) for answer in CONTEXT for size in sizes}

    @cached_property
    def fold_of(self) -> Ints:
        """Fold of each clip, int [N]; -1 where nothing sounds."""
        folds = np.full(len(self._clips), -1, np.intp)
        folds[self._sounding] = deal_folds(
            [clip.clip_id for clip, sounds in zip(self._clips, self._sounding, strict=True) if sounds]
        )
        return folds

    @cached_property
    def _masks(self) -> dict[int, dict[str, PriorMasks]]:
        """By map size and answer."""
        found = {}
        for size, boxes in self._boxes.items():
            rules = [rule for rule in self._protocols if rule.map_size == size]
            means = mean_truth_maps(self.drawer, boxes, self.fold_of)
            found[size] = {
                "center_prior": PriorMasks.of_maps(center_prior_map(size)[None], rules),
                "mean_truth_prior": PriorMasks.of_maps(means, rules),
            }
        return found

    def prepare(self) -> None:
        """Draw what `record` needs, so that processes which are forked from this one share it."""
        if self._drawn.any():
            _ = self._masks

    def needs(self, rows: Sequence[int]) -> bool:
        """Say whether the truth of some clips has to be drawn and given to `record`."""
        return bool(self._drawn[np.asarray(rows)].any())

    def count_boxes(self) -> None:
        """Score the answers that do not depend on the clip, on the clips whose truth is a few boxes."""
        every = np.arange(len(self._clips))
        for size, boxes in self._boxes.items():
            rows = np.flatnonzero(boxes.few)
            if not len(rows):  # a test set of masks
                continue
            for answer, masks in self._masks[size].items():
                map_of = np.maximum(self._map_of(masks, every), 0)
                inside = np.empty((len(rows), masks.bits.shape[1]), np.int64)
                double = np.empty_like(inside)
                for k in range(inside.shape[1]):
                    found = boxes.shared(pixels_of_words(masks.bits[:, k], size), map_of)
                    inside[:, k], double[:, k] = (side[rows] for side in found)
                weighted = (inside + double) / 2 if self._unit > 1 else inside.astype(np.float64)
                self._note(answer, size, rows, masks.areas[map_of[rows]], inside, weighted)
            self._note_sizes(size, rows)

    def record(self, rows: Sequence[int], truths: Mapping[int, DrawnTruths]) -> None:
        """Score the answers on some clips, those that `needs` asks for among them.

        Parameters
        ----------
        rows
            Of the clips; silent clips are passed over.
        truths
            Their ground truth by map size.
        """
        every = np.asarray(rows)
        others, sounding = self._others[every], self._sounding[every]
        for size, drawn in truths.items():
            if others.any():
                truth, where = drawn.some(others), every[others]
                self._counts[size][:, where] = truth.n_inside, truth.n_double
                for answer, masks in self._masks[size].items():
                    self._record_fixed(answer, masks, where, truth)
                self._note_sizes(size, where)
            if sounding.any():
                truth, where = drawn.some(sounding), every[sounding]
                for answer, masks in self._masks[size].items():
                    self._record_adaptive(answer, masks, where, truth)

    def _map_of(self, masks: PriorMasks, rows: Ints) -> Ints:
        """Return which of the maps is a clip's: its fold's, or the one that there is."""
        return self.fold_of[rows] if len(masks.bits) > 1 else np.zeros_like(rows)

    def _record_fixed(self, answer: str, masks: PriorMasks, rows: Ints, truth: DrawnTruths) -> None:
        """Count masks that do not depend on the clip."""
        which = self._map_of(masks, rows)
        one = which[:1] if len(masks.bits) == 1 else which
        found = [truth.count(masks.bits[one, k]) for k in range(masks.bits.shape[1])]
        covered, weighted = (np.stack(side, axis=1) for side in zip(*found, strict=True))
        self._note(answer, truth.size, rows, masks.areas[which], covered, weighted)

    def _record_adaptive(self, answer: str, masks: PriorMasks, rows: Ints, truth: DrawnTruths) -> None:
        """Count masks that are as large as the clip's truth."""
        which = self._map_of(masks, rows)
        for name, ranked in masks.adaptive.items():
            areas = ranked.areas(which, truth.n_inside)
            covered, weighted = truth.count(ranked.masks(which, areas))
            out = self._statistics[answer, name]
            out[0, rows, 0], out[1, rows, 0] = weighted, areas - covered

    def _note(
        self,
        answer: str,
        size: int,
        rows: Ints,
        areas: NDArray[np.int64],
        covered: NDArray[np.int64],
        weighted: Float64,
    ) -> None:
        """Note what the masks of an answer cover of some clips: [n, K] each, K as in `PriorMasks`."""
        for name, columns in self._masks[size][answer].columns.items():
            out = self._statistics[answer, name]
            out[0, rows], out[1, rows] = weighted[:, columns], (areas - covered)[:, columns]
        self._pointing[answer, size][rows] = covered[:, -1] / areas[:, -1]

    def _note_sizes(self, size: int, rows: Ints) -> None:
        inside = self._counts[size][0, rows]
        self._pointing["ceiling", size][rows] = inside > 0
        self._pointing["whole_image", size][rows] = inside / size**2

    def sizes(self, size: int) -> Float64:
        """Return sum(g) of each clip in pixels, float64 [N]."""
        inside, double = self._counts[size]
        return np.asarray((inside + double) / 2 if self._unit > 1 else inside, np.float64)

    def part(self, rows: Sequence[int]) -> ContextPart:
        """Return what `record` noted of some clips, for `put` of another context of the same kind."""
        return [table[:, where] for table, where in self._recorded(np.asarray(rows))]

    def put(self, rows: Sequence[int], part: ContextPart) -> None:
        """Take over what another context noted of some clips."""
        for (table, where), found in zip(self._recorded(np.asarray(rows)), part, strict=True):
            table[:, where] = found

    def _recorded(self, rows: Ints) -> Iterator[tuple[NDArray[Any], Ints]]:
        """Yield what `record` writes to: arrays [..., N], and of which clips."""
        sounding, others = rows[self._sounding[rows]], rows[self._others[rows]]
        for size, every in self._masks.items():
            yield self._counts[size], others
            for answer, masks in every.items():
                yield from ((self._statistics[answer, name], others) for name in masks.columns)
                yield from ((self._statistics[answer, name], sounding) for name in masks.adaptive)
            yield from ((self._pointing[answer, size][None], others) for answer in CONTEXT)

    def ciou(self, protocol: Protocol) -> dict[str, Float64]:
        """Return the cIoU of each answer, float64 [N]; of silent clips NaN."""
        if protocol.name not in self._ciou:
            self._ciou[protocol.name] = self._ciou_of(protocol)
        return self._ciou[protocol.name]

    def _ciou_of(self, protocol: Protocol) -> dict[str, Float64]:
        size = protocol.map_size
        inside, double = self._counts[size]
        truth = self.sizes(size)
        found = {"ceiling": best_ciou(inside, double if self._unit > 1 else inside, protocol)}
        sounding = self._sounding
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
    context.count_boxes()
    size = protocol.map_size
    for begin in range(0, len(annotations.clips), BLOCK):
        rows = range(begin, min(begin + BLOCK, len(annotations.clips)))
        if context.needs(rows):
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
