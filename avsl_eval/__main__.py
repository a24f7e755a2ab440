"""The command ``avsl-eval``: score predictions, collect scores into results, and show them."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avsl_eval.errors import EvalInputError
from avsl_eval.protocol import PROTOCOLS

if TYPE_CHECKING:
    from avsl_eval.result import Scores

PROGRAM = "avsl-eval"
GALLERY_SIZE = 24
_SLOW_S = 2.0
"""Seconds after which a person wonders whether anything is happening."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; None for the process's own.

    Returns
    -------
    int
        Exit status: 0, or 2 for input that cannot be used.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format=f"{PROGRAM}: %(levelname)s: %(message)s", stream=sys.stderr
    )
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "info")
    run: Callable[[argparse.Namespace], None] = arguments.command
    try:
        run(arguments)
    except EvalInputError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        sys.stderr.close()
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Score audio-visual source localization under named protocols.",
        epilog=f"example: {PROGRAM} score --predictions maps.npz --annotations vggss.json --protocol ezvsl "
        "--out scores.json",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_score, _add_protocols, _add_collect, _add_summary, _add_gallery, _add_report):
        add(commands)
    return parser


Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add(
    commands: Commands[argparse.ArgumentParser], name: str, run: Callable[..., None], text: str, example: str
) -> argparse.ArgumentParser:
    sub = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example: {PROGRAM} {example}",
    )
    sub.set_defaults(command=run)
    return sub


def _add_score(commands: Commands[argparse.ArgumentParser]) -> None:
    sub = _add(
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


def _add_protocols(commands: Commands[argparse.ArgumentParser]) -> None:
    _add(commands, "protocols", _protocols, "list the protocols", "protocols")


def _protocols(_: argparse.Namespace) -> None:
    for rule in PROTOCOLS.values():
        print(f"{rule.name:<9} v{rule.version}  {rule.summary}\n{'':<14}{rule.source}")


def _add_collect(commands: Commands[argparse.ArgumentParser]) -> None:
    sub = _add(
        commands,
        "collect",
        _collect,
        "collect the scores of one experiment on one test set into one results file",
        "collect --name xpl --testset demo --scores seed=0,subset=heard,s/heard.fixed.json --run "
        "seed=0,run.json "
        "--out results/xpl_demo.json",
    )
    sub.add_argument("--name", required=True, help="name of the experiment or method")
    sub.add_argument("--testset", required=True, help="name of the test set")
    sub.add_argument(
        "--scores",
        nargs="+",
        required=True,
        metavar="[seed=K,subset=NAME,]JSON",
        help="scores files, each with its table beside it (.csv); "
        "a path seed<K>/<subset>.<protocol>.json says both itself",
    )
    sub.add_argument(
        "--run",
        nargs="+",
        default=[],
        metavar="[seed=K,]JSON",
        help="run.json of each training; a path seed<K>/run.json says its seed itself",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="results file to write")


def _collect(arguments: argparse.Namespace) -> None:
    from avsl_eval.collect import collect, parse_run, parse_scores
    from avsl_eval.io import refuse_overwriting

    scores = [parse_scores(text) for text in arguments.scores]
    runs = [parse_run(text) for text in arguments.run]
    refuse_overwriting([arguments.out], [*(s.path for s in scores), *(r.path for r in runs)])
    results = collect(arguments.name, arguments.testset, scores, runs)
    results.save(arguments.out)


def _add_summary(commands: Commands[argparse.ArgumentParser]) -> None:
    sub = _add(
        commands,
        "summary",
        _summary,
        "print results files as a table",
        "summary results/supervised_demo.json results/xpl_demo.json",
    )
    sub.add_argument("results", nargs="+", type=Path, metavar="JSON", help="results files of one test set")


def _summary(arguments: argparse.Namespace) -> None:
    from avsl_eval.collect import read_results
    from avsl_eval.summary import summary

    print(summary([read_results(path) for path in arguments.results]))


def _add_gallery(commands: Commands[argparse.ArgumentParser]) -> None:
    sub = _add(
        commands,
        "gallery",
        _gallery,
        "choose the clips that a report shows",
        "gallery --scores results/supervised_demo.json results/xpl_demo.json --n 24 --out ids.txt",
    )
    sub.add_argument(
        "--scores", nargs="+", type=Path, required=True, metavar="JSON", help="results files of one test set"
    )
    sub.add_argument("--n", type=int, default=GALLERY_SIZE, help=f"number of clips (default: {GALLERY_SIZE})")
    sub.add_argument("--out", type=Path, required=True, metavar="TXT", help="file to write, one id per line")


def _gallery(arguments: argparse.Namespace) -> None:
    from avsl_eval.collect import read_results
    from avsl_eval.gallery import choose
    from avsl_eval.io import refuse_overwriting, write_files

    refuse_overwriting([arguments.out], arguments.scores)
    picks = choose([read_results(path) for path in arguments.scores], arguments.n)
    write_files({arguments.out: "".join(f"{pick.clip_id}\n" for pick in picks)})


def _add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    sub = _add(
        commands,
        "report",
        _report,
        "write one self-contained page with scores and a gallery",
        "report --results results/supervised_demo.json results/xpl_demo.json --frames "
        "results/frames/demo --out report.html",
    )
    sub.add_argument(
        "--results", nargs="+", type=Path, required=True, metavar="JSON", help="results files of one test set"
    )
    sub.add_argument(
        "--frames",
        type=Path,
        metavar="DIR",
        help="folder of <clip_id>.jpg; without it the gallery has no pictures",
    )
    sub.add_argument(
        "--n",
        type=int,
        default=GALLERY_SIZE,
        help=f"clips of the gallery, as given to gallery (default: {GALLERY_SIZE})",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="HTML", help="page to write")


def _report(arguments: argparse.Namespace) -> None:
    from avsl_eval.collect import read_results
    from avsl_eval.io import refuse_overwriting, write_files
    from avsl_eval.report import report

    refuse_overwriting([arguments.out], arguments.results)
    page = report([read_results(path) for path in arguments.results], arguments.frames, arguments.n)
    write_files({arguments.out: page})
    print(f"wrote {arguments.out} ({len(page) / 1e6:.1f} MB)")


if __name__ == "__main__":
    sys.exit(main())
