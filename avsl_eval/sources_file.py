"""The scores of several sources per clip, and their two files.

``sources.json`` (schema avsl-sources/1) holds one set of predictions on one test set under one protocol;
fractions, never percent::

    name, inputs, predictions_meta, versions, per_clip, dropped_boxes, extra, warnings, interval
                                  as in a scores file, see `avsl_eval.result`
    testset                       {name, n_clips, n_silent, truth, sha256, n_sources}
    rule                          every field of the protocol
    n_expected, n_scored, missing clips in which something sounds, those with a prediction, ids without
    unanswered                    ids of clips for which no source was predicted
    n_sources, n_extra            true sources; predicted ones that match none
    metrics                       {metric: {value, ci95}}
    context                       {ceiling | whole_image: {metric: {value}}}
    curve                         {thresholds, share}: share of true sources with IoU >= threshold
    breakdown                     {n_sources: [{name, n, metrics}]}: by the number of a clip's true sources

``per_clip.csv`` has one row per clip in which something sounds:

=================== =====================================================================================
column              content
=================== =====================================================================================
clip_id, label      as annotated
status              ``scored``; ``unanswered``: no source was predicted; ``missing``: no prediction
reason              why a prediction is missing, where the predictions say so
n_sources           true sources
n_predicted         predicted ones
n_found             true sources whose match has IoU >= 0.3
mean_iou, cap       mean over true sources of the match's IoU and average precision
piap                average precision of the sum of all maps against the union of all sources
sources             JSON list: the label of each true source
maps                JSON list: index of the map that each got, null for none
iou, ap             JSON lists: of the matches
=================== =====================================================================================
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avsl_eval.bootstrap import LEVEL, RESAMPLES, SEED
from avsl_eval.ciou import AUC_THRESHOLDS
from avsl_eval.io import sha256_of, write_files
from avsl_eval.predictions import Predictions
from avsl_eval.protocol import Protocol
from avsl_eval.reference import testset_of
from avsl_eval.result import per_clip_path, versions
from avsl_eval.sources import IOU_THRESHOLD, SampleScores, SourceStatistics
from avsl_eval.truth import AnnotatedClip, Annotations

SCHEMA = "avsl-sources/1"


@dataclass(frozen=True)
class SourceScores:
    """Hold the scores of predictions of several sources per clip.

    Parameters
    ----------
    name
        Of the method, or None.
    protocol
        The rule, with the policy for missing clips that was used.
    maps, truth
        What was scored, against what.
    clips, samples
        N clips in which something sounds, and their scores.
    missing, unanswered, extra
        Ids annotated but not predicted, predicted to have no source, predicted but not annotated.
    warnings
        What a reader of the scores has to know, one sentence each.
    total
        Sums over clips.
    intervals
        Metric name to the bounds of its 95 % interval over clips.
    context
        ``ceiling`` and ``whole_image``, each metric name to value.
    """

    name: str | None
    protocol: Protocol
    maps: Predictions = field(repr=False)
    truth: Annotations = field(repr=False)
    clips: Sequence[AnnotatedClip] = field(repr=False)
    samples: Sequence[SampleScores] = field(repr=False)
    missing: tuple[str, ...]
    unanswered: tuple[str, ...]
    extra: tuple[str, ...]
    warnings: tuple[str, ...]
    total: SourceStatistics
    intervals: Mapping[str, tuple[float, float]]
    context: Mapping[str, Mapping[str, float]]

    @property
    def metrics(self) -> dict[str, float]:
        """Metric name to value, a fraction: ``ciou@0.3``, ``auc``, ``cap``, ``piap``."""
        return self.total.metrics()

    @property
    def n_scored(self) -> int:
        """Number of clips that have a prediction."""
        return len(self.clips) - len(self.missing)

    def breakdown(self) -> list[dict[str, Any]]:
        """Return the metrics by the number of a clip's true sources."""
        rows = []
        for count in sorted({len(clip.sources) for clip in self.clips}):
            some = [SourceStatistics.of(s) for s in self.samples if len(s.match) == count]
            total = sum(some, start=SourceStatistics.zero())
            rows.append({"name": str(count), "n": len(some), "metrics": total.metrics()})
        return rows

    def columns(self) -> dict[str, list[Any]]:
        """Return the table of clips."""
        excluded = self.maps.meta.get("excluded")
        reasons = excluded if isinstance(excluded, Mapping) else {}
        status = dict.fromkeys(self.missing, "missing") | dict.fromkeys(self.unanswered, "unanswered")
        ids = [clip.clip_id for clip in self.clips]
        return {
            "clip_id": ids,
            "label": [clip.label for clip in self.clips],
            "status": [status.get(i, "scored") for i in ids],
            "reason": [str(reasons.get(i, "")) if status.get(i) == "missing" else "" for i in ids],
            "n_sources": [len(s.match) for s in self.samples],
            "n_predicted": [s.n_predicted for s in self.samples],
            "n_found": [int((s.iou >= IOU_THRESHOLD).sum()) for s in self.samples],
            "mean_iou": [float(s.iou.mean()) for s in self.samples],
            "cap": [float(s.ap.mean()) for s in self.samples],
            "piap": [s.piap for s in self.samples],
            "sources": [json.dumps([s.label for s in clip.sources]) for clip in self.clips],
            "maps": [json.dumps([m if m >= 0 else None for m in s.match.tolist()]) for s in self.samples],
            "iou": [json.dumps(s.iou.tolist()) for s in self.samples],
            "ap": [json.dumps(s.ap.tolist()) for s in self.samples],
        }

    def to_json(self, per_clip: str | None = None) -> str:
        """Return the content of a ``sources.json``; `per_clip` is the table's path, seen from its folder."""
        share = self.total.reached / self.total.n_sources
        content = {
            "schema": SCHEMA,
            "name": self.name,
            "testset": testset_of(self.truth) | {"n_sources": self.total.n_sources},
            "inputs": {"predictions": _input(self.maps.path), "annotations": _input(self.truth.path)},
            "predictions_meta": self.maps.meta,
            "versions": versions(),
            "per_clip": per_clip,
            "dropped_boxes": [
                {"clip_id": d.clip_id, "box": [_json_number(v) for v in d.box], "why": d.why}
                for d in self.truth.dropped
            ],
            "extra": self.extra,
            "warnings": self.warnings,
            "interval": {
                "method": "percentile bootstrap over clips",
                "level": LEVEL,
                "resamples": RESAMPLES,
                "seed": SEED,
            },
            "rule": self.protocol.to_dict(),
            "n_expected": len(self.clips),
            "n_scored": self.n_scored,
            "missing": self.missing,
            "unanswered": self.unanswered,
            "n_sources": self.total.n_sources,
            "n_extra": self.total.n_extra,
            "metrics": {
                metric: {"value": value, "ci95": self.intervals[metric]}
                for metric, value in self.metrics.items()
            },
            "context": {
                answer: {metric: {"value": value} for metric, value in values.items()}
                for answer, values in self.context.items()
            },
            "curve": {"thresholds": np.asarray(AUC_THRESHOLDS).tolist(), "share": share.tolist()},
            "breakdown": {"n_sources": self.breakdown()},
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return the content of a ``per_clip.csv``."""
        columns = self.columns()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return text.getvalue()

    def save(self, path: str | Path, per_clip: str | Path | None = None) -> None:
        """Write both files or none.

        Parameters
        ----------
        path
            Of the scores.
        per_clip
            Of the table; None for the same name with the suffix ``.csv``.

        Raises
        ------
        EvalInputError
            If one of them cannot be written.
        """
        out, table = Path(path), per_clip_path(path, per_clip)
        beside = Path(os.path.relpath(table.parent, out.parent)) / table.name
        write_files({out: self.to_json(beside.as_posix()), table: self.to_csv()})


def _input(path: Path | None) -> dict[str, str | None]:
    return {"path": str(path) if path else None, "sha256": sha256_of(path) if path else None}


def _json_number(value: object) -> object:
    return value if isinstance(value, int | float) and math.isfinite(value) else str(value)
