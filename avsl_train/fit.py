"""The training loop. It knows clips, steps, checkpoints and logs, and nothing of any method.

A training is a pure function of configuration, clips and seed: every draw has a named stream (`seeding`), so
that a training which was killed and started again ends with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from avsl_train.checkpoint import (
    Checkpoint,
    file_digest,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips, ClipSet, read_split
from avsl_train.errors import TrainInputError
from avsl_train.files import whole_file, write_json
from avsl_train.methods import METHODS
from avsl_train.methods.method import Batch, Method
from avsl_train.provenance import commit, device_name, versions
from avsl_train.seeding import load_rng_state, rng_state, seed_everything, stream
from avsl_train.views import Viewer

logger = logging.getLogger(__name__)

LABELED: Final = "labeled"
UNLABELED: Final = "unlabeled"
WORKING: Final = "last.pt"
FINAL: Final = "checkpoint.pt"


class NotFiniteError(RuntimeError):
    """A loss became NaN or infinite; the last working checkpoint is kept."""


@dataclass(frozen=True)
class TrainingClips:
    """The clips of a training."""

    labeled: ClipSet
    unlabeled: ClipSet

    @property
    def digest(self) -> str:
        """Digest of the ids: a checkpoint goes on only with the clips it began with."""
        text = json.dumps([self.labeled.ids, self.unlabeled.ids])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def excluded(self) -> dict[str, str]:
        """Clips of the split that could not be used, and why."""
        return {**self.labeled.excluded, **self.unlabeled.excluded}


@dataclass(frozen=True)
class Schedule:
    """Which clips a step sees; a pure function of the seed and the step."""

    seed: int
    n_labeled: int
    n_unlabeled: int
    batch_labeled: int
    batch_unlabeled: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the unlabelled clips; the last incomplete batch is dropped."""
        return max(1, self.n_unlabeled // self.batch_unlabeled) if self.n_unlabeled else 1

    def labeled(self, step: int) -> Tensor:
        """Return the labelled clips of a step: passes over all of them, each in its own order, end to end."""
        return self._endless("labeled", self.n_labeled, step * self.batch_labeled, self.batch_labeled)

    def unlabeled(self, step: int) -> Tensor:
        """Return the unlabelled clips of a step: each clip at most once per epoch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = torch.randperm(self.n_unlabeled, generator=stream(self.seed, "order", "unlabeled", epoch))
        return order[position * self.batch_unlabeled : (position + 1) * self.batch_unlabeled]

    def _endless(self, name: str, n: int, start: int, count: int) -> Tensor:
        passes = range(start // n, (start + count - 1) // n + 1)
        orders = [torch.randperm(n, generator=stream(self.seed, "order", name, number)) for number in passes]
        first = start - passes[0] * n
        return torch.cat(orders)[first : first + count]


def read_training_clips(config: ExperimentConfig, shards: Sequence[Path], split: Path) -> TrainingClips:
    """Read the labelled and unlabelled clips of a split.

    Raises
    ------
    TrainInputError
        The split has no labelled clips, or none of them is usable.
    """
    subsets = read_split(split)
    if LABELED not in subsets:
        raise TrainInputError(f"{split} has no subset {LABELED!r} (it has: {', '.join(subsets)})")
    clips = TrainingClips(
        ClipSet(shards, subsets[LABELED], config.data, need_boxes=True),
        ClipSet(shards, subsets.get(UNLABELED, []), config.data),
    )
    if not len(clips.labeled):
        reasons = sorted(set(clips.labeled.excluded.values()))
        raise TrainInputError(
            f"none of the {len(subsets[LABELED])} labelled clips is usable ({', '.join(reasons)})"
        )
    return clips


def fit(
    config: ExperimentConfig, clips: TrainingClips, seed: int, out: Path, threads: int | None = None
) -> Checkpoint:
    """Train, or go on with a training that was stopped.

    Parameters
    ----------
    config
        The training configuration.
    clips
        Labelled and unlabelled clips.
    seed
        Seed of every draw.
    out
        Folder of the run: the working checkpoint, the metrics log and at the end ``checkpoint.pt`` and
        ``run.json``.
    threads
        CPU threads; None: torch's default.

    Returns
    -------
    Checkpoint
        The final one.

    Raises
    ------
    TrainInputError
        ``out`` holds a training of another configuration, seed or set of clips.
    NotFiniteError
        A loss became NaN or infinite.
    """
    seed_everything(seed, threads)
    device = choose_device(config.device)
    method = METHODS[config.method.name](config, Viewer(config.data, device), seed, len(clips.unlabeled))
    optimizer = torch.optim.Adam(
        method.models.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay
    )
    checkpoint = _start_or_resume(config, clips, seed, out, method, optimizer)
    schedule = Schedule(
        seed,
        len(clips.labeled),
        len(clips.unlabeled),
        config.optim.batch_labeled,
        min(config.optim.batch_unlabeled, len(clips.unlabeled)) or 1,
    )
    log = MetricsLog(out / "metrics.jsonl", config.optim.steps, checkpoint.step)
    sweep = partial(clips.unlabeled.in_order, schedule.batch_unlabeled)
    began = time.monotonic() - checkpoint.wall_time_s
    method.models.train()
    for step, batch in _batches(clips, schedule, method, checkpoint.step, config.optim.steps):
        if method.uses_unlabeled and step % schedule.steps_per_epoch == 0:
            log.note(step, method.begin_epoch(step, sweep))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        terms = method.losses(batch, step)
        loss = torch.stack(list(terms.values())).sum()
        _check_finite(terms, step, out)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(method.models.parameters(), config.optim.clip_norm)
        optimizer.step()
        done = step + 1
        if done % config.log_every == 0 or done == config.optim.steps:
            log.step(done, {name: term.item() for name, term in terms.items()}, learning_rate(config, step))
        if done % config.checkpoint_every == 0 or done == config.optim.steps:
            checkpoint = _snapshot(checkpoint, method, optimizer, done, time.monotonic() - began)
            save_checkpoint(checkpoint, out / WORKING)
    _finish(config, clips, checkpoint, device, out)
    return checkpoint


def choose_device(name: str) -> torch.device:
    """Return the device a configuration asks for.

    Raises
    ------
    TrainInputError
        ``cuda`` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainInputError(
            "device is cuda and no CUDA device is visible: use device: auto, or check the driver"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def learning_rate(config: ExperimentConfig, step: int) -> float:
    """Return the learning rate of a step: constant, or half a cosine from ``lr`` to 0."""
    if config.optim.schedule == "constant":
        return config.optim.lr
    return config.optim.lr * 0.5 * (1 + math.cos(math.pi * step / config.optim.steps))


def _batches(
    clips: TrainingClips, schedule: Schedule, method: Method, start: int, stop: int
) -> Iterator[tuple[int, Batch]]:
    """Yield the steps that are left with their clips."""
    steps = range(start, stop)
    labeled = clips.labeled.batches([schedule.labeled(step) for step in steps])
    if not (method.uses_unlabeled and len(clips.unlabeled)):
        yield from ((step, Batch(part, len(part))) for step, part in zip(steps, labeled, strict=True))
        return
    unlabeled = clips.unlabeled.batches([schedule.unlabeled(step) for step in steps])
    for step, first, second in zip(steps, labeled, unlabeled, strict=True):
        yield step, Batch(Clips.join([first, second]), len(first))


def _check_finite(terms: dict[str, Tensor], step: int, out: Path) -> None:
    bad = [name for name, term in terms.items() if not torch.isfinite(term)]
    if bad:
        raise NotFiniteError(
            f"loss term {', '.join(bad)} is not finite at step {step}; {out / WORKING} keeps the "
            "last good state. Lower optim.lr or check the clips"
        )


def _start_or_resume(
    config: ExperimentConfig,
    clips: TrainingClips,
    seed: int,
    out: Path,
    method: Method,
    optimizer: torch.optim.Optimizer,
) -> Checkpoint:
    """Return the state to start from: the working checkpoint's if there is one, else a fresh one's."""
    if not (out / WORKING).exists():
        return Checkpoint(
            config.model_dump(mode="json"), config.digest(), seed, 0, {}, {}, {}, {}, clips.digest, 0.0
        )
    checkpoint = load_checkpoint(out / WORKING)
    mine = (config.digest(), seed, clips.digest)
    theirs = (checkpoint.digest, checkpoint.seed, checkpoint.data)
    if mine != theirs:
        what = [n for n, a, b in zip(("configuration", "seed", "clips"), mine, theirs, strict=True) if a != b]
        raise TrainInputError(
            f"{out} holds a training with another {' and '.join(what)} (step {checkpoint.step}): "
            f"remove {out / WORKING} to start again, or choose another --out"
        )
    method.models.load_state_dict(checkpoint.models)
    optimizer.load_state_dict(checkpoint.optimizer)
    method.load(checkpoint.method)
    load_rng_state(checkpoint.rng)
    logger.info("going on from step %d of %d", checkpoint.step, config.optim.steps)
    return checkpoint


def _snapshot(
    previous: Checkpoint, method: Method, optimizer: torch.optim.Optimizer, step: int, wall_time_s: float
) -> Checkpoint:
    models = {name: value.detach().cpu().clone() for name, value in method.models.state_dict().items()}
    return Checkpoint(
        previous.config,
        previous.digest,
        previous.seed,
        step,
        models,
        optimizer.state_dict(),
        method.state(),
        rng_state(),
        previous.data,
        wall_time_s,
    )


def _finish(
    config: ExperimentConfig, clips: TrainingClips, checkpoint: Checkpoint, device: torch.device, out: Path
) -> None:
    """Write the final checkpoint and the record of the run; both appear whole or not at all."""
    save_checkpoint(checkpoint, out / FINAL)
    record = {
        "schema": "avsl-run/1",
        "method": config.method.name,
        "config": checkpoint.config,
        "config_digest": checkpoint.digest,
        "seed": checkpoint.seed,
        "steps": checkpoint.step,
        "commit": commit(),
        "checkpoint_sha256": file_digest(out / FINAL),
        "weights_sha256": weights_digest(checkpoint),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "wall_time_s": round(checkpoint.wall_time_s, 1),
        "clips": {
            "labeled": len(clips.labeled),
            "unlabeled": len(clips.unlabeled),
            "used": len(clips.labeled) + len(clips.unlabeled),
            "excluded": clips.excluded,
        },
        "versions": versions(),
    }
    write_json(record, out / "run.json")


def _was_done(record: dict[str, Any], step: int) -> bool:
    """Return whether a line of the log belongs to the first ``step`` steps.

    A step's line counts the steps done, an epoch's line is written before its first step and names that.
    """
    number: int = record["step"]
    return number < step or (number == step and record["event"] == "step")


class MetricsLog:
    """The metrics of a run: one JSON object per line, and the same numbers as plain lines in the log.

    Lines of steps that a killed run did beyond its last checkpoint are dropped when it goes on, because those
    steps are done again.
    """

    def __init__(self, path: Path, steps: int, step: int) -> None:
        self.path = path
        self.steps = steps
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self._lines() if _was_done(json.loads(line), step)]
        with whole_file(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self.began, self.first = time.monotonic(), step

    def note(self, step: int, values: dict[str, float]) -> None:
        """Log what a method says at the start of an epoch."""
        if values:
            self._write({"step": step, "event": "epoch", **values})

    def step(self, step: int, terms: dict[str, float], lr: float) -> None:
        """Log the loss terms of a step and say how long the rest will take."""
        self._write({"step": step, "event": "step", "lr": lr, **terms})
        left = (time.monotonic() - self.began) / (step - self.first) * (self.steps - step)
        text = "  ".join(f"{name} {value:.4f}" for name, value in terms.items())
        logger.info("step %d/%d  %s  (%.0f s left)", step, self.steps, text, left)

    def _lines(self) -> list[str]:
        """Return the complete lines of the log; a line cut by a kill is left out."""
        if not self.path.exists():
            return []
        return [line for line in self.path.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]

    def _write(self, values: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
