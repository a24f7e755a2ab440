"""Scores: what an evaluation found, and its two files.

``scores.json`` (schema avsl-scores/2) holds one set of predictions on one test set under any number of
protocols; fractions, never percent::

    name                 of the method, or null
    testset              {name, n_clips, n_silent, truth, sha256: digest of ids and truth}
    inputs               {predictions | annotations: {path, sha256}}
    predictions_meta     what the predictions say about themselves
    versions             of what computed the scores
    per_clip             the table's path, seen from this file's folder
    dropped_boxes        [{clip_id, box, why}]: boxes that could not be used
    extra                ids predicted, but not annotated
    warnings             one sentence each
    interval             {method, level, resamples, seed}
    protocols            {name: {
        rule                          every field of the protocol
        n_expected, n_scored, missing annotated clips, those with a prediction, ids without
        metrics                       {metric: {value, ci95}}, over sounding clips
        context                       {ceiling | center_prior | mean_truth_prior | whole_image:
                                      {metric: {value}}}: the same rule, the same clips
        curve                         {thresholds, share, context: {answer: share}}: share of clips with
                                      cIoU >= threshold
        tied                          {n, share, clips, n_large}: maps with other pixels equal to the
                                      threshold (at most 20 ids), and with more than 1 % of all pixels
        breakdown                     {class | size | n_boxes | ...: [{name, n, metrics}]}
        groups, detection, sweep, negatives, segmentation   where they exist
    }}

``per_clip.csv`` has one row per protocol and annotated clip:

================ ========================================================================================
column           content
================ ========================================================================================
protocol         name of the rule
clip_id, label   as annotated
ciou             cIoU; empty where it is 0/0 (status ``undefined``) or nothing sounds (``silent``)
n_boxes          usable boxes
gt_area          sum(g) as a fraction of the image
status           ``scored``; ``undefined``: neither truth nor mask; ``missing``: no prediction, counted as 0;
                 ``silent``: nothing sounds, so there is nothing to locate
reason           why a prediction is missing, where the predictions say so
n_dropped_boxes  unusable boxes
intersection     sum(m g), in pixels
false_positive   sum(m [g = 0]), in pixels
pointing         share of the map's largest pixels that lie on g > 0
confidence       what ranks the clip in detection; empty where neither rule nor predictions define it
================ ========================================================================================
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsl_eval.bootstrap import LEVEL, RESAMPLES, SEED
from avsl_eval.errors import EvalInputError
from avsl_eval.io import write_files
from avsl_eval.protocol import Protocol
from avsl_eval.truth import DroppedBox

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "avsl-scores/2"
TIED_NAMED = 20
"""How many tied clips a scores file names."""


@dataclass(frozen=True)
class Evaluation:
    """Hold what the scores of all protocols of one evaluation share.

    Parameters
    ----------
    name
        Of the method, or None.
    testset
        Keys name, n_clips, n_silent, truth, sha256.
    inputs
        ``predictions`` and ``annotations``: path and sha256 (None for data that came from memory).
    predictions_meta
        What the predictions say about themselves.
    dropped_boxes
        Annotated boxes that could not be used.
    extra
        Ids predicted, but not annotated.
    warnings
        What a reader of the scores has to know, one sentence each.
    """

    name: str | None
    testset: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, str | None]]
    predictions_meta: Mapping[str, Any] = field(repr=False)
    dropped_boxes: tuple[DroppedBox, ...]
    extra: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """Hold the scores of one set of predictions under one protocol.

    Parameters
    ----------
    protocol
        The rule, with the policy for missing clips that was used.
    metrics
        Metric name to value, a fraction: `avsl_eval.ciou.METRICS` and ``pointing``.
    intervals
        Metric name to the bounds of its 95 % interval over clips.
    context
        ``ceiling``, ``center_prior``, ``mean_truth_prior`` and ``whole_image``, each metric name to value:
        the same rule on the same clips.
    n_expected
        Number of annotated clips. Metrics of localisation are over those in which something sounds.
    missing
        Ids annotated but not predicted.
    columns
        Columns of `per_clip`.
    curve
        ``thresholds`` and ``share``: the share of clips with cIoU >= threshold; ``context``: of its answers.
    tied
        Keys n, share, clips, n_large.
    evaluation
        What all protocols of the evaluation share.
    breakdown
        Division to one row per part of the test set.
    sections
        What only some rules or test sets have: ``groups``, ``detection``, ``sweep``, ``negatives``,
        ``segmentation``.
    """

    protocol: Protocol
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    context: dict[str, dict[str, float]]
    n_expected: int
    missing: tuple[str, ...]
    columns: Mapping[str, Sequence[Any]] = field(repr=False)
    curve: Mapping[str, Any] = field(repr=False)
    tied: Mapping[str, Any]
    evaluation: Evaluation
    breakdown: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    sections: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def n_scored(self) -> int:
        """Number of annotated clips that have a prediction."""
        return self.n_expected - len(self.missing)

    @property
    def extra(self) -> tuple[str, ...]:
        """Ids predicted, but not annotated."""
        return self.evaluation.extra

    @property
    def dropped_boxes(self) -> tuple[DroppedBox, ...]:
        """Annotated boxes that could not be used."""
        return self.evaluation.dropped_boxes

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str | None]]:
        """``predictions`` and ``annotations``: path and sha256 (None for data that came from memory)."""
        return self.evaluation.inputs

    @property
    def predictions_meta(self) -> Mapping[str, Any]:
        """What the predictions say about themselves."""
        return self.evaluation.predictions_meta

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the scores has to know, one sentence each."""
        return self.evaluation.warnings

    @cached_property
    def per_clip(self) -> pd.DataFrame:
        """One row per annotated clip, indexed by clip_id; the columns are those of ``per_clip.csv``."""
        import pandas as pd  # here, because it takes longer to import than a small test set to score

        return pd.DataFrame({"protocol": self.protocol.name, **self.columns}).set_index("clip_id")

    def to_json(self) -> str:
        """Return the content of a ``scores.json`` with this protocol alone."""
        return scores_json({self.protocol.name: self})

    def to_csv(self) -> str:
        """Return the content of a ``per_clip.csv`` with this protocol alone."""
        return per_clip_csv({self.protocol.name: self})

    def save(self, path: str | Path, per_clip: str | Path | None = None) -> None:
        """Write ``scores.json`` and ``per_clip.csv``; see `save_scores`."""
        save_scores(self, path, per_clip)


