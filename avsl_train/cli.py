"""What every command of ``avsl-train`` shares: how it is declared, and options that several have.

A command is a function that takes the program's subparsers and adds its own; `avsl_train.__main__` lists
them. Heavy modules are imported by what runs a command, so that wrong arguments answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

PROGRAM: Final = "avsl-train"

Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    text: str,
    example: str = "",
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
        Arguments of a typical call, shown below the help.
    """
    sub: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {PROGRAM} {name} {example}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(run=run, stopped="no file is left half written")
    return sub


def add_shards(sub: argparse.ArgumentParser) -> None:
    """Add the option that names the clips' shards."""
    sub.add_argument(
        "--shards", type=Path, action="append", required=True, help="folder of shards; repeatable"
    )


def add_threads(sub: argparse.ArgumentParser) -> None:
    """Add the option that bounds the CPU threads."""
    sub.add_argument("--threads", type=positive, help="CPU threads (default: torch's)")


def positive(text: str) -> int:
    """Return a whole number of at least 1; argparse tells of anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
