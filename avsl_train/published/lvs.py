"""LVS, SSL-TIE and Alignment: ResNet-18 at stride 16 on frame and spectrogram, without projection into a map.

Parameters have the names and the order of the published checkpoints, those included that nothing uses: each
trunk has three stems of which one is used, and a classifier; SSL-TIE adds three layers, Alignment keeps them.
They get no gradient. Sources: the published models, with vectors of the originals in the tests.

Shape letters: B clips, S side of the image, F x T spectrogram, C = 512 channels, h = w side of the map.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from torch import Tensor, nn

from avsl_train.encoders.encoder import published_init_
from avsl_train.encoders.resnet import ResNetTrunk
from avsl_train.published.features import Features, global_maximum, unit

CHANNELS: Final = 512


class LVSTrunk(nn.Module):
    """ResNet-18 at stride 16 with one stem each for spectrograms, images and flow.

    Parameters
    ----------
    stem
        The one that is used: ``conv1_a`` (spectrograms) or ``conv1`` (images).
    """

    def __init__(self, stem: Literal["conv1_a", "conv1"]) -> None:
        super().__init__()
        network = ResNetTrunk(18, stride=16)
        self.stem = stem
        self.conv1_a = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.conv1 = network.conv1
        self.conv1_flow = nn.Conv2d(6, 64, 7, 2, 3, bias=False)
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1 = network.layer1
        self.layer2 = network.layer2
        self.layer3 = network.layer3
        self.layer4 = network.layer4
        self.fc = nn.Linear(CHANNELS, 1000)

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512, h, w] >= 0 of images or spectrograms."""
        x = self.maxpool(self.relu(self.bn1(self.get_submodule(self.stem)(image))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


class LVS(nn.Module):
    """LVS.

    Parameters
    ----------
    weights
        Start of the images' trunk, see `ResNetTrunk`: from scratch in the published code of LVS and SSL-TIE,
        ``imagenet`` in Alignment's.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.imgnet = LVSTrunk("conv1")
        self.audnet = LVSTrunk("conv1_a")
        self._more()
        published_init_(self)
        if weights is not None:  # the trunk has more names: stems and a classifier that nothing uses
            known = ResNetTrunk(18, weights=weights).state_dict()
            self.imgnet.load_state_dict({**self.imgnet.state_dict(), **known})

    def _more(self) -> None:
        """Add what a successor's checkpoint has."""

    def forward(self, image: Tensor, spectrogram: Tensor) -> Features:
        """Return the unit vectors of normalised images [B, 3, S, S] and spectrograms [B, 1, F, T]."""
        return Features(unit(self.imgnet(image)), unit(global_maximum(self.audnet(spectrogram))))

    def localize(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self(image, spectrogram).own  # type: ignore[no-any-return]


class SSLTIE(LVS):
    """SSL-TIE: LVS's network and three layers that nothing uses."""

    def _more(self) -> None:
        self.vision_fc1 = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)
        self.conv3 = nn.Conv2d(1, 1, 1)
        self.norm3 = nn.BatchNorm2d(1)


class Projected(NamedTuple):
    """What Alignment's losses are made of: local features, and a unit vector [B, C] per frame and sound."""

    local: Features
    image: Tensor
    audio: Tensor


class Alignment(SSLTIE):
    """Alignment: SSL-TIE's network with a linear projection of each side's global maximum."""

    def _more(self) -> None:
        self.img_proj = nn.Linear(CHANNELS, CHANNELS)
        self.aud_proj = nn.Linear(CHANNELS, CHANNELS)
        super()._more()

    def projected(self, image: Tensor, spectrogram: Tensor) -> Projected:
        """Return the local features and the projected vectors; the projections see features of any length."""
        maps, vector = self.imgnet(image), global_maximum(self.audnet(spectrogram))
        return Projected(
            Features(unit(maps), unit(vector)),
            unit(self.img_proj(global_maximum(maps))),
            unit(self.aud_proj(vector)),
        )
