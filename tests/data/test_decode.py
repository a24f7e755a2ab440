"""Verification decodes to the end and gives awkward files an honest class."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avsl_data.decode import BadMediaError, check_region, ffmpeg_executable, probe, run_ffmpeg, verify
from avsl_data.errors import DataInputError

MakeVideo = Callable[..., Path]


def _ffmpeg(*arguments: object) -> None:
    subprocess.run([ffmpeg_executable(), "-y", "-v", "error", *map(str, arguments)], check=True)


def test_a_good_video(make_video: MakeVideo, tmp_path: Path) -> None:
    facts = verify(make_video(tmp_path / "-dash ü.mp4", 2), min_s=1.9)
    assert (facts.width, facts.height) == (64, 64)
    assert facts.video_s == pytest.approx(2.0, abs=0.01)
    assert facts.audio_s == pytest.approx(2.0, abs=0.1)


def test_streams_that_are_absent(make_video: MakeVideo, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", 1)
    _ffmpeg("-i", whole, "-c", "copy", "-an", tmp_path / "silent.mp4")
    _ffmpeg("-i", whole, "-c", "copy", "-vn", tmp_path / "blind.mp4")
    with pytest.raises(BadMediaError, match="no_audio"):
        verify(tmp_path / "silent.mp4")
    with pytest.raises(BadMediaError, match="no_video"):
        verify(tmp_path / "blind.mp4")


def test_too_short(make_video: MakeVideo, tmp_path: Path) -> None:
    with pytest.raises(BadMediaError, match=r"too_short: video 1.00 s"):
        verify(make_video(tmp_path / "a.mp4", 1), min_s=1.8)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(4096)])
def test_what_is_no_media_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(BadMediaError, match="damaged"):
        verify(path)


def test_a_truncated_file_without_its_index(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 2)
    _ffmpeg("-i", path, "-c", "copy", "-movflags", "0", tmp_path / "b.mp4")  # index at the end
    content = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadMediaError, match="damaged"):
        probe(tmp_path / "b.mp4")


def test_a_region_is_judged_by_itself(tiny_site: Path, tmp_path: Path) -> None:
    """A video of three seconds that breaks off after 60 % of its bytes has a good beginning and a bad end."""
    whole = sorted((tiny_site / "videos").glob("*.mp4"))[0].read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(whole[: int(len(whole) * 0.6)])
    check_region(path, 0.0, 1.0)
    with pytest.raises(BadMediaError, match="damaged"):
        check_region(path, 1.0, 2.0)


EDGE_FILES = {
    "FwVYUHKoLtQ_000034.wav": "no_video",
    "decord__corrupted.mp4": "no_audio",
    "decord__flipping_a_pancake.mkv": None,
    "specvqgan_vas__dog_video_02677.mp4": None,
    "torchcodec__av1_video.mkv": "no_audio",
    "torchcodec__h265_video.mp4": "no_audio",
    "torchcodec__nasa_13013.mp4": None,
}


def test_awkward_real_files(shared: Path) -> None:
    found: dict[str, str | None] = {}
    for path in sorted((shared / "clips" / "edge").iterdir()):
        try:
            verify(path)
            found[path.name] = None
        except BadMediaError as error:
            found[path.name] = error.reason
    assert found == EDGE_FILES


def test_damage_that_ffmpeg_forgives_is_found(shared: Path, tmp_path: Path) -> None:
    """The damaged file has no sound; with one added, decoding must be what fails."""
    damaged = shared / "clips" / "edge" / "decord__corrupted.mp4"
    sound = shared / "clips" / "edge" / "FwVYUHKoLtQ_000034.wav"
    path = tmp_path / "both.mp4"
    _ffmpeg(
        "-i",
        damaged,
        "-i",
        sound,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        "-shortest",
        path,
    )
    with pytest.raises(BadMediaError, match="damaged: decoding failed"):
        verify(path)


def test_ffmpeg_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ffmpeg_executable()
    monkeypatch.setenv("AVSL_FFMPEG", known)
    assert ffmpeg_executable() == known
    monkeypatch.setenv("AVSL_FFMPEG", "/no/such/ffmpeg")
    with pytest.raises(DataInputError, match="is no program"):
        ffmpeg_executable()


def test_ffmpeg_failures_carry_the_first_message(tmp_path: Path) -> None:
    import ffmpeg

    with pytest.raises(BadMediaError, match=r"damaged: ffmpeg: .*No such file"):
        run_ffmpeg(ffmpeg.output(ffmpeg.input(str(tmp_path / "absent.mp4")), str(tmp_path / "x.mp4")))
