"""One command from a folder of videos and a table of boxes to a dataset: every stage, one after the other.

What is finished is not done again: verified clips stay in the ledger's journal, and a shard records a digest
of what it was made from.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from avsl_data.annotations import build_annotations, read_clean_boxes, write_annotations
from avsl_data.catalog import read_bucket, read_catalog, write_catalog
from avsl_data.copies import FromFolder
from avsl_data.download import download_bucket
from avsl_data.errors import DataInputError
from avsl_data.files import sha256_of, write_text
from avsl_data.ledger import read_ledger
from avsl_data.options import PreprocessOptions
from avsl_data.own_videos import link_clips, own_clips, read_boxes_table
from avsl_data.preprocess import inputs_digest, write_shard
from avsl_data.schema import about_file
from avsl_data.sources import SOURCES
from avsl_data.sources.folder import NAME as FOLDER
from avsl_data.sources.source import Inputs
from avsl_data.split_files import write_split
from avsl_data.split_order import parse_budget
from avsl_data.splits import SplitRequest, make_split

CLIPS_PER_SHARD: Final = 500


@dataclass(frozen=True)
class OwnRequest:
    """What is asked for.

    Parameters
    ----------
    videos
        The user's folder.
    boxes
        The table of boxes, or None.
    pixels
        Whether its corners are pixels.
    work
        Where every stage's files go.
    options
        What frames and sounds are like.
    recipe, seed, labels
        Of the split.
    workers
        Processes.
    """

    videos: Path
    boxes: Path | None
    pixels: bool
    work: Path
    options: PreprocessOptions
    recipe: str = "all-test"
    seed: int = 0
    labels: str | None = None
    workers: int = 1


def prepare(request: OwnRequest, say: Callable[[str], None]) -> tuple[Path, Path, Path | None]:
    """Take a folder of videos through every stage up to shards, split and annotations.

    Parameters
    ----------
    request
        What is asked for.
    say
        Gets a line per finished stage.

    Returns
    -------
    shards, split, annotations : Path
        The folder of shards and the files; no annotations without boxes.

    Raises
    ------
    DataInputError
        If the videos or the table cannot be used.
    """
    work, links, boxes = request.work, request.work / "clips", request.work / "boxes.json"
    if work.absolute().is_relative_to(request.videos.absolute()):
        raise DataInputError(f"--out {work} lies in the folder of the videos: give one beside it")
    clips = own_clips(request.videos)
    if request.boxes is not None:
        table = read_boxes_table(request.boxes, clips, request.videos, request.pixels)
        write_text(boxes, json.dumps(table, indent=1) + "\n")
    link_clips(clips, links)
    inputs = Inputs(clips=links, annotations=None if request.boxes is None else boxes)
    source = SOURCES[FOLDER]
    catalog = work / "catalog.parquet"
    n_shards = math.ceil(len(clips) / CLIPS_PER_SHARD)
    # With its checksum in its address, a file that was replaced is looked at again.
    sums = {clip.clip_id: sha256_of(clip.path) for clip in clips}
    listed = [
        dataclasses.replace(clip, url=f"{clip.url}?sha256={sums[clip.clip_id]}")
        for clip in source.catalog(inputs)
    ]
    write_catalog(listed, FOLDER, n_shards, catalog)
    others = sum(path.is_file() for path in request.videos.rglob("*")) - len(clips)
    say(f"catalog: {len(clips)} clips" + (f"; {others} files are no videos by their names" if others else ""))
    split = work / "splits" / f"{request.recipe}.parquet"
    labels = None if request.labels is None else parse_budget(request.labels)
    made = make_split(request.recipe, [read_catalog(catalog)], SplitRequest(request.seed, labels))
    write_split(split, made)
    say("split: " + ", ".join(f"{name} {count}" for name, count in made.about["counts"].items()))
    annotations = None
    if request.boxes is not None:
        annotations = work / "annotations.json"
        write_annotations(annotations, build_annotations(source.boxes(inputs), FOLDER))
        say(f"annotations: {len(table)} clips, {sum(len(clip['bbox']) for clip in table)} boxes")
    for bucket in range(n_shards):
        _shard(request, catalog, annotations, bucket, say)
    for stale in (work / "shards").glob("*.parquet"):
        if int(stale.stem) >= n_shards:
            stale.unlink()
    return work / "shards", split, annotations


def _shard(
    request: OwnRequest, catalog: Path, annotations: Path | None, bucket: int, say: Callable[[str], None]
) -> None:
    """Verify the clips of a bucket and make its shard, unless it was made from the same."""
    name = f"{bucket:04d}.parquet"
    ledger_path, shard = request.work / "ledger" / name, request.work / "shards" / name
    clips = read_bucket(catalog, bucket)
    download_bucket(clips, FromFolder.of(request.work / "clips"), ledger_path, f"verify {name}")
    ledger, by_id = read_ledger(ledger_path), {clip.clip_id: clip for clip in clips}
    boxes = read_clean_boxes(annotations) if annotations else {}
    digest = inputs_digest(ledger, by_id, boxes, request.options)
    if shard.is_file() and about_file(shard).get("inputs") == digest:
        say(f"shard {name}: as before")
        return
    counts = write_shard(shard, ledger, by_id, boxes, request.options, request.workers)
    say(f"shard {name}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))
