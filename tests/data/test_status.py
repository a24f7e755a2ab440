"""What `avsl-data status` says of downloads that run, stopped, were killed, or have not begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from avsl_data.__main__ import main
from avsl_data.catalog import read_bucket, write_catalog
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.ledger import (
    Journal,
    LedgerRow,
    bucket_lock,
    failed_row,
    is_locked,
    stop_recorded,
    write_ledger,
)
from avsl_data.sources.source import CatalogClip
from avsl_data.status import ledgers_of, read_status

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BUCKETS = 5


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Write a data set of five buckets: one finished, one interrupted, one stopped, two not begun."""
    clips = [
        CatalogClip(f"v{number:010d}_000000", f"v{number:010d}", "https://a.org/x.mp4", 0.0, 1.0, "", "train")
        for number in range(100)
    ]
    write_catalog(clips, "vggsound", BUCKETS, tmp_path / "catalog.parquet")
    _write(tmp_path, 0, lambda number: "gone" if number % 4 == 0 else None, finish=True)
    _write(tmp_path, 1, lambda _: "transient", limit=3)
    _write(tmp_path, 2, lambda _: None, limit=4)
    ledger = tmp_path / "ledger" / "0002.parquet"
    until = (NOW + timedelta(minutes=37)).timestamp()
    with pytest.raises(StopEverythingError), stop_recorded(ledger):
        raise StopEverythingError("HTTP Error 429: Too Many Requests", until=until)
    return tmp_path


def _write(
    dataset: Path,
    bucket: int,
    reason: Callable[[int], str | None],
    *,
    limit: int | None = None,
    finish: bool = False,
) -> None:
    """Write the rows of a bucket, one every ten seconds before `NOW`."""
    clips = read_bucket(dataset / "catalog.parquet", bucket)[:limit]
    journal = Journal(dataset / "ledger" / f"{bucket:04d}.jsonl")
    rows = []
    for number, clip in enumerate(clips):
        why = reason(number)
        when = (NOW - timedelta(seconds=10 * (len(clips) - number))).isoformat(timespec="seconds")
        ok = LedgerRow(clip.clip_id, clip.video_id, "x.mp4", "ok", None, None, "0" * 64, 1.0, 1, when)
        failed = LedgerRow(clip.clip_id, clip.video_id, None, "failed", why, "x", None, None, 1, when)
        rows.append(failed if why else ok)
        journal.append(clip, rows[-1])
    if finish:
        write_ledger(dataset / "ledger" / f"{bucket:04d}.parquet", rows)


def _sizes(dataset: Path) -> list[int]:
    return [len(read_bucket(dataset / "catalog.parquet", bucket)) for bucket in range(BUCKETS)]


def test_everything_is_counted(dataset: Path) -> None:
    sizes = _sizes(dataset)
    found = read_status(*ledgers_of(dataset), now=NOW)
    assert [bucket.state for bucket in found.buckets] == [
        "finished",
        "interrupted",
        "stopped",
        "waiting",
        "waiting",
    ]
    gone = (sizes[0] + 3) // 4
    assert found.kinds == {"ok": sizes[0] - gone + 4, "gone": gone, "transient": 3}
    assert (found.clips, found.settled) == (100, sizes[0] + 4)
    assert found.success_rate == (sizes[0] - gone + 4) / (sizes[0] + 7)
    # Bucket 0 has a clip every ten seconds, and seven more came in its last minute.
    assert found.clips_per_hour == pytest.approx((sizes[0] + 7 - 1) / ((sizes[0] - 1) * 10 / 3600))
    assert found.expected_end is None  # nothing is running


def test_a_running_bucket_has_an_expected_end(dataset: Path) -> None:
    with bucket_lock(dataset / "ledger" / "0001.lock"):
        found = read_status(*ledgers_of(dataset), now=NOW)
        text = found.as_text()
    assert found.buckets[1].state == "running"
    assert found.clips_per_hour is not None
    left = (100 - found.kinds.total()) / found.clips_per_hour
    assert found.expected_end == pytest.approx(NOW + timedelta(hours=left), abs=timedelta(seconds=1))
    assert "1 finished, 1 running, 1 stopped, 2 waiting" in text
    assert f"0001 is running: 3 of {_sizes(dataset)[1]} clips" in text
    assert "0002 stopped until 2026-03-01 12:37 UTC (in 37 min): HTTP Error 429: Too Many Requests" in text
    assert "the next run tries the 3 transient ones again" in text
    assert read_status(*ledgers_of(dataset), now=NOW).buckets[1].state == "interrupted"


