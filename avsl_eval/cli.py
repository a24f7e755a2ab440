"""What every command of ``avsl-eval`` shares: how it is declared.

A command is a function that takes the program's subparsers and adds its own; `avsl_eval.__main__` lists them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

PROGRAM = "avsl-eval"

Commands = argparse._SubParsersAction  # argparse has no public name for it


class Version(argparse.Action):
    """Print the version, which is looked up only if it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the program and its version, and exit."""
        from avsl_eval.result import versions

        sys.stdout.write(f"{parser.prog} {versions()['avsl-toolkit']}\n")
        parser.exit()


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    text: str,
    example: str,
) -> argparse.ArgumentParser:
    """Declare a command.

    Parameters
    ----------
    commands
        The program's subparsers.
    name, text
        The command and what it does, in one line.
    run
        What runs it, given its arguments.
    example
        A command line without the program's name, shown below the help.

    Returns
    -------
    argparse.ArgumentParser
        To which the command adds its arguments.
    """
    sub: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example: {PROGRAM} {example}",
    )
    sub.set_defaults(command=run)
    return sub
