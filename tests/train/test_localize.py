"""Overlays of real files: geometry, time, sound, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsl_train.__main__ import main
from avsl_train.errors import TrainInputError
from avsl_train.localize import localize_moment, localize_pair, localize_video
from avsl_train.model import COSINE, Model, Region
from avsl_train.overlay import Style
from avsl_train.video import SoundTrack, require_both
from tests.train.conftest import World, make_config
from tests.train.videos import Brightness, ffmpeg, make_video, read_back, turned

RED = Style("red", alpha=1.0)


def is_red(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where the overlay's colour is clearly mixed in."""
    return pixels[..., 0].astype(int) - pixels[..., 2] > 60


def still(path: Path) -> np.ndarray[Any, Any]:
    """Return the pixels of a picture."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def facts(path: Path) -> dict[str, Any]:
    """Return what players look at."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        return {
            "video": (video.codec_context.name, video.codec_context.pix_fmt),
            "size": (video.width, video.height),
            "rate": float(video.average_rate or 0),
            "video_s": float((video.duration or 0) * (video.time_base or 0)),
            "audio": (audio.codec_context.name, audio.rate, audio.codec_context.channels),
            "duration_s": (container.duration or 0) / 1e6,
        }


def loudness(path: Path, rate: int = 44100) -> np.ndarray[Any, Any]:
    """Return the largest sample of each tenth of a second of a file's sound."""
    with SoundTrack(path) as sound:
        wave = sound.around(0.0, 60.0)
    assert sound.sample_rate == rate
    tenth = rate // 10
    return np.abs(wave[: len(wave) // tenth * tenth].reshape(-1, tenth)).max(1)


def test_the_map_lies_where_and_when_it_belongs(tmp_path: Path) -> None:
    """The white quarter is coloured; in the middle of the video it jumps."""
    network = Brightness()
    out = tmp_path / "out.mp4"
    track = localize_video(Model(network), make_video(tmp_path / "in.mp4"), out, RED, every_s=0.1)
    assert len(track.maps) == len(network.heard) == 20
    assert track.maps.max() == pytest.approx(0.5, abs=0.03)  # the loudness of the tone
    times, pictures = read_back(out)
    np.testing.assert_allclose(times, np.arange(20) / 10, atol=1e-3)
    for time_s, pixels in zip(times, pictures, strict=True):
        red = is_red(pixels)
        assert red[4:20, 4:28].all() == (time_s < 1)
        assert red[28:44, 36:60].all() == (time_s >= 1)
        assert not red[4:20, 36:60].any()
    found = facts(out)
    assert found["video"] == ("h264", "yuv420p")
    assert found["size"] == (64, 48)
    assert found["rate"] == 10
    assert found["video_s"] == pytest.approx(2.0, abs=0.002)
    assert found["audio"] == ("aac", 44100, 2)
    assert found["duration_s"] == pytest.approx(2.0, abs=0.03)  # a packet of AAC is 0.023 s
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_between_two_moments_the_map_changes_gradually(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    video = make_video(tmp_path / "in.mp4", rate=20)
    track = localize_video(Model(Brightness()), video, out, RED, every_s=0.5)
    assert track.times_s.tolist() == pytest.approx([0, 0.5, 1.0, 1.5])
    _, pictures = read_back(out)
    # the white quarter of the picture jumps at 1.0, its map fades from 0.5 to 1.0
    blue = [int(pictures[step][12, 16, 2]) for step in range(10, 20)]
    assert blue[0] < 160
    assert blue[-1] > 225
    assert all(a <= b + 4 for a, b in pairwise(blue))


def test_the_sound_is_the_videos(tmp_path: Path) -> None:
    loud = np.zeros((2, 2 * 44100), np.float32)
    loud[:, 44100 : 44100 + 22050] = 0.6 * np.sin(np.arange(22050) * 0.1)
    video = make_video(tmp_path / "in.mp4", sound=loud)
    network = Brightness(window_s=0.2)
    track = localize_video(Model(network), video, tmp_path / "out.mp4", RED, every_s=0.1)
    for path in (video, tmp_path / "out.mp4"):
        found = loudness(path)
        assert (found[:9] < 0.05).all()
        assert (found[10:15] > 0.5).all()
        assert (found[16:20] < 0.05).all()
    heard = track.maps.max((1, 2)) > 0.2
    inside, near = np.abs(track.times_s - 1.25) < 0.26, np.abs(track.times_s - 1.25) < 0.37
    assert heard[inside].all()  # at the two ends of the sound half a window may be silent
    assert not heard[~near].any()
    assert {len(sound) for sound in network.heard} == {3200}  # 0.2 s at 16 kHz, at the ends too


def test_the_window_can_be_shorter_but_not_longer_than_what_is_heard(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4")
    network = Brightness()
    localize_video(Model(network), video, tmp_path / "out.mp4", RED, window_s=0.1)
    assert {len(sound) for sound in network.heard} == {1600}
    for wrong in (0.0, -1.0, 0.6, float("nan")):
        with pytest.raises(TrainInputError, match=r"--window is .*: the model hears 0\.5 s at once"):
            localize_video(Model(network), video, tmp_path / "wrong.mp4", RED, window_s=wrong)
    assert not (tmp_path / "wrong.mp4").exists()


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_phones_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    """The overlay equals what ffmpeg shows of the same file, and needs no rotation itself."""
    plain = make_video(tmp_path / "plain.mp4")
    video = turned(plain, tmp_path / "turned.mp4", degrees)
    shown = tmp_path / "shown.mp4"
    ffmpeg(["-i", str(video), "-crf", "1", str(shown)])
    network, out = Brightness(), tmp_path / "out.mp4"
    localize_video(Model(network), video, out, Style(alpha=0.0))
    upright = (64, 48) if degrees == 180 else (48, 64)
    assert facts(out)["size"] == upright
    assert set(network.seen) == {upright}
    for found, wanted in zip(read_back(out)[1], read_back(shown)[1], strict=True):
        assert np.abs(found.astype(int) - wanted).mean() < 4


def test_time_stamps_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.3, 1.9]
    video = make_video(tmp_path / "in.mp4", times_s=times, rate=25)
    out = tmp_path / "out.mp4"
    localize_video(Model(Brightness()), video, out, RED, every_s=0.4)
    np.testing.assert_allclose(read_back(out)[0], times, atol=2e-3)


@pytest.mark.parametrize("size", [(65, 48), (64, 49), (65, 49), (2, 2)])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_odd_sides_are_made_even(tmp_path: Path, size: tuple[int, int], side_by_side: bool) -> None:
    video = make_video(tmp_path / "in.mkv", size)
    out = tmp_path / "out.mp4"
    localize_video(Model(Brightness()), video, out, Style(side_by_side=side_by_side))
    width = size[0] * (2 if side_by_side else 1)
    assert facts(out)["size"] == (width + width % 2, size[1] + size[1] % 2)
    assert facts(out)["video"] == ("h264", "yuv420p")


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (22050, 2), (48000, 2), (96000, 1)])
def test_sounds_of_any_rate(tmp_path: Path, rate: int, channels: int) -> None:
    sound = 0.5 * np.sin(np.arange(rate) * 0.05)[None].repeat(channels, 0)
    video = make_video(
        tmp_path / "in.mkv", duration_s=1.0, sound=sound, sound_rate=rate, codecs=("libx264", "flac")
    )
    localize_video(Model(Brightness()), video, tmp_path / "out.mp4", RED)
    assert facts(tmp_path / "out.mp4")["audio"] == ("aac", min(rate, 48000), channels)
    assert facts(tmp_path / "out.mp4")["duration_s"] == pytest.approx(1.0, abs=0.15)


def test_a_sound_that_begins_late_or_ends_early_is_silent_there(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(16000) * 0.05)[None]
    video = make_video(tmp_path / "in.mkv", sound=tone, sound_rate=16000, sound_from_s=0.5)
    network = Brightness(window_s=0.1)
    track = localize_video(Model(network), video, tmp_path / "out.mp4", RED, every_s=0.1)
    heard = track.maps.max((1, 2)) > 0.2
    assert not heard[:4].any()
    assert heard[6:14].all()
    assert not heard[17:].any()
    found = loudness(tmp_path / "out.mp4", 16000)
    assert (found[:4] < 0.05).all()
    assert (found[6:14] > 0.4).all()


def test_a_part_of_the_frame_that_the_method_does_not_see_stays_as_it_is(tmp_path: Path) -> None:
    network = Brightness(region=Region(0.25, 0, 0.75, 1))
    white = np.full((48, 64, 3), 255, np.uint8)
    Image.fromarray(white).save(tmp_path / "white.png")
    soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(16000) * 0.1), 16000)
    localize_pair(Model(network), tmp_path / "white.png", tmp_path / "tone.wav", tmp_path / "o.png", RED)
    found = is_red(still(tmp_path / "o.png"))
    assert found[:, 16:48].all()
    assert not found[:, :16].any()
    assert not found[:, 48:].any()
    model = Model(network)
    network.values = COSINE
    whole = model.localize(white, np.zeros(16000, np.int16), sample_rate=16000)
    assert (whole[:, :16] == -1).all()
    assert (whole[:, 16:48] == 0).all()


