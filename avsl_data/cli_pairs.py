"""Commands on extended test sets: pair."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_data.cli import Commands, Parser, add_command, say


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    command = add_command(
        commands,
        "pair",
        "Join frames and sounds of different clips, as an extended test set wants, into a shard.",
        "--shards data/vggss-extended/shards --annotations data/vggss-extended/annotations.json "
        "--out data/vggss-extended/pairs/0000.parquet",
    )
    command.add_argument(
        "--shards", type=Path, required=True, metavar="DIR", help="shards of the set's clips"
    )
    command.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="JSON",
        help="from `avsl-data annotations *-extended`",
    )
    command.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the shard of pairs")
    command.set_defaults(run=_pair)


def _pair(arguments: argparse.Namespace) -> None:
    from avsl_data.pairs import write_pairs

    counts = write_pairs(arguments.shards, arguments.annotations, arguments.out)
    say(
        f"{arguments.out}: {counts['clips']} clips and {counts['pairs']} pairs, of which "
        f"{counts['failed']} failed"
    )
