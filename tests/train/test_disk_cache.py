"""Decoded clips on disk: the same clips whatever happened to the files, and decoded once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from avsl_train.config import DataConfig
from avsl_train.data import Clips, ClipSet
from avsl_train.disk_cache import CHUNK, INDEX, DiskCache, arrays_of
from avsl_train.draws import Draws
from avsl_train.errors import TrainInputError
from avsl_train.shard_rows import read_rows
from tests.train.conftest import BASE, World, scene, write_shard

CONFIG = DataConfig(**{**BASE["data"], "cache": "none", "workers": 0})
DISK = CONFIG.model_copy(update={"cache": "disk"})
REPOSITORY = Path(__file__).parents[2]
ALL = torch.arange(10)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
BUILD = """
import logging, sys, torch
from pathlib import Path
from avsl_train.data import ClipSet
from avsl_train.config import DataConfig
from avsl_train.shard_rows import read_rows
logging.basicConfig(level=logging.INFO, format="%(message)s")
torch.set_num_threads(1)
shards, side, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ids = sorted(id for id, row in read_rows([shards], IDS).items())
config = DataConfig(frame_size=side, clip_s=1.0, audio_s=0.5, cache="disk", workers=workers)
clips = ClipSet([shards], ids, config)
whole = clips.batch(torch.arange(len(ids)))
print(int(whole.frames.sum(dtype=torch.int64)), int(whole.waves.sum(dtype=torch.int64)))
"""
"""Fills a cache in a process of its own."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep decoded clips in a folder of the test's own."""
    monkeypatch.setenv("AVSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clips"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Return what was logged since it was last asked."""
    caplog.set_level(logging.INFO, "avsl_train.disk_cache")

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    return take


def same(first: Clips, second: Clips) -> bool:
    parts = ("index", "frames", "waves", "boxes", "key")
    return all(torch.equal(getattr(first, part), getattr(second, part)) for part in parts)


def file_in(cache: Path, name: str) -> Path:
    (folder,) = cache.iterdir()
    return folder / name


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_are_those_of_the_shards_whole_and_in_parts(world: World, workers: int) -> None:
    config = DISK.model_copy(update={"workers": workers})
    plain, disk = (ClipSet([world.shards], world.unlabeled, which) for which in (CONFIG, config))
    order = torch.tensor([6, 2, 2, 9, 0])
    a, b = Draws(0, "weak", 1), Draws(0, "strong", 1)
    for heard in (None, (a,), (a, b), (None, b)):
        wanted = plain.batch(order, heard)
        (found,) = disk.batches([order], [heard])
        assert same(found, wanted)
        assert (found.span is None) == (wanted.span is None)
        assert torch.equal(found.samples, wanted.samples)
    disk.close()


def test_every_set_of_the_same_shards_shares_a_cache(
    world: World, cache: Path, said: Callable[[], list[str]]
) -> None:
    ClipSet([world.shards], world.unlabeled[:4], DISK)
    assert said()[0].startswith("decoding 4 clips once into")
    wider = ClipSet([world.shards], [*world.labeled, *world.unlabeled], DISK)
    assert said()[0].startswith("decoding 10 clips once into")
    assert same(wider.batch(ALL), ClipSet([world.shards], wider.ids, CONFIG).batch(ALL))
    ClipSet([world.shards], world.unlabeled, DISK)
    assert said() == []
    assert len(list(cache.iterdir())) == 1


def test_other_shards_and_another_side_have_a_cache_of_their_own(tmp_path: Path, cache: Path) -> None:
    shards = tmp_path / "shards"
    clip_id = scene(0)["clip_id"]
    for number, (row, config) in enumerate(
        [
            (scene(0), DISK),
            (scene(0), DISK.model_copy(update={"frame_size": 48})),
            ({**scene(3), "clip_id": clip_id}, DISK),
        ]
    ):
        write_shard(shards / "0000.parquet", [row])
        plain = config.model_copy(update={"cache": "none"})
        assert same(ClipSet([shards], [clip_id], config)[0], ClipSet([shards], [clip_id], plain)[0])
        assert len(list(cache.iterdir())) == number + 1


def test_without_a_named_folder_it_lies_beside_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AVSL_CACHE")
    write_shard(tmp_path / "mine/0000.parquet", [scene(0)])
    ClipSet([tmp_path / "mine"], [scene(0)["clip_id"]], DISK)
    assert len(list((tmp_path / "mine.decoded").iterdir())) == 1


def test_rows_that_nobody_asked_for_take_no_space(tmp_path: Path, cache: Path) -> None:
    config = DISK.model_copy(update={"frame_size": 256})
    write_shard(tmp_path / "shards/0000.parquet", [scene(number) for number in range(12)])
    ClipSet([tmp_path / "shards"], [scene(7)["clip_id"]], config)
    file = file_in(cache, "frames").stat()
    assert file.st_size == 12 * 3 * 256 * 256
    assert file.st_blocks * 512 <= 3 * 256 * 256 + 3 * 4096


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, place: int) -> None:
    os.truncate(path, place)


@pytest.mark.parametrize("name", ["frames", "sounds", INDEX])
@pytest.mark.parametrize("harm", [flipped, cut])
@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_told_and_mended(
    world: World,
    cache: Path,
    said: Callable[[], list[str]],
    name: str,
    harm: Callable[[Path, int], None],
    workers: int,
) -> None:
    clips = ClipSet([world.shards], world.unlabeled, DISK)
    wanted = clips.batch(ALL)
    path = file_in(cache, name)
    harm(path, path.stat().st_size // 2)
    said()
    config = DISK.model_copy(update={"workers": workers})
    again = ClipSet([world.shards], world.unlabeled, config)
    assert all(same(batch, wanted[batch.index]) for batch in again.in_order(3))
    again.close()
    told = said()
    if name == INDEX:  # only what it does not vouch for
        assert told[-1].startswith("decoding ")
    elif harm is cut:
        assert told[0].endswith(f"is damaged ({name} is not whole): decoding its clips again")
    elif not workers:  # else a worker says it
        assert [line.partition(" is ")[2] for line in told] == ["damaged at row 9: decoding its clip again"]
    said()
    assert same(ClipSet([world.shards], world.unlabeled, DISK).batch(ALL), wanted)
    assert said() == []  # it was mended on the disk


def test_a_file_that_is_cut_while_it_is_read_is_mended(world: World, cache: Path) -> None:
    clips = ClipSet([world.shards], world.unlabeled, DISK)
    wanted = ClipSet([world.shards], world.unlabeled, CONFIG).batch(ALL)
    cut(file_in(cache, "frames"), 1000)
    assert same(clips.batch(ALL), wanted)
    cut(file_in(cache, "frames"), 1000)
    with pytest.raises(TrainInputError, match=r"frames was cut while it was read: start again$"):
        clips.batch(ALL)
    assert same(ClipSet([world.shards], world.unlabeled, DISK).batch(ALL), wanted)


def many(folder: Path, count: int) -> list[str]:
    """Write shards of ``count`` scenes and return their ids."""
    rows = [scene(number) for number in range(count)]
    write_shard(folder / "0000.parquet", rows)
    return [row["clip_id"] for row in rows]


def filling(shards: Path, ids: list[str], side: int, workers: int) -> subprocess.Popen[str]:
    """Start a process that fills a cache."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD.replace("IDS", repr(set(ids))), str(shards), str(side), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "AVSL_CACHE": os.environ["AVSL_CACHE"]},
    )


