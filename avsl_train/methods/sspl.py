"""SSPL: no negatives; what a sound attends to in two views of a frame must predict each other.

Source: Song et al., "Self-Supervised Predictive Learning: A Negative-Free Method for Sound Source
Localization in Visual Scenes", CVPR 2022, and its published code (zjsong/SSPL), with its predictive coding
module (PCM) and without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from avsl_train import losses, published
from avsl_train.data import Clips
from avsl_train.errors import TrainInputError
from avsl_train.losses.sspl import Attended
from avsl_train.method_config_self import SSPLConfig
from avsl_train.methods.self_supervised import WHERE, SelfSupervised, image_of
from avsl_train.published_localizers import Predictive
from avsl_train.views import View
from avsl_train.weights import load_state, read_state

HEAD_RATES: Final = {True: 2.5, False: 4.0}
"""Learning rate of the head over that of the rest, with and without PCM [code]."""
PARTS: Final = ("frame", "sound", "pcm", "ssl_head")


class SSPL(SelfSupervised[SSPLConfig]):
    """L = .5 (D(p1, sg z2) + D(p2, sg z1)), D = -cosine, of the attended features of two views [code]."""

    def published_network(self) -> nn.Module:
        """Return SSPL's network: frozen VGG-16 and VGGish, a head of the sound, PCM, SimSiam's [code]."""
        model = self.config.model
        frozen = (bool(model.freeze_visual), bool(model.freeze_audio))
        return published.SSPL(model.weights, model.audio_weights, self.settings.pcm, frozen)

    def localizer_network(self) -> nn.Module:
        """Return a localizer with PCM and SimSiam's head in its common space."""
        return Predictive(self.config.model, self.config.data, self.settings.pcm)

    def views(self, clips: Clips, step: int) -> tuple[View, ...]:
        """Return two views; of the second one only the frame counts."""
        return tuple(self.view(clips, self.draws("self", which, step)) for which in (1, 2))

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the term ``simsiam``."""
        del step
        network: Any = self.models["a"]
        with self.autocast():
            heard = network.hear(self.sound_of(views[0]))
            features = [network.look(image_of(view), heard).feature for view in views]
        return {"simsiam": losses.sspl(network.ssl_head, *(feature.float() for feature in features))}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the head with its own rate, and PCM's rates of exchange without weight decay [code]."""
        network: Any = self.models["a"]
        head = list(network.ssl_head.parameters())
        rates = [] if network.pcm is None else [*network.pcm.a0, *network.pcm.b0]
        apart = {id(parameter) for parameter in (*head, *rates)}
        rest = [parameter for parameter in self.students() if id(parameter) not in apart]
        scale = self.settings.head_rate or HEAD_RATES[self.settings.pcm]
        groups: list[dict[str, Any]] = [
            {"params": rest},
            {"params": head, "lr": scale * self.config.optim.lr},
        ]
        if rates:
            groups.append({"params": rates, "weight_decay": 0.0})
        return groups

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        with self.autocast():
            attended: Attended = self.models["a"](image_of(view), self.sound_of(view))
        return attended.similarity.float()

    def load_start(self, network: nn.Module, start: str) -> None:
        """Give the network's parts the weights of ``<part>_best.pth`` in a folder.

        Raises
        ------
        TrainInputError
            A file is missing or holds another network.
        """
        for part in PARTS:
            module = getattr(network, part)
            path = Path(start) / f"{part}_best.pth"
            if module is None:
                continue
            if not path.is_file():
                raise TrainInputError(
                    f"{WHERE}: no file {path}: the checkpoints of SSPL are a folder of "
                    f"{', '.join(f'{name}_best.pth' for name in PARTS)}"
                )
            load_state(module, read_state(path, WHERE), f"{WHERE}: {path}", f"{part} of SSPL")
