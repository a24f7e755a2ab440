"""Synthetic clips, shards and configurations that train in seconds on one thread."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from PIL import Image

from avsl_data.flow import encode_flow
from avsl_train.config import DataConfig, ExperimentConfig, parse_config
from avsl_train.data import Clips
from avsl_train.methods import METHODS, Method
from avsl_train.methods.method import Batch
from avsl_train.study import merge
from avsl_train.views import Viewer

torch.set_num_threads(1)

RATE = 16000
CPU = torch.device("cpu")
BASE: dict[str, Any] = {
    "model": {"visual": "tiny", "audio": "tiny", "dim": 16, "width": 0.34},
    "data": {
        "frame_size": 40,
        "image_size": 32,
        "clip_s": 1.0,
        "audio_s": 0.5,
        "frontend": "logmel",
        "mels": 16,
        "cache": True,
    },
    "optim": {"steps": 8, "batch_labeled": 3, "batch_unlabeled": 4, "lr": 0.005},
    "device": "cpu",
    "checkpoint_every": 2,
    "log_every": 1,
}
"""The smallest training configuration that has everything: 8x8 maps of 32-pixel images."""

ROW_TYPES = pa.schema(
    [
        ("clip_id", pa.string()),
        ("frame", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("boxes", pa.list_(pa.list_(pa.float32()))),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 80, 230))
FLOW_ROW_TYPES = ROW_TYPES.append(pa.field("notes", pa.list_(pa.string()))).append(
    pa.field("flow", pa.binary())
)


@pytest.fixture(autouse=True)
def _process_state() -> Iterator[None]:
    """Give back what a training changes in its process: handlers, kernels, random numbers."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


def make_config(method: str | Mapping[str, Any], **over: Any) -> ExperimentConfig:
    """Return the base configuration with a method and other keys replaced."""
    own = {"name": method} if isinstance(method, str) else dict(method)
    return parse_config(merge(BASE, {"method": own, **over}), "a test")


def jpeg(pixels: np.ndarray[Any, Any]) -> bytes:
    """Return RGB pixels [H, W, 3] as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def flac(samples: np.ndarray[Any, Any], rate: int = RATE) -> bytes:
    """Return int16 samples as a FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def scene(number: int) -> dict[str, Any]:
    """Return the shard row of a scene: one coloured box on grey, and a tone that tells its colour."""
    draw = np.random.default_rng(number)
    kind = number % len(COLOURS)
    pixels = np.full((44, 60, 3), 110, np.uint8) + draw.integers(0, 20, (44, 60, 3), np.uint8)
    x0, y0 = draw.uniform(0, 0.5, 2)
    x1, y1 = x0 + draw.uniform(0.25, 0.5), y0 + draw.uniform(0.25, 0.5)
    pixels[int(y0 * 44) : int(y1 * 44), int(x0 * 60) : int(x1 * 60)] = COLOURS[kind]
    steps = np.arange(RATE) / RATE
    tone = 0.4 * np.sin(2 * np.pi * 300 * 2**kind * steps) + draw.normal(0, 0.01, RATE)
    return make_row(
        f"{number:011d}_000000", jpeg(pixels), flac((tone * 32767).astype(np.int16)), [[x0, y0, x1, y1]]
    )


def make_row(
    clip_id: str,
    frame: bytes | None = None,
    audio: bytes | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Return a row of a shard; one with a reason is a failed clip."""
    return {
        "clip_id": clip_id,
        "frame": None if frame is None else {"bytes": frame, "path": None},
        "audio": None if audio is None else {"bytes": audio, "path": None},
        "boxes": boxes,
        "status": "failed" if reason else "ok",
        "reason": reason,
    }


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], types: pa.Schema = ROW_TYPES) -> Path:
    """Write rows as a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), types), path)
    return path


def flow_of(number: int) -> dict[str, Any]:
    """Return the columns of a scene's optical flow, in which every pixel moves differently."""
    moves = np.random.default_rng(number).normal(0, 20, (44, 60, 2)).astype(np.float32)
    return {"notes": [], "flow": encode_flow(moves)}


def write_split(path: Path, subsets: Mapping[str, Sequence[str]]) -> Path:
    """Write a split file."""
    pairs = [(clip_id, name) for name, ids in subsets.items() for clip_id in ids]
    ids, names = zip(*pairs, strict=True)
    pq.write_table(pa.table({"clip_id": list(ids), "subset": list(names)}), path)
    return path


class World:
    """Files of a small study: 4 labelled, 10 unlabelled and 3 test clips; two more of them are broken."""

    def __init__(self, folder: Path, flow: bool = False) -> None:
        self.folder = folder
        self.shards = folder / "shards"
        rows = [{**scene(number), **(flow_of(number) if flow else {})} for number in range(17)]
        failed = make_row("broken00000_000000", reason="truncated")
        types = FLOW_ROW_TYPES if flow else ROW_TYPES
        write_shard(self.shards / "0000.parquet", rows[:9], types)
        write_shard(self.shards / "0001.parquet", [*rows[9:], failed], types)
        ids = [row["clip_id"] for row in rows]
        self.labeled, self.unlabeled, self.test = ids[:4], ids[4:14], ids[14:]
        self.excluded = {"broken00000_000000": "truncated", "missing0000_000000": "not in the shards"}
        self.split = write_split(
            folder / "split.parquet",
            {
                "labeled": self.labeled,
                "unlabeled": [*self.unlabeled, "broken00000_000000"],
                "test": [*self.test, *self.excluded],
            },
        )

    def write_config(self, path: Path, method: str | Mapping[str, Any], **over: Any) -> Path:
        """Write a resolved configuration."""
        path.write_text(json.dumps(make_config(method, **over).model_dump(mode="json")))
        return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the files of a small study; tests do not change them."""
    return World(tmp_path_factory.mktemp("world"))


def make_clips(n: int, config: DataConfig, seed: int = 0) -> Clips:
    """Return random clips with one box each."""
    draw = torch.Generator().manual_seed(seed)
    size, samples = config.frame_size, round(config.clip_s * config.sample_rate)
    corners = torch.rand((n, 1, 2), generator=draw) * 0.5
    frames = torch.randint(0, 256, (n, 3, size, size), generator=draw, dtype=torch.uint8)
    return Clips(
        torch.arange(n),
        frames,
        torch.randint(-9000, 9000, (n, samples), generator=draw, dtype=torch.int16),
        torch.cat([corners, corners + 0.4], dim=2),
        torch.arange(n) + 1000 * seed,
        flow=frames[:, :2].float() / 50 if config.flow else None,
    )


def make_method(config: ExperimentConfig, n_unlabeled: int = 5, seed: int = 0) -> Method:
    """Return a fresh method on the CPU."""
    return METHODS[config.method.name](config, Viewer(config.data, CPU), seed, n_unlabeled)


def make_batch(config: ExperimentConfig, n_labeled: int = 3, n_unlabeled: int = 5) -> Batch:
    """Return random clips as a batch; the unlabelled ones are all there are, in order."""
    labeled, unlabeled = make_clips(n_labeled, config.data, 1), make_clips(n_unlabeled, config.data, 2)
    return Batch(Clips.join([labeled, unlabeled]), n_labeled)


def gradient(term: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """Return the gradient of a term for all parameters of a module as one vector; 0 where none flows."""
    parameters = list(module.parameters())
    parts = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            torch.zeros(parameter.numel()) if part is None else part.flatten()
            for part, parameter in zip(parts, parameters, strict=True)
        ]
    )
