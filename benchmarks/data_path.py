"""Measure what a training sample costs: our path from shard to views against the published loader.

The published loader is that of EZ-VSL, which SLAVC and FNAC took over, written again from its formulas: of
every clip a JPEG of the whole frame and a wav file; Pillow decodes the frame and resizes its short side to
246 pixels (bicubic), torchvision crops 224 pixels anywhere, flips, and normalises; of the sound 3 s are read
and the log spectrogram is made clip by clip (512-sample frames every 238, mean removed, Tukey(0.25) window).
Ours is what a training does for one weak view: the shard's frame of 256 pixels, 3 s of its FLAC, crop and
flip and the same spectrogram in batches, normalised too; with each kind of `data.cache`, and without the
views, which a GPU makes where there is one. Caches are filled, and their checksums compared, before
the rounds that count.

Times are of one process with one thread; the least of some rounds, the contestants taking turns. CPU seconds
count, because other work on the machine changes them little; wall seconds stand beside them. With ``--clips``
a folder of mp4 files is used, else clips are rendered.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from avsl_data.decode import ffmpeg_executable
from avsl_data.files import sha256_of
from avsl_data.ledger import LedgerRow
from avsl_data.options import PreprocessOptions
from avsl_data.preprocess import write_shard
from avsl_data.sources.source import CatalogClip
from avsl_train.augment import CROP_DRAWS, crop, draw_weak
from avsl_train.config import AugmentConfig, DataConfig
from avsl_train.data import ClipSet
from avsl_train.draws import Draws
from avsl_train.frontends import make_frontend, tukey_window
from avsl_train.localizer import IMAGENET_MEAN, IMAGENET_STD, normalised
from avsl_train.views import Viewer

GOAL = 5.0
KINDS: Final = ("none", "memory", "disk")
RATE, EXCERPT, FRAME, HOP = 16000, 48000, 512, 238
WINDOW = tukey_window(FRAME).float().numpy()
DENSITY = 2 / np.float32(RATE * (tukey_window(FRAME) ** 2).sum().item())
PICTURE = transforms.Compose(
    [
        transforms.Resize(246, transforms.InterpolationMode.BICUBIC),
        transforms.RandomCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)


def main() -> None:
    """Write times and ratios as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--clips", type=Path, help="folder of mp4 files of 10 s (default: clips are rendered)"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=4, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        paths = sorted(arguments.clips.glob("*.mp4")) if arguments.clips else rendered(work / "videos")
        if not paths:
            sys.exit(f"no mp4 files in {arguments.clips}")
        n = arguments.batch * arguments.batches
        published, sizes = _published_files(paths, work)
        ours = shard_of(paths, n, work)
        os.environ["AVSL_CACHE"] = str(work / "cache")
        ways: dict[str, Callable[[int], Any]] = {
            "published": lambda at: _published_batch(published, arguments.batch, at)
        }
        for kind in KINDS:
            ways |= _our_ways(kind, ours, n, arguments.batch)
        cpu, wall = _measured(ways, arguments.rounds, arguments.batches, n)
        parts = _parts(ours, n, arguments.batch, arguments.rounds)
    least = {name: 1000 * min(values) for name, values in cpu.items()}
    measured = {
        "clips": len(paths),
        "frames": sizes,
        "rendered": arguments.clips is None,
        "cpu_ms_per_clip": least,
        "wall_ms_per_clip": {name: 1000 * min(values) for name, values in wall.items()},
        "published_by": {name: least["published"] / value for name, value in least.items()},
        "parts_of_views_ms": parts,
        "goal": GOAL,
        "cpus": os.cpu_count(),
        "all_cpu_ms_per_clip": {name: [1000 * value for value in values] for name, values in cpu.items()},
    }
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: measured[key] for key in measured if not key.startswith("all")}, indent=1))


def _our_ways(kind: str, shards: Path, n: int, batch: int) -> dict[str, Callable[[int], Any]]:
    """Return our path with one kind of cache, with views and without."""
    config = DataConfig(workers=0, cache=kind)
    clips = ClipSet([shards], [clip_name(number) for number in range(n)], config)
    viewer = Viewer(config, torch.device("cpu"))
    return {
        f"{kind}, views": lambda at: _our_batch(clips, viewer, batch, at),
        f"{kind}, no views": lambda at: _our_clips(clips, batch, at),
    }


