"""Scores files written by hand: the tests decide every number in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsl_eval import PROTOCOLS
from avsl_eval.ciou import metrics

Ciou = Sequence[float | None]
"""cIoU of each clip; None: not predicted; NaN: undefined."""


def write_scores(
    path: Path,
    ciou: Mapping[str, Ciou],
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    gt_area: Sequence[float] | None = None,
    n_silent: int = 0,
    sha256: str = "same",
    changed_rule: Mapping[str, Any] | None = None,
    sections: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Path:
    """Write a scores file and its table: protocol to the cIoU of its sounding clips, then silent ones."""
    n = len(next(iter(ciou.values())))
    ids = [f"clip{k:03d}_000001" for k in range(n)]
    labels = labels or [f"class {k % 3}" for k in range(n)]
    gt_area = gt_area or [0.25] * n
    rows: list[list[Any]] = []
    protocols = {}
    for protocol, values in ciou.items():
        counted = np.array([0.0 if v is None else v for v in values], dtype=float)
        for k, value in enumerate(values):
            status = "missing" if value is None else "undefined" if np.isnan(value) else "scored"
            cell = 0.0 if value is None else "" if np.isnan(value) else value
            pointing = float(counted[k] > 0.3)
            rows.append([protocol, ids[k], labels[k], cell, 1, gt_area[k], status, "", 0, pointing])
        rows += [[protocol, f"silent{k}", "", "", 0, 0, "silent", "", 0, ""] for k in range(n_silent)]
        found = metrics(counted) | {"pointing": float(np.mean(counted > 0.3))}
        missing = [ids[k] for k, value in enumerate(values) if value is None]
        protocols[protocol] = {
            "rule": PROTOCOLS[protocol].to_dict() | (changed_rule or {}),
            "n_expected": n + n_silent,
            "n_scored": n + n_silent - len(missing),
            "missing": missing,
            "metrics": {key: {"value": v, "ci95": [v / 2, (1 + v) / 2]} for key, v in found.items()},
            "context": {
                answer: {key: {"value": level} for key in found}
                for answer, level in (
                    ("ceiling", 0.9),
                    ("center_prior", 0.3),
                    ("mean_truth_prior", 0.31),
                    ("whole_image", 0.2),
                )
            },
            "curve": {"thresholds": [0, 1], "share": [1.0, found["mean_iou"]]},
            "tied": {"n": len(missing), "share": len(missing) / n, "clips": missing, "n_large": 0},
            "breakdown": {"size": [{"name": "large", "n": n, "metrics": found}]},
            **(sections or {}),
        }
    digest = {"path": "a.json", "sha256": "ab"}
    content = {
        "schema": "avsl-scores/2",
        "name": name,
        "testset": {
            **{"name": "t", "n_clips": n + n_silent, "n_silent": n_silent},
            **{"truth": "union", "sha256": sha256},
        },
        "inputs": {"predictions": digest, "annotations": digest},
        "predictions_meta": {},
        "versions": {"numpy": "2"},
        "per_clip": path.with_suffix(".csv").name,
        "dropped_boxes": [],
        "extra": [],
        "warnings": list(warnings),
        "interval": {"method": "m", "level": 0.95, "resamples": 2000, "seed": 0},
        "protocols": protocols,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    header = [
        "protocol",
        "clip_id",
        "label",
        "ciou",
        "n_boxes",
        "gt_area",
        "status",
        "reason",
        "n_dropped_boxes",
        "pointing",
    ]
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def run_record(seed: int) -> dict[str, Any]:
    """What a training says of itself in its run.json."""
    return {
        "schema": "avsl-run/1",
        "seed": seed,
        "config_digest": "c0ffee" * 8,
        "commit": "0123456789abcdef+dirty",
        "checkpoint_sha256": f"{seed}a" * 32,
        "device": "cpu: Some Processor",
        "wall_time_s": 90.0,
        "steps": 1500,
        "clips": {"used": 1234, "excluded": {"x_000001": "damaged", "y_000002": "damaged"}},
    }
