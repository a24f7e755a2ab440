"""The command ``report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_eval.cli import Commands, add_command
from avsl_eval.errors import EvalInputError

GALLERY_SIZE = 24
"""Clips of a gallery, here and in ``gallery``."""

LARGE_PAGE = 10_000_000
"""Bytes beyond which a page is slow to send and to open."""


def add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``report``.

    Parameters
    ----------
    commands
        The program's subparsers.
    """
    sub = add_command(
        commands,
        "report",
        _report,
        "write one self-contained page with scores and a gallery",
        "report mine.json theirs.json --frames frames --out report.html",
    )
    sub.add_argument(
        "scores",
        nargs="*",
        default=[],
        metavar="[NAME=]JSON",
        help="scores or results files of one test set, one per method; "
        "for the gallery each scores file has its table beside it (.csv)",
    )
    sub.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="JSON",
        help="more of them, for scripts that name their inputs",
    )
    sub.add_argument(
        "--frames",
        type=Path,
        metavar="DIR",
        help="folder of <clip_id>.jpg or .png (avsl-data frames writes one); without it cards are grey",
    )
    sub.add_argument(
        "--n",
        type=int,
        default=GALLERY_SIZE,
        help=f"clips of the gallery, as given to gallery (default: {GALLERY_SIZE})",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="HTML", help="page to write")


def _report(arguments: argparse.Namespace) -> None:
    from avsl_eval.io import refuse_overwriting, write_files
    from avsl_eval.report import report
    from avsl_eval.results_file import read_named

    named = [*arguments.scores, *arguments.results]
    if not named:
        raise EvalInputError("nothing to report on; name a scores or results file per method")
    results = [read_named(text) for text in named]
    refuse_overwriting([arguments.out], [r.path for r in results if r.path])
    if arguments.frames is not None and not arguments.frames.is_dir():
        raise EvalInputError(
            f"there is no folder of frames {arguments.frames}; leave out --frames for a gallery on grey"
        )
    page = report(results, arguments.frames, arguments.n)
    write_files({arguments.out: page})
    size = arguments.out.stat().st_size
    hint = "; smaller frames (avsl-data frames) or a smaller --n make it lighter" if size > LARGE_PAGE else ""
    print(f"wrote {arguments.out} ({size / 1e6:.1f} MB){hint}")