def sums(clips: ClipSet) -> str:
    whole = clips.batch(torch.arange(len(clips)))
    return f"{int(whole.frames.sum(dtype=torch.int64))} {int(whole.waves.sum(dtype=torch.int64))}"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_whose_filling_was_killed_is_gone_on_with(
    tmp_path: Path, cache: Path, said: Callable[[], list[str]], workers: int
) -> None:
    ids = many(tmp_path / "shards", 240)
    config = CONFIG.model_copy(update={"frame_size": 512, "cache": "disk"})
    process = filling(tmp_path / "shards", ids, 512, workers)
    try:
        deadline = time.monotonic() + 120
        while not (list(cache.glob(f"*/{INDEX}")) and finished(cache, len(ids)) >= 2 * CHUNK):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    clips = ClipSet([tmp_path / "shards"], ids, config)
    (line,) = [line for line in said() if line.startswith("decoding")]
    assert 0 < int(line.split()[1]) <= 240 - 2 * CHUNK
    plain = ClipSet([tmp_path / "shards"], ids, config.model_copy(update={"cache": "none"}))
    every = torch.arange(240)
    assert same(clips.batch(every), plain.batch(every))
    assert said() == []  # nothing that was finished before the kill had to be decoded again


def finished(cache: Path, count: int) -> int:
    """Return how many records stand in the index."""
    content = file_in(cache, INDEX).read_bytes().ljust(12 * count, b"\0")
    return sum(any(content[12 * row : 12 * row + 12]) for row in range(count))


