"""Commands on shards: preprocess, frames."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_data.cli import Commands, Parser, add_command, counts_text, require_positive, say


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_preprocess(commands)
    _add_frames(commands)


def _add_preprocess(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "preprocess",
        "Turn the clips of one ledger into a Parquet shard of frames, sounds and boxes.",
        "--ledger data/vggss/ledger/0000.parquet --catalog data/vggss/catalog.parquet "
        "--annotations data/vggss/annotations.json --out data/vggss/shards/0000.parquet",
    )
    command.add_argument(
        "--ledger", type=Path, required=True, metavar="PARQUET", help="from `avsl-data download`"
    )
    command.add_argument(
        "--catalog", type=Path, required=True, metavar="PARQUET", help="from `avsl-data catalog`"
    )
    command.add_argument(
        "--annotations", type=Path, metavar="JSON", help="boxes; leave out where there are none"
    )
    command.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the shard")
    command.add_argument("--frame-time", type=float, default=4.96, help="seconds (default %(default)s)")
    command.add_argument("--short-side", type=int, default=256, help="pixels at most (default %(default)s)")
    command.add_argument("--sample-rate", type=int, default=16000, help="per second (default %(default)s)")
    command.add_argument("--workers", type=int, default=1, help="ffmpeg calls at once (default %(default)s)")
    command.set_defaults(run=_preprocess)


def _preprocess(arguments: argparse.Namespace) -> None:
    from avsl_data.annotations import read_clean_boxes
    from avsl_data.catalog import read_catalog
    from avsl_data.ledger import read_ledger
    from avsl_data.preprocess import PreprocessOptions, write_shard

    require_positive(arguments, "workers")
    options = PreprocessOptions(arguments.frame_time, arguments.short_side, arguments.sample_rate)
    ledger = read_ledger(arguments.ledger)
    catalog = {clip.clip_id: clip for clip in read_catalog(arguments.catalog)}
    boxes = read_clean_boxes(arguments.annotations) if arguments.annotations else {}
    counts = write_shard(arguments.out, ledger, catalog, boxes, options, arguments.workers)
    say(f"{arguments.out}: {len(ledger)} clips: {counts_text(counts)}")


def _add_frames(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "frames",
        "Copy chosen frames out of shards, for a report's gallery.",
        "--shards data/demo/shards --ids ids.txt --out results/frames/demo",
    )
    command.add_argument("--shards", type=Path, required=True, metavar="DIR", help="folder of shards")
    command.add_argument("--ids", type=Path, required=True, metavar="FILE", help="clip ids, one per line")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets <clip_id>.jpg")
    command.set_defaults(run=_frames)


def _frames(arguments: argparse.Namespace) -> None:
    from avsl_data.frames import read_ids, write_frames

    ids = read_ids(arguments.ids)
    without = write_frames(arguments.shards, ids, arguments.out)
    say(f"{arguments.out}: {len(ids) - len(without)} frames")
    for clip_id in without:
        say(f"{clip_id} has no frame: it failed, see its row in the shard")
