"""Trained models by their place: a checkpoint, a folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from avsl_train.errors import TrainInputError
from avsl_train.import_published import PublishedNetwork
from avsl_train.model import Model
from avsl_train.stored import StoredModel, read_file
from avsl_train.trained import Device, TrainedNetwork, build_method

REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""``owner/name`` of the hub, with a revision if there is an ``@``."""
FILES: Final = (".pt", ".pth", ".ckpt", ".tar")
"""Ends of names that are files even if they are missing, and no names of the hub."""


def load_model(path: str | Path, *, which: str | None = None, device: Device | None = None) -> Model:
    """Load a trained model.

    Parameters
    ----------
    path
        A checkpoint of ``avsl-train fit``, one that ``avsl-train import`` wrote, a folder of ``avsl-train
        export``, or ``owner/name[@revision]`` of the Hugging Face hub, if nothing here has that name.
    which
        ``mean``, ``a`` or ``b`` for a method with two models; None: as it was configured.
    device
        ``auto``, ``cpu`` or ``cuda``; None: as the training was configured, ``auto`` for a published model.

    Raises
    ------
    TrainInputError
        There is no such place, or what is there cannot be used; the message says what to do.
    """
    return Model(open_network(path, which, device))


def open_network(
    path: str | Path, which: str | None = None, device: Device | None = None
) -> TrainedNetwork | PublishedNetwork:
    """Return the network of a trained model; see `load_model`."""
    return network_of(read_model(path), path, which, device)


def network_of(
    model: StoredModel, where: str | Path, which: str | None = None, device: Device | None = None
) -> TrainedNetwork | PublishedNetwork:
    """Return the network of a model that was read."""
    if model.trained_here:
        return TrainedNetwork(build_method(model, where, which, device), model)
    if which is not None:
        raise TrainInputError(
            f"--which {which} needs a method with two models, {where} is the published {model.method}"
        )
    return PublishedNetwork(model, where, device or "auto")


def read_model(path: str | Path) -> StoredModel:
    """Read a trained model from wherever `load_model` takes it."""
    from avsl_train.hub_model import download, read_folder

    place = Path(path)
    if place.is_dir():
        return read_folder(place)
    if place.exists() or place.suffix in FILES or not REPOSITORY.fullmatch(str(path)):
        return read_file(place)
    return read_folder(download(str(path)))