def test_two_processes_at_once_decode_every_clip_once(tmp_path: Path) -> None:
    ids = many(tmp_path / "shards", 60)
    processes = [filling(tmp_path / "shards", ids, 40, workers) for workers in (0, 1)]
    results = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    wanted = sums(ClipSet([tmp_path / "shards"], sorted(ids), CONFIG))
    assert [out.strip() for out, _ in results] == [wanted, wanted]
    decoded = [line for _, said in results for line in said.splitlines() if line.startswith("decoding")]
    assert [int(line.split()[1]) for line in decoded] == [60]


def test_a_second_process_waits_for_the_one_that_fills(tmp_path: Path, cache: Path) -> None:
    ids = many(tmp_path / "shards", 3)
    rows = list(read_rows([tmp_path / "shards"], set(ids)).values())
    plain = ClipSet([tmp_path / "shards"], ids, CONFIG)
    others: list[subprocess.Popen[str]] = []

    def decode(position: int) -> tuple[torch.Tensor, ...]:
        if not others:
            others.append(filling(tmp_path / "shards", ids, 40, 0))
            assert others[0].stderr is not None
            assert "another process decodes clips into" in others[0].stderr.readline()
        assert others[0].poll() is None
        clip = plain[position]
        return clip.frames[0], clip.waves[0]

    DiskCache([tmp_path / "shards"], rows, DISK, decode)
    out, said = others[0].communicate(timeout=120)
    assert (out.strip(), said) == (sums(ClipSet([tmp_path / "shards"], sorted(ids), CONFIG)), "")


@pytest.fixture
def small_disk(tmp_path: Path, cache: Path) -> Iterator[Path]:
    """Keep decoded clips on a disk of 1 MB."""
    cache.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(cache)]
    done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield cache
    subprocess.run(["umount", "--lazy", str(cache)], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_decoded(
    tmp_path: Path, small_disk: Path, said: Callable[[], list[str]]
) -> None:
    ids = many(tmp_path / "shards", 40)
    each = sum(array.bytes for array in arrays_of(CONFIG))
    assert each == 3 * 40 * 40 + 2 * 16000
    with pytest.raises(
        TrainInputError,
        match=r"^data\.cache: disk needs 1\.5 MB in .* \(40 clips of 37 KB\), but 1\.0 MB are free: make "
        r"room, name a folder on a larger disk in \$AVSL_CACHE, or set data\.cache: none$",
    ):
        ClipSet([tmp_path / "shards"], ids, DISK)
    assert said() == []
    assert not file_in(small_disk, "frames").exists()
    assert len(ClipSet([tmp_path / "shards"], ids[:20], DISK)) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_others_fill_meanwhile_is_told_and_the_filling_goes_on(
    tmp_path: Path, small_disk: Path, said: Callable[[], list[str]], workers: int
) -> None:
    ids = many(tmp_path / "shards", 20)
    rows = list(read_rows([tmp_path / "shards"], set(ids)).values())
    plain = ClipSet([tmp_path / "shards"], ids, CONFIG)

    def decode(position: int) -> tuple[torch.Tensor, ...]:
        if position in (4, 12):
            (small_disk / f"other{position}").write_bytes(bytes(300_000))
        clip = plain[position]
        return clip.frames[0], clip.waves[0]

    with pytest.raises(
        TrainInputError, match=r"the disk .* became full .* make room and start again, which goes on from"
    ):
        DiskCache([tmp_path / "shards"], rows, DISK.model_copy(update={"workers": workers}), decode)
    for other in small_disk.glob("other*"):
        other.unlink()
    said()
    clips = ClipSet([tmp_path / "shards"], ids, DISK)
    assert 0 < int(said()[0].split()[1]) < 20
    every = torch.arange(20)
    assert same(clips.batch(every), plain.batch(every))
    clips.close()


def test_a_folder_that_cannot_be_written_is_told(world: World, cache: Path) -> None:
    cache.parent.write_text("a file")
    with pytest.raises(TrainInputError, match=r"^cannot use the cache .*: name a folder .* \$AVSL_CACHE"):
        ClipSet([world.shards], world.unlabeled, DISK)


def test_a_clip_that_cannot_be_decoded_is_told_and_the_others_stay(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    rows: list[dict[str, Any]] = [scene(number) for number in range(3)]
    bad = {**rows[1], "frame": {"bytes": rows[1]["frame"]["bytes"][:40], "path": None}}
    ids = [row["clip_id"] for row in rows]
    write_shard(tmp_path / "shards/0000.parquet", [rows[0], bad, rows[2]])
    with pytest.raises(TrainInputError, match=rf"^clip {ids[1]} cannot be decoded"):
        ClipSet([tmp_path / "shards"], ids, DISK)
    said()
    ClipSet([tmp_path / "shards"], [ids[0], ids[2]], DISK)
    assert said()[0].startswith("decoding 1 clips")
