"""Score predictions of several sources per clip: files to the metrics of `avsl_eval.sources`.

A prediction is [K, h, w], one map per source that the model heard, in any order; K may differ between clips
and from the number of true sources, and is 0 where the model heard nothing. A protocol makes each map into p
and a mask, as it does for `avsl_eval.evaluate`, and `avsl_eval.sources` matches them to the true sources.
Clips are read one at a time; a few numbers per clip stay.

Published (Hu et al., CVPR 2022; Kim et al., CVPR 2024): matching by IoU, cIoU at 0.3, AUC, CAP and PIAP. The
published code of Kim et al. makes the masks of the rule `htf`: bicubic, minmax, above the median.

Ours: the mask by any named rule that needs one map alone; average precision of p, not of masks; PIAP of the
sum of the p, where Kim et al. sum the raw maps; where annotators vote, a pixel belongs to a source that any
of them marked; clips without a predicted source count 0 (Kim et al. drop them); a constant map of which the
rule makes nothing is p = 0.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from avsl_eval.bootstrap import ratio_intervals
from avsl_eval.cautions import MapsSeen, map_warnings, range_fault
from avsl_eval.ciou import AUC_THRESHOLDS
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.evaluate import match_ids
from avsl_eval.maps import binarise, tie_free_area, to_probability
from avsl_eval.predictions import Maps, Predictions, checked_stack, open_predictions
from avsl_eval.protocol import MissingPolicy, Protocol
from avsl_eval.protocol_table import PROTOCOLS, SUITES, get_protocol
from avsl_eval.run import Progress
from avsl_eval.sources import SampleScores, SourceStatistics, score_sample
from avsl_eval.sources_file import SourceScores
from avsl_eval.truth import AnnotatedClip, Annotations, describe_dropped, read_annotations

_log = logging.getLogger(__name__)

Bools = NDArray[np.bool_]
Float64 = NDArray[np.float64]

MOST_PREDICTED = 100
"""Predicted sources of a clip: more are not sources but another axis, or every candidate of a detector."""


def evaluate_sources(
    predictions: str | Path | Mapping[str, Any] | Predictions,
    annotations: str | Path | Annotations,
    protocol: str | Protocol,
    missing: str = "error",
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> SourceScores:
    """Score maps of several sources per clip against annotations that tell the sources apart.

    Parameters
    ----------
    predictions
        In any format of `avsl_eval.predictions`, [K, h, w] per clip.
    annotations
        With sources: the project's JSON with ``sources``, or COCO instances, whose categories are sources.
        Clips in which nothing sounds are left out.
    protocol
        What makes a mask of a map: a rule ``median`` or ``fixed``, by name or your own.
    missing
        What an annotated clip without prediction does: ``error`` stops, ``zero`` counts its sources as not
        found.
    name
        Of the method, for the file.
    progress
        Called with the numbers of scored and of all clips.

    Returns
    -------
    SourceScores
        ``.metrics`` by name, ``.save(path)``.

    Raises
    ------
    EvalInputError
        If the input cannot be scored; the message says what, where and the likely mistake.

    Examples
    --------
    >>> from avsl_eval.truth import Source
    >>> halves = np.array([[[0.0, 0.0, 0.5, 1.0]], [[0.5, 0.0, 1.0, 1.0]]])
    >>> sources = tuple(Source("", boxes) for boxes in halves)
    >>> clip = AnnotatedClip("a_000001", "", np.concatenate(halves), sources=sources)
    >>> right = np.tile(np.linspace(0, 1, 14), (14, 1))
    >>> maps = {"a_000001": np.stack([right, right[:, ::-1]])}
    >>> evaluate_sources(maps, Annotations((clip,), "union"), "fixed").metrics["ciou@0.3"]
    1.0
    """
    rule = _checked_rule(protocol, missing)
    truth = read_annotations(annotations)
    clips = clips_with_sources(truth)
    maps = open_predictions(predictions)
    if maps.shape is not None and len(maps.shape) == 3:
        raise EvalInputError(f"{maps.where}: heatmap has shape {maps.shape}; {_ONE_MAP}")
    absent, extra = match_ids(maps, dataclasses.replace(truth, clips=clips), missing)
    known = {clip.clip_id for clip in truth.clips}
    extra = tuple(i for i in extra if i not in known)  # maps of silent clips
    seen = MapsSeen()
    found, unanswered, blind = _score(maps, clips, truth, rule, seen, progress)
    warnings = [*truth.notes, *maps.notes, *_truth_warnings(truth, clips, extra), *blind.warnings()]
    warnings += map_warnings(seen, [rule])
    if unanswered:
        warnings.append(
            f"{len(unanswered)} clips have no predicted source, theirs count as not found "
            f"({first_few(unanswered, 3)})"
        )
    for sentence in warnings:
        _log.warning("%s", sentence)
    samples = [found.get(clip.clip_id, _nothing(len(clip.sources))) for clip in clips]
    total = sum(map(SourceStatistics.of, samples), start=SourceStatistics.zero())
    return SourceScores(
        name=name,
        protocol=rule,
        maps=maps,
        truth=truth,
        clips=clips,
        samples=samples,
        missing=absent,
        unanswered=tuple(unanswered),
        extra=extra,
        warnings=tuple(warnings),
        total=total,
        intervals=_intervals(samples),
        context=blind.context(),
    )


_ONE_MAP = (
    "one map per clip, but several sources need [K, h, w], one map each ([1, h, w] where there is one). To "
    "score one map per clip: avsl-eval score"
)


def _checked_rule(protocol: str | Protocol, missing: str) -> Protocol:
    """Check that a rule makes a mask of a map alone."""
    if missing not in get_args(MissingPolicy):
        raise unknown_name("policy for missing clips", missing, get_args(MissingPolicy))
    if isinstance(protocol, str) and protocol in SUITES:
        raise EvalInputError(
            f"{protocol} is a suite of rules; name one of them: {', '.join(SUITES[protocol].protocols)}"
        )
    rule = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if not _fits(rule):
        why = {
            "adaptive": "makes masks of the size of the true source, which is known only after the matching "
            "that the masks decide",
            "sweep": "chooses its threshold on the test set",
            "universal": "takes its threshold from maps of negative audio",
        }[rule.threshold]
        fitting = [name for name, known in PROTOCOLS.items() if _fits(known)]
        raise EvalInputError(
            f"protocol {rule.name} {why}; several sources need a rule of one map alone: {', '.join(fitting)}"
        )
    return dataclasses.replace(rule, missing=missing)  # type: ignore[arg-type]


def _fits(rule: Protocol) -> bool:
    return rule.threshold in ("median", "fixed") or rule.threshold_value is not None


def clips_with_sources(truth: Annotations) -> tuple[AnnotatedClip, ...]:
    """Return the clips in which something sounds.

    Parameters
    ----------
    truth
        Annotations.

    Returns
    -------
    tuple of AnnotatedClip
        Each with at least one source.

    Raises
    ------
    EvalInputError
        If in some something sounds, but its sources are not told apart, or nothing sounds in any.
    """
    where = f"annotations {truth.path}" if truth.path else "annotations"
    untold = [clip.clip_id for clip in truth.clips if not clip.sources and not clip.is_silent]
    how = 'write "sources" in our JSON (docs/formats.md), or COCO categories'
    if untold and len(untold) + truth.n_silent == len(truth.clips):
        raise EvalInputError(
            f"{where} do not tell the sources of a clip apart; {how}. To score one map per clip: avsl-eval "
            "score"
        )
    if untold:
        raise EvalInputError(
            f"{where}: {len(untold)} of {len(truth.clips)} clips have boxes or a mask but no sources "
            f"({first_few(untold, 3)}); {how}; a clip with one sounding thing has one source"
        )
    clips = tuple(clip for clip in truth.clips if clip.sources)
    if not clips:
        raise EvalInputError(f"{where}: nothing sounds in any of the {len(truth.clips)} clips")
    return clips


def _truth_warnings(
    truth: Annotations, clips: Sequence[AnnotatedClip], extra: Sequence[str]
) -> Iterator[str]:
    if truth.dropped:
        yield f"annotations: {describe_dropped(truth.dropped)}"
    if extra:
        told = first_few(extra, 3)
        yield f"{len(extra)} predictions are of no clip of the test set and are ignored ({told})"
    if len(clips) < len(truth.clips):
        yield f"nothing sounds in {len(truth.clips) - len(clips)} clips; they are left out"
    if all(len(clip.sources) == 1 for clip in clips):
        yield "no clip has more than one source; avsl-eval score has more metrics for such a test set"


def _stacks(maps: Predictions, wanted: Collection[str]) -> Iterator[tuple[str, Maps]]:
    """Read maps as `Predictions.stacks`, but refuse what is no stack of sources."""
    for clip_id, raw in maps.read(wanted):
        if isinstance(raw, EvalInputError):
            raise raw
        where = f"{maps.where}: heatmap of clip {clip_id} has shape {raw.shape}"
        if raw.ndim == 2:
            raise EvalInputError(f"{where}; {_ONE_MAP}")
        if raw.ndim == 3 and raw.shape[0] == raw.shape[1] > raw.shape[2] > 0:
            raise EvalInputError(
                f"{where}; are the sources its last axis? Expected is [K, h, w]: write "
                "np.moveaxis(heatmap, -1, 0)"
            )
        if raw.ndim == 3 and len(raw) > MOST_PREDICTED:
            raise EvalInputError(
                f"{where}, {len(raw)} sources; at most {MOST_PREDICTED}. Keep those that the model says sound"
            )
        yield clip_id, checked_stack(raw, clip_id, maps.where)


def _score(
    maps: Predictions,
    clips: Sequence[AnnotatedClip],
    truth: Annotations,
    rule: Protocol,
    seen: MapsSeen,
    progress: Progress | None,
) -> tuple[dict[str, SampleScores], list[str], _Blind]:
    """Score clip by clip; return scores by id, ids of clips without predicted source, and blind answers."""
    by_id = {clip.clip_id: clip for clip in clips}
    found: dict[str, SampleScores] = {}
    unanswered: list[str] = []
    blind = _Blind(rule)
    for clip_id, heatmaps in _stacks(maps, by_id.keys()):
        drawn = _draw(by_id[clip_id], truth, rule)
        blind.record(clip_id, drawn)
        p = np.zeros((0, rule.map_size, rule.map_size), np.float32)
        if len(heatmaps):
            low, high = heatmaps.min(axis=(1, 2)), heatmaps.max(axis=(1, 2))
            names = [clip_id] * len(heatmaps)
            if fault := range_fault(names, low, high, rule):
                raise EvalInputError(fault)
            seen.look(names, heatmaps, low, high)
            p = to_probability(heatmaps, rule)
        else:
            unanswered.append(clip_id)
        masks = binarise(p, rule, [0] * len(p))
        found[clip_id] = score_sample(drawn, masks, np.where(np.isnan(p), np.float32(0), p))
        if progress is not None:
            progress(len(found), len(clips))
    for clip_id, clip in by_id.items():
        if clip_id not in found:
            blind.record(clip_id, _draw(clip, truth, rule))
    return found, unanswered, blind


def _draw(clip: AnnotatedClip, truth: Annotations, rule: Protocol) -> Bools:
    return np.stack([source.levels(rule.map_size, truth.truth) > 0 for source in clip.sources])


def _nothing(n_sources: int) -> SampleScores:
    """Return the scores of a clip without prediction."""
    return SampleScores(np.full(n_sources, -1), np.zeros(n_sources), np.zeros(n_sources), 0.0, 0)


def _intervals(samples: Sequence[SampleScores]) -> dict[str, tuple[float, float]]:
    """Compute the intervals of the metrics; each is a ratio of sums over clips."""
    each = [SourceStatistics.of(sample) for sample in samples]
    area = [float(np.trapezoid(s.reached, AUC_THRESHOLDS)) for s in each]
    above = np.array([[s.found, a, s.ap, s.piap] for s, a in zip(each, area, strict=True)])
    below = np.array([[s.n_sources, s.n_sources, s.n_sources, 1] for s in each], np.float64)
    rows = ratio_intervals(above, below).tolist()
    return {name: (low, high) for name, (low, high) in zip(each[0].metrics(), rows, strict=True)}


@dataclass
class _Blind:
    """Count what is reached without looking or listening, and what the rule lets anybody reach.

    ``whole_image``: every source gets a mask of the whole image and a constant map, whose average precision
    is the true share of the image. ``ceiling``: every source gets the best mask of the size that the rule
    prescribes for maps without ties, and a map that ranks its pixels first.
    """

    rule: Protocol

    def __post_init__(self) -> None:
        self._whole = self._best = SourceStatistics.zero()
        self._empty: list[str] = []

    def record(self, clip_id: str, drawn: Bools) -> None:
        """Count the true sources of a clip, bool [K, S, S]."""
        areas = drawn.sum(axis=(1, 2))
        n, size = len(areas), self.rule.map_size**2
        union = float(np.count_nonzero(drawn.any(axis=0)))
        match, seen = np.arange(n), areas > 0
        self._whole += SourceStatistics.of(
            SampleScores(match, areas / size, areas / size, union / size, n_predicted=n)
        )
        forced = tie_free_area(self.rule, 0)
        iou = seen.astype(np.float64)
        if forced is not None:
            iou = np.minimum(areas, forced) / np.maximum(areas, forced)
        self._best += SourceStatistics.of(
            SampleScores(match, iou, seen.astype(np.float64), float(union > 0), n_predicted=n)
        )
        if not seen.all():
            self._empty.append(clip_id)

    def context(self) -> dict[str, dict[str, float]]:
        """Return answer to metric to value."""
        return {"ceiling": self._best.metrics(), "whole_image": self._whole.metrics()}

    def warnings(self) -> list[str]:
        """Say which sources cannot be found."""
        if not self._empty:
            return []
        return [
            f"{len(self._empty)} clips have a source that covers no pixel and cannot be found "
            f"({first_few(self._empty, 3)})"
        ]
