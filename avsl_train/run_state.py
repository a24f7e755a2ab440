"""The state of a run on disk: what it goes on from, what it saves, and how it ends.

========================  =====================================================================
``last.pt``               the working checkpoint, while the training runs
``best.pt``               that of the best validation, with ``choose: best`` and while it runs
``checkpoint.pt``         the result
``run.json``              the record of the run, written last
========================  =====================================================================
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from avsl_train.checkpoint import (
    Checkpoint,
    OtherVersionError,
    file_digest,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from avsl_train.config import ExperimentConfig
from avsl_train.distributed import rank, world_size
from avsl_train.errors import TrainInputError
from avsl_train.files import write_json
from avsl_train.methods.method import Method
from avsl_train.optimizer import Optimizer
from avsl_train.provenance import commit, device_name, versions
from avsl_train.training_clips import TrainingClips
from avsl_train.validate import Validation

if TYPE_CHECKING:
    from lightning_fabric.plugins import Precision

logger = logging.getLogger(__name__)

WORKING: Final = "last.pt"
BEST: Final = "best.pt"
FINAL: Final = "checkpoint.pt"
RECORD: Final = "run.json"


@dataclass
class RunState:
    """What a checkpoint is taken of.

    Parameters
    ----------
    method, optimizer, validation
        Those of the training.
    precision
        Fabric's, which holds the scale of fp16's losses.
    """

    method: Method
    optimizer: Optimizer
    validation: Validation
    precision: Precision

    def resume(self, start: Checkpoint, out: Path, on_change: str) -> Checkpoint:
        """Take over what the folder's checkpoint holds, whichever number of processes wrote it; return it.

        Raises
        ------
        TrainInputError
            The folder holds another training, or one of another version, and ``on_change`` is ``error``.
        """
        checkpoint = _find(start, out, on_change)
        if checkpoint.step:
            self._load(checkpoint)
        return checkpoint

    def _load(self, checkpoint: Checkpoint) -> None:
        self.method.models.load_state_dict(checkpoint.models)
        self.optimizer.torch.load_state_dict(checkpoint.optimizer)
        self.method.load(checkpoint.method)
        self.validation.load(checkpoint.validation)
        if checkpoint.scaler:
            self.precision.load_state_dict(checkpoint.scaler)

    def snapshot(self, before: Checkpoint, step: int, wall_time_s: float) -> Checkpoint:
        """Return the checkpoint after so many steps; all processes must ask for it together."""
        models = self.method.models.state_dict()
        return replace(
            before,
            step=step,
            models={name: value.detach().cpu().clone() for name, value in models.items()},
            optimizer=self.optimizer.torch.state_dict(),
            method=self.method.state(),
            wall_time_s=wall_time_s,
            scaler=dict(self.precision.state_dict()),
            validation=self.validation.state(),
            processes=world_size(),
        )


def save_on_first(checkpoint: Checkpoint, path: Path) -> None:
    """Save a checkpoint, on the first process."""
    if rank() == 0:
        save_checkpoint(checkpoint, path)


def _find(start: Checkpoint, out: Path, on_change: str) -> Checkpoint:
    """Return the checkpoint of the folder's training if it is this one, else ``start``."""
    path = next((out / name for name in (WORKING, FINAL) if (out / name).exists()), None)
    if path is None:
        return start
    try:
        checkpoint = load_checkpoint(path)
    except OtherVersionError as error:
        if on_change == "error":
            raise
        logger.info("%s: starting again", error)
        return start
    changed = _changed(start, checkpoint)
    if changed and on_change == "error":
        raise TrainInputError(
            f"{path} is of a training with another {' and '.join(changed)} (step {checkpoint.step}): add "
            "--on-change restart to replace it, or choose another --out"
        )
    if changed:
        logger.info("%s is of a training with another %s: starting again", path, " and ".join(changed))
        return start
    logger.info("going on from step %d of %d", checkpoint.step, checkpoint.config["optim"]["steps"])
    if checkpoint.processes != world_size() and not checkpoint.finished:
        logger.info(
            "it ran with %d processes until now and goes on with %d: the same steps, rounded differently",
            checkpoint.processes,
            world_size(),
        )
    return replace(checkpoint, config=start.config)


def _changed(mine: Checkpoint, theirs: Checkpoint) -> list[str]:
    """Return what differs between two trainings; a method by its name, which says more than the rest."""
    changed = []
    if mine.digest != theirs.digest:
        one, other = mine.config["method"]["name"], theirs.config["method"]["name"]
        changed.append("configuration" if one == other else f"method ({other}, not {one})")
    changed += ["seed"] if mine.seed != theirs.seed else []
    return changed + (["clips"] if mine.data != theirs.data else [])


def finish(
    config: ExperimentConfig, clips: TrainingClips, last: Checkpoint, device: torch.device, out: Path
) -> Checkpoint:
    """Turn the working checkpoint, or the best one, into the result and write the record of the run.

    A kill between any two of these steps leaves files from which the same command does the rest.

    Returns
    -------
    Checkpoint
        The result, on the first process; the others get the last one.
    """
    if rank() > 0:
        return last
    final = last
    if not last.finished:
        if config.optim.choose == "best" and (out / BEST).exists():
            best = load_checkpoint(out / BEST)
            final = replace(best, wall_time_s=last.wall_time_s, validation=last.validation)
        final = replace(final, finished=last.step)
        save_checkpoint(final, out / FINAL)
    (out / WORKING).unlink(missing_ok=True)
    (out / BEST).unlink(missing_ok=True)
    write_json(_record(config, clips, final, device, out), out / RECORD)
    return final


def _record(
    config: ExperimentConfig, clips: TrainingClips, final: Checkpoint, device: torch.device, out: Path
) -> dict[str, Any]:
    return {
        "schema": "avsl-run/1",
        "method": config.method.name,
        "config": final.config,
        "config_digest": final.digest,
        "seed": final.seed,
        "steps": final.step,
        "steps_trained": final.finished,
        "validation": final.validation,
        "commit": commit(),
        "checkpoint_sha256": file_digest(out / FINAL),
        "weights_sha256": weights_digest(final),
        "device": device_name(device),
        "processes": final.processes,
        "threads": torch.get_num_threads(),
        "wall_time_s": round(final.wall_time_s, 1),
        "clips": {
            "labeled": len(clips.labeled),
            "unlabeled": len(clips.unlabeled),
            "used": len(clips.labeled) + len(clips.unlabeled),
            "excluded": clips.excluded,
        },
        "versions": versions(),
    }