@pytest.mark.parametrize(("at_s", "late"), [(0.0, False), (0.95, False), (1.0, True), (1.99, True)])
def test_a_moment_as_a_still(tmp_path: Path, at_s: float, late: bool) -> None:
    video = make_video(tmp_path / "in.mp4", duration_s=2.0)
    network = Brightness()
    heatmap = localize_moment(Model(network), video, at_s, tmp_path / "still.png", RED)
    found = is_red(still(tmp_path / "still.png"))
    assert found[4:20, 4:28].all() != late
    assert found[28:44, 36:60].all() == late
    assert heatmap.shape == (8, 8)
    assert len(network.heard[0]) == 8000


def test_a_moment_of_a_long_video_is_sought(tmp_path: Path) -> None:
    sound = np.zeros((1, 16000 * 60), np.float32)
    sound[0, 16000 * 50 : 16000 * 51] = 0.5
    video = make_video(tmp_path / "in.mp4", duration_s=60.0, rate=5, sound=sound, sound_rate=16000)
    model = Model(Brightness(window_s=0.5))
    assert localize_moment(model, video, 50.5, tmp_path / "a.png", RED).max() == pytest.approx(0.5, abs=0.05)
    assert localize_moment(model, video, 52.5, tmp_path / "b.jpg", RED).max() < 0.05
    with pytest.raises(TrainInputError, match=r"--at is 61, and .*in\.mp4 lasts 60\.\d s"):
        localize_moment(model, video, 61, tmp_path / "c.png", RED)
    with pytest.raises(TrainInputError, match="--at is -1: seconds from"):
        localize_moment(model, video, -1, tmp_path / "c.png", RED)