def _measured(
    ways: dict[str, Callable[[int], Any]], rounds: int, batches: int, n: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return CPU and wall seconds per clip of every round; a round before them is not counted."""
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began, began_wall = time.process_time(), time.perf_counter()
            for at in range(batches):
                way(at)
            if number:
                cpu[name].append((time.process_time() - began) / n)
                wall[name].append((time.perf_counter() - began_wall) / n)
    return cpu, wall


def _parts(shards: Path, n: int, batch: int, rounds: int) -> dict[str, float]:
    """Return CPU milliseconds per clip of what a weak view is made of."""
    config = DataConfig(workers=0, cache="disk")
    clips = ClipSet([shards], [clip_name(number) for number in range(n)], config)
    loaded = _our_clips(clips, batch, 0)
    wave, frames = loaded.waves, loaded.frames[:1]
    geometry = draw_weak(torch.rand(1, CROP_DRAWS), AugmentConfig())
    frontend = make_frontend(config)
    ways: dict[str, Callable[[int], Any]] = {
        "crop": lambda _: [crop(frames.float(), geometry, config.image_size) for _ in range(batch)],
        "spectrogram": lambda _: [frontend(part) for part in torch.split(wave, 5)],
    }
    cpu, _ = _measured(ways, rounds, 1, batch)
    return {name: 1000 * min(values) for name, values in cpu.items()}


def _published_batch(files: list[tuple[Path, Path]], batch: int, at: int) -> tuple[Tensor, Tensor]:
    """Return one batch of the published loader."""
    samples = [_published_sample(*files[(at * batch + place) % len(files)]) for place in range(batch)]
    pictures, spectrograms = zip(*samples, strict=True)
    return torch.stack(pictures), torch.stack(spectrograms)


def _published_sample(picture: Path, sound: Path) -> tuple[Tensor, Tensor]:
    with Image.open(picture) as image:
        pixels = PICTURE(image.convert("RGB"))
    with soundfile.SoundFile(sound) as file:
        file.seek(max(0, (file.frames - EXCERPT) // 2))
        wave = file.read(EXCERPT, dtype="float32")
    wave = np.resize(wave, EXCERPT)
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP]
    frames = (frames - frames.mean(1, keepdims=True)) * WINDOW
    spectrum = np.fft.rfft(frames)
    power = (np.conjugate(spectrum) * spectrum).real * DENSITY
    power[:, [0, -1]] /= 2
    return pixels, torch.from_numpy(np.log(power.T + np.float32(1e-7)) / 12)[None]


def _our_clips(clips: ClipSet, batch: int, at: int) -> Any:
    """Return what a loading process gives for a weak view."""
    index = torch.arange(at * batch, (at + 1) * batch)
    return clips.batch(index, (Draws(0, "weak", at),))


def _our_batch(clips: ClipSet, viewer: Viewer, batch: int, at: int) -> tuple[Tensor, Tensor]:
    """Return one batch as a model's first layers get it."""
    view = viewer.weak(_our_clips(clips, batch, at), AugmentConfig(), Draws(0, "weak", at))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return normalised(view.image, mean, std, torch.contiguous_format), view.spectrogram


def rendered(folder: Path) -> list[Path]:
    """Render three videos of 10 s with a sound that is no silence, 640 x 360 pixels."""
    folder.mkdir()
    for number, source in enumerate(("testsrc2", "mandelbrot", "testsrc")):
        path = folder / f"{number}.mp4"
        _ffmpeg(
            *("-f", "lavfi", "-i", f"{source}=size=640x360:rate=25", "-f", "lavfi"),
            *("-i", f"anoisesrc=color=pink:seed={number}:sample_rate=44100", "-t", "10", str(path)),
        )
    return sorted(folder.glob("*.mp4"))


def _published_files(paths: list[Path], work: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return the whole frame as a JPEG and the sound as a wav file of each clip, and the frames' sizes."""
    files, sizes = [], []
    for path in paths:
        picture, sound = work / f"{path.stem}.jpg", work / f"{path.stem}.wav"
        _ffmpeg("-ss", "5", "-i", str(path), "-frames:v", "1", "-q:v", "2", str(picture))
        _ffmpeg("-i", str(path), "-vn", "-ac", "1", "-ar", str(RATE), str(sound))
        files.append((picture, sound))
        with Image.open(picture) as image:
            sizes.append("x".join(map(str, image.size)))
    return files, sizes


def _ffmpeg(*arguments: str) -> None:
    subprocess.run([ffmpeg_executable(), "-y", "-nostdin", "-v", "error", *arguments], check=True)


def clip_name(number: int) -> str:
    """Return the id of a clip of `shard_of`."""
    return f"video{number:06d}_000000"


def shard_of(paths: list[Path], n: int, work: Path) -> Path:
    """Write n clips as a shard of frames of 256 pixels."""
    sums = {path: sha256_of(path) for path in paths}
    ledger, catalog = [], {}
    for number in range(n):
        path, clip_id = paths[number % len(paths)], clip_name(number)
        video = clip_id[:-7]
        ledger.append(LedgerRow(clip_id, video, str(path), "ok", None, None, sums[path], 10.0, 1, ""))
        catalog[clip_id] = CatalogClip(clip_id, video, "folder:///x", 0.0, None, "", "test")
    folder = work / "shards"
    folder.mkdir()
    counts = write_shard(folder / "0000.parquet", ledger, catalog, {}, PreprocessOptions(), 1)
    if counts["ok"] != n:
        sys.exit(f"preprocessing failed: {counts}")
    return folder


if __name__ == "__main__":
    main()
