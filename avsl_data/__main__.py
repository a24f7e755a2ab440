"""Command line of the data stages: ``avsl-data COMMAND``.

Each command is one stage with named inputs and outputs; docs/data.md describes the files between them. Exit
codes: 0 done, 2 an input to mend (one message), 3 stopped by a server that refuses everything (rerun to
continue), 130 interrupted (rerun to continue).
"""

from __future__ import annotations

import errno
import logging
import sys
import time
from collections.abc import Sequence
from typing import Final

from avsl_data import cli_audit, cli_download, cli_hub, cli_lists, cli_pairs, cli_shards
from avsl_data.cli import EXIT_INPUT, PROGRAM, Parser, Version
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.pace import duration_text, utc

DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_ALLOWED: Final = (
    errno.ENOENT,
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
EXIT_STOPPED: Final = 3
EXIT_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        arguments.run(arguments)
    except DataInputError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except StopEverythingError as error:
        print(f"{PROGRAM}: stopped: {error}. {_when_to_go_on(error)}", file=sys.stderr)
        return EXIT_STOPPED
    except OSError as error:
        if error.errno in NOT_ALLOWED and error.filename is not None:
            print(
                f"{PROGRAM}: error: {error.filename}: {error.strerror}: is the path right?", file=sys.stderr
            )
            return EXIT_INPUT
        if error.errno not in DISK_ERRORS:
            raise
        print(
            f"{PROGRAM}: stopped: {error}. Make room and run the same command to continue.", file=sys.stderr
        )
        return EXIT_STOPPED
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted. Run the same command to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _when_to_go_on(error: StopEverythingError) -> str:
    if error.until is None:
        return "Run the same command later to continue."
    wait = duration_text(error.until - time.time())
    return f"The same command continues after {utc(error.until)}, in {wait} (with --now: at once)."


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="From published lists to verified Parquet shards and splits.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for group in (cli_lists, cli_audit, cli_download, cli_shards, cli_hub, cli_pairs):
        group.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
