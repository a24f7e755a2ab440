"""Scores: what an evaluation found, and its two files.

``scores.json`` (schema avsl-scores/1) holds fractions, never percent; ``per_clip.csv`` has one row per
annotated clip:

================ ========================================================================================
column           content
================ ========================================================================================
clip_id, label   as annotated
ciou             cIoU; empty where it is 0/0 (status ``undefined``)
n_boxes          usable boxes
gt_area          sum(g) as a fraction of the image
status           ``scored``; ``undefined``: neither truth nor mask; ``missing``: no prediction, counted as 0
reason           why a prediction is missing, where the predictions say so
n_dropped_boxes  unusable boxes
intersection     sum(m g), in pixels
false_positive   sum(m [g = 0]), in pixels
================ ========================================================================================
"""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsl_eval.bootstrap import LEVEL, RESAMPLES, SEED
from avsl_eval.io import write_files
from avsl_eval.protocol import Protocol
from avsl_eval.truth import DroppedBox

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "avsl-scores/1"


@dataclass(frozen=True)
class Scores:
    """Hold the scores of one set of predictions under one protocol.

    Parameters
    ----------
    protocol
        The rule, with the policy for missing clips that was used.
    metrics
        Metric name (`avsl_eval.ciou.METRICS`) to value, a fraction.
    intervals
        Metric name to the bounds of its 95 % interval over clips.
    context
        ``ceiling``, ``center_prior`` and ``whole_image``, each metric name to value: the same rule on the
        same clips.
    n_expected
        Number of annotated clips, the denominator of every metric.
    missing, extra
        Ids annotated but not predicted, and predicted but not annotated.
    columns
        Columns of `per_clip`.
    dropped_boxes
        Annotated boxes that could not be used.
    inputs
        ``predictions`` and ``annotations``: path and sha256 (None for data that came from memory).
    predictions_meta
        What the predictions say about themselves.
    """

    protocol: Protocol
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    context: dict[str, dict[str, float]]
    n_expected: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    columns: Mapping[str, Sequence[Any]] = field(repr=False)
    dropped_boxes: tuple[DroppedBox, ...] = ()
    inputs: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    predictions_meta: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def n_scored(self) -> int:
        """Number of annotated clips that have a prediction."""
        return self.n_expected - len(self.missing)

    @cached_property
    def per_clip(self) -> pd.DataFrame:
        """One row per annotated clip, indexed by clip_id; the columns are those of ``per_clip.csv``."""
        import pandas as pd  # here, because it takes longer to import than a small test set to score

        return pd.DataFrame(dict(self.columns)).set_index("clip_id")

    def to_json(self) -> str:
        """Write the scores as JSON.

        Returns
        -------
        str
            Content of ``scores.json``.
        """
        content = {
            "schema": SCHEMA,
            "protocol": self.protocol.to_dict(),
            "n_expected": self.n_expected,
            "n_scored": self.n_scored,
            "missing": self.missing,
            "extra": self.extra,
            "metrics": {
                name: {"value": value, "ci95": self.intervals[name]} for name, value in self.metrics.items()
            },
            "context": {
                answer: {name: {"value": value} for name, value in values.items()}
                for answer, values in self.context.items()
            },
            "interval": {
                "method": "percentile bootstrap over clips",
                "level": LEVEL,
                "resamples": RESAMPLES,
                "seed": SEED,
            },
            "dropped_boxes": [
                {
                    "clip_id": d.clip_id,
                    "box": [_json_number(v) for v in d.box],
                    "why": d.why,
                }
                for d in self.dropped_boxes
            ],
            "inputs": self.inputs,
            "predictions_meta": self.predictions_meta,
            "versions": versions(),
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Write one line per annotated clip.

        Returns
        -------
        str
            Content of ``per_clip.csv``.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in zip(*self.columns.values(), strict=True):
            writer.writerow("" if isinstance(v, float) and math.isnan(v) else v for v in row)
        return text.getvalue()

    def save(self, path: str | Path, per_clip: str | Path | None = None) -> None:
        """Write ``scores.json`` and, if asked for, ``per_clip.csv``; both or none.

        Parameters
        ----------
        path
            Of the scores.
        per_clip
            Of the table.

        Raises
        ------
        EvalInputError
            If one of them cannot be written.
        """
        files = {Path(path): self.to_json()}
        if per_clip is not None:
            files[Path(per_clip)] = self.to_csv()
        write_files(files)


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
    try:
        own = metadata.version("avsl-toolkit")
    except metadata.PackageNotFoundError:  # a source tree on sys.path
        own = "not installed"
    return {"avsl-toolkit": own, "numpy": np.__version__, "python": platform.python_version()}
