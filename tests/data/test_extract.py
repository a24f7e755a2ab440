"""Pictures and sound on one clock, from ordinary, odd and damaged files; ffmpeg is the second opinion."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avsl_data.decode import BadMediaError, ffmpeg_executable, verify
from avsl_data.extract import ClipMedia, Picture, read_clip

RATE = 16_000


def ffmpeg(*arguments: object) -> None:
    subprocess.run([ffmpeg_executable(), "-y", "-v", "error", *map(str, arguments)], check=True)


def picture_of(command: list[object], folder: Path) -> Any:
    """Return the brightness of what ffmpeg writes as a picture; colour is stored at half the size."""
    ffmpeg(*command, "-update", 1, folder / "seen.png")
    return np.asarray(Image.open(folder / "seen.png").convert("L"), np.float32)


def pixels(picture: Picture | None) -> Any:
    assert picture is not None
    return np.asarray(Image.open(io.BytesIO(picture.jpeg)).convert("L"), np.float32)


def distance(left: Any, right: Any) -> float:
    assert left.shape == right.shape
    return float(np.abs(left - right).mean())


def read(path: Path, *times_s: float, side: int = 4096, rate: int = RATE) -> ClipMedia:
    return read_clip(path, lambda _: times_s or (0.5,), side, rate)


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of a moving test picture and a click of 50 ms at each full second."""

    def make(
        name: str, *options: object, fps: object = 30, seconds: float = 7, size: str = "160x120"
    ) -> Path:
        path = tmp_path / name
        picture = f"testsrc2=size={size}:rate={fps}:duration={seconds}"
        click = rf"aevalsrc=0.5*sin(2000*PI*t)*lt(mod(t\,1)\,0.05):duration={seconds}:sample_rate=44100"
        ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", click, "-g", 30, *options, path)
        return path

    return make


def first_click_s(sound: Any, rate: int = RATE) -> float:
    return float(np.argmax(np.abs(sound) > 1000)) / rate


# --- which picture --------------------------------------------------------------------------------


def test_the_real_clips_show_the_125th_picture_at_25_per_second(shared: Path, tmp_path: Path) -> None:
    """Seeking by ffmpeg to 4.96 s gives the same picture on clips of 30 per second; to 5 s it does not."""
    for path in sorted((shared / "clips" / "vggss").glob("*.mp4")):
        media = read(path, 4.96)
        ours = pixels(media.pictures[0])
        number_124 = picture_of(["-i", path, "-vf", "fps=25,select=eq(n\\,124)", "-frames:v", 1], tmp_path)
        assert distance(ours, number_124) < 3
        if 29.9 < media.facts.fps < 30.1:
            sought = picture_of(["-ss", 4.96, "-i", path, "-frames:v", 1], tmp_path)
            assert np.array_equal(sought, number_124)
            at_5 = picture_of(["-ss", 5, "-i", path, "-frames:v", 1], tmp_path)
            assert not np.array_equal(at_5, number_124)


