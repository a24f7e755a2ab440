"""The command ``sources``: score maps of several sources per clip."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from avsl_eval.cli import Commands, add_command
from avsl_eval.cli_inputs import add_annotations, annotations_of, input_paths

if TYPE_CHECKING:
    from avsl_eval.sources_file import SourceScores

_ANSWERS = {"ceiling": "ceiling", "whole_image": "whole image"}
"""Heads of the context's columns."""


def add_sources(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``sources``."""
    sub = add_command(
        commands,
        "sources",
        _sources,
        "score maps of several sources per clip (cIoU@0.3, AUC, CAP, PIAP)",
        "sources --predictions maps.npz --annotations duets.json --protocol htf --out sources.json",
    )
    sub.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="P",
        help="one map per source: .npz (clip_id [N], heatmap [N, K, h, w]), folder of <clip_id>.npy "
        "[K, h, w], HDF5, Parquet, or saved dataset; formats: docs/formats.md",
    )
    add_annotations(sub)
    sub.add_argument(
        "--protocol",
        required=True,
        metavar="RULE",
        help="the rule that makes a mask of each map; see avsl-eval protocols",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="file to write")
    sub.add_argument(
        "--per-clip",
        type=Path,
        metavar="CSV",
        help="table of clips to write (default: beside the scores, .csv)",
    )
    sub.add_argument("--name", help="name of the method, for the file")
    sub.add_argument(
        "--missing",
        default="error",
        metavar="error|zero",
        help="what a clip without prediction does (default: error)",
    )


def _sources(arguments: argparse.Namespace) -> None:
    from avsl_eval.cli_score import progress_line
    from avsl_eval.evaluate_sources import evaluate_sources
    from avsl_eval.io import refuse_overwriting
    from avsl_eval.result import per_clip_path

    table = per_clip_path(arguments.out, arguments.per_clip)
    refuse_overwriting([arguments.out, table], [arguments.predictions, *input_paths(arguments)])
    scores = evaluate_sources(
        arguments.predictions,
        annotations_of(arguments),
        arguments.protocol,
        arguments.missing,
        name=arguments.name,
        progress=progress_line(),
    )
    scores.save(arguments.out, table)
    print(describe(scores))


def describe(scores: SourceScores) -> str:
    """Lay scores out for a person: percent, with intervals, beside what they have to be read against.

    Parameters
    ----------
    scores
        Of one evaluation.

    Returns
    -------
    str
        Several lines.
    """
    total, rule = scores.total, scores.protocol
    predicted = sum(sample.n_predicted for sample in scores.samples)
    lines = [
        f"{scores.n_scored} of {len(scores.clips)} clips have a prediction"
        + (f"; the sources of the {len(scores.missing)} others count as 0" if scores.missing else ""),
        f"{total.n_sources} true sources, {predicted} predicted; {total.n_extra} of them match none",
        "",
        f"{rule.name} v{rule.version}: {rule.summary}",
        f"  {'percent':<10} {'score':>6} {'95 % interval':>15}"
        + "".join(f" {head:>11}" for head in _ANSWERS.values()),
    ]
    for metric, value in scores.metrics.items():
        low, high = (100 * bound for bound in scores.intervals[metric])
        context = "".join(f" {100 * scores.context[answer][metric]:11.2f}" for answer in _ANSWERS)
        lines.append(f"  {metric:<10} {100 * value:6.2f} {f'[{low:.2f}, {high:.2f}]':>15}{context}")
    rows = scores.breakdown()
    lines += [
        f"  clips with {row['name']} source{'s' if row['name'] != '1' else ''}: ciou@0.3 "
        f"{100 * row['metrics']['ciou@0.3']:.2f} of {row['n']} clips"
        for row in (rows if len(rows) > 1 else [])
    ]
    return "\n".join(lines)
