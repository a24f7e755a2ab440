"""Small videos with sound, made by PyAV, and a network whose maps can be known beforehand."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import torch
from PIL import Image

from avsl_train.inputs import Int16
from avsl_train.model import PROBABILITY, WHOLE, Region

RATE = 16000
CELLS = 8


class Brightness:
    """The map is how bright the picture is in 8 x 8 cells, times how loud the sound is; 1 is full scale."""

    def __init__(self, window_s: float = 0.5, region: Region = WHOLE) -> None:
        self.sample_rate = RATE
        self.window_s = window_s
        self.values = PROBABILITY
        self.about = {"method": "brightness"}
        self.heard: list[Int16] = []
        self.seen: list[tuple[int, int]] = []
        self._region = region

    def region(self, width: int, height: int) -> Region:  # noqa: ARG002
        return self._region

    def maps(self, frames: Sequence[Image.Image], sounds: Sequence[Int16]) -> torch.Tensor:
        self.heard.extend(sounds)
        self.seen.extend(frame.size for frame in frames)
        found = []
        for frame, sound in zip(frames, sounds, strict=True):
            small = frame.convert("L").resize((CELLS, CELLS), Image.Resampling.BOX)
            loudness = np.abs(sound.astype(np.float32)).max() / 32768
            found.append(torch.from_numpy(np.asarray(small) / 255 * loudness))
        return torch.stack(found)


def picture_at(time_s: float, width: int, height: int, duration_s: float) -> np.ndarray[Any, Any]:
    """Return black with a white quarter: left above in the first half of the time, then right below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if time_s < duration_s / 2:
        pixels[: height // 2, : width // 2] = 255
    else:
        pixels[height // 2 :, width // 2 :] = 255
    return pixels


def make_video(
    path: Path,
    size: tuple[int, int] = (64, 48),
    times_s: Sequence[float] | None = None,
    duration_s: float = 2.0,
    rate: int = 10,
    sound: np.ndarray[Any, Any] | None = None,
    sound_rate: int = 44100,
    sound_from_s: float = 0.0,
    codecs: tuple[str, str] = ("libx264", "aac"),
) -> Path:
    """Write a video; without ``sound`` a stereo tone of half the full scale, silent if it has no samples."""
    width, height = size
    times = np.arange(round(duration_s * rate)) / rate if times_s is None else times_s
    if sound is None:
        tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(round(duration_s * sound_rate)) / sound_rate)
        sound = np.stack([tone, tone])
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream(codecs[0], rate=rate)
        video.width, video.height = width, height
        video.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio: Any = None
        if sound.size:
            layout = "stereo" if len(sound) == 2 else "mono"
            audio = out.add_stream(codecs[1], rate=sound_rate, layout=layout)
        for time_s in times:
            pixels = picture_at(time_s, width, height, duration_s)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            samples = np.ascontiguousarray(sound, np.float32)
            heard: Any = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            heard.sample_rate, heard.time_base = sound_rate, Fraction(1, sound_rate)
            heard.pts = round(sound_from_s * sound_rate)
            resampler = av.AudioResampler(
                format=audio.format, layout=layout, rate=sound_rate, frame_size=1024
            )
            for part in [*resampler.resample(heard), *resampler.resample(None)]:
                out.mux(audio.encode(part))
            out.mux(audio.encode(None))
    return path


def turned(path: Path, out: Path, degrees: int) -> Path:
    """Write the same video with the rotation that a phone stores beside the picture."""
    ffmpeg(["-display_rotation", str(degrees), "-i", str(path), "-c", "copy", str(out)])
    return out


def ffmpeg(arguments: Sequence[str]) -> None:
    """Run ffmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", "-v", "error", *arguments]
    subprocess.run(command, check=True)


def read_back(path: Path) -> tuple[list[float], list[np.ndarray[Any, Any]]]:
    """Return the times and RGB pictures of a video."""
    with av.open(str(path)) as container:
        frames = [*container.decode(video=0)]
    return [float(frame.time or 0) for frame in frames], [
        frame.to_ndarray(format="rgb24") for frame in frames
    ]
