"""Checkpoints: one file that holds all a training needs to go on, and all a prediction needs to be made.

A checkpoint is written to a temporary file, flushed to disk and renamed, so that a kill at any moment leaves
the previous one. It is read with ``weights_only=True``: tensors, numbers, strings and containers, no code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch

from avsl_train.errors import TrainInputError
from avsl_train.files import DAMAGED, whole_file

VERSION: Final = 2


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Parameters
    ----------
    config
        The resolved training configuration as nested dictionaries.
    digest
        Its digest.
    seed
        Seed of the training.
    step
        Steps done.
    models
        state_dict of the method's models.
    optimizer
        state_dict of the optimiser.
    method
        What the method remembers: stored pseudo-labels, the clips selected.
    data
        Digest of the labelled and unlabelled clip ids that are trained on.
    wall_time_s
        Seconds of training so far, over all restarts.
    scaler
        State of the loss scaling of fp16, else empty.
    validation
        Protocol, best score and its step, and how many validations brought nothing better since.
    processes
        How many processes trained.
    finished
        Steps of the training that it is the result of, which may be more than its own; 0 before the end.
    version
        Version of this format.
    """

    config: dict[str, Any]
    digest: str
    seed: int
    step: int
    models: dict[str, Any]
    optimizer: dict[str, Any]
    method: dict[str, Any]
    data: str
    wall_time_s: float
    scaler: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    finished: int = 0
    version: int = field(default=VERSION)

    @classmethod
    def fresh(cls, config: dict[str, Any], digest: str, seed: int, data: str) -> Checkpoint:
        """Return the state before the first step, which holds no weights yet."""
        return cls(config, digest, seed, 0, {}, {}, {}, data, 0.0)


class OtherVersionError(TrainInputError):
    """A checkpoint was written by another version of this program."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint so that ``path`` always holds a whole one, the old or the new.

    Raises
    ------
    TrainInputError
        It cannot be written; what was there before stays.
    """
    try:
        with whole_file(path) as temporary:
            torch.save({f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}, temporary)
    except (OSError, RuntimeError) as error:  # torch's writer raises the second for a full disk
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainInputError(
            f"cannot write the checkpoint {path} ({reason}): is the disk full? The checkpoint before it is "
            "kept; make room and run the same command again"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    TrainInputError
        The file is missing, damaged, of another version (`OtherVersionError`) or no checkpoint of this
        project.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainInputError(f"no checkpoint {path}: train one with `avsl-train fit`") from error
    except DAMAGED as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainInputError(
            f"{path} cannot be read as a checkpoint ({reason}): it may be cut short"
        ) from error
    names = {f.name for f in fields(Checkpoint)}
    if not isinstance(values, dict) or "version" not in values:
        raise TrainInputError(f"{path} is not a checkpoint of `avsl-train fit`")
    if values["version"] != VERSION or set(values) != names:
        raise OtherVersionError(
            f"{path} has checkpoint version {values['version']}, this program reads version {VERSION}: "
            "train again (`avsl-train fit --on-change restart` replaces it), or use the program that wrote it"
        )
    return Checkpoint(**values)


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of the models' weights, independent of how a file stores them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.models.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
