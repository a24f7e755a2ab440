"""Three hundred clips from a server that fails in every way, downloaded by processes that are killed."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avsl_data.catalog import read_catalog, write_catalog
from avsl_data.decode import ffmpeg_executable, verify
from avsl_data.files import sha256_of
from avsl_data.ledger import journal_rows, read_ledger
from avsl_data.sources.source import CatalogClip
from tests.data.faulty_site import LASTING, OK, PASSING, FaultySite, serving

pytestmark = pytest.mark.xdist_group("faults")

ENTRIES = 300
BUCKETS = 2
KILLS = 20
REQUESTS_PER_LIFE = (3, 15)
"""A process is killed when this many further requests have come, and a moment later."""

MOMENT_S = 0.08
"""Longer than a clip takes."""

RUNS = 3
"""How often a download is run to its end at most."""

REFUSE_EVERY = 70
COUNTS = {
    **dict.fromkeys(LASTING, 8),
    **dict.fromkeys(PASSING, 12),
    "down": 3,
    "drip": 6,
}
POLICY = ("--attempts", "2", "--backoff", "0.02", "--timeout", "1", "--wait")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    """Return a folder with the few videos behind all addresses."""
    folder = tmp_path_factory.mktemp("videos")
    good = make_video(folder / "good.mp4", 2)
    make_video(folder / "tiny.mp4", 1)
    mute = [
        ffmpeg_executable(),
        "-v",
        "error",
        "-i",
        str(good),
        "-c",
        "copy",
        "-an",
        str(folder / "mute.mp4"),
    ]
    subprocess.run(mute, check=True)
    (folder / "half.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 3])
    return folder


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a catalog of `ENTRIES` clips, one per address, faults spread over them."""
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
    kinds += [OK] * (ENTRIES - len(kinds))
    random.Random(0).shuffle(kinds)
    clips = []
    for number, kind in enumerate(kinds):
        video_id = f"{kind}{number:07d}"
        url = f"demo:///videos/{video_id}.mp4"
        clips.append(CatalogClip(f"{video_id}_000001", video_id, url, 1.0, 2.0, "red disc", "train"))
    path = tmp_path_factory.mktemp("catalog") / "catalog.parquet"
    write_catalog(clips, "demo", BUCKETS, path)
    return path


def command(catalog: Path, folder: Path, bucket: int, base_url: str) -> list[str]:
    """Return the command that downloads a bucket."""
    flags = {
        "--catalog": catalog,
        "--bucket": bucket,
        "--clips": "clips",
        "--ledger": f"ledger/{bucket:04d}.parquet",
        "--base-url": base_url,
    }
    pairs = [str(item) for pair in flags.items() for item in pair]
    return [sys.executable, "-m", "avsl_data", "download", *pairs, *POLICY]


def finish(catalog: Path, folder: Path, base_url: str) -> None:
    """Run the downloads of all buckets side by side to their end.

    A clip that a busy machine was too slow for is transient: the next run tries it again.
    """
    folder.mkdir(exist_ok=True)
    for _ in range(RUNS):
        commands = [command(catalog, folder, bucket, base_url) for bucket in range(BUCKETS)]
        running = [subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL) for line in commands]
        assert [process.wait() for process in running] == [0] * BUCKETS
        rows = [row for path in folder.glob("ledger/*.parquet") for row in read_ledger(path)]
        if all(row.clip_id[:4] == "down" for row in rows if row.reason == "transient"):
            return


def preprocess(catalog: Path, folder: Path) -> list[bytes]:
    """Decode every bucket and return the shards."""
    running = [
        subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "avsl_data",
                    "preprocess",
                    "--frame-time",
                    "0.5",
                    "--short-side",
                    "32",
                ),
                *("--ledger", f"ledger/{bucket:04d}.parquet", "--catalog", str(catalog)),
                *("--out", f"shards/{bucket:04d}.parquet"),
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        for bucket in range(BUCKETS)
    ]
    assert [process.wait() for process in running] == [0] * BUCKETS
    return [(folder / f"shards/{bucket:04d}.parquet").read_bytes() for bucket in range(BUCKETS)]


def settled_videos(folder: Path, bucket: int) -> set[str]:
    """Return the videos of a bucket whose clips are written down for good."""
    rows = journal_rows(folder / "ledger" / f"{bucket:04d}.jsonl")
    return {row["video_id"] for row in rows if row["reason"] != "transient"}


