"""The command ``avsl-eval``: score predictions, collect scores into results, and show them.

Each command is declared in a ``cli_*`` module and registered by one line of `COMMANDS`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from avsl_eval import (
    cli_benchmark,
    cli_compare,
    cli_inputs,
    cli_mix,
    cli_published,
    cli_report,
    cli_results,
    cli_score,
    cli_sources,
)
from avsl_eval.cli import PROGRAM, Version
from avsl_eval.errors import EvalInputError

COMMANDS = (
    cli_score.add_score,
    cli_score.add_protocols,
    cli_sources.add_sources,
    cli_mix.add_mix,
    cli_inputs.add_check,
    cli_inputs.add_export,
    cli_results.add_collect,
    cli_results.add_summary,
    cli_results.add_table,
    cli_results.add_gallery,
    cli_report.add_report,
    cli_compare.add_compare,
    cli_benchmark.add_benchmark,
    cli_benchmark.add_benchmark_page,
    cli_published.add_published,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; None for the process's own.

    Returns
    -------
    int
        Exit status: 0, 2 for input that cannot be used, 130 if it was interrupted.
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
    except KeyboardInterrupt:  # files are moved to their names when they are complete
        print(f"\n{PROGRAM}: interrupted; no file is half-written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Score audio-visual source localization under named protocols.",
        epilog=f"example: {PROGRAM} score --predictions maps.npz --annotations vggss.json --protocol ezvsl "
        "--out scores.json",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
