"""The commands that score: ``score`` and ``protocols``."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from avsl_eval.cli import Commands, add_command
from avsl_eval.cli_inputs import add_annotations, add_predictions, annotations_of, input_paths
from avsl_eval.protocol_table import PROTOCOLS, SUITES, get_protocol

if TYPE_CHECKING:
    from avsl_eval.result import Scores

_SLOW_S = 2.0
"""Seconds after which a person wonders whether anything is happening."""
_BAR_S, _LINE_S = 0.2, 10.0
"""Seconds between two drawings of the bar on a terminal, and between two lines of a log."""
_BAR_WIDTH, _BAR_LEAST, _BAR_TEXT = 30, 5, 40
"""Characters of the bar, of the shortest that says anything, and of what stands beside it."""

_ANSWERS = {
    "ceiling": "ceiling",
    "center_prior": "disc",
    "mean_truth_prior": "mean truth",
    "whole_image": "whole image",
}
"""Heads of the context's columns."""


def add_score(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``score``."""
    sub = add_command(
        commands,
        "score",
        _score,
        "score predictions against annotations",
        "score --predictions maps.npz --annotations vggss.json --protocol strict lvs --out scores.json",
    )
    add_predictions(sub)
    add_annotations(sub)
    sub.add_argument(
        "--protocol",
        required=True,
        nargs="+",
        metavar="NAME",
        help=f"protocols ({', '.join(PROTOCOLS)}) and suites ({', '.join(SUITES)}); see avsl-eval protocols",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="scores file to write")
    sub.add_argument(
        "--per-clip",
        type=Path,
        metavar="CSV",
        help="table of all annotated clips to write (default: beside the scores, .csv)",
    )
    sub.add_argument("--name", help="name of the method, for the scores file")
    sub.add_argument(
        "--missing",
        default="error",
        metavar="error|zero",
        help="what a clip without prediction does (default: error)",
    )
    sub.add_argument(
        "--workers",
        type=_at_least_1,
        metavar="N",
        help="how many processes score (default: one per core where there are clips enough)",
    )
    _add_more(sub)


def _add_more(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("more to score")
    group.add_argument(
        "--subset",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="text or CSV of clip ids or classes, scored by themselves too",
    )
    group.add_argument(
        "--group-by",
        metavar="last-underscore",
        help="groups of clips for IIoU and IAUC, if the annotations define none: ids up to their last _",
    )
    group.add_argument(
        "--negative",
        nargs="+",
        default=[],
        metavar="KIND=FILE",
        help="predictions on negative audio (silence, noise, offscreen), for vssl-eval",
    )
    group.add_argument(
        "--universal",
        default="max",
        metavar="max|1.1max|q3|NUMBER",
        help="the threshold that they set, for vssl-eval (default: max)",
    )
    group.add_argument(
        "--official-batch",
        type=_at_least_1,
        metavar="N",
        help="also AVSBench's published F, which depends on the batch size",
    )


def _at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _score(arguments: argparse.Namespace) -> None:
    from avsl_eval.evaluate import evaluate_all
    from avsl_eval.io import refuse_overwriting
    from avsl_eval.options import parse_named, read_names
    from avsl_eval.result import per_clip_path, save_scores

    table = per_clip_path(arguments.out, arguments.per_clip)
    subsets = dict(parse_named(text, "--subset") for text in arguments.subset)
    negatives = dict(parse_named(text, "--negative") for text in arguments.negative)
    inputs = [arguments.predictions, *input_paths(arguments), *subsets.values(), *negatives.values()]
    refuse_overwriting([arguments.out, table], inputs)
    scores = evaluate_all(
        arguments.predictions,
        annotations_of(arguments),
        arguments.protocol,
        arguments.missing,
        name=arguments.name,
        subsets={name: read_names(path) for name, path in subsets.items()},
        group_by=arguments.group_by,
        negatives=negatives,
        universal=arguments.universal,
        official_batch=arguments.official_batch,
        workers=arguments.workers,
        progress=progress_line(),
    )
    save_scores(scores, arguments.out, table)
    print(describe(scores))
    print(f"\nwrote {arguments.out} and {table}")


def progress_line() -> Callable[[int, int], None]:
    """Return a progress callback: a bar on a terminal, at times a line in a log, nothing in short runs."""
    started = last = time.monotonic()
    watched = sys.stderr.isatty()
    drawn = False

    def show(done: int, total: int) -> None:
        nonlocal last, drawn
        now = time.monotonic()
        over = done == total and drawn
        if not over and (now - started < _SLOW_S or now - last < (_BAR_S if watched else _LINE_S)):
            return
        last, drawn = now, True
        left = (now - started) / done * (total - done)
        text = f"{done} of {total} clips, {left:.0f} s left" if done < total else f"{done} of {total} clips"
        if watched:
            columns = shutil.get_terminal_size().columns  # a line that wraps would stay
            width = min(_BAR_WIDTH, columns - _BAR_TEXT - 4)
            filled = width * done // total
            bar = f"[{'#' * filled}{'.' * (width - filled)}] " if width >= _BAR_LEAST else ""
            line = f"{bar}{text:<{_BAR_TEXT}}"[: columns - 1]
            print(f"\r{line}", end="\n" if over else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    return show


def describe(scores: Mapping[str, Scores]) -> str:
    """Lay scores out for a person: percent, with intervals, beside what they have to be read against.

    Parameters
    ----------
    scores
        Of one evaluation, by protocol.

    Returns
    -------
    str
        Several lines.
    """
    first = next(iter(scores.values()))
    silent = int(first.evaluation.testset["n_silent"])
    lines = [
        f"{first.n_scored} of {first.n_expected} clips have a prediction"
        + (f"; the {len(first.missing)} others count as 0" if first.missing else "")
        + (f"; nothing sounds in {silent}, they count in detection only" if silent else ""),
    ]
    for name, found in scores.items():
        title = f"{name} v{found.protocol.version}: {found.protocol.summary}"
        lines += ["", textwrap.fill(title, 100, subsequent_indent="    ")]
        lines.append(
            f"  {'percent':<10} {'score':>6} {'95 % interval':>15}"
            + "".join(f" {head:>11}" for head in _ANSWERS.values())
        )
        for metric, value in found.metrics.items():
            low, high = (100 * bound for bound in found.intervals[metric])
            context = "".join(f" {100 * found.context[answer][metric]:11.2f}" for answer in _ANSWERS)
            lines.append(f"  {metric:<10} {100 * value:6.2f} {f'[{low:.2f}, {high:.2f}]':>15}{context}")
        if "sweep" in found.sections:
            chosen = found.sections["sweep"]["chosen"]
            lines.append(
                f"  the threshold {chosen:g} was chosen on this test set, as published; the intervals hold "
                "it fixed"
            )
        lines += _more(found)
    return "\n".join(lines)


def _more(scores: Scores) -> list[str]:
    """Lay out what only some rules or test sets have."""
    sections, lines = scores.sections, []
    for row in scores.breakdown.get("subset", ()):
        value = 100 * row["metrics"]["ciou@0.5"]
        lines.append(f"  {row['name']}: ciou@0.5 {value:.2f} of {row['n']} clips")
    if "detection" in sections and scores.evaluation.testset["n_silent"]:
        found = sections["detection"]["all"]
        lines.append(
            f"  detection: AP {100 * found['ap@0.5']:.2f}, max-F1 {100 * found['max_f1@0.5']:.2f} at cIoU 0.5"
        )
    if "groups" in sections:
        found = sections["groups"]
        lines.append(
            f"  groups: IIoU {100 * found['iiou@0.5']:.2f}, IAUC {100 * found['iauc']:.2f} of "
            f"{found['n_groups']} groups, {len(found['incomplete'])} of them incomplete"
        )
    if "negatives" in sections:
        found = sections["negatives"]
        lines.append(f"  universal threshold {found['threshold']:.4g} ({found['chosen_by']})")
        lines += [
            f"  {kind}: pIA {100 * v['pia']:.2f}, AOC {100 * v['aoc']:.2f}, F {100 * v['f']:.2f}, "
            f"F of AUC and AOC {100 * v['f_auc']:.2f}, {v['n']} maps"
            for kind, v in found["kinds"].items()
        ]
    if "segmentation" in sections:
        found = sections["segmentation"]
        best = "" if found["f"] is None else f", F {100 * found['f']:.2f} at its best threshold"
        lines.append(f"  segmentation: mIoU {100 * found['miou']:.2f}{best}")
        if "batch_size" in found:
            lines.append(
                f"  as published with batches of {found['batch_size']}: mIoU "
                f"{100 * found['miou_official']:.2f}, F {100 * found['f_official']:.2f}"
            )
    return lines


def add_protocols(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``protocols``."""
    sub = add_command(commands, "protocols", _protocols, "list the protocols", "protocols lvs")
    sub.add_argument("name", nargs="?", metavar="NAME", help="a protocol or suite, to see all its fields")


def _protocols(arguments: argparse.Namespace) -> None:
    if arguments.name is None:
        for rule in PROTOCOLS.values():
            print(f"{rule.name} v{rule.version}")
            print(textwrap.fill(rule.explain(), 100, initial_indent="    ", subsequent_indent="    "))
        for suite in SUITES.values():
            print(f"{suite.name} v{suite.version}, a suite: {', '.join(suite.protocols)}")
            print(textwrap.fill(suite.summary, 100, initial_indent="    ", subsequent_indent="    "))
        return
    if arguments.name in SUITES:
        suite = SUITES[arguments.name]
        print(f"{suite.name} v{suite.version}: {suite.summary}")
        for name in suite.protocols:
            print(f"    {name:<16} {PROTOCOLS[name].summary}")
        return
    rule = get_protocol(arguments.name)
    print(textwrap.fill(rule.explain(), 100))
    for field, value in rule.to_dict().items():
        print(f"    {field:<18} {value}")
