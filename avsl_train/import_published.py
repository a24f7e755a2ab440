"""Published checkpoints taken over: their network, image and sound exactly as their own test code has them.

`import_published` checks a file of the authors and writes it as one of ours, which `load_model` and the
commands ``predict``, ``localize`` and ``export`` take. Nothing is trained or changed; the maps are those of
the original's test loader: `published.images` for the frame, `frontends.published` for the sound.

Shape letters: B clips, h x w map.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn

from avsl_train.checkpoint import file_digest
from avsl_train.engine import choose_device
from avsl_train.errors import TrainInputError
from avsl_train.frontends import published
from avsl_train.inputs import Int16
from avsl_train.model import COSINE, WHOLE, Region, Values, cosine_over
from avsl_train.published import SOURCES, images
from avsl_train.published.checkpoints import without_prefix
from avsl_train.published.two_streams import TAU
from avsl_train.stored import StoredModel, is_ours, write_imported
from avsl_train.weights import State, load_state, read_state

IMPORTS: Final[dict[str, tuple[Values, float]]] = {
    "ezvsl": (cosine_over(TAU), 3.0),
    "slavc": (cosine_over(TAU), 3.0),
    "fnac": (cosine_over(TAU), 3.0),
    "lvs": (COSINE, 10.0),
    "ssltie": (COSINE, 10.0),
    "alignment": (COSINE, 10.0),
}
"""What can be taken over: values of its maps, and seconds of sound that its test loader cuts from.

HTF also needs optical flow, SSPL has no single checkpoint."""


def import_published(name: str, path: Path, out: Path) -> StoredModel:
    """Check a published checkpoint and write it as one of ours.

    Parameters
    ----------
    name
        A key of `IMPORTS`.
    path
        The authors' file.
    out
        File to write.

    Raises
    ------
    TrainInputError
        There is no such method or file, or the file is of another network; the message says which one fits.
    """
    source = _source(name)
    if not path.is_file():
        raise TrainInputError(f"no file {path}: the checkpoints of {name} are {source.files}")
    if is_ours(path):
        raise TrainInputError(f"{path} is a checkpoint of avsl-train already: use it as it is")
    state = without_prefix(read_state(path, name), source.prefix)
    try:
        network = _network(name, state, str(path))
    except TrainInputError as error:
        fitting = [other for other in IMPORTS if _fits(other, state)]
        hint = (
            f" It is one of {' or '.join(fitting)}: say `avsl-train import {fitting[0]}`" if fitting else ""
        )
        raise TrainInputError(f"{error}{hint}") from error
    facts = {"source": {"file": path.name, "sha256": file_digest(path)}}
    model = StoredModel(name, dict(network.state_dict()), facts, facts["source"]["sha256"])
    write_imported(model, out)
    return model


class PublishedNetwork:
    """A published network behind the preprocessing of its test loader.

    Parameters
    ----------
    model
        That was imported.
    where
        Where it comes from, for messages.
    device
        Where it runs.
    """

    def __init__(self, model: StoredModel, where: Path | str, device: str = "auto") -> None:
        _source(model.method)
        self.device = choose_device(device)
        self.network = _network(model.method, model.weights, str(where)).to(self.device)
        self.frontend = published(model.method)
        self.image = getattr(images, SOURCES[model.method].images)
        self.sample_rate = 16000
        self.values, self.window_s = IMPORTS[model.method]
        self.about: Mapping[str, Any] = {
            "method": model.method,
            "checkpoint_sha256": model.sha256,
            "source": model.facts["source"],
        }

    def region(self, width: int, height: int) -> Region:
        """Return the part of a frame that the network sees: of LVS and SSL-TIE its middle square."""
        return _middle_square(width, height) if self.image is images.lvs else WHOLE

    def maps(self, frames: Sequence[Image.Image], sounds: Sequence[Int16]) -> Tensor:
        """Return the published maps [B, h, w] of RGB frames and sounds at 16 kHz."""
        image = torch.stack([self.image(frame) for frame in frames])
        heard = torch.stack([self.frontend(torch.from_numpy(sound)) for sound in sounds])
        with torch.no_grad():
            found: Tensor = self.network.localize(image.to(self.device), heard.to(self.device))  # type: ignore[operator]
        return found[:, 0]


def _middle_square(width: int, height: int) -> Region:
    """Return what `images.lvs` sees of a frame, with its rounding."""
    side = images.SIDE
    if width <= height:
        tall = int(side * height / width)
        top = round((tall - side) / 2)
        return Region(0, top / tall, 1, (top + side) / tall)
    wide = int(side * width / height)
    left = round((wide - side) / 2)
    return Region(left / wide, 0, (left + side) / wide, 1)


def _source(name: str) -> Any:
    if name in IMPORTS:
        return SOURCES[name]
    near = difflib.get_close_matches(name, IMPORTS, 1)
    guess = f", did you mean {near[0]!r}?" if near else ""
    raise TrainInputError(f"no published method {name!r} to import{guess} (there are: {', '.join(IMPORTS)})")


def _network(name: str, state: State, where: str) -> nn.Module:
    source = SOURCES[name]
    network = source.network()
    load_state(network, state, where, f"checkpoint of {name} ({source.files})", source.unused)
    return network.eval().requires_grad_(False)


def _fits(name: str, state: State) -> bool:
    """Return whether weights have the names and shapes of a network."""
    with torch.device("meta"):
        wanted = SOURCES[name].network().state_dict()
    needed = {key for key in wanted if not key.endswith("num_batches_tracked")}
    return needed <= state.keys() <= wanted.keys() and all(
        state[key].shape == wanted[key].shape for key in state
    )
