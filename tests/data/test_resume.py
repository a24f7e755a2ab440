"""A download that is killed continues; two processes never work on one bucket."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avsl_data.catalog import read_bucket
from avsl_data.errors import DataInputError
from avsl_data.ledger import Journal, bucket_lock, failed_row, read_ledger


def _command(catalog: Path, out: Path, base_url: str) -> list[str]:
    flags = {"--catalog": catalog, "--bucket": 0, "--clips": out / "clips", "--ledger": out / "0000.parquet"}
    pairs = [str(item) for pair in flags.items() for item in pair]
    return [sys.executable, "-m", "avsl_data", "download", *pairs, "--base-url", base_url]


def _facts(ledger: Path) -> list[dict[str, Any]]:
    """Return what must not depend on when and where the download ran."""
    rows = []
    for row in read_ledger(ledger):
        facts = dataclasses.asdict(row)
        del facts["when"]
        facts["path"] = facts["path"] and Path(facts["path"]).name
        rows.append(facts)
    return rows


def test_killed_again_and_again(tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any) -> None:
    names = [f"video{number:06d}" for number in range(4)]
    for name in names[1:]:
        make_video(tmp_path / "site" / "videos" / f"{name}.mp4", 4)
    catalog = make_catalog(dict.fromkeys(names, 4))
    server = serve(tmp_path / "site")
    subprocess.run(_command(catalog, tmp_path / "whole", server.base_url), check=True, capture_output=True)
    once = server.hits.copy()
    server.hits.clear()

    journal = tmp_path / "killed" / "0000.jsonl"
    for lines in (5, 9):  # in the middle of the second and of the third video
        process = subprocess.Popen(_command(catalog, tmp_path / "killed", server.base_url))
        while not journal.is_file() or len(journal.read_bytes().splitlines()) < lines:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "0000.parquet").exists()
    done = subprocess.run(
        _command(catalog, tmp_path / "killed", server.base_url), check=True, capture_output=True, text=True
    )
    assert "resumed" in done.stdout
    assert _facts(tmp_path / "killed" / "0000.parquet") == _facts(tmp_path / "whole" / "0000.parquet")
    assert {row["reason"] for row in _facts(tmp_path / "killed" / "0000.parquet")} == {"gone", None}
    # Each kill came after its video had been fetched, so none was asked for more often than without kills.
    assert server.hits == once
    clips = sorted(path.name for path in (tmp_path / "killed" / "clips" / "0000").glob("*"))
    assert [name for name in clips if name.endswith(".mp4")] == [
        f"{name}_{start:06d}.mp4" for name in names[1:] for start in range(4)
    ]
    # A finished bucket is not asked for again.
    subprocess.run(_command(catalog, tmp_path / "killed", server.base_url), check=True, capture_output=True)
    assert server.hits == once


def test_interrupted_by_the_user(tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any) -> None:
    make_video(tmp_path / "site" / "videos" / "video000000.mp4", 6)
    catalog = make_catalog({"video000000": 6})
    server = serve(tmp_path / "site")
    process = subprocess.Popen(
        _command(catalog, tmp_path, server.base_url),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "0000.jsonl").is_file():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip() == "avsl-data: interrupted. Run the same command to continue."
    subprocess.run(_command(catalog, tmp_path, server.base_url), check=True, capture_output=True)
    assert {row.status for row in read_ledger(tmp_path / "0000.parquet")} == {"ok"}


def test_a_torn_line_is_cut_off(tmp_path: Path, make_catalog: Any) -> None:
    clips = read_bucket(make_catalog({"video000000": 3}), 0)
    path = tmp_path / "0000.jsonl"
    journal = Journal(path)
    for clip in clips[:2]:
        journal.append(clip, failed_row(clip, "gone", "x", 1))
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:-20], whole + b'{"request": "a", "row"', whole + b"\x00\x00\n"):
        path.write_bytes(torn)
        journal = Journal(path)
        kept = [clip.clip_id for clip in clips if journal.settled(clip)]
        assert kept == [clip.clip_id for clip in clips[: 1 if len(torn) < len(whole) else 2]]
        journal.append(clips[2], failed_row(clips[2], "gone", "x", 1))
        assert Journal(path).settled(clips[2])


def test_transient_rows_are_not_settled(tmp_path: Path, make_catalog: Any) -> None:
    (clip,) = read_bucket(make_catalog({"video000000": 1}), 0)
    journal = Journal(tmp_path / "0000.jsonl")
    journal.append(clip, failed_row(clip, "transient", "x", 3))
    assert not journal.settled(clip)
    assert not journal.settled(dataclasses.replace(clip, url="http://elsewhere/"))


def test_a_bucket_has_one_process(tmp_path: Path) -> None:
    lock = tmp_path / "0000.lock"
    message = f"process {os.getpid()} is working on this bucket"
    with bucket_lock(lock), pytest.raises(DataInputError, match=message), bucket_lock(lock):
        pass
    with bucket_lock(lock):
        pass
