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
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, Literal

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
class Passes:
    """Which clips of a set a step sees: passes over the set, each in its own order.

    The last incomplete batch of a pass is dropped and a batch is never larger than the set, so that no clip
    stands twice in one batch: the contrastive loss would call it its own negative. A pure function of the
    seed and the step.

    Parameters
    ----------
    name
        Name of the set's random stream.
    seed
        Seed of the training.
    clips
        Size of the set.
    wanted
        Clips per step.
    """

    name: str
    seed: int
    clips: int
    wanted: int

    @property
    def batch(self) -> int:
        """Clips per step: as many as are wanted, or all there are."""
        return min(self.wanted, self.clips)

    @property
    def steps(self) -> int:
        """Steps of one pass."""
        return self.clips // self.batch if self.clips else 1

    def at(self, step: int) -> Tensor:
        """Return the clips of a step, [batch] of int64."""
        number, position = divmod(step, self.steps)
        order = _order(self.seed, self.name, number, self.clips)
        return order[position * self.batch : (position + 1) * self.batch]


@lru_cache(maxsize=2)
def _order(seed: int, name: str, number: int, clips: int) -> Tensor:
    """Return the order of one pass; kept, because every step of the pass asks for it."""
    return torch.randperm(clips, generator=stream(seed, "order", name, number))


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
    config: ExperimentConfig,
    clips: TrainingClips,
    seed: int,
    out: Path,
    threads: int | None = None,
    on_change: Literal["error", "restart"] = "error",
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
    on_change
        What to do where ``out`` holds a training of another configuration, seed or set of clips.

    Returns
    -------
    Checkpoint
        The final one.

    Raises
    ------
    TrainInputError
        ``out`` holds another training and ``on_change`` is ``error``, or a method that needs unlabelled
        clips has none.
    NotFiniteError
        A loss became NaN or infinite.
    """
    seed_everything(seed, threads)
    device = choose_device(config.device)
    method = METHODS[config.method.name](config, Viewer(config.data, device), seed, len(clips.unlabeled))
    optimizer = torch.optim.Adam(
        method.models.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay
    )
    if method.uses_unlabeled and not len(clips.unlabeled):
        raise TrainInputError(
            f"method {config.method.name} needs unlabelled clips, and the split's subset "
            f"{UNLABELED!r} has none that is usable"
        )
    start = Checkpoint.fresh(config.model_dump(mode="json"), config.digest(), seed, clips.digest)
    checkpoint = _resume(start, out, on_change, method, optimizer)
    labeled = Passes(LABELED, seed, len(clips.labeled), config.optim.batch_labeled)
    unlabeled = Passes(UNLABELED, seed, len(clips.unlabeled), config.optim.batch_unlabeled)
    sweep = partial(clips.unlabeled.in_order, config.optim.batch_unlabeled)
    log = MetricsLog(out / "metrics.jsonl", config.optim.steps, checkpoint.step)
    began = time.monotonic() - checkpoint.wall_time_s
    method.models.train()
    for step, batch in _batches(clips, labeled, unlabeled, method, checkpoint.step, config.optim.steps):
        if method.uses_unlabeled and step % unlabeled.steps == 0:
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
    clips: TrainingClips, labeled: Passes, unlabeled: Passes, method: Method, start: int, stop: int
) -> Iterator[tuple[int, Batch]]:
    """Yield the steps that are left with their clips."""
    steps = range(start, stop)
    first_parts = clips.labeled.batches([labeled.at(step) for step in steps])
    if not method.uses_unlabeled:
        yield from ((step, Batch(part, len(part))) for step, part in zip(steps, first_parts, strict=True))
        return
    second_parts = clips.unlabeled.batches([unlabeled.at(step) for step in steps])
    for step, first, second in zip(steps, first_parts, second_parts, strict=True):
        yield step, Batch(Clips.join([first, second]), len(first))


def _check_finite(terms: dict[str, Tensor], step: int, out: Path) -> None:
    bad = [name for name, term in terms.items() if not torch.isfinite(term)]
    if bad:
        raise NotFiniteError(
            f"loss term {', '.join(bad)} is not finite at step {step}; {out / WORKING} keeps the "
            "last good state. Lower optim.lr or check the clips"
        )


def _resume(
    start: Checkpoint, out: Path, on_change: str, method: Method, optimizer: torch.optim.Optimizer
) -> Checkpoint:
    """Return the state to go on from: that of the folder's training if it is this one, else ``start``."""
    found = next((out / name for name in (WORKING, FINAL) if (out / name).exists()), None)
    if found is None:
        return start
    checkpoint = load_checkpoint(found)
    changed = [
        what
        for what, mine, theirs in (
            ("configuration", start.digest, checkpoint.digest),
            ("seed", start.seed, checkpoint.seed),
            ("clips", start.data, checkpoint.data),
        )
        if mine != theirs
    ]
    if changed and on_change == "error":
        raise TrainInputError(
            f"{found} is of a training with another {' and '.join(changed)} (step {checkpoint.step}): add "
            "--on-change restart to replace it, or choose another --out"
        )
    if changed:
        logger.info("%s is of a training with another %s: starting again", found, " and ".join(changed))
        return start
    method.models.load_state_dict(checkpoint.models)
    optimizer.load_state_dict(checkpoint.optimizer)
    method.load(checkpoint.method)
    load_rng_state(checkpoint.rng)
    logger.info("going on from step %d of %d", checkpoint.step, checkpoint.config["optim"]["steps"])
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
    """Turn the working checkpoint into the final one and write the record of the run.

    A kill between the two leaves a finished checkpoint, from which the same command only writes the record.
    """
    if (out / WORKING).exists():
        (out / WORKING).replace(out / FINAL)
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
