"""What a trained model is made of when it is used: weights, and the facts that rebuild its network.

It comes out of three kinds of places: a checkpoint of ``avsl-train fit``, a published checkpoint that
``avsl-train import`` took over, and a folder that ``avsl-train export`` wrote. `avsl_train.load` turns it
into a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from avsl_train.checkpoint import Checkpoint, file_digest, load_checkpoint
from avsl_train.errors import TrainInputError
from avsl_train.files import DAMAGED, whole_file
from avsl_train.weights import State

IMPORTED: Final = "avsl-imported/1"


@dataclass(frozen=True)
class StoredModel:
    """Weights and facts.

    Parameters
    ----------
    method
        Name of the method.
    weights
        By name: of all models of a trained method (``a.visual...``), or of a published network.
    facts
        What the weights need to become a network, as JSON holds it. Of a training: ``config``,
        ``config_digest``, ``seed``, ``step``. Of a published checkpoint: ``source``, its ``file`` and
        ``sha256``.
    sha256
        Of the file that the weights were first read from.
    """

    method: str
    weights: State
    facts: dict[str, Any]
    sha256: str

    @property
    def trained_here(self) -> bool:
        """Whether it comes from a training, not from a published checkpoint."""
        return "config" in self.facts


def of_checkpoint(checkpoint: Checkpoint, sha256: str) -> StoredModel:
    """Return the model in a checkpoint."""
    facts = {
        "config": checkpoint.config,
        "config_digest": checkpoint.digest,
        "seed": checkpoint.seed,
        "step": checkpoint.step,
    }
    return StoredModel(str(checkpoint.config["method"]["name"]), checkpoint.models, facts, sha256)


def read_file(path: Path) -> StoredModel:
    """Read a checkpoint of a training, or a published one that was taken over.

    Raises
    ------
    TrainInputError
        The file is missing, damaged or neither of the two.
    """
    if _kept(path).get("format") is None:
        return of_checkpoint(load_checkpoint(path), file_digest(path))
    values = torch.load(path, map_location="cpu", weights_only=True)
    if values["format"] != IMPORTED or set(values) != {"format", "method", "weights", "source"}:
        raise TrainInputError(
            f"{path} has format {values['format']!r}, this program reads {IMPORTED!r}: import the published "
            "checkpoint again"
        )
    return StoredModel(values["method"], values["weights"], {"source": values["source"]}, file_digest(path))


def write_imported(model: StoredModel, path: Path) -> None:
    """Write a published model as a file that `read_file` reads."""
    values = {
        "format": IMPORTED,
        "method": model.method,
        "weights": model.weights,
        "source": model.facts["source"],
    }
    with whole_file(path) as temporary:
        torch.save(values, temporary)


def is_ours(path: Path) -> bool:
    """Return whether a file is one that `read_file` reads, or was in another version of this program."""
    kept = _kept(path)
    return {"version", "models"} <= set(kept) or "format" in kept


def _kept(path: Path) -> dict[str, Any]:
    """Return what a file keeps, without reading its tensors; nothing if it is no dictionary or damaged."""
    try:
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except DAMAGED:
        return {}
    return values if isinstance(values, dict) else {}