@pytest.mark.parametrize("fps", ["10", "12", "15", "23.65", "24", "25", "30000/1001", "30", "50", "60"])
def test_every_rate_gives_the_picture_that_25_per_second_gives(
    fps: str, film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("a.mp4", fps=fps)
    times = (4.96, 2.0, 0.0, 3.32)
    ffmpeg("-i", path, "-vf", "fps=25", tmp_path / "%03d.png")
    media = read(path, *times)
    assert media.facts.fps == pytest.approx(float(eval(fps)), rel=1e-4)
    for time, picture in zip(times, media.pictures, strict=True):
        published = np.asarray(Image.open(tmp_path / f"{round(time * 25) + 1:03d}.png").convert("L"))
        assert distance(pixels(picture), published.astype(np.float32)) < 4, time
        assert picture is not None
        assert picture.begins_s < time + 0.02


def test_times_in_any_order_and_after_the_end(film: Callable[..., Path]) -> None:
    """Each picture is the one that is read alone, whatever was read before; after the end there is none."""
    path = film("a.mp4", seconds=4)
    times = [3.9, 0.1, 0.2, 2.0, 1.99, 0.1, 4.5, 1000.0]
    media = read(path, *times)
    assert [picture is None for picture in media.pictures] == [False] * 6 + [True] * 2
    for time, picture in zip(times[:6], media.pictures, strict=False):
        (alone,) = read(path, time).pictures
        assert picture == alone


def test_a_slide_show_shows_the_slide_of_the_time(tmp_path: Path) -> None:
    """At one picture in two seconds, the picture at 4.96 s began at 4 s."""
    path = tmp_path / "slow.mp4"
    source = "testsrc2=size=64x64:rate=1/2:duration=10"
    ffmpeg("-f", "lavfi", "-i", source, "-f", "lavfi", "-i", "sine=duration=10", path)
    (picture,) = read(path, 4.96).pictures
    assert picture is not None
    assert picture.begins_s == pytest.approx(4.0)


# --- how the picture looks ------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "size"), [(90, (120, 160)), (180, (160, 120)), (270, (120, 160))])
def test_a_rotated_video_is_turned_upright(
    degrees: int, size: tuple[int, int], film: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", degrees, "-i", film("a.mp4", seconds=2), "-c", "copy", path)
    media = read(path, 1.0)
    (picture,) = media.pictures
    assert picture is not None
    assert (picture.width, picture.height) == size
    assert media.facts.rotation % 360 == degrees
    assert distance(pixels(picture), picture_of(["-ss", 1, "-i", path, "-frames:v", 1], tmp_path)) < 4


def test_pixels_become_square_and_boxes_stay_fractions(film: Callable[..., Path]) -> None:
    media = read(film("wide.mp4", "-vf", "setsar=4/3", seconds=1))
    (picture,) = media.pictures
    assert picture is not None
    assert (picture.width, picture.height) == (213, 120)
    assert media.facts.pixel_aspect == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ("161x119", 64, (87, 64)),
        ("98x302", 64, (64, 197)),
        ("64x48", 256, (64, 48)),
        ("640x34", 32, (602, 32)),
    ],
)
def test_odd_sizes(size: str, side: int, expected: tuple[int, int], film: Callable[..., Path]) -> None:
    path = film("odd.mp4", "-pix_fmt", "yuv444p", size=size, seconds=1)
    (picture,) = read(path, 0.5, side=side).pictures
    assert picture is not None
    assert (picture.width, picture.height) == expected


def test_ten_bits_and_variable_rate(film: Callable[..., Path], tmp_path: Path) -> None:
    deep = film("deep.mp4", "-pix_fmt", "yuv420p10le", seconds=2)
    media = read(deep, 1.0)
    assert media.facts.pixel_format == "yuv420p10le"
    published = picture_of(["-ss", 1, "-i", deep, "-frames:v", 1, "-pix_fmt", "rgb24"], tmp_path)
    assert distance(pixels(media.pictures[0]), published) < 4
    drops = film("drops.mp4", "-vf", r"select=not(between(n\,40\,70))", "-fps_mode", "vfr", seconds=3)
    varying = read(drops, 1.96)
    assert varying.facts.variable_fps
    assert not media.facts.variable_fps
    (picture,) = varying.pictures
    assert picture is not None
    assert picture.begins_s == pytest.approx(39 / 30, abs=1e-3)  # shown until picture 71


# --- the sound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.009, 1.0, 2.5])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_sound_that_starts_late_stays_late(
    suffix: str, shift: float, film: Callable[..., Path], tmp_path: Path
) -> None:
    """The click of the first second is heard ``shift`` after the picture of the first second is seen."""
    path, late = film("a.mkv", "-c:a", "pcm_s16le", seconds=5), tmp_path / f"late.{suffix}"
    maps = ("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac")
    ffmpeg("-i", path, "-itsoffset", shift, "-i", path, *maps, late)
    media = read(late, 1.0)
    assert media.facts.audio_start_s == pytest.approx(shift, abs=0.025)  # AAC begins with up to 1,024 samples
    clicks = [
        1 + first_click_s(sound[RATE:])
        for sound in (read(path).sound, np.roll(media.sound, -int(shift * RATE)))
    ]
    assert clicks[1] == pytest.approx(clicks[0], abs=0.004)
    assert not media.sound[: max(0, int((shift - 0.03) * RATE))].any()
    assert distance(pixels(media.pictures[0]), pixels(read(path, 1.0).pictures[0])) < 0.01