def save_scores(
    scores: Scores | Mapping[str, Scores], path: str | Path, per_clip: str | Path | None = None
) -> None:
    """Write ``scores.json`` and ``per_clip.csv``, both or none.

    Parameters
    ----------
    scores
        Of one evaluation: what `avsl_eval.evaluate` or `avsl_eval.evaluate_all` returned.
    path
        Of the scores.
    per_clip
        Of the table; None for the same name with the suffix ``.csv``.

    Raises
    ------
    EvalInputError
        If one of them cannot be written.
    """
    found = {scores.protocol.name: scores} if isinstance(scores, Scores) else scores
    out, table = Path(path), per_clip_path(path, per_clip)
    beside = Path(os.path.relpath(table.parent, out.parent)) / table.name
    write_files({out: scores_json(found, beside.as_posix()), table: per_clip_csv(found)})


def per_clip_path(path: str | Path, per_clip: str | Path | None = None) -> Path:
    """Return where the table of a scores file is written: where it is told to, or beside it.

    Parameters
    ----------
    path, per_clip
        As in `save_scores`.

    Returns
    -------
    Path
        Of the table.

    Raises
    ------
    EvalInputError
        If both files would have one name, or the scores none.
    """
    if not Path(path).name:
        raise EvalInputError(f"cannot write {path}: it is a folder; name a file")
    table = Path(per_clip) if per_clip is not None else Path(path).with_suffix(".csv")
    if table == Path(path):
        raise EvalInputError(f"{path} would hold the scores and the table of clips; name them apart")
    return table


def scores_json(scores: Mapping[str, Scores], per_clip: str | None = None) -> str:
    """Write the scores of one evaluation as JSON.

    Parameters
    ----------
    scores
        Protocol name to scores, at least one.
    per_clip
        Path of the table, seen from the file's folder, or None.

    Returns
    -------
    str
        Content of ``scores.json``.
    """
    evaluation = next(iter(scores.values())).evaluation
    content = {
        "schema": SCHEMA,
        "name": evaluation.name,
        "testset": evaluation.testset,
        "inputs": evaluation.inputs,
        "predictions_meta": evaluation.predictions_meta,
        "versions": versions(),
        "per_clip": per_clip,
        "dropped_boxes": [
            {"clip_id": d.clip_id, "box": [_json_number(v) for v in d.box], "why": d.why}
            for d in evaluation.dropped_boxes
        ],
        "extra": evaluation.extra,
        "warnings": evaluation.warnings,
        "interval": {
            "method": "percentile bootstrap over clips",
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": SEED,
        },
        "protocols": {name: _entry(found) for name, found in scores.items()},
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _entry(scores: Scores) -> dict[str, Any]:
    return {
        "rule": scores.protocol.to_dict(),
        "n_expected": scores.n_expected,
        "n_scored": scores.n_scored,
        "missing": scores.missing,
        "metrics": {
            name: {"value": value, "ci95": scores.intervals[name]} for name, value in scores.metrics.items()
        },
        "context": {
            answer: {name: {"value": value} for name, value in values.items()}
            for answer, values in scores.context.items()
        },
        "curve": scores.curve,
        "tied": scores.tied,
        "breakdown": scores.breakdown,
        **scores.sections,
    }


def per_clip_csv(scores: Mapping[str, Scores]) -> str:
    """Write one line per protocol and annotated clip.

    Parameters
    ----------
    scores
        Protocol name to scores, at least one.

    Returns
    -------
    str
        Content of ``per_clip.csv``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", *next(iter(scores.values())).columns])
    for name, found in scores.items():
        for row in zip(*found.columns.values(), strict=True):
            writer.writerow([name, *("" if isinstance(v, float) and math.isnan(v) else v for v in row)])
    return text.getvalue()


def _json_number(value: object) -> object:
    """Spell out what JSON has no number for, and whatever else stood in a dropped box."""
    return value if isinstance(value, int | float) and math.isfinite(value) else str(value)


def versions() -> dict[str, str]:
    """Return the versions of what computed the scores.

    Returns
    -------
    dict
        Name to version.
    """
    from importlib import metadata  # a tenth of the time of `import avsl_eval`

    try:
        own = metadata.version("avsl-toolkit")
    except metadata.PackageNotFoundError:  # a source tree on sys.path
        own = "not installed"
    return {"avsl-toolkit": own, "numpy": np.__version__, "python": platform.python_version()}
