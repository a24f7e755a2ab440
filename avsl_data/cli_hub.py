"""Commands that make a dataset for others: hub, dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from avsl_data.cli import PROGRAM, Commands, Parser, add_command, require_positive, say
from avsl_data.cli_shards import add_options, preprocess_options


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_hub(commands)
    _add_dataset(commands)


def _add_hub(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "hub",
        "Write shards as a folder that `datasets.load_dataset` opens, with its card; push it on request.",
        "--shards data/vggss/shards --split data/vggss/splits/semi.parquet "
        "--annotations data/vggss/annotations.json --out data/vggss/hub",
    )
    command.add_argument("--shards", type=Path, required=True, metavar="DIR", help="folder of shards")
    command.add_argument(
        "--split", type=Path, action="append", default=[], metavar="PARQUET", help="a config; repeatable"
    )
    command.add_argument(
        "--annotations", type=Path, metavar="JSON", help="boxes, instead of the shards'; also copied"
    )
    command.add_argument("--source", metavar="SOURCE", help="whose licence to state (default: annotations')")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder")
    add_hub_options(command)
    command.set_defaults(run=_hub)


def add_hub_options(command: Parser) -> None:
    """Add what `hub` and `dataset` have in common."""
    command.add_argument("--name", metavar="TITLE", help="of the dataset (default: the source's)")
    command.add_argument("--metadata-only", action="store_true", help="leave out frames and sounds")
    command.add_argument(
        "--max-file-mb", type=float, default=500, metavar="MB", help="size of a file (default %(default)s)"
    )
    command.add_argument("--push", metavar="USER/NAME", help="upload to this dataset repository")
    command.add_argument("--public", action="store_true", help="make a new repository public")


def _hub(arguments: argparse.Namespace) -> None:
    export(arguments, arguments.shards, arguments.split, arguments.annotations, arguments.source)


def _add_dataset(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "dataset",
        "Make a dataset of a folder of videos and a table of boxes: every stage in one command.",
        "videos --boxes boxes.csv --out data/mine",
    )
    command.add_argument("videos", type=Path, metavar="FOLDER", help="your videos, under any names")
    command.add_argument(
        "--boxes", type=Path, metavar="CSV", help="columns clip_id or file, x0, y0, x1, y1 and perhaps label"
    )
    command.add_argument("--pixels", action="store_true", help="corners are pixels, not fractions")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets DIR/hub and the stages")
    command.add_argument("--recipe", default="all-test", help="of `avsl-data split` (default %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the split (default %(default)s)")
    command.add_argument("--labels", metavar="BUDGET", help="labelled clips, as for `avsl-data split`")
    add_options(command)
    command.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    add_hub_options(command)
    command.set_defaults(run=_dataset)


def _dataset(arguments: argparse.Namespace) -> None:
    from avsl_data.own_dataset import OwnRequest, prepare

    require_positive(arguments, "workers")
    request = OwnRequest(
        videos=arguments.videos,
        boxes=arguments.boxes,
        pixels=arguments.pixels,
        work=arguments.out,
        options=preprocess_options(arguments),
        recipe=arguments.recipe,
        seed=arguments.seed,
        labels=arguments.labels,
        workers=arguments.workers,
    )
    shards, split, annotations = prepare(request, say)
    arguments.out = arguments.out / "hub"
    arguments.name = arguments.name or arguments.videos.absolute().name
    export(arguments, shards, [split], annotations, "folder")


def export(
    arguments: argparse.Namespace,
    shards: Path,
    splits: list[Path],
    annotations: Path | None,
    source: str | None,
) -> None:
    """Write the folder, say what is in it and push it if asked to."""
    from avsl_data.errors import DataInputError
    from avsl_data.hub_dataset import write_dataset
    from avsl_data.hub_push import push_folder, require_token

    if arguments.public and not arguments.push:
        raise DataInputError("--public says how to push: add --push USER/NAME")
    if arguments.push:
        require_token(arguments.push)
    facts, contents = write_dataset(
        arguments.out,
        shards,
        splits,
        annotations,
        source=source,
        name=arguments.name,
        metadata_only=arguments.metadata_only,
        max_file_mb=arguments.max_file_mb,
    )
    say(
        f"{arguments.out}: {contents.clips} clips, {contents.boxes} boxes, {len(contents.classes)} classes; "
        f"{len(contents.excluded)} left out"
    )
    for config, counts in contents.counts.items():
        say(f"{config}: " + ", ".join(f"{split} {count}" for split, count in counts.items()))
    if arguments.push:
        if facts.passes_on_videos:
            print(
                f"{PROGRAM}: warning: {arguments.push} gets frames and sounds of videos, which belong to "
                "their uploaders. Whether you may pass them on is yours to find out; --metadata-only leaves "
                "them out.",
                file=sys.stderr,
            )
        say(push_folder(arguments.out, arguments.push, public=arguments.public))
