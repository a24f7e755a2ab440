"""The commands that score: ``score`` and ``protocols``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from avsl_eval.cli import Commands, add_command
from avsl_eval.protocol_table import PROTOCOLS

if TYPE_CHECKING:
    from avsl_eval.result import Scores

_SLOW_S = 2.0
"""Seconds after which a person wonders whether anything is happening."""


def add_score(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``score``."""
    sub = add_command(
        commands,
        "score",
        _score,
        "score predictions against annotations",
        "score --predictions maps.npz --annotations vggss.json --protocol ezvsl --out scores.json "
        "--per-clip per_clip.csv",
    )
    sub.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="P",
        help=".npz (clip_id [N], heatmap [N, h, w]) or folder of <clip_id>.npy",
    )
    sub.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="A",
        help="our JSON, a vggss.json, or a folder of Flickr-SoundNet XML",
    )
    sub.add_argument("--protocol", required=True, metavar="NAME", help=f"one of {', '.join(PROTOCOLS)}")
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="scores file to write")
    sub.add_argument("--per-clip", type=Path, metavar="CSV", help="table of all annotated clips to write")
    sub.add_argument(
        "--missing",
        default="error",
        metavar="error|zero",
        help="what a clip without prediction does (default: error)",
    )


def _score(arguments: argparse.Namespace) -> None:
    from avsl_eval.evaluate import evaluate
    from avsl_eval.io import refuse_overwriting

    outputs = [arguments.out, *([arguments.per_clip] if arguments.per_clip else [])]
    refuse_overwriting(outputs, [arguments.predictions, arguments.annotations])
    scores = evaluate(
        arguments.predictions,
        arguments.annotations,
        arguments.protocol,
        arguments.missing,
        progress=_progress_line(),
    )
    scores.save(arguments.out, arguments.per_clip)
    print(_describe(scores))


def _progress_line() -> Callable[[int, int], None]:
    """Return a progress callback that stays silent for short runs and where nobody watches."""
    started = last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not sys.stderr.isatty() or now - started < _SLOW_S:
            return
        if done == total:
            print(f"\r{done} of {total} clips", file=sys.stderr)
        elif now - last > 0.2:
            print(f"\r{done} of {total} clips", end="", file=sys.stderr, flush=True)
            last = now

    return show


def _describe(scores: Scores) -> str:
    """Lay the scores out for a person: percent, with intervals, beside what they have to be read against."""
    rule = scores.protocol
    lines = [
        f"protocol {rule.name} v{rule.version}: {rule.summary}",
        f"{scores.n_scored} of {scores.n_expected} clips have a prediction"
        + (f"; the {len(scores.missing)} others count as 0" if scores.missing else ""),
        f"{'percent':<10} {'score':>6} {'95 % interval':>15} {'ceiling':>9} {'centred disc':>13} "
        f"{'whole image':>12}",
    ]
    for name, value in scores.metrics.items():
        low, high = (100 * bound for bound in scores.intervals[name])
        ceiling, disc, whole = (
            100 * scores.context[c][name] for c in ("ceiling", "center_prior", "whole_image")
        )
        interval = f"[{low:.2f}, {high:.2f}]"
        lines.append(
            f"{name:<10} {100 * value:6.2f} {interval:>15} {ceiling:9.2f} {disc:13.2f} {whole:12.2f}"
        )
    return "\n".join(lines)


def add_protocols(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``protocols``."""
    add_command(commands, "protocols", _protocols, "list the protocols", "protocols")


def _protocols(_: argparse.Namespace) -> None:
    for rule in PROTOCOLS.values():
        print(f"{rule.name:<9} v{rule.version}  {rule.summary}\n{'':<14}{rule.source}")
