"""Commands on lists: render, catalog, annotations, split."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from avsl_data.cli import Commands, Parser, add_command, counts_text, require_positive, say
from avsl_data.errors import DataInputError

if TYPE_CHECKING:
    from avsl_data.sources.source import Inputs

RECIPE_NAMES = (
    "all-test, by-hash, demo-semi, flickr-semi, own, vggss-dmt, vggss-openset@ezvsl, vggss-openset@ssltie, "
    "vggss-semi"
)
"""Written out because the help is shown without importing the recipes; a test compares."""


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_render(commands)
    _add_catalog(commands)
    _add_annotations(commands)
    _add_split(commands)


def _add_source_inputs(command: Parser) -> None:
    command.add_argument("source", metavar="SOURCE", help="see `avsl-data describe`")
    command.add_argument("--site", type=Path, metavar="DIR", help="demo: folder made by `avsl-data render`")
    command.add_argument(
        "--mirror", type=Path, metavar="DIR", help="take https://HOST/PATH from DIR/HOST/PATH"
    )
    command.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="folder: boxes as vggss.json or ours; Flickr: XML folder",
    )
    command.add_argument("--table", type=Path, metavar="FILE", help="vggsound: a copy of vggsound.csv")
    command.add_argument("--urls", type=Path, metavar="FILE", help="Flickr: a copy of urls_public.txt")
    command.add_argument(
        "--list", dest="list_name", metavar="NAME", help="vggsound, Flickr: a published list"
    )
    command.add_argument("--clips", type=Path, metavar="DIR", help="folder, Flickr: where the clips are")


def _inputs(arguments: argparse.Namespace) -> Inputs:
    """Return what `_add_source_inputs` was given."""
    from avsl_data.sources.source import Inputs

    return Inputs(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Inputs)})


def _add_render(commands: Commands[Parser]) -> None:
    command = add_command(
        commands, "render", "Render the demo's videos, table and boxes.", "--out data/demo/site --workers 2"
    )
    command.add_argument("--out", type=Path, required=True, metavar="SITE", help="folder of the site")
    command.add_argument("--seed", type=int, default=7, help="seed of every draw (default %(default)s)")
    command.add_argument("--videos", type=int, default=80, help="videos (default %(default)s)")
    command.add_argument("--scenes", type=int, default=20, help="scenes per video (default %(default)s)")
    command.add_argument("--val", type=int, default=4, help="videos of them for val (default %(default)s)")
    command.add_argument("--test", type=int, default=20, help="videos of them for test (default %(default)s)")
    command.add_argument(
        "--size", type=int, default=128, help="height and width in pixels (default %(default)s)"
    )
    command.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    command.set_defaults(run=_render)


def _render(arguments: argparse.Namespace) -> None:
    from avsl_data.sources.demo_scenes import DemoSpec
    from avsl_data.sources.demo_site import render_site

    require_positive(arguments, "videos", "scenes", "workers")
    try:
        spec = DemoSpec(
            seed=arguments.seed,
            n_videos=arguments.videos,
            scenes_per_video=arguments.scenes,
            size=arguments.size,
            n_val=arguments.val,
            n_test=arguments.test,
        )
    except ValueError as error:
        raise DataInputError(str(error)) from error
    rendered = render_site(spec, arguments.out, arguments.workers)
    say(f"{arguments.out}: {spec.n_videos} videos " + ("rendered" if rendered else "were there already"))


def _add_catalog(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "catalog",
        "List every clip of a source.",
        "vggss --mirror lists --buckets 8 --out data/vggss/catalog.parquet",
    )
    _add_source_inputs(command)
    command.add_argument(
        "--only", metavar="N|FILE", help="a pilot: N clips, or those of a file of ids (default all)"
    )
    command.add_argument("--buckets", type=int, required=True, metavar="N", help="jobs of the later stages")
    command.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the catalog")
    command.set_defaults(run=_catalog)


def _catalog(arguments: argparse.Namespace) -> None:
    import pyarrow.compute as pc

    from avsl_data.catalog import write_catalog
    from avsl_data.clip_table import ClipTable
    from avsl_data.pilot import pilot
    from avsl_data.sources import source_named

    inputs = _inputs(arguments)
    source = source_named(arguments.source, inputs)
    clips = source.catalog(inputs)
    if arguments.only is not None:
        clips = pilot(clips, arguments.only)
    write_catalog(clips, source.NAME, arguments.buckets, arguments.out)
    videos = pc.count_distinct(ClipTable.of(clips).column("video_id")).as_py()
    say(f"{arguments.out}: {len(clips)} clips of {videos} videos in {arguments.buckets} buckets")


def _add_annotations(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "annotations",
        "Write a source's boxes in the scorer's format.",
        "demo --site data/demo/site --split data/demo/splits/semi.parquet --subset heard "
        "--out data/demo/annotations/heard.json",
    )
    _add_source_inputs(command)
    command.add_argument("--split", type=Path, metavar="PARQUET", help="keep only a part: its split")
    command.add_argument("--subset", metavar="NAME[,NAME]", help="keep only a part: its subsets")
    command.add_argument("--out", type=Path, required=True, metavar="JSON", help="the annotations")
    command.set_defaults(run=_annotations)


def _annotations(arguments: argparse.Namespace) -> None:
    from avsl_data.annotations import build_annotations, write_annotations
    from avsl_data.sources import source_named
    from avsl_data.split_files import read_subset

    if (arguments.split is None) != (arguments.subset is None):
        raise DataInputError("--split and --subset belong together: give both or neither")
    inputs = _inputs(arguments)
    source = source_named(arguments.source, inputs)
    keep = None if arguments.split is None else read_subset(arguments.split, arguments.subset)
    boxes = source.boxes(inputs)
    annotations = build_annotations(boxes, source.NAME, arguments.subset, keep, source.TRUTH)
    write_annotations(arguments.out, annotations)
    n_boxes = sum(len(clip["boxes"]) for clip in annotations["clips"])
    dropped = len(annotations["dropped"])
    say(
        f"{arguments.out}: {len(annotations['clips'])} clips, {n_boxes} boxes, {dropped} faulty boxes dropped"
    )


def _add_split(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "split",
        "Put every clip of some catalogs into a subset.",
        "vggss-semi --catalog data/vggss/catalog.parquet --catalog data/vggsound/catalog.parquet "
        "--labels 0.1 --out data/vggss/splits/semi.parquet",
    )
    command.add_argument("recipe", metavar="RECIPE", help=f"{RECIPE_NAMES}, or the name of a published list")
    command.add_argument(
        "--catalog",
        type=Path,
        action="append",
        required=True,
        metavar="PARQUET",
        help="the annotated set's; repeated, further sets are unlabelled",
    )
    command.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the split")
    command.add_argument("--seed", type=int, default=0, help="of every hash (default %(default)s)")
    command.add_argument(
        "--labels", metavar="BUDGET", help="labelled clips: a number, or a fraction such as 0.03"
    )
    command.add_argument(
        "--leakage",
        default="exclude",
        help="train clips of held-out videos: exclude (default), error or allow",
    )
    command.add_argument(
        "--held-out",
        action="append",
        default=[],
        metavar="SET",
        help="a further test set of the study, by name, as a list or as a catalog, whose videos leave "
        "training; repeated",
    )
    command.add_argument("--assign", type=Path, metavar="FILE", help="own: clip id and subset per line")
    command.add_argument(
        "--mirror", type=Path, metavar="DIR", help="take https://HOST/PATH from DIR/HOST/PATH"
    )
    command.set_defaults(run=_split)


def _split(arguments: argparse.Namespace) -> None:
    from avsl_data.split_files import write_split
    from avsl_data.split_inputs import split_files
    from avsl_data.split_order import parse_budget
    from avsl_data.splits import SplitRequest

    labels = None if arguments.labels is None else parse_budget(arguments.labels)
    split = split_files(
        arguments.recipe,
        arguments.catalog,
        SplitRequest(arguments.seed, labels, arguments.leakage),
        held_out=arguments.held_out,
        assign=arguments.assign,
        mirror=arguments.mirror,
    )
    write_split(arguments.out, split)
    removed = {f"{why} removed": len(ids) for why, ids in split.about["removed"].items() if ids}
    say(f"{arguments.out}: {counts_text({**split.about['counts'], **removed})}")
    for name, count in split.about.get("leaks_by", {}).items():
        say(f"{count} training clips are of videos of {name}")
    if lost := split.about.get("labels_lost"):
        say(f"{lost} of them had been chosen as labelled: so many fewer labels are left than the budget says")
