"""Clips from shards and splits: nothing is replaced, nothing is left out without a reason."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from avsl_train.config import AugmentConfig, DataConfig
from avsl_train.data import Clips, ClipSet, read_split
from avsl_train.draws import Draws
from avsl_train.errors import TrainInputError
from avsl_train.excerpts import excerpt_start
from avsl_train.fit import read_training_clips
from avsl_train.frames import squeezed
from avsl_train.views import Viewer
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
    return CONFIG.model_copy(update={"cache": "none", "workers": 0, **over})


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


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_a_wrong_sample_rate_is_told_at_once(tmp_path: Path, cache: str) -> None:
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


@pytest.mark.parametrize("part", ["frame", "audio"])
@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_shard_that_rotted_is_told(tmp_path: Path, part: str, compression: str) -> None:
    """A flipped bit in a frame is under the page's checksum, which the stage before writes."""
    rows = [scene(0), scene(1)]
    path = rewritten(tmp_path / "0000.parquet", rows, compression=compression)
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    column = next(column for column in columns if column.path_in_schema == f"{part}.bytes")
    content = bytearray(path.read_bytes())
    content[column.dictionary_page_offset + column.total_compressed_size // 3] ^= 1  # of the first frame
    path.write_bytes(content)
    with pytest.raises(TrainInputError, match=r"0000\.parquet is damaged .* delete it and make it again"):
        ClipSet([tmp_path], [row["clip_id"] for row in rows], uncached())[1]


def rewritten(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    """Write rows as the stage before does: uncompressed and with checksums, unless told otherwise."""
    write_shard(path, rows)
    table = pq.read_table(path, memory_map=False)
    pq.write_table(table, path, **{"compression": "none", "write_page_checksum": True, **options})
    return path


def same(first: Clips, second: Clips) -> bool:
    parts = ("index", "frames", "waves", "boxes", "key")
    return all(torch.equal(getattr(first, part), getattr(second, part)) for part in parts)


@pytest.mark.parametrize("options", [{"row_group_size": 3}, {"data_page_size": 1}, {"use_dictionary": False}])
def test_every_way_of_storing_gives_the_same_clips(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = [make_row("failed00000_000000", reason="gone"), *map(scene, range(7))]
    ids = [row["clip_id"] for row in rows[1:]]
    plain = ClipSet([rewritten(tmp_path / "a/0.parquet", rows, **options).parent], ids, uncached())
    packed = ClipSet(shards_of(tmp_path / "b", *rows), ids, uncached())
    order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
    assert same(plain.batch(order), packed.batch(order))


def test_a_frame_is_that_of_pillow_within_one_level(tmp_path: Path) -> None:
    rows = [scene(number) for number in range(3)]
    clips = ClipSet(shards_of(tmp_path, *rows), [row["clip_id"] for row in rows], uncached())
    for position in range(3):
        image, samples = clips.stored(position)
        assert image.size == (60, 44)
        side = (CONFIG.frame_size, CONFIG.frame_size)
        wanted = np.array(image.resize(side, Image.Resampling.BICUBIC)).transpose(2, 0, 1).astype(int)
        assert np.abs(clips[position].frames[0].numpy() - wanted).max() <= 1
        assert torch.equal(clips[position].frames[0], squeezed(image, CONFIG.frame_size))
        assert torch.equal(clips[position].waves[0], torch.from_numpy(samples))


@pytest.mark.parametrize("seconds", [1.0, 0.3, 2.5])
def test_only_what_views_hear_is_decoded_and_it_is_the_same(tmp_path: Path, seconds: float) -> None:
    """Of sounds as long as a clip, of one that is repeated and of one that is cut."""
    wave = np.random.default_rng(0).integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)
    rows = [{**scene(number), "audio": {"bytes": flac(wave), "path": None}} for number in range(6)]
    clips = ClipSet(shards_of(tmp_path, *rows), [row["clip_id"] for row in rows], uncached(audio_s=0.25))
    whole, every = clips.batch(torch.arange(6)), torch.arange(6)
    assert whole.waves.shape == (6, RATE)
    a, b = Draws(0, "strong", "a", 1), Draws(0, "strong", "b", 1)
    for heard in ((a,), (b,), (a, b), (None,)):
        part = clips.batch(every, heard)
        assert part.waves.shape[1] < RATE
        for draws in heard:
            start = excerpt_start(clips.config, part.key, draws)
            assert torch.equal(part.sound(start, RATE // 4), whole.sound(start, RATE // 4))
    part = clips.batch(every, (a,))
    with pytest.raises(ValueError, match="a view needs samples that were not decoded"):
        part.sound(excerpt_start(clips.config, part.key, b), RATE // 4)
    joined = Clips.join([part, whole])
    start = excerpt_start(clips.config, joined.key, a)
    assert torch.equal(joined.sound(start, RATE // 4)[:6], joined.sound(start, RATE // 4)[6:])
    with pytest.raises(ValueError, match="not decoded"):
        joined.sound(torch.zeros(12, dtype=torch.int64), RATE)


def test_views_of_clips_that_were_loaded_for_them_are_the_same(world: World) -> None:
    clips, draws = ClipSet([world.shards], world.unlabeled, uncached()), Draws(0, "weak", 2)
    viewer, index = Viewer(CONFIG, torch.device("cpu")), torch.arange(5)
    whole, part = clips.batch(index), clips.batch(index, (draws, None))
    for first, second in (
        (viewer.weak(whole, AugmentConfig(), draws), viewer.weak(part, AugmentConfig(), draws)),
        (viewer.strong(whole, AugmentConfig(), draws), viewer.strong(part, AugmentConfig(), draws)),
        (viewer.plain(whole), viewer.plain(part)),
    ):
        assert torch.equal(first.spectrogram, second.spectrogram)
        assert torch.equal(first.image, second.image)


@pytest.mark.parametrize("config", [CONFIG, uncached(), uncached(workers=1)])
def test_ranks_share_a_sweep(world: World, config: DataConfig) -> None:
    clips = ClipSet([world.shards], world.unlabeled, config)
    found = [[batch.index.tolist() for batch in clips.in_order(3, rank, 3)] for rank in range(3)]
    assert found == [[[0, 3, 6], [9]], [[1, 4, 7]], [[2, 5, 8]]]
    assert list(clips.in_order(3, 11, 12)) == []


def test_a_pass_can_begin_while_another_is_under_way_and_processes_stay(world: World) -> None:
    clips = ClipSet([world.shards], world.unlabeled, uncached(workers=1))
    whole = clips.batch(torch.arange(len(clips)))
    before = set(multiprocessing.active_children())
    for _ in range(3):
        for batch in clips.in_order(4):
            assert same(batch, whole[batch.index])
            for inner in clips.in_order(5):
                assert same(inner, whole[inner.index])
    ours = set(multiprocessing.active_children()) - before
    assert len(ours) == 2  # one for each of the two passes at a time
    clips.close()
    assert not any(process.is_alive() for process in ours)


def test_a_process_that_was_killed_is_one_clear_message(world: World) -> None:
    clips = ClipSet([world.shards], world.unlabeled, uncached(workers=1))
    before = set(multiprocessing.active_children())
    batches = clips.batches([torch.tensor([number % 10]) for number in range(200)])
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(
        TrainInputError, match=r"^a process that decodes clips was killed, .* lower data\.workers"
    ):
        list(batches)