def test_a_picture_that_starts_late_and_a_gap_in_the_sound(film: Callable[..., Path], tmp_path: Path) -> None:
    path = film("a.mkv", "-c:a", "pcm_s16le", seconds=5)
    late = tmp_path / "late.mkv"
    ffmpeg("-itsoffset", 1, "-i", path, "-i", path, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    media = read(late, 0.2, 2.0)
    assert media.facts.audio_start_s == pytest.approx(-1, abs=0.002)
    assert [picture.begins_s for picture in media.pictures if picture] == pytest.approx([1, 2], abs=0.01)
    gap = tmp_path / "gap.mkv"
    hole = r"aselect=not(between(t\,1.5\,2.5)),asetpts=PTS"
    ffmpeg("-i", path, "-af", hole, "-c:v", "copy", "-c:a", "pcm_s16le", gap)
    with_gap, without = read(gap).sound, read(path).sound
    assert len(with_gap) == pytest.approx(len(without), abs=0.05 * RATE)
    assert not with_gap[int(1.6 * RATE) : int(2.4 * RATE)].any()
    assert np.argmax(np.abs(with_gap[40_000:]) > 1000) == pytest.approx(
        np.argmax(np.abs(without[40_000:]) > 1000), abs=0.005 * RATE
    )


def test_a_copy_cut_at_a_key_frame(film: Callable[..., Path], tmp_path: Path) -> None:
    """A copy whose picture begins at the key frame before the cut: 11 s of picture, 10 s of sound.

    Its sound starts late by as much, and every click is heard where the whole film has it.
    """
    path, cut = film("a.mkv", "-c:a", "pcm_s16le", seconds=14), tmp_path / "cut.mkv"
    # The key frame before 1.5 s is at 1 s; the sound of the film's 2 s belongs to 1 s of the copy.
    wav = tmp_path / "sound.wav"
    ffmpeg("-i", path, "-ss", 2, "-t", 10.01, wav)
    picture, sound = ("-ss", 1.5, "-t", 10.55, "-i", path), ("-itsoffset", 0.5, "-i", wav)
    ffmpeg(*picture, *sound, "-map", "0:v", "-map", "1:a", "-c", "copy", cut)
    media, whole = read(cut, 4.96), read(path, 5.96)
    assert (media.facts.video_s, media.facts.audio_s) == pytest.approx((11.1, 10.01), abs=0.1)
    assert media.facts.audio_start_s == pytest.approx(1.0, abs=0.03)
    assert distance(pixels(media.pictures[0]), pixels(whole.pictures[0])) < 0.01
    assert not media.sound[: int(0.9 * RATE)].any()
    for second in (2, 5, 10):
        clicks = [first_click_s(sound[int((second - 0.5) * RATE) :]) for sound in (media.sound, whole.sound)]
        assert clicks == pytest.approx([0.5, 0.5], abs=0.03)


@pytest.mark.parametrize(
    ("options", "channels"),
    [(("-ac", 1), 1), (("-ac", 2), 2), (("-ac", 6), 6), (("-ac", 1, "-ar", 8000), 1)],
)
def test_channels_and_rates(
    options: tuple[object, ...], channels: int, film: Callable[..., Path], tmp_path: Path
) -> None:
    """Sound of one channel in all of them comes out as loud as ffmpeg's own mixing makes it."""
    path = film("a.mp4", *options, seconds=3)
    media = read(path)
    ffmpeg("-i", path, "-ac", 1, "-ar", RATE, tmp_path / "own.wav")
    import soundfile

    own, _ = soundfile.read(tmp_path / "own.wav", dtype="int16")
    assert media.facts.audio_channels == channels
    n = min(len(own), len(media.sound))
    assert n == pytest.approx(3 * RATE, abs=0.05 * RATE)
    assert np.corrcoef(own[:n], media.sound[:n])[0, 1] > 0.99
    assert np.std(media.sound[:n]) == pytest.approx(np.std(own[:n]), rel=0.05)


# --- streams and damage ---------------------------------------------------------------------------


def test_several_streams_and_a_cover(film: Callable[..., Path], tmp_path: Path) -> None:
    one, other, both = film("1.mp4", seconds=2), film("2.mp4", size="64x64", seconds=2), tmp_path / "both.mp4"
    ffmpeg("-i", one, "-i", other, "-map", "0", "-map", "1", "-c", "copy", both)
    media = read(both)
    assert (media.facts.video_streams, media.facts.audio_streams) == (2, 2)
    assert (media.facts.width, media.facts.height) == (160, 120)
    cover = tmp_path / "cover.mp4"
    ffmpeg("-i", one, "-frames:v", 1, tmp_path / "cover.png")
    with_cover = ("-map", 1, "-map", 0, "-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-i", one, "-i", tmp_path / "cover.png", *with_cover, cover)
    assert read(cover).facts.video_codec == "h264"
    assert verify(cover).video_s == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"this is a text file, whatever its name says\n" * 40, bytes(9999)])
