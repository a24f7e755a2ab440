"""Jumping and leaving out pictures change nothing: each picture is the one that decoding all gives."""

from __future__ import annotations

import functools
import hashlib
import random
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from avsl_data.decode import ffmpeg_executable
from avsl_data.video_reader import Reader, Shown, begin_of

CODED: dict[str, Sequence[object]] = {
    "no B pictures": ("-bf", 0),
    "many B pictures": ("-bf", 16, "-x264-params", "b-adapt=0"),
    "B pictures that none is made of": ("-bf", 8, "-x264-params", "b-pyramid=none:b-adapt=0"),
    "B pictures of B pictures": ("-bf", 8, "-x264-params", "b-pyramid=strict:b-adapt=0"),
    "B pictures before their key frame": ("-bf", 5, "-x264-params", "open-gop=1:b-adapt=0"),
    "fields": ("-bf", 3, "-flags", "+ilme+ildct", "-x264-params", "tff=1"),
    "slices and many references": ("-bf", 4, "-refs", 16, "-x264-params", "slices=4"),
    "MPEG-4": ("-c:v", "mpeg4", "-bf", 2),
}


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of a moving test picture, with a key frame every two seconds."""

    def make(name: str, *options: object) -> Path:
        source = "testsrc2=size=96x64:rate=25:duration=5"
        video = ["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast", "-g", 50]
        words = [ffmpeg_executable(), "-v", "error", *video, "-pix_fmt", "yuv420p", *options, tmp_path / name]
        subprocess.run(list(map(str, words)), check=True)
        return tmp_path / name

    return make


def content(frame: av.VideoFrame) -> str:
    return hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()


@functools.lru_cache(1)
def all_pictures(path: Path) -> list[tuple[Fraction, str]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return [(begin_of(frame), content(frame)) for frame in container.decode(stream)]


def compare(path: Path, limits: Sequence[Fraction]) -> int:
    """Compare a reader's pictures at some limits, and the ones after them; return how many it decoded."""
    truth = all_pictures(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        shown = Shown()
        for packet in container.demux(stream):
            shown.note(packet)
        shown.finish()
        reader = _Counting(container, stream, shown)
        for limit in sorted(limits):
            frame, following = reader.last_before(limit), reader.following()
            number = max(0, sum(begin < limit for begin, _ in truth) - 1)
            for found, place in ((frame, number), (following, number + 1)):
                if place == len(truth):
                    assert found is None
                    continue
                assert found is not None
                assert begin_of(found) == truth[place][0]
                assert content(found) == truth[place][1], (path.name, float(limit))
        return reader.count


class _Counting(Reader):
    """A reader that counts the pictures that the decoder gave it."""

    count = 0

    def _decoded(self) -> Any:
        for frame in super()._decoded():
            self.count += 1
            yield frame


def drawn(name: str, end_s: float) -> list[list[Fraction]]:
    """Return one limit, and several that are read one after the other."""
    draw = random.Random(name)
    return [[Fraction(draw.uniform(0, end_s)) for _ in range(n)] for n in (1, 1, 1, 4, 8)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("name", CODED)
def test_pictures_are_those_of_decoding_all(name: str, suffix: str, film: Callable[..., Path]) -> None:
    path = film(f"a.{suffix}", *CODED[name])
    for limits in [*drawn(name, 5.2), [Fraction(0)], [Fraction(99)]]:
        compare(path, limits)


def test_real_files(shared: Path) -> None:
    for path in sorted((shared / "clips").glob("*/*.m[pk][4v]")):
        if "corrupted" in path.name:
            continue  # all of it cannot be decoded
        for limits in [[Fraction(498, 100)], *drawn(path.name, 8)[3:4]]:
            compare(path, limits)


def test_pictures_that_none_is_made_of_are_left_out(film: Callable[..., Path]) -> None:
    """Of 50 pictures since the key frame, all of the last 17 and one in nine of the others are decoded."""
    path = film("a.mp4", *CODED["B pictures that none is made of"])
    assert compare(path, [Fraction(399, 100)]) < 30
    assert compare(film("b.mp4", *CODED["no B pictures"]), [Fraction(399, 100)]) >= 50