def test_a_pause_that_is_over_is_told(dataset: Path) -> None:
    text = read_status(*ledgers_of(dataset), now=NOW + timedelta(hours=1)).as_text()
    assert "0002 stopped, may go on now: HTTP Error 429" in text


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400), timedelta(0)])
def test_a_clock_that_jumped_gives_numbers_all_the_same(dataset: Path, jump: timedelta) -> None:
    """The rows of one bucket are written again, with a clock that is wrong."""
    clips = read_bucket(dataset / "catalog.parquet", 3)
    journal = Journal(dataset / "ledger" / "0003.jsonl")
    for clip in clips[:2]:
        row = failed_row(clip, "gone", "x", 1)
        journal.append(clip, LedgerRow(**{**row.__dict__, "when": (NOW + jump).isoformat()}))
    with bucket_lock(dataset / "ledger" / "0003.lock"):
        found = read_status(*ledgers_of(dataset), now=NOW)
        assert found.clips_per_hour is None or found.clips_per_hour > 0
        assert found.expected_end is None or found.expected_end > NOW
        assert json.loads(json.dumps(found.as_json()))["tried"] == found.kinds.total()


def test_commands(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(dataset), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "avsl-download-status/1"
    assert found["clips"] == 100
    assert found["buckets"][2]["stopped_until"] == "2026-03-01 12:37 UTC"
    assert found["failed"] == {"gone": (_sizes(dataset)[0] + 3) // 4, "transient": 3}
    ledgers = [str(dataset / "ledger" / f"000{bucket}.parquet") for bucket in (0, 1)]
    assert main(["status", "--ledger", *ledgers]) == 0
    assert "1 finished, 1 interrupted" in capsys.readouterr().out
    for arguments, message in [
        ([], "give the folder of a data set"),
        ([str(dataset), "--ledger", "x"], "give the folder of a data set"),
        ([str(dataset / "absent")], "is no folder"),
        ([str(dataset / "ledger")], "run `avsl-data catalog` first"),
        (["--ledger", "x.parquet", "--catalog", str(dataset / "catalog.parquet")], "number of a bucket"),
    ]:
        assert main(["status", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_record_that_is_none(dataset: Path) -> None:
    (dataset / "ledger" / "0004.stopped.json").write_text("{")
    with pytest.raises(DataInputError, match="is no record of a stop: remove it"):
        read_status(*ledgers_of(dataset))


def test_asking_disturbs_nobody(tmp_path: Path) -> None:
    """Whoever takes the lock while somebody asks for it all the time still gets it."""
    lock = tmp_path / "0000.lock"
    with bucket_lock(lock):
        assert is_locked(lock)
    code = (
        "import sys, pathlib; from avsl_data.ledger import is_locked\nprint('go', flush=True)\n"
        "while True: is_locked(pathlib.Path(sys.argv[1]))"
    )
    asking = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert asking.stdout is not None
    asking.stdout.readline()
    for _ in range(200):
        with bucket_lock(lock):
            pass
    asking.kill()
    asking.communicate()
    assert not is_locked(lock)
    assert not is_locked(tmp_path / "absent.lock")


def test_a_real_download_while_it_runs(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(tmp_path / "site" / "videos" / "video000000.mp4", 8)
    catalog = make_catalog({"video000000": 8})
    server = serve(tmp_path / "site")
    flags = (
        "--catalog",
        catalog,
        "--bucket",
        0,
        "--clips",
        tmp_path / "clips",
        "--base-url",
        server.base_url,
    )
    ledger = tmp_path / "ledger" / "0000.parquet"
    command = [sys.executable, "-m", "avsl_data", "download", *map(str, flags), "--ledger", str(ledger)]
    process = subprocess.Popen(command)
    while not ledger.with_suffix(".jsonl").is_file():
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGSTOP)
    assert main(["status", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "0000 is running" in text
    assert "of 8 clips" in text
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait() == 0
    assert main(["status", str(tmp_path)]) == 0
    assert "tried    8 of 8 clips (100.0 %)" in capsys.readouterr().out
