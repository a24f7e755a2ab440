"""A full disk ends a download and marks no clip; with room again the same command continues.

`/dev/full` answers every write as a full disk does; a limit on the size of a file is met in the same places.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avsl_data.catalog import read_bucket
from avsl_data.download import FromNetwork, download_bucket
from avsl_data.errors import StopEverythingError
from avsl_data.fetch import FetchPolicy, work_folder
from avsl_data.ledger import read_ledger

FULL = Path("/dev/full")


@pytest.fixture
def bucket(tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any) -> tuple[Path, str]:
    """Return a catalog of two clips and the address of the server that has their videos."""
    for name in ("video000000", "video000001"):
        make_video(tmp_path / "site" / "videos" / f"{name}.mp4", 2)
    return make_catalog({"video000000": 1, "video000001": 1}), serve(tmp_path / "site").base_url


def _run(bucket: tuple[Path, str], folder: Path) -> dict[str, int]:
    catalog, base_url = bucket
    way = FromNetwork(folder / "clips", FetchPolicy(attempts=1), base_url)
    return download_bucket(read_bucket(catalog, 0), way, folder / "ledger" / "0000.parquet")


def _finish(bucket: tuple[Path, str], folder: Path) -> None:
    assert _run(bucket, folder)["ok"] == 2
    assert {row.status for row in read_ledger(folder / "ledger" / "0000.parquet")} == {"ok"}


def test_no_room_for_a_video(tmp_path: Path, bucket: tuple[Path, str]) -> None:
    work = work_folder("demo:///videos/video000001.mp4", tmp_path / "clips" / ".work")
    work.mkdir(parents=True)
    (work / "video.mp4.part").symlink_to(FULL)
    with pytest.raises(StopEverythingError, match=r"the disk is full: .*No space left on device"):
        _run(bucket, tmp_path)
    assert not (tmp_path / "ledger" / "0000.parquet").exists()
    assert len((tmp_path / "ledger" / "0000.jsonl").read_text().splitlines()) == 1
    (work / "video.mp4.part").unlink()
    _finish(bucket, tmp_path)


def test_no_room_for_a_line_of_the_journal(tmp_path: Path, bucket: tuple[Path, str]) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "0000.jsonl").symlink_to(FULL)
    with pytest.raises(StopEverythingError, match="cannot grow: No space left on device"):
        _run(bucket, tmp_path)
    (tmp_path / "ledger" / "0000.jsonl").unlink()
    _finish(bucket, tmp_path)


@pytest.mark.parametrize(("limit", "met_by"), [(200, "journal"), (1_500, "video"), (1_500, "clip")])
def test_a_limit_on_the_size_of_a_file(
    tmp_path: Path, bucket: tuple[Path, str], limit: int, met_by: str
) -> None:
    catalog, base_url = bucket
    if met_by != "video":  # it is there already, of a run that was killed
        for name in ("video000000", "video000001"):
            work = work_folder(f"demo:///videos/{name}.mp4", tmp_path / "clips" / "0000" / ".work")
            work.mkdir(parents=True)
            source = tmp_path / "site" / "videos" / f"{name}.mp4"
            (work / "fetched").write_bytes(b"no video" if met_by == "journal" else source.read_bytes())
    flags = ("--catalog", catalog, "--bucket", 0, "--clips", tmp_path / "clips", "--base-url", base_url)
    ledger = tmp_path / "ledger" / "0000.parquet"
    command = [sys.executable, "-m", "avsl_data", "download", *map(str, flags), "--ledger", str(ledger)]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("avsl-data: stopped: ")
    assert "Traceback" not in done.stderr
    assert not ledger.exists()
    assert not ledger.with_suffix(".jsonl").exists() or not ledger.with_suffix(".jsonl").read_bytes()
    if met_by == "journal":
        return
    subprocess.run(command, check=True, capture_output=True)
    assert {row.status for row in read_ledger(ledger)} == {"ok"}
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("number", ["KILL", "TERM", "INT"])
def test_an_ffmpeg_that_is_ended_says_nothing_about_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: tuple[Path, str], number: str
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\nkill -{number} $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("AVSL_FFMPEG", str(program))
    with pytest.raises(StopEverythingError, match="ended from outside"):
        _run(bucket, tmp_path)
    monkeypatch.delenv("AVSL_FFMPEG")
    _finish(bucket, tmp_path)
