"""What the command groups share: a parser whose errors are one line, and how results are said."""

from __future__ import annotations

import argparse
import sys
from typing import Final, NoReturn

from avsl_data.errors import DataInputError

PROGRAM: Final = "avsl-data"
EXIT_INPUT: Final = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with one message and the exit code of bad input."""
        print(f"{PROGRAM}: error: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(EXIT_INPUT)


class Version(argparse.Action):
    """Print the version, which is looked up only if it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the program and its version, and exit."""
        from avsl_data.version import own_version

        print(f"{parser.prog} {own_version()}")
        parser.exit()


Commands = argparse._SubParsersAction


def add_command(commands: Commands[Parser], name: str, summary: str, example: str) -> Parser:
    """Add a command whose help ends with an example.

    Parameters
    ----------
    commands
        Where to add it.
    name, summary
        Its name and one line.
    example
        The arguments of a typical call.

    Returns
    -------
    Parser
        The command's own parser.
    """
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {PROGRAM} {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def require_positive(arguments: argparse.Namespace, *names: str) -> None:
    """Raise a DataInputError unless each of these options is at least 1."""
    for name in names:
        if getattr(arguments, name) < 1:
            raise DataInputError(
                f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}"
            )


def counts_text(counts: dict[str, int]) -> str:
    """Return counts as text, names in alphabetical order."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def say(message: str) -> None:
    """Print a line of a command's result."""
    print(message, flush=True)