def test_a_picture_and_a_sound(tmp_path: Path) -> None:
    """A photograph is turned upright; of a long sound the middle is heard, in constant memory."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    picture.save(tmp_path / "photo.jpg", exif=exif)
    wave = np.zeros(16000 * 20, np.float32)
    wave[16000 * 10 - 3000 : 16000 * 10 + 3000] = 0.5
    soundfile.write(tmp_path / "sound.wav", wave, 16000)
    network = Brightness()
    localize_pair(Model(network), tmp_path / "photo.jpg", tmp_path / "sound.wav", tmp_path / "out.jpeg", RED)
    assert network.seen == [(48, 64)]
    assert np.abs(network.heard[0]).max() == pytest.approx(16384, abs=200)
    found = is_red(still(tmp_path / "out.jpeg"))
    assert found[4:28, 28:44].all()  # the upper left corner has become the upper right one
    assert not found[36:60].any()


def test_what_cannot_be_localized_is_told(tmp_path: Path) -> None:
    model, out = Model(Brightness()), tmp_path / "out.mp4"
    silent = make_video(tmp_path / "silent.mp4", sound=np.zeros((1, 0)))
    with pytest.raises(TrainInputError, match=r"silent\.mp4 has no sound, and where a sound comes from"):
        localize_video(model, silent, out, RED)
    video = make_video(tmp_path / "in.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(
        TrainInputError, match=r"cut\.mp4 cannot be read as video or sound .* is it cut short"
    ):
        localize_video(model, cut, out, RED)
    soundfile.write(tmp_path / "sound.wav", np.zeros(1600), 16000)
    with pytest.raises(TrainInputError, match=r"sound\.wav has no pictures: give a video"):
        localize_video(model, tmp_path / "sound.wav", out, RED)
    with pytest.raises(TrainInputError, match=r"no file .*none\.mp4"):
        localize_video(model, tmp_path / "none.mp4", out, RED)
    with pytest.raises(TrainInputError, match=r"is no \.mp4: videos are written as mp4"):
        localize_video(model, video, tmp_path / "out.avi", RED)
    with pytest.raises(TrainInputError, match="is the input itself"):
        localize_video(model, video, video, RED)
    with pytest.raises(TrainInputError, match="--every is 0: seconds between two maps"):
        localize_video(model, video, out, RED, every_s=0)
    with pytest.raises(TrainInputError, match=r"still is written as \.png, \.jpg, \.jpeg"):
        localize_moment(model, video, 0.0, out, RED)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(TrainInputError, match=r"text\.png cannot be read as a picture"):
        localize_pair(model, tmp_path / "text.png", tmp_path / "sound.wav", tmp_path / "o.png", RED)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_a_video_that_breaks_off_says_where(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mkv", duration_s=4.0, rate=20, codecs=("mpeg4", "flac"))
    data = bytearray(video.read_bytes())
    draw = np.random.default_rng(0)
    for place in range(len(data) // 2, len(data) - 100, 7):
        data[place] = int(draw.integers(256))
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(data)
    with pytest.raises(TrainInputError, match=r"broken\.mkv cannot be decoded after \d\.\d s"):
        localize_video(Model(Brightness()), broken, tmp_path / "out.mp4", RED)
    assert not (tmp_path / "out.mp4").exists()


def test_real_clips(shared: Path, tmp_path: Path) -> None:
    """Files as they come: Opus in Matroska, several streams, a rate of 30000/1001."""
    clips = [*(shared / "clips/edge").glob("*pancake.mkv"), *(shared / "clips/edge").glob("*dog*.mp4")]
    assert len(clips) == 2
    for clip in clips:
        known = require_both(clip)
        out = tmp_path / f"{clip.stem}.mp4"
        localize_video(Model(Brightness(window_s=3.0)), clip, out, RED, every_s=2.0)
        found = facts(out)
        assert found["size"] == (known.width, known.height)
        assert found["duration_s"] == pytest.approx(known.duration_s, abs=0.06)
        assert len(read_back(out)[0]) == len(read_back(clip)[0])


@pytest.fixture(scope="module")
def checkpoint(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from avsl_train.fit import fit, read_training_clips

    out = tmp_path_factory.mktemp("trained")
    config = make_config("xpl", optim={"steps": 1})
    fit(config, read_training_clips(config, [world.shards], world.split), 0, out, threads=1)
    return out / "checkpoint.pt"


def test_the_command_draws_what_the_model_finds(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_video(tmp_path / "in.mp4", duration_s=1.0)
    common = ["--checkpoint", str(checkpoint), "--threads", "1"]
    arguments = ["localize", str(video), *common, "--out", str(tmp_path / "out.mp4"), "--side-by-side"]
    assert main([*arguments, "--contour", "0.5", "--colours", "jet", "--range", "0", "0.5"]) == 0
    assert facts(tmp_path / "out.mp4")["size"] == (128, 48)
    still = ["--at", "0.5", "--out", str(tmp_path / "still.png")]
    assert main(["localize", str(video), *common, *still, "--which", "a"]) == 0
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "p.png")
    soundfile.write(tmp_path / "s.wav", np.zeros(100), 16000)
    pair = ["--image", str(tmp_path / "p.png"), "--audio", str(tmp_path / "s.wav")]
    assert main(["localize", *pair, *common, "--out", str(tmp_path / "pair.png")]) == 0
    with Image.open(tmp_path / "pair.png") as drawn:
        assert drawn.size == (7, 5)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "o.mp4"], "give a video, or a picture and its sound by --image and --audio"),
        (["in.mp4", "--image", "p.png", "--out", "o.mp4"], "give a video, or a picture and its sound"),
        (["--image", "p.png", "--out", "o.png"], "--image and --audio belong together"),
        (["in.mp4", "--audio", "s.wav", "--out", "o.png"], "--image and --audio belong together"),
        (["none.mp4", "--out", "o.mp4"], "no file none.mp4"),
        (["in.mp4", "--out", "o.gif"], "--out o.gif is no .mp4"),
        (["in.mp4", "--out", "o.mp4", "--alpha", "2"], "alpha is 2: it lies between 0"),
        (["in.mp4", "--out", "o.mp4", "--range", "1", "0"], "the range 1 to 0 is empty"),
        (["in.mp4", "--out", "o.mp4", "--window", "9"], "--window is 9: the model hears 0.5 s at once"),
        (["in.mp4", "--at", "1", "--out", "o.mp4"], "--out o.mp4: a still is written as .png, .jpg, .jpeg"),
        (["in.mp4", "--at", "7", "--out", "o.png"], "--at is 7, and in.mp4 lasts 1.0 s"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    make_video(tmp_path / "in.mp4", duration_s=1.0, sound=np.zeros((1, 16000)), sound_rate=16000)
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "p.png")
    soundfile.write(tmp_path / "s.wav", np.zeros(100), 16000)
    monkeypatch.chdir(tmp_path)
    assert main(["localize", "--checkpoint", str(checkpoint), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"avsl-train: error: {message}")
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "p.png", "s.wav"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while pictures are drawn: no file, nothing temporary, and an earlier one stays."""
    video = make_video(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_text("earlier")
    calls: list[float] = []

    def stop(*_: Any) -> Any:
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return np.zeros((48, 64, 3), np.uint8)

    monkeypatch.setattr("avsl_train.localize.draw", stop)
    with pytest.raises(KeyboardInterrupt):
        localize_video(Model(Brightness()), video, tmp_path / "out.mp4", RED)
    assert (tmp_path / "out.mp4").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_container_whose_time_begins_late_begins_at_0(tmp_path: Path) -> None:
    """Transport streams begin at 1.4 s; picture and sound stay together."""
    loud = np.zeros((2, 2 * 44100), np.float32)
    loud[:, 44100 : 44100 + 22050] = 0.6 * np.sin(np.arange(22050) * 0.1)
    video = make_video(tmp_path / "in.mp4", sound=loud)
    ffmpeg(["-i", str(video), "-c", "copy", str(tmp_path / "in.ts")])
    with av.open(str(tmp_path / "in.ts")) as container:
        assert (container.start_time or 0) > 1e6
    track = localize_video(Model(Brightness()), tmp_path / "in.ts", tmp_path / "out.mp4", RED, every_s=0.1)
    times, pictures = read_back(tmp_path / "out.mp4")
    assert times[0] < 0.1
    assert track.times_s[0] == pytest.approx(times[0], abs=1e-3)
    shift_s = times[0]
    jump = next(time_s for time_s, pixels in zip(times, pictures, strict=True) if pixels[40, 60].max() > 128)
    assert jump - shift_s == pytest.approx(1.0, abs=0.01)
    found = loudness(tmp_path / "out.mp4") > 0.3
    assert np.flatnonzero(found)[0] / 10 == pytest.approx(jump, abs=0.11)


def test_a_still_has_the_colours_of_the_same_moment_in_the_video(tmp_path: Path) -> None:
    """Under the same range."""
    video = make_video(tmp_path / "in.mp4")
    model, style = Model(Brightness()), Style("jet", low=0.0, high=0.6)
    localize_video(model, video, tmp_path / "out.mp4", style, every_s=0.5)
    localize_moment(model, video, 0.5, tmp_path / "still.png", style)
    _, pictures = read_back(tmp_path / "out.mp4")
    assert np.abs(pictures[5].astype(int) - still(tmp_path / "still.png")).mean() < 4
