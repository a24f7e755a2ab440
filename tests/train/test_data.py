"""Clips from shards and splits: nothing is replaced, nothing is left out without a reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from avsl_train.config import DataConfig
from avsl_train.data import Clips, ClipSet, read_split
from avsl_train.errors import TrainInputError
from avsl_train.fit import read_training_clips
from tests.train.conftest import (
    BASE,
    RATE,
    World,
    flac,
    jpeg,
    make_config,
    make_row,
    scene,
    write_shard,
    write_split,
)

CONFIG = DataConfig(**BASE["data"])


def uncached(**over: Any) -> DataConfig:
    return CONFIG.model_copy(update={"cache": False, "workers": 0, **over})


def shards_of(folder: Path, *rows: dict[str, Any]) -> list[Path]:
    write_shard(folder / "0000.parquet", rows)
    return [folder]


def test_broken_and_missing_clips_are_left_out_with_their_reason(world: World) -> None:
    asked = ["missing0000_000000", *world.unlabeled[:3], "broken00000_000000", world.test[0]]
    clips = ClipSet([world.shards], asked, CONFIG)
    assert clips.excluded == world.excluded
    assert clips.ids == [*world.unlabeled[:3], world.test[0]]  # in the order asked for
    assert len(clips) == 4


def test_a_clip_is_never_replaced_by_another_one(world: World) -> None:
    alone = {clip_id: ClipSet([world.shards], [clip_id], CONFIG)[0] for clip_id in world.test}
    among = ClipSet([world.shards], ["missing0000_000000", *world.test], CONFIG)
    for position, clip_id in enumerate(among.ids):
        for part in ("frames", "waves", "boxes"):
            assert torch.equal(getattr(among[position], part), getattr(alone[clip_id], part))


def test_frame_sound_and_boxes_are_those_of_the_shard(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = (255, 0, 0)
    wave = (np.arange(RATE) % 100).astype(np.int16)
    row = make_row(
        "a" * 11 + "_000001", jpeg(pixels), flac(wave), [[0.0, 0.0, 0.5, 1.0], [0.1, 0.2, 0.3, 0.4]]
    )
    clip = ClipSet(shards_of(tmp_path, row), [row["clip_id"]], CONFIG)[0]
    assert clip.frames.shape == (1, 3, 40, 40)  # squeezed to a square, not cropped
    assert clip.frames[0, :, 20, 5].tolist() == pytest.approx([255, 0, 0], abs=6)
    assert clip.frames[0, :, 20, 35].tolist() == pytest.approx([0, 0, 0], abs=6)
    assert torch.equal(clip.waves[0], torch.from_numpy(wave))
    assert clip.boxes[0].tolist() == [pytest.approx([0, 0, 0.5, 1]), pytest.approx([0.1, 0.2, 0.3, 0.4])]


def test_a_short_sound_is_repeated_and_a_long_one_cut(tmp_path: Path) -> None:
    wave = np.arange(6000, dtype=np.int16)
    rows = [
        make_row("short000000_000000", jpeg(np.zeros((8, 8, 3), np.uint8)), flac(wave)),
        make_row("long0000000_000000", jpeg(np.zeros((8, 8, 3), np.uint8)), flac(np.tile(wave, 4))),
    ]
    clips = ClipSet(shards_of(tmp_path, *rows), [row["clip_id"] for row in rows], CONFIG)
    wanted = torch.from_numpy(np.tile(wave, 3)[:RATE])
    assert torch.equal(clips[0].waves[0], wanted)
    assert torch.equal(clips[1].waves[0], wanted)


def test_batches_pad_boxes_with_rows_that_cover_nothing() -> None:
    one, two = (
        Clips(torch.zeros(1), torch.zeros(1, 3, 2, 2), torch.zeros(1, 4), torch.ones(1, n, 4), torch.zeros(1))
        for n in (0, 2)
    )
    joined = Clips.join([one, two])
    assert joined.boxes.shape == (2, 2, 4)
    assert joined.boxes[0].abs().sum() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_every_way_of_loading_gives_the_same_batches(world: World, workers: int) -> None:
    ids = [*world.labeled, *world.unlabeled]
    cached, other = (
        list(ClipSet([world.shards], ids, config).in_order(4))
        for config in (CONFIG, uncached(workers=workers))
    )
    assert [batch.index.tolist() for batch in cached] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13],
    ]
    for first, second in zip(cached, other, strict=True):
        for part in ("index", "frames", "waves", "boxes", "key"):
            assert torch.equal(getattr(first, part), getattr(second, part))


def test_no_clips_are_no_batches(world: World) -> None:
    assert list(ClipSet([world.shards], [], CONFIG).in_order(4)) == []


@pytest.mark.parametrize("cache", [True, False])
def test_a_wrong_sample_rate_is_told_at_once(tmp_path: Path, cache: bool) -> None:
    row = {**scene(0), "audio": {"bytes": flac(np.zeros(8000, np.int16), 8000), "path": None}}
    message = rf"clip {row['clip_id']} has 8000 samples per second, data.sample_rate says 16000: preprocess"
    with pytest.raises(TrainInputError, match=message):
        ClipSet(shards_of(tmp_path, row), [row["clip_id"]], uncached(cache=cache))


@pytest.mark.parametrize("part", ["frame", "audio"])
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_content_is_an_error_of_one_line_that_names_the_clip(
    tmp_path: Path, part: str, workers: int
) -> None:
    good, bad = scene(0), scene(1)
    bad[part] = {"bytes": bad[part]["bytes"][:40], "path": None}
    clips = ClipSet(
        shards_of(tmp_path, good, bad), [good["clip_id"], bad["clip_id"]], uncached(workers=workers)
    )
    with pytest.raises(TrainInputError, match=rf"^clip {bad['clip_id']} cannot be decoded .*make it again$"):
        list(clips.in_order(1))


def test_a_labelled_clip_without_boxes_is_left_out(world: World, tmp_path: Path) -> None:
    rows = [scene(0), {**scene(1), "boxes": None}, {**scene(2), "boxes": []}]
    ids = [row["clip_id"] for row in rows]
    split = write_split(tmp_path / "split.parquet", {"labeled": ids, "unlabeled": world.unlabeled})
    clips = read_training_clips(
        make_config("xpl"), [*shards_of(tmp_path / "shards", *rows), world.shards], split
    )
    assert clips.labeled.ids == ids[:1]
    assert clips.excluded == {ids[1]: "no boxes", ids[2]: "no boxes"}
    assert clips.unlabeled.ids == world.unlabeled


def test_of_a_clip_in_two_folders_the_first_usable_row_counts(tmp_path: Path) -> None:
    with_boxes, failed = scene(0), make_row(scene(1)["clip_id"], reason="gone")
    without = {**scene(0), "boxes": None}
    folders = [
        *shards_of(tmp_path / "a", with_boxes, failed),
        *shards_of(tmp_path / "b", without, scene(1)),
    ]
    clips = ClipSet(folders, [with_boxes["clip_id"], failed["clip_id"]], CONFIG)
    assert clips.excluded == {}
    assert clips[0].boxes.shape == (1, 1, 4)


def test_no_shards_and_no_parquet_are_told(tmp_path: Path) -> None:
    with pytest.raises(TrainInputError, match=r"no shards .* in .*: make them with `avsl-data preprocess`"):
        ClipSet([tmp_path], ["x"], CONFIG)
    (tmp_path / "0000.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(TrainInputError, match=r"cannot read the shard .*0000\.parquet"):
        ClipSet([tmp_path], ["x"], CONFIG)


def test_a_split_is_read_by_subset(world: World, tmp_path: Path) -> None:
    subsets = read_split(world.split)
    assert list(subsets) == ["labeled", "test", "unlabeled"]
    assert subsets["labeled"] == sorted(world.labeled)
    for path in (tmp_path / "none.parquet", next(world.shards.glob("*.parquet"))):
        with pytest.raises(TrainInputError, match=r"cannot read the split .*`avsl-data split`"):
            read_split(path)


def test_a_split_without_labelled_clips_is_refused(world: World, tmp_path: Path) -> None:
    config = make_config("xpl")
    split = write_split(tmp_path / "split.parquet", {"labelled": world.labeled, "unlabeled": world.unlabeled})
    with pytest.raises(TrainInputError, match=r"no subset 'labeled' \(it has: labelled, unlabeled\)"):
        read_training_clips(config, [world.shards], split)
    split = write_split(tmp_path / "split.parquet", {"labeled": list(world.excluded)})
    with pytest.raises(
        TrainInputError, match=r"none of the 2 labelled clips is usable \(not in the shards, truncated\)"
    ):
        read_training_clips(config, [world.shards], split)


def test_a_grey_frame_becomes_three_channels(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (30, 20), 77).save(file, "JPEG")
    row = make_row("grey0000000_000000", file.getvalue(), flac(np.zeros(RATE, np.int16)))
    assert ClipSet(shards_of(tmp_path, row), [row["clip_id"]], CONFIG)[0].frames.unique().tolist() == [77]


def test_a_shard_that_rotted_is_told(tmp_path: Path) -> None:
    """A flipped bit in a frame is under the page's checksum, which the stage before writes."""
    row = make_row("rotten00000_000000", jpeg(np.zeros((40, 40, 3), np.uint8)), flac(np.zeros(RATE)), [])
    path = tmp_path / "0000.parquet"
    write_shard(path, [row])
    pq.write_table(pq.read_table(path, memory_map=False), path, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    at = content.find(row["frame"]["bytes"]) + len(row["frame"]["bytes"]) // 2
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainInputError, match=r"0000\.parquet is damaged .* delete it and make it again"):
        ClipSet([tmp_path], [row["clip_id"]], CONFIG)
