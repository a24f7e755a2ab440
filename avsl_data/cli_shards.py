"""Commands on shards: preprocess, check, frames, sheet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsl_data.cli import Commands, Parser, add_command, counts_text, require_positive, say
from avsl_data.errors import DataInputError
from avsl_data.presets import PRESETS

if TYPE_CHECKING:
    from avsl_data.options import PreprocessOptions


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_preprocess(commands)
    _add_check(commands)
    _add_frames(commands)
    _add_sheet(commands)


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
    add_options(command)
    command.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    command.set_defaults(run=_preprocess)


def add_options(command: Parser) -> None:
    """Add what says how frames and sounds are; `preprocess_options` reads it."""
    command.add_argument("--preset", metavar="NAME", help=f"a published project's way: {', '.join(PRESETS)}")
    command.add_argument(
        "--frame-time", metavar="SECONDS", help="of the frame, or `middle` (default 4.96, VGG-SS's)"
    )
    command.add_argument("--short-side", type=int, default=256, help="pixels at most (default %(default)s)")
    command.add_argument("--sample-rate", type=int, help="per second (default 16000)")
    command.add_argument("--audio-seconds", type=float, metavar="SECONDS", help="sound to keep (default all)")
    command.add_argument("--audio-from", help="where in the sound: start or middle (default start)")
    command.add_argument(
        "--flow",
        action=argparse.BooleanOptionalAction,
        help="also the optical flow to the next picture (default: the preset's, else none)",
    )
    further = command.add_mutually_exclusive_group()
    further.add_argument("--frames-per-clip", type=int, default=0, metavar="N", help="further frames, evenly")
    further.add_argument("--frame-times", metavar="S,S,...", help="further frames, at these seconds")


def _preprocess(arguments: argparse.Namespace) -> None:
    from avsl_data.annotations import read_clean_boxes
    from avsl_data.catalog import read_catalog
    from avsl_data.ledger import read_ledger
    from avsl_data.preprocess import write_shard

    require_positive(arguments, "workers")
    options = preprocess_options(arguments)
    ledger = read_ledger(arguments.ledger)
    catalog = {clip.clip_id: clip for clip in read_catalog(arguments.catalog)}
    boxes = read_clean_boxes(arguments.annotations) if arguments.annotations else {}
    counts = write_shard(arguments.out, ledger, catalog, boxes, options, arguments.workers)
    say(f"{arguments.out}: {len(ledger)} clips: {counts_text(counts)}")


def preprocess_options(arguments: argparse.Namespace) -> PreprocessOptions:
    """Return what the arguments of a preprocessing say; a preset fills what they do not."""
    from avsl_data.options import PreprocessOptions

    given: dict[str, Any] = {"short_side": arguments.short_side, "frames_per_clip": arguments.frames_per_clip}
    if arguments.frame_time is not None:
        middle = arguments.frame_time == "middle"
        given["frame_time_s"] = None if middle else _seconds("--frame-time", arguments.frame_time)
    if arguments.frame_times is not None:
        times = arguments.frame_times.split(",")
        given["frame_times_s"] = tuple(_seconds("--frame-times", time) for time in times)
    plain = {
        "sample_rate": arguments.sample_rate,
        "audio_s": arguments.audio_seconds,
        "audio_from": arguments.audio_from,
        "flow": arguments.flow,
    }
    given |= {name: value for name, value in plain.items() if value is not None}
    if arguments.preset is None:
        return PreprocessOptions(**given)
    return PreprocessOptions.of_preset(arguments.preset, **given)


def _seconds(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataInputError(f"{flag}: {text!r} is no number of seconds") from error


def _add_check(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "check",
        "Read every shard of a folder and compare it with the digest it was written with.",
        "--shards data/vggss/shards",
    )
    command.add_argument("--shards", type=Path, required=True, metavar="DIR", help="folder of shards")
    command.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    from avsl_data.shards import check_shard, shard_files

    broken = []
    for path in shard_files(arguments.shards):
        try:
            rows, digest = check_shard(path)
        except DataInputError as error:
            broken.append(str(error))
        else:
            say(f"{path}: {rows} rows, digest {digest}")
    if broken:
        more = f" ({len(broken)} shards are broken)" if len(broken) > 1 else ""
        raise DataInputError("; ".join(broken) + more)


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


def _add_sheet(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "sheet",
        "Draw frames with their boxes and labels; failed clips are grey tiles with the reason.",
        "--shards data/vggss/shards --annotations data/vggss/annotations.json --out sheet.jpg",
    )
    command.add_argument("--shards", type=Path, required=True, metavar="DIR", help="folder of shards")
    command.add_argument("--annotations", type=Path, metavar="JSON", help="show these clips and boxes")
    command.add_argument("--ids", type=Path, metavar="FILE", help="show these clips: ids, one per line")
    command.add_argument("--limit", type=int, default=100, help="clips at most (default %(default)s)")
    command.add_argument("--columns", type=int, default=4, help="of a picture (default %(default)s)")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help=".jpg, .png or .html")
    command.set_defaults(run=_sheet)


def _sheet(arguments: argparse.Namespace) -> None:
    from avsl_data.annotations import read_clean_boxes
    from avsl_data.frames import read_ids
    from avsl_data.sheet import read_tiles, write_sheet

    require_positive(arguments, "limit", "columns")
    boxes = read_clean_boxes(arguments.annotations) if arguments.annotations else None
    ids = read_ids(arguments.ids) if arguments.ids else None
    tiles = read_tiles(arguments.shards, boxes, ids, arguments.limit)
    write_sheet(arguments.out, tiles, arguments.columns)
    failed = sum(tile.jpeg is None for tile in tiles)
    say(f"{arguments.out}: {len(tiles)} clips, {failed} without a frame")