def test_what_is_no_media_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(BadMediaError, match="damaged: decoding failed"):
        read(path)


def test_truncated_files(film: Callable[..., Path], tmp_path: Path) -> None:
    """With the index in front, as much as is there is read; verification tells that it ends too early."""
    front = film("a.mp4", "-movflags", "faststart", seconds=6).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(front[: len(front) * 6 // 10])
    with pytest.raises(BadMediaError, match=r"damaged|too_short"):
        verify(path, min_s=5.4)
    back = film("b.mp4", "-movflags", "0", seconds=6).read_bytes()
    path.write_bytes(back[: len(back) * 6 // 10])
    with pytest.raises(BadMediaError, match="damaged"):
        read(path)


def test_flipped_bytes_are_found(shared: Path, tmp_path: Path) -> None:
    """The decoder paints over what it cannot read and goes on; its mark on the picture gives it away.

    Some damage makes another valid stream. Only the ledger's checksum tells it, see test_preprocess.
    """
    path = tmp_path / "flipped.mp4"
    clips = sorted((shared / "clips" / "vggss").glob("*.mp4"))
    details = []
    for clip in clips:
        for tenth in (3, 5, 7):
            content = bytearray(clip.read_bytes())
            at = len(content) * tenth // 10
            content[at : at + 64] = bytes(byte ^ 0xFF for byte in content[at : at + 64])
            path.write_bytes(content)
            try:
                verify(path)
            except BadMediaError as error:
                details.append(str(error))
    assert len(details) >= 12 > 0.6 * 18
    assert any("1 of 300 pictures are damaged" in detail for detail in details)
    assert any("decoding failed" in detail for detail in details)
    assert all(detail.startswith("damaged") for detail in details)


EDGE_FILES = {
    "FwVYUHKoLtQ_000034.wav": "no_video",
    "decord__corrupted.mp4": "no_audio",
    "decord__flipping_a_pancake.mkv": ("h264", "opus", 1, 1),
    "specvqgan_vas__dog_video_02677.mp4": ("h264", "aac", 1, 1),
    "torchcodec__av1_video.mkv": "no_audio",
    "torchcodec__h265_video.mp4": "no_audio",
    "torchcodec__nasa_13013.mp4": ("h264", "aac", 2, 2),
}


def test_awkward_real_files(shared: Path) -> None:
    found: dict[str, Any] = {}
    for path in sorted((shared / "clips" / "edge").iterdir()):
        try:
            facts = read(path, 4.96).facts
            names = (facts.video_codec, facts.audio_codec)
            found[path.name] = (*names, facts.video_streams, facts.audio_streams)
        except BadMediaError as error:
            found[path.name] = error.reason
    assert found == EDGE_FILES


@pytest.mark.parametrize("name", ["torchcodec__av1_video.mkv", "torchcodec__h265_video.mp4"])
def test_codecs(name: str, shared: Path, tmp_path: Path) -> None:
    """AV1 and HEVC, with a sound added, show what ffmpeg shows."""
    path, sound = tmp_path / f"with_{name}", shared / "clips" / "edge" / "FwVYUHKoLtQ_000034.wav"
    inputs = ("-i", shared / "clips" / "edge" / name, "-i", sound)
    ffmpeg(*inputs, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", path)
    assert verify(path).has_video
    published = picture_of(["-i", path, "-vf", "fps=25,select=eq(n\\,20)", "-frames:v", 1], tmp_path)
    assert distance(pixels(read(path, 0.8).pictures[0]), published) < 4
