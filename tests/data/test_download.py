"""Downloads with real yt-dlp from a real server: every failure is a row, and the run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avsl_data.catalog import read_bucket
from avsl_data.copies import FromFolder
from avsl_data.decode import ffmpeg_executable, verify
from avsl_data.download import MAX_TRANSIENT_IN_A_ROW, FromNetwork, download_bucket
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.fetch import FetchPolicy
from avsl_data.files import sha256_of
from avsl_data.ledger import LedgerRow, read_ledger

FAST = FetchPolicy(attempts=2, backoff_s=0.01, timeout_s=5)


@pytest.fixture
def download(tmp_path: Path) -> Callable[..., dict[str, LedgerRow]]:
    """Download a catalog's only bucket and return the ledger's rows by clip."""

    def run(catalog: Path, base_url: str, policy: FetchPolicy = FAST) -> dict[str, LedgerRow]:
        ledger = tmp_path / "ledger" / "0000.parquet"
        download_bucket(
            read_bucket(catalog, 0), FromNetwork(tmp_path / "clips" / "0000", policy, base_url), ledger
        )
        return {row.clip_id: row for row in read_ledger(ledger)}

    return run


def _remux(source: Path, target: Path, *arguments: str) -> None:
    command = [
        ffmpeg_executable(),
        "-y",
        "-v",
        "error",
        "-i",
        str(source),
        "-c",
        "copy",
        *arguments,
        str(target),
    ]
    subprocess.run(command, check=True)


def test_faults_are_rows_and_the_run_goes_on(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any, tiny_site: Path
) -> None:
    videos = tmp_path / "site" / "videos"
    good = make_video(videos / "good0000000.mp4", 3)
    _remux(good, videos / "silent00000.mp4", "-an")
    _remux(good, videos / "blind000000.mp4", "-vn")
    make_video(videos / "short000000.mp4", 2)
    headless = videos / "headless000.mp4"
    headless.write_bytes(good.read_bytes()[:600])
    broken = videos / "broken00000.mp4"
    whole = sorted((tiny_site / "videos").glob("*.mp4"))[0].read_bytes()
    broken.write_bytes(whole[: int(len(whole) * 0.6)])  # the index is at the front: three scenes are promised
    (videos / "page0000000.mp4").write_text("<html>no video here</html>")
    catalog = make_catalog(
        {
            "gone0000000": 2,
            "silent00000": 1,
            "blind000000": 1,
            "headless000": 1,
            "broken00000": 3,
            "page0000000": 1,
            "short000000": 3,
            "good0000000": 3,
        }
    )
    server = serve(tmp_path / "site")
    rows = download(catalog, server.base_url)
    reasons = {clip_id: row.reason for clip_id, row in rows.items()}
    assert reasons == {
        "gone0000000_000000": "gone",
        "gone0000000_000001": "gone",
        "silent00000_000000": "no_audio",
        "blind000000_000000": "no_video",
        "headless000_000000": "damaged",
        "broken00000_000000": None,
        "broken00000_000001": "damaged",
        "broken00000_000002": "damaged",
        "page0000000_000000": "no_video",
        "short000000_000000": None,
        "short000000_000001": None,
        "short000000_000002": "too_short",
        "good0000000_000000": None,
        "good0000000_000001": None,
        "good0000000_000002": None,
    }
    assert "404" in str(rows["gone0000000_000000"].detail)
    for row in rows.values():
        assert (row.status == "ok") == (row.reason is None) == (row.path is not None)
        if row.path is not None:
            assert sha256_of(Path(row.path)) == row.sha256
    assert not (tmp_path / "clips" / "0000" / ".work").is_dir() or not any(
        (tmp_path / "clips" / "0000" / ".work").iterdir()
    )


def test_cuts_are_exact(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    """Frame t of the video is of grey level 8 t: clip k must begin at level 80 k, whatever the key frames."""
    import av

    make_video(tmp_path / "site" / "videos" / "good0000000.mp4", 3)
    rows = download(make_catalog({"good0000000": 3}), serve(tmp_path / "site").base_url)
    for start in range(3):
        row = rows[f"good0000000_{start:06d}"]
        assert row.duration_s == pytest.approx(1.0, abs=0.01)
        with av.open(str(row.path)) as container:
            levels = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
        expected = [min(8 * (10 * start + t), 255) for t in range(10)]
        assert levels == pytest.approx(expected, abs=6)


def test_odd_sizes_and_ids_that_look_like_options(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    source = make_video(tmp_path / "even.mp4", 1)
    target = tmp_path / "site" / "videos" / "--rm_-rf0_0.mp4"
    target.parent.mkdir(parents=True)
    command = [
        ffmpeg_executable(),
        "-v",
        "error",
        "-i",
        str(source),
        "-vf",
        "scale=63:61",
        "-pix_fmt",
        "yuv444p",
    ]
    subprocess.run([*command, str(target)], check=True)
    rows = download(make_catalog({"--rm_-rf0_0": 1}), serve(tmp_path / "site").base_url)
    row = rows["--rm_-rf0_0_000000"]
    facts = verify(Path(str(row.path)))
    assert (facts.width, facts.height) == (62, 60)


def test_transient_failures_are_tried_again(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    for name in ("busy0000000", "drops000000", "down0000000"):
        make_video(tmp_path / "site" / "videos" / f"{name}.mp4", 1)
    catalog = make_catalog({"busy0000000": 1, "drops000000": 1, "down0000000": 1})
    server = serve(tmp_path / "site")
    server.statuses = {
        "/videos/busy0000000.mp4": [503, 0],
        "/videos/drops000000.mp4": [-1, 0],
        "/videos/down0000000.mp4": [503],
    }
    rows = download(catalog, server.base_url)
    assert {row.clip_id[:4]: (row.reason, row.attempts) for row in rows.values()} == {
        "busy": (None, 2),
        "drop": (None, 2),
        "down": ("transient", 2),
    }
    server.statuses = {}
    before = server.hits.copy()
    rows = download(catalog, server.base_url)
    assert {row.reason for row in rows.values()} == {None}
    assert {path for path in server.hits if server.hits[path] != before[path]} == {"/videos/down0000000.mp4"}


def test_a_refusal_of_everything_stops_and_marks_nothing(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    for name in ("aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc"):
        make_video(tmp_path / "site" / "videos" / f"{name}.mp4", 1)
    catalog = make_catalog({"aaaaaaaaaaa": 1, "bbbbbbbbbbb": 1, "ccccccccccc": 1})
    server = serve(tmp_path / "site")
    server.statuses = {"/videos/bbbbbbbbbbb.mp4": [429]}
    with pytest.raises(StopEverythingError, match="429"):
        download(catalog, server.base_url)
    assert not (tmp_path / "ledger" / "0000.parquet").exists()
    assert len((tmp_path / "ledger" / "0000.jsonl").read_text().splitlines()) == 1
    assert server.hits["/videos/ccccccccccc.mp4"] == 0
    server.statuses = {}
    hits = server.hits.copy()
    with pytest.raises(
        StopEverythingError, match=r"asked for a pause: .*429"
    ):  # nothing is asked before its end
        download(catalog, server.base_url)
    assert server.hits == hits
    FAST.pace(server.base_url).forget_pause()
    hits = server.hits["/videos/aaaaaaaaaaa.mp4"]
    rows = download(catalog, server.base_url)
    assert {row.status for row in rows.values()} == {"ok"}
    assert server.hits["/videos/aaaaaaaaaaa.mp4"] == hits


def test_a_dead_network_stops(tmp_path: Path, make_catalog: Any, download: Any) -> None:
    catalog = make_catalog({f"video{number:06d}": 1 for number in range(MAX_TRANSIENT_IN_A_ROW + 2)})
    policy = FetchPolicy(attempts=1, timeout_s=2)
    with pytest.raises(StopEverythingError, match="for the network's sake"):
        download(catalog, "http://127.0.0.1:9", policy)
    assert not (tmp_path / "ledger" / "0000.parquet").exists()


def test_files_that_are_too_large(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    make_video(tmp_path / "site" / "videos" / "large000000.mp4", 1)
    server = serve(tmp_path / "site")
    rows = download(make_catalog({"large000000": 1}), server.base_url, FetchPolicy(max_bytes=1000))
    assert [row.reason for row in rows.values()] == ["too_large"]


def test_another_request_for_the_same_clip_is_fetched_anew(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    make_video(tmp_path / "site" / "videos" / "good0000000.mp4", 2)
    server = serve(tmp_path / "site")
    first = download(make_catalog({"good0000000": 1}), server.base_url)["good0000000_000000"]
    longer = download(make_catalog({"good0000000": 1}, length_s=2.0), server.base_url)["good0000000_000000"]
    assert (first.duration_s, longer.duration_s) == pytest.approx((1.0, 2.0), abs=0.1)
    assert first.sha256 != longer.sha256


def test_a_clip_that_was_damaged_later_is_fetched_anew(
    tmp_path: Path, make_video: Any, make_catalog: Any, serve: Any, download: Any
) -> None:
    make_video(tmp_path / "site" / "videos" / "good0000000.mp4", 2)
    server = serve(tmp_path / "site")
    catalog = make_catalog({"good0000000": 2})
    first = download(catalog, server.base_url)
    Path(str(first["good0000000_000001"].path)).write_bytes(b"overwritten")
    second = download(catalog, server.base_url)
    assert [row.sha256 for row in second.values()] == [row.sha256 for row in first.values()]


def test_the_address_must_be_served(tmp_path: Path, make_catalog: Any) -> None:
    for url, message in (
        ("demo:///videos/{}.mp4", "add --site DIR"),
        ("folder:///{}.mp4", "add --from-folder DIR"),
    ):
        catalog = make_catalog({"good0000000": 1}, url=url)
        with pytest.raises(DataInputError, match=message):
            download_bucket(read_bucket(catalog, 0), FromNetwork(tmp_path, FAST), tmp_path / "l.parquet")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/{}.mp4", "{}", "; rm -rf /"])
def test_other_addresses_are_refused(url: str, make_catalog: Any) -> None:
    with pytest.raises(DataInputError, match="has the address"):
        read_bucket(make_catalog({"good0000000": 1}, url=url), 0)


def test_from_folder_copies_nothing(tmp_path: Path, make_video: Any, make_catalog: Any) -> None:
    folder = tmp_path / "mine"
    make_video(folder / "good0000000_000000.mp4", 1)
    (folder / "good0000000_000001.mkv").write_bytes(b"no video")
    (folder / "notes.txt").write_text("ignored")
    ledger = tmp_path / "ledger.parquet"
    clips = read_bucket(make_catalog({"good0000000": 3}), 0)
    counts = download_bucket(clips, FromFolder.of(folder), ledger)
    assert counts == {"ok": 1, "damaged": 1, "missing": 1, "resumed": 0}
    assert read_ledger(ledger)[0].path == str(folder / "good0000000_000000.mp4")
    assert sorted(path.name for path in folder.iterdir()) == [
        "good0000000_000000.mp4",
        "good0000000_000001.mkv",
        "notes.txt",
    ]
