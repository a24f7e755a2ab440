"""Command line of the data stages: ``avsl-data COMMAND``.

Each command is one stage with named inputs and outputs; docs/data.md describes the files between them. Exit
codes: 0 done, 2 an input to mend (one message), 3 stopped by a server that refuses everything (rerun to
continue), 130 interrupted (rerun to continue).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from avsl_data.errors import DataInputError, StopEverythingError

PROGRAM: Final = "avsl-data"
EXIT_INPUT: Final = 2
EXIT_STOPPED: Final = 3
EXIT_INTERRUPTED: Final = 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with one message and the exit code of bad input."""
        print(f"{PROGRAM}: error: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(EXIT_INPUT)


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
        print(f"{PROGRAM}: stopped: {error}. Run the same command later to continue.", file=sys.stderr)
        return EXIT_STOPPED
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted. Run the same command to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog=PROGRAM, description="From published lists to verified Parquet shards and splits.")
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for add in (
        _add_render,
        _add_catalog,
        _add_annotations,
        _add_download,
        _add_preprocess,
        _add_split,
        _add_frames,
    ):
        add(commands)
    return parser


Commands = argparse._SubParsersAction


def _add(commands: Commands[_Parser], name: str, summary: str, example: str) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {PROGRAM} {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_source_inputs(command: _Parser) -> None:
    command.add_argument("source", metavar="SOURCE", help="demo, vggss, vggsound or folder")
    command.add_argument("--site", type=Path, metavar="DIR", help="demo: folder made by `avsl-data render`")
    command.add_argument(
        "--mirror", type=Path, metavar="DIR", help="take https://HOST/PATH from DIR/HOST/PATH"
    )
    command.add_argument(
        "--annotations", type=Path, metavar="FILE", help="folder: boxes as vggss.json or ours"
    )


def _add_render(commands: Commands[_Parser]) -> None:
    command = _add(
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

    _require_positive(arguments, "videos", "scenes", "workers")
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
    _say(f"{arguments.out}: {spec.n_videos} videos " + ("rendered" if rendered else "were there already"))


def _add_catalog(commands: Commands[_Parser]) -> None:
    command = _add(
        commands,
        "catalog",
        "List every clip of a source.",
        "vggss --mirror lists --buckets 8 --out data/vggss/catalog.parquet",
    )
    _add_source_inputs(command)
    command.add_argument("--list", dest="list_name", metavar="NAME", help="vggsound: a published list")
    command.add_argument("--clips", type=Path, metavar="DIR", help="folder: where the clips are")
    command.add_argument("--buckets", type=int, required=True, metavar="N", help="jobs of the later stages")
    command.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the catalog")
    command.set_defaults(run=_catalog)


def _catalog(arguments: argparse.Namespace) -> None:
    from avsl_data.catalog import write_catalog
    from avsl_data.sources import source_named
    from avsl_data.sources.source import Inputs

    inputs = Inputs(
        arguments.site, arguments.mirror, arguments.list_name, arguments.clips, arguments.annotations
    )
    source = source_named(arguments.source, inputs)
    clips = source.catalog(inputs)
    write_catalog(clips, source.NAME, arguments.buckets, arguments.out)
    videos = len({clip.video_id for clip in clips})
    _say(f"{arguments.out}: {len(clips)} clips of {videos} videos in {arguments.buckets} buckets")


def _add_annotations(commands: Commands[_Parser]) -> None:
    command = _add(
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
    from avsl_data.sources.source import Inputs
    from avsl_data.split_files import read_subset

    if (arguments.split is None) != (arguments.subset is None):
        raise DataInputError("--split and --subset belong together: give both or neither")
    inputs = Inputs(site=arguments.site, mirror=arguments.mirror, annotations=arguments.annotations)
    source = source_named(arguments.source, inputs)
    keep = None if arguments.split is None else read_subset(arguments.split, arguments.subset)
    annotations = build_annotations(source.boxes(inputs), source.NAME, arguments.subset, keep)
    write_annotations(arguments.out, annotations)
    boxes = sum(len(clip["boxes"]) for clip in annotations["clips"])
    dropped = len(annotations["dropped"])
    _say(f"{arguments.out}: {len(annotations['clips'])} clips, {boxes} boxes, {dropped} faulty boxes dropped")


def _add_download(commands: Commands[_Parser]) -> None:
    command = _add(
        commands,
        "download",
        "Fetch, cut and verify the clips of one bucket.",
        "--catalog data/vggss/catalog.parquet --bucket 0 --clips data/vggss/clips "
        "--ledger data/vggss/ledger/0000.parquet",
    )
    command.add_argument(
        "--catalog", type=Path, required=True, metavar="PARQUET", help="from `avsl-data catalog`"
    )
    command.add_argument("--bucket", type=int, required=True, metavar="K", help="number of the bucket")
    command.add_argument(
        "--clips", type=Path, required=True, metavar="DIR", help="where clips go, in DIR/<bucket>"
    )
    command.add_argument(
        "--ledger", type=Path, required=True, metavar="PARQUET", help="what became of each clip"
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--site", type=Path, metavar="DIR", help="demo: serve this folder while downloading")
    where.add_argument("--base-url", metavar="URL", help="demo: a server that is running already")
    where.add_argument("--from-folder", type=Path, metavar="DIR", help="take clips from DIR as they are")
    command.add_argument(
        "--attempts", type=int, default=3, help="for transient failures (default %(default)s)"
    )
    command.add_argument("--max-height", type=int, default=480, help="of the picture (default %(default)s)")
    command.add_argument("--cookies", type=Path, metavar="FILE", help="cookie file for yt-dlp (default none)")
    command.set_defaults(run=_download)


def _download(arguments: argparse.Namespace) -> None:
    from contextlib import nullcontext

    from avsl_data.catalog import read_bucket
    from avsl_data.download import FromFolder, FromNetwork, download_bucket
    from avsl_data.fetch import FetchPolicy
    from avsl_data.server import SiteServer
    from avsl_data.sources.demo import read_site

    _require_positive(arguments, "attempts", "max_height")
    clips = read_bucket(arguments.catalog, arguments.bucket)
    what = f"download bucket {arguments.bucket}"
    if arguments.from_folder is not None:
        counts = download_bucket(clips, FromFolder.of(arguments.from_folder), arguments.ledger, what)
    else:
        if arguments.site is not None:
            read_site(arguments.site)
        policy = FetchPolicy(
            attempts=arguments.attempts, max_height=arguments.max_height, cookies=arguments.cookies
        )
        folder = arguments.clips / f"{arguments.bucket:04d}"
        with SiteServer(arguments.site) if arguments.site else nullcontext() as server:
            base_url = server.base_url if server else arguments.base_url
            counts = download_bucket(clips, FromNetwork(folder, policy, base_url), arguments.ledger, what)
    _say(f"{arguments.ledger}: {len(clips)} clips: {_counts(counts)}")


def _add_preprocess(commands: Commands[_Parser]) -> None:
    command = _add(
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

    _require_positive(arguments, "workers")
    options = PreprocessOptions(arguments.frame_time, arguments.short_side, arguments.sample_rate)
    ledger = read_ledger(arguments.ledger)
    catalog = {clip.clip_id: clip for clip in read_catalog(arguments.catalog)}
    boxes = read_clean_boxes(arguments.annotations) if arguments.annotations else {}
    counts = write_shard(arguments.out, ledger, catalog, boxes, options, arguments.workers)
    _say(f"{arguments.out}: {len(ledger)} clips: {_counts(counts)}")


def _add_split(commands: Commands[_Parser]) -> None:
    command = _add(
        commands,
        "split",
        "Put every clip of some catalogs into a subset.",
        "vggss-semi --catalog data/vggss/catalog.parquet --catalog data/vggsound/catalog.parquet "
        "--labels 0.1 --out data/vggss/splits/semi.parquet",
    )
    command.add_argument("recipe", metavar="RECIPE", help="demo-semi, vggss-semi, vggss-dmt or all-test")
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
    command.set_defaults(run=_split)


def _split(arguments: argparse.Namespace) -> None:
    from avsl_data.catalog import read_catalog
    from avsl_data.split_files import write_split
    from avsl_data.splits import SplitRequest, make_split, parse_budget

    labels = None if arguments.labels is None else parse_budget(arguments.labels)
    request = SplitRequest(arguments.seed, labels, arguments.leakage)
    split = make_split(arguments.recipe, [read_catalog(path) for path in arguments.catalog], request)
    write_split(arguments.out, split)
    removed = {f"{why} removed": len(ids) for why, ids in split.about["removed"].items() if ids}
    _say(f"{arguments.out}: {_counts({**split.about['counts'], **removed})}")


def _add_frames(commands: Commands[_Parser]) -> None:
    command = _add(
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
    _say(f"{arguments.out}: {len(ids) - len(without)} frames")
    for clip_id in without:
        _say(f"{clip_id} has no frame: it failed, see its row in the shard")


def _require_positive(arguments: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(arguments, name) < 1:
            raise DataInputError(
                f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}"
            )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _say(message: str) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main())