def unfinished(folder: Path, bucket: int) -> bool:
    """Return whether a video of a bucket is half there."""
    folders = os.walk(folder / "clips" / f"{bucket:04d}" / ".work")  # passes over those that just went
    next(folders, None)
    return any(files or below for _, below, files in folders)


def kill_again_and_again(catalog: Path, folder: Path, site: FaultySite) -> list[tuple[set[str], int, bool]]:
    """Start, kill and restart downloads; return what each kill left.

    That is: the videos that were settled, the number of requests so far, and whether work was unfinished.

    The moments are random between one request and the next ones, whatever the machine's speed: while a video
    comes, is cut, is verified, is written down; every fifth time a process that has hardly begun. Most are
    aimed at a process that is at work: on a busy machine chance meets those that sleep through a pause.
    """
    folder.mkdir()
    chance = random.Random(1)
    seen: list[tuple[set[str], int, bool]] = []

    def start(bucket: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(catalog, folder, bucket, site.base_url),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    running = [start(bucket) for bucket in range(BUCKETS)]
    try:
        while len(seen) < KILLS:
            until = len(site.requests) + (0 if len(seen) % 5 == 4 else chance.randint(*REQUESTS_PER_LIFE))
            aimed = len(seen) % 5 in {1, 2, 3}
            while True:
                alive = [k for k, process in enumerate(running) if process.poll() is None]
                assert alive, "the downloads ended before their time"
                targets = [k for k in alive if unfinished(folder, k)] if aimed else alive
                if targets and len(site.requests) >= until:
                    break
                time.sleep(0.002)
            time.sleep(chance.uniform(0.0, MOMENT_S / 4 if aimed else MOMENT_S))
            bucket = chance.choice(targets)
            os.kill(running[bucket].pid, signal.SIGKILL)
            running[bucket].wait()
            seen.append((settled_videos(folder, bucket), len(site.requests), unfinished(folder, bucket)))
            running[bucket] = start(bucket)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return seen


def facts(folder: Path) -> list[dict[str, Any]]:
    """Return of every clip what must not depend on when and how often the download ran."""
    rows = [row for path in sorted(folder.glob("ledger/*.parquet")) for row in read_ledger(path)]
    return [{**dataclasses.asdict(row), "when": None, "attempts": None} for row in rows]


def test_nothing_is_lost_repeated_or_left_behind(tmp_path: Path, videos: Path, catalog: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with serving(videos, FaultySite(refuse_every=REFUSE_EVERY)) as site:
        seen = kill_again_and_again(catalog, killed, site)
        finish(catalog, killed, site.base_url)
    assert len(seen) >= KILLS
    assert len({frozenset(settled) for settled, _, _ in seen}) > KILLS // 3  # all along the way
    assert sum(torn for _, _, torn in seen) > KILLS // 5  # in the middle of a video
    assert site.refused >= 2

    # Every clip is there and can be decoded, or has the one right reason.
    rows = [row for path in sorted(killed.glob("ledger/*.parquet")) for row in read_ledger(path)]
    assert sorted(row.clip_id for row in rows) == sorted(clip.clip_id for clip in read_catalog(catalog))
    assert {row.clip_id: row.reason for row in rows} == {
        row.clip_id: LASTING.get(row.clip_id[:4]) for row in rows
    }
    assert Counter(row.status for row in rows)["ok"] == ENTRIES - sum(COUNTS[kind] for kind in LASTING)
    there = [row for row in rows if row.path is not None]
    for row in there:
        assert sha256_of(killed / str(row.path)) == row.sha256
    for row in there[::20]:
        verify(killed / str(row.path), 0.9)

    # What was settled is not asked for again; a kill costs at most the video that was being fetched.
    for settled, asked_before, _ in seen:
        assert not settled & set(site.requests[asked_before:])
    assert sum(count - 1 for count in site.complete.values() if count > 1) <= len(seen)

    # Nothing lies around but clips, ledgers, journals and locks.
    found = {str(path.relative_to(killed)) for path in killed.rglob("*") if path.is_file()}
    buckets = {
        f"ledger/{bucket:04d}.{kind}" for bucket in range(BUCKETS) for kind in ("parquet", "jsonl", "lock")
    }
    assert found == buckets | {str(row.path) for row in there}

    # A download that nothing disturbed gives the same shards, byte for byte.
    with serving(videos, FaultySite(calm=True)) as calm:
        finish(catalog, whole, calm.base_url)
    assert facts(killed) == facts(whole)
    assert preprocess(catalog, killed) == preprocess(catalog, whole)
