"""One pass over a predictions file: chunks of maps to statistics, statistics to scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.breakdown import by_subset
from avsl_eval.cautions import MapsSeen, map_warnings, range_fault, size_warnings, tie_warnings
from avsl_eval.engine import TOGETHER
from avsl_eval.errors import EvalInputError
from avsl_eval.io import sha256_of
from avsl_eval.options import Options, clips_of_subsets
from avsl_eval.predictions import Predictions
from avsl_eval.protocol import Protocol
from avsl_eval.result import Evaluation, Scores
from avsl_eval.scorer import Scorer, Task
from avsl_eval.sections import Negatives, group_section
from avsl_eval.shared import Shared
from avsl_eval.summarise import Found, intervals

_log = logging.getLogger(__name__)

CHUNK_BYTES = 8 * 224 * 224 * 4
"""What maps that are read together take: 8 of 224 x 224, or as many smaller ones as are scored together."""

WORTH_WORKERS = 1000
"""Clips from which on processes save more time than they take to start."""

Progress = Callable[[int, int], None]


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Run:
    """One pass over predictions: what is read, and what is found.

    Parameters
    ----------
    maps
        What is scored.
    shared
        What it is scored against, and by which processes.
    rules
        Protocols by name.
    optional
        Names of those that are left out, with a warning, where the maps do not fit them.
    options
        What else is asked for.
    negatives
        Maps of negative audio.
    warnings
        What there is to say so far.
    """

    def __init__(
        self,
        maps: Predictions,
        shared: Shared,
        rules: Mapping[str, Protocol],
        optional: set[str],
        options: Options,
        negatives: Negatives,
        warnings: Sequence[str],
    ) -> None:
        protocols = list(rules.values())
        self.maps, self.shared, self.reference = maps, shared, shared.reference(protocols)
        self.truth, self.rules, self.optional = self.reference.truth, dict(rules), optional
        self.options, self.negatives = options, negatives
        self.warnings = list(warnings)
        self.seen = MapsSeen()
        self.row_of = {clip.clip_id: row for row, clip in enumerate(self.truth.clips)}
        self.scorer = Scorer(self.reference, protocols)
        self.engine = self.scorer.engine
        self.context = self.reference.context
        self.done = 0

    def score(self, progress: Progress | None = None) -> None:
        """Score every map, and the answers of the context on every clip."""
        workers = self.shared.workers(self.scorer)
        if workers is None:
            for task in self.tasks():
                self.scorer.score(task)
                self.note(task.rows, progress)
        else:
            for task in workers.run(self.tasks(), self.scorer, self.reference.more):
                self.note(task.rows, progress)
        self.reference.finish()

    def tasks(self) -> Iterator[Task]:
        """Read maps, a chunk at a time, and look at what they are."""
        left_out: frozenset[str] = frozenset()
        for clip_ids, heatmaps in self.maps.chunks(self.row_of.keys(), TOGETHER, CHUNK_BYTES):
            flat = heatmaps.reshape(len(heatmaps), -1)
            low, high = flat.min(axis=1), flat.max(axis=1)
            left_out |= self.check_ranges(clip_ids, low, high)
            self.seen.look(clip_ids, heatmaps, low, high)
            rows = [self.row_of[clip_id] for clip_id in clip_ids]
            yield Task(heatmaps, rows, left_out, self.reference.is_new(rows))

    def note(self, rows: Sequence[int], progress: Progress | None) -> None:
        """Say that some clips are done."""
        self.done += len(rows)
        if progress is not None:
            progress(self.done, len(self.row_of))

    def check_ranges(
        self, clip_ids: Sequence[str], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> frozenset[str]:
        """Stop at maps that leave a rule's range, or return the rule to leave out if a suite allows it."""
        left_out = set()
        for key, rule in list(self.rules.items()):
            fault = range_fault(clip_ids, low, high, rule)
            if fault and (key not in self.optional or len(self.rules) == 1):
                raise EvalInputError(fault)
            if fault:
                del self.rules[key]
                left_out.add(key)
                self.warnings.append(f"{key} is left out: {fault}")
        return frozenset(left_out)

    def scores(self, name: str | None, absent: tuple[str, ...], extra: tuple[str, ...]) -> dict[str, Scores]:
        """Summarise."""
        clips, gone = self.truth.clips, set(absent)
        missing = np.array([clip.clip_id in gone for clip in clips])
        sounding = self.truth.sounding
        found = {
            key: Found(rule, self.engine, sounding, missing, self.stored_confidence(rule))
            for key, rule in self.rules.items()
        }
        clip_ids, labels = [c.clip_id for c in clips], [c.label for c in clips]
        tied = {key: one.tied(clip_ids) for key, one in found.items()}
        rules = list(self.rules.values())
        self.warnings += map_warnings(self.seen, rules) + tie_warnings(tied, self.seen.n)
        testset = self.reference.testset
        self.warnings += size_warnings(testset["name"] or "", len(clips), rules)
        for sentence in self.warnings:
            _log.warning("%s", sentence)
        evaluation = Evaluation(
            name=name,
            testset=testset,
            inputs={
                "predictions": _input(self.maps.path),
                "annotations": _input(self.truth.path),
                **{f"negative {kind}": _input(m.path) for kind, m in self.negatives.predictions.items()},
            },
            predictions_meta=self.maps.meta,
            dropped_boxes=self.truth.dropped,
            extra=extra,
            warnings=tuple(self.warnings),
        )
        bounds = intervals(found, self.reference.draws)
        n_boxes = [len(c.boxes) for c in clips]
        return {
            key: Scores(
                protocol=one.protocol,
                metrics=one.metrics(),
                intervals=bounds[key],
                context=one.context(self.context),
                n_expected=len(clips),
                missing=absent,
                columns=self.columns(one),
                curve=one.curve(self.context),
                tied=tied[key],
                evaluation=evaluation,
                breakdown=one.breakdown(labels, n_boxes) | self.subset_rows(one, clip_ids, labels),
                sections=self.sections(one),
            )
            for key, one in found.items()
        }

    def stored_confidence(self, protocol: Protocol) -> NDArray[np.float64] | None:
        """Return the predictions' own confidences, None where there are none or the rule has its own."""
        stored = self.maps.confidence
        if stored is None or protocol.confidence != "stored":
            return None
        return np.array([stored.get(clip.clip_id, np.nan) for clip in self.truth.clips], np.float64)

    def subset_rows(
        self, found: Found, clip_ids: Sequence[str], labels: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the scores of given subsets."""
        if not self.options.subsets:
            return {}
        subsets = clips_of_subsets(clip_ids, labels, self.options.subsets)
        ids = [i for i, sounds in zip(clip_ids, found.sounding.tolist(), strict=True) if sounds]
        return {"subset": by_subset(ids, subsets, found.named_values())}

    def sections(self, found: Found) -> dict[str, Any]:
        """Return what only some rules or test sets have."""
        rule = found.protocol
        every = {
            "detection": found.detection(),
            "groups": group_section(
                self.truth.clips, found.ciou, found.sounding, found.missing, self.options.group_by
            ),
            "sweep": found.sweep(),
            "negatives": self.negatives.section(rule, found.metrics())
            if rule.threshold == "universal"
            else None,
            "segmentation": self.scorer.segmentation.section(rule, found.truth, self.options.official_batch),
        }
        return {name: content for name, content in every.items() if content is not None}

    def columns(self, found: Found) -> dict[str, list[Any]]:
        """Return the table of clips."""
        clips = self.truth.clips
        excluded = self.maps.meta.get("excluded")
        reasons = excluded if isinstance(excluded, Mapping) else {}
        status = np.where(np.isnan(found.ciou), "undefined", "scored")
        status[~found.sounding] = "silent"
        status[found.missing] = "missing"
        return {
            "clip_id": [clip.clip_id for clip in clips],
            "label": [clip.label for clip in clips],
            "ciou": found.ciou.tolist(),
            "n_boxes": [len(clip.boxes) for clip in clips],
            "gt_area": (found.truth / found.protocol.map_size**2).tolist(),
            "status": status.tolist(),
            "reason": [
                str(reasons.get(clip.clip_id, "")) if gone else ""
                for clip, gone in zip(clips, found.missing.tolist(), strict=True)
            ],
            "n_dropped_boxes": [clip.n_dropped for clip in clips],
            "intersection": found.intersection.tolist(),
            "false_positive": found.false_positive.astype(np.int64).tolist(),
            "pointing": found.pointing.tolist(),
            "confidence": found.confidence.tolist(),
        }


def _input(path: Path | None) -> dict[str, str | None]:
    return {"path": str(path) if path else None, "sha256": sha256_of(path) if path else None}
