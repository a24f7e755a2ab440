"""The training loop. It knows clips, steps, checkpoints and logs, and nothing of any method.

A training is a pure function of configuration, clips and seed: every draw has a named stream (`seeding`,
`draws`), so that a training which was killed and started again ends with the same weights as one that was
not, and several processes train what one would.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from avsl_train import engine
from avsl_train.checkpoint import Checkpoint
from avsl_train.config import ExperimentConfig
from avsl_train.distributed import rank, total, world_size
from avsl_train.engine import choose_device
from avsl_train.errors import TrainInputError
from avsl_train.failures import NotFiniteError, memory_told, raise_if_not_finite
from avsl_train.log import RunLog
from avsl_train.method_config_self import uses_labels
from avsl_train.methods import METHODS
from avsl_train.methods.method import Method
from avsl_train.optimizer import Optimizer, learning_rate
from avsl_train.run_state import BEST, WORKING, RunState, finish, save_on_first
from avsl_train.seeding import seed_everything, seed_step
from avsl_train.training_clips import (
    LABELED,
    UNLABELED,
    Passes,
    Share,
    TrainingClips,
    read_training_clips,
)
from avsl_train.validate import Validation
from avsl_train.views import Viewer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["NotFiniteError", "TrainingClips", "choose_device", "fit", "learning_rate", "read_training_clips"]


def fit(
    config: ExperimentConfig,
    clips: TrainingClips,
    seed: int,
    out: Path,
    threads: int | None = None,
    on_change: Literal["error", "restart"] = "error",
    fabric: Fabric | None = None,
) -> Checkpoint:
    """Train, or go on with a training that was stopped.

    Parameters
    ----------
    config
        The training configuration.
    clips
        Labelled and unlabelled clips, and those for validation.
    seed
        Seed of every draw.
    out
        Folder of the run: checkpoints, logs, pictures and at the end ``checkpoint.pt`` and ``run.json``.
    threads
        CPU threads; None: torch's default.
    on_change
        What to do where ``out`` holds a training of another configuration, seed or set of clips.
    fabric
        The processes, as `engine.processes` gives them; None: this process alone.

    Returns
    -------
    Checkpoint
        The result.

    Raises
    ------
    TrainInputError
        ``out`` holds another training and ``on_change`` is ``error``, a method that needs unlabelled clips
        has none, a step's clips cannot be divided, memory or disk are full, or a loss is NaN or infinite
        (`NotFiniteError`).
    """
    fabric = fabric or engine.start(config)
    seed_everything(seed, threads)
    method = METHODS[config.method.name](
        config, Viewer(config.data, fabric.device), seed, len(clips.unlabeled)
    )
    method.fetch = clips.unlabeled.batch
    share = _share(config, clips, seed, method)
    engine.prepare(method.models, config, fabric.device)
    optimizer = Optimizer(config.optim, method.parameter_groups(), fused=config.precision != "fp16")
    validation = Validation(config.optim, clips.val, method)
    state = RunState(method, optimizer, validation, fabric.strategy.precision)
    start = Checkpoint.fresh(config.model_dump(mode="json"), config.digest(), seed, clips.digest)
    checkpoint = state.resume(start, out, on_change)
    trained = [model for name, model in method.models.items() if name not in method.averages]
    engine.begin_epoch(trained, share.epochs_begun(checkpoint.step))
    stepper = engine.Stepper(fabric, method.models, optimizer.torch, config.optim.clip_norm)
    last = checkpoint.step if checkpoint.finished or validation.gives_up else config.optim.steps
    began = time.monotonic() - checkpoint.wall_time_s
    method.models.train()
    with RunLog(out, config, checkpoint, rank() == 0) as log, memory_told(config, fabric.device):
        for step, batches in share.steps(checkpoint.step, last):
            seed_step(seed, step, rank())
            epoch = share.epoch(step)
            if epoch is not None:
                engine.begin_epoch(trained, epoch)
                if method.uses_unlabeled:
                    log.epoch(step, method.begin_epoch(step, share.sweep))
            optimizer.set_rates(step)
            terms = [
                stepper.backward(partial(method.losses, batch, step), part, len(batches))
                for part, batch in enumerate(batches)
            ]
            norm = stepper.clip()
            raise_if_not_finite(norm, terms, batches, clips, (step, out), config.precision == "fp16")
            stepper.step()
            method.after_step(step)
            done = step + 1
            log.advance(share.per_step)
            if done % config.log_every == 0 or done == last:
                log.step(done, _means(terms), optimizer.rates_now, norm)
            if config.pictures_every and done % config.pictures_every == 0:
                log.pictures(done, method.pictures())
            if validation.due(done):
                is_best = log.validation(done, validation.protocol, *validation.judge(method, done))
                if is_best and config.optim.choose == "best":
                    save_on_first(state.snapshot(checkpoint, done, time.monotonic() - began), out / BEST)
            over = done == last or validation.gives_up
            if done % config.checkpoint_every == 0 or over:
                checkpoint = state.snapshot(checkpoint, done, time.monotonic() - began)
                save_on_first(checkpoint, out / WORKING)
            if over:
                break
    return finish(config, clips, checkpoint, fabric.device, out)


def _share(config: ExperimentConfig, clips: TrainingClips, seed: int, method: Method) -> Share:
    """Return what this process sees of the clips.

    Raises
    ------
    TrainInputError
        The method needs unlabelled clips and there are none, or a step's clips cannot be divided.
    """
    if method.uses_unlabeled and not len(clips.unlabeled):
        reasons = ", ".join(sorted(set(clips.unlabeled.excluded.values()))) or "it is empty or missing"
        raise TrainInputError(
            f"method {config.method.name} needs unlabelled clips, and the split's subset "
            f"{UNLABELED!r} has none that is usable ({reasons})"
        )
    labeled = Passes(LABELED, seed, len(clips.labeled), config.optim.batch_labeled)
    unlabeled = Passes(UNLABELED, seed, len(clips.unlabeled), config.optim.batch_unlabeled)
    return Share(
        clips,
        labeled if uses_labels(config.method) else None,
        unlabeled if method.uses_unlabeled else None,
        rank(),
        world_size(),
        config.optim.accumulate,
        method.heard,
    )


def _means(parts: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Return the means of the loss terms over micro-batches and processes."""
    names = list(parts[0])
    values = torch.stack([torch.stack([part[name] for name in names]) for part in parts]).mean(0)
    means = (total(values) / world_size()).tolist()
    return dict(zip(names, means, strict=True))
