"""Published checkpoints: which file holds which network, and how it is loaded.

Networks of this package have the originals' names, so that loading is: take the weights out of the
checkpoint, drop the prefix that parallel training put before the names, and check every name and shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from avsl_train.errors import TrainInputError
from avsl_train.published.htf import HTF
from avsl_train.published.lvs import LVS, SSLTIE, Alignment
from avsl_train.published.sspl import ObjectPrior, SSPLFrame, SSPLSound
from avsl_train.published.two_streams import EZVSL, FNAC, SLAVC
from avsl_train.weights import State, load_state, read_state

LOCALIZER_NAMES: Final = (
    ("imgnet.", "visual.trunk."),
    ("img_proj.", "visual_projection."),
    ("audnet.", "audio.trunk."),
    ("aud_proj.", "audio_projection."),
)
"""Beginnings of names in EZ-VSL's network and in ours."""


@dataclass(frozen=True)
class Source:
    """A published network and its files.

    Parameters
    ----------
    network
        Builds the network; a network that starts from ImageNet does so only when it is asked.
    frontend
        Its sound: a name of `avsl_train.frontends.PUBLISHED`; empty: it hears none.
    images
        Its images: a function of `avsl_train.published.images`; empty: it sees none.
    files
        Names of the published files.
    prefix
        What stands before the names of the weights besides ``module.``.
    unused
        Beginnings of names that the file may hold beyond the network's.
    """

    network: Callable[[], nn.Module]
    frontend: str
    images: str
    files: str
    prefix: str = ""
    unused: tuple[str, ...] = ()


SOURCES: Final[dict[str, Source]] = {
    "ezvsl": Source(EZVSL, "ezvsl", "ezvsl", "best.pth, latest.pth"),
    "slavc": Source(SLAVC, "slavc", "ezvsl", "best.pth, latest.pth"),
    "fnac": Source(FNAC, "fnac", "ezvsl", "best.pth, latest.pth"),
    "lvs": Source(LVS, "lvs", "lvs", "a file with model_state_dict"),
    "ssltie": Source(SSLTIE, "ssltie", "lvs", "epoch<N>.pth.tar, model_best_epoch<N>.pth.tar"),
    "alignment": Source(Alignment, "alignment", "sslalignment", "model_*.pth.tar"),
    "htf": Source(HTF, "htf", "ezvsl", "*.pth; best.ckpt of a training of one's own", prefix="model."),
    "object_prior": Source(ObjectPrior, "", "ezvsl", "torchvision's resnet18", unused=("fc.",)),
    "sspl_sound": Source(SSPLSound, "sspl", "", "sound_best.pth"),
    "sspl_frame": Source(SSPLFrame, "", "lvs", "frame_best.pth"),
}
"""Every network that can be loaded, by name."""


def load_published(name: str, path: Path) -> nn.Module:
    """Return a published network with the weights of a checkpoint, in evaluation.

    Parameters
    ----------
    name
        A key of `SOURCES`.
    path
        The file.

    Raises
    ------
    TrainInputError
        There is no such network or file, or the file holds another network; the message says how many names
        fit.
    """
    if name not in SOURCES:
        raise TrainInputError(f"no published network {name!r} (there are: {', '.join(SOURCES)})")
    source = SOURCES[name]
    if not path.is_file():
        raise TrainInputError(f"no file {path}: the checkpoints of {name} are {source.files}")
    state = without_prefix(read_state(path, name), source.prefix)
    network = source.network()
    load_state(network, state, str(path), f"checkpoint of {name} ({source.files})", source.unused)
    return network.eval()


def localizer_state(name: str, state: State) -> State:
    """Return a published network's weights under the names of `avsl_train.localizer.Localizer`.

    With them a localizer of two ``resnet18`` encoders at stride 32 finds the same similarities, so that a
    training may start from the checkpoint. What the localizer has besides, its scale and bias, is not in it.

    Parameters
    ----------
    name
        ``ezvsl`` or ``fnac``; the other networks have another structure.
    state
        Weights of that network.

    Raises
    ------
    TrainInputError
        The network has another structure.
    """
    if name not in {"ezvsl", "fnac"}:
        raise TrainInputError(f"the network of {name} is not one of a localizer: only ezvsl and fnac are")
    return {
        next(
            ours + key.removeprefix(theirs) for theirs, ours in LOCALIZER_NAMES if key.startswith(theirs)
        ): value
        for key, value in state.items()
    }


def without_prefix(state: State, prefix: str) -> State:
    """Return weights whose names all begin with a prefix without it, others as they are."""
    if prefix and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return state
