"""EZ-VSL, FNAC and SLAVC: ResNet-18 on frame and spectrogram, one projection (or two) into a common space.

Parameters have the names and the order of the published checkpoints. Sources: the published models, with
vectors of the originals in the tests.

Shape letters: B clips, S side of the image, F x T spectrogram, C = 512 channels, h = w side of the map.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from avsl_train.encoders.encoder import published_init_
from avsl_train.encoders.resnet import ResNetTrunk
from avsl_train.published.features import Features, global_maximum, unit

CHANNELS: Final = 512
LINEAR_STD: Final = 0.01
TAU: Final = 0.03
"""Temperature: the map of these methods is the cosine similarity divided by it."""


class EZVSL(nn.Module):
    """EZ-VSL, and FNAC, which drops out nine tenths of the visual features during training.

    Parameters
    ----------
    weights
        Start of the visual trunk, see `ResNetTrunk`; ``imagenet`` in the published trainings.
    image_dropout
        0 for EZ-VSL, 0.9 for FNAC.
    """

    tau = TAU

    def __init__(self, weights: str | None = None, image_dropout: float = 0.0) -> None:
        super().__init__()
        self.imgnet = ResNetTrunk(18, weights=weights)
        self.img_proj = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.audnet = ResNetTrunk(18, inputs=1)
        self.aud_proj = nn.Linear(CHANNELS, CHANNELS)
        self.img_dropout = nn.Dropout(image_dropout)
        for part in (self.audnet, self.img_proj, self.aud_proj):
            published_init_(part, LINEAR_STD)

    def forward(self, image: Tensor, spectrogram: Tensor) -> Features:
        """Return the unit vectors of normalised images [B, 3, S, S] and spectrograms [B, 1, F, T]."""
        visual = unit(self.img_proj(self.img_dropout(self.imgnet(image))))
        audio = unit(self.aud_proj(global_maximum(self.audnet(spectrogram))))
        return Features(visual, audio)

    def localize(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the published map, cosine / tau, [B, 1, h, w]."""
        return self(image, spectrogram).own / self.tau  # type: ignore[no-any-return]


class FNAC(EZVSL):
    """FNAC's network: EZ-VSL's with dropout of the visual features."""

    def __init__(self, weights: str | None = None, image_dropout: float = 0.9) -> None:
        super().__init__(weights, image_dropout)


class TwoHeads(NamedTuple):
    """What SLAVC's two projections make of the same features."""

    one: Features
    two: Features


class SLAVC(nn.Module):
    """SLAVC: two projections on each side, and a copy of everything that follows by a moving average.

    The originals' names of the copy begin with ``momentum_``; its BatchNorm keeps statistics of its own.

    Parameters
    ----------
    weights
        Start of the visual trunk; ``imagenet`` in the published training.
    image_dropout
        Share of the visual features that are dropped out in training, before both projections.
    """

    tau = TAU
    parts = ("imgnet", "img_proj1", "img_proj2", "audnet", "aud_proj1", "aud_proj2")

    def __init__(self, weights: str | None = None, image_dropout: float = 0.9) -> None:
        super().__init__()
        for prefix in ("", "momentum_"):
            self.add_module(f"{prefix}imgnet", ResNetTrunk(18, weights=weights))
            self.add_module(f"{prefix}img_proj1", nn.Conv2d(CHANNELS, CHANNELS, 1))
            self.add_module(f"{prefix}img_proj2", nn.Conv2d(CHANNELS, CHANNELS, 1))
            self.add_module(f"{prefix}audnet", ResNetTrunk(18, inputs=1))
            self.add_module(f"{prefix}aud_proj1", nn.Linear(CHANNELS, CHANNELS))
            self.add_module(f"{prefix}aud_proj2", nn.Linear(CHANNELS, CHANNELS))
        self.img_dropout = nn.Dropout(image_dropout)
        for name in self.parts[1:]:
            published_init_(self.get_submodule(name), LINEAR_STD)
        self.update_momentum(0.0)
        for name in self.parts:
            self.get_submodule(f"momentum_{name}").requires_grad_(False)

    def forward(self, image: Tensor, spectrogram: Tensor) -> TwoHeads:
        """Return the unit vectors of both heads, by the weights that are trained."""
        return self._features("", image, spectrogram)

    @torch.no_grad()
    def momentum(self, image: Tensor, spectrogram: Tensor) -> TwoHeads:
        """Return the unit vectors of both heads, by the averaged weights and without gradient.

        Dropout is drawn anew and BatchNorm follows the mode of this module, as in the original.
        """
        return self._features("momentum_", image, spectrogram)

    @torch.no_grad()
    def update_momentum(self, share: float) -> None:
        """Move the copy: parameters become share * copy + (1 - share) * trained; buffers stay.

        The original does so inside its forward pass, with a share of 0.999, before it computes `momentum`.
        """
        for name in self.parts:
            copy, trained = self.get_submodule(f"momentum_{name}"), self.get_submodule(name)
            for theirs, ours in zip(copy.parameters(), trained.parameters(), strict=True):
                theirs.mul_(share).add_(ours, alpha=1 - share)

    def localize(self, image: Tensor, spectrogram: Tensor, momentum: bool = False) -> Tensor:
        """Return the published map, the mean of both heads' cosine / tau, [B, 1, h, w].

        Parameters
        ----------
        image, spectrogram
            As in `forward`.
        momentum
            Whether the averaged weights localize; the published test commands use the trained ones.
        """
        heads: TwoHeads = self.momentum(image, spectrogram) if momentum else self(image, spectrogram)
        return (heads.one.own + heads.two.own) / (2 * self.tau)

    def _features(self, prefix: str, image: Tensor, spectrogram: Tensor) -> TwoHeads:
        part = {name: self.get_submodule(prefix + name) for name in self.parts}
        maps = self.img_dropout(part["imgnet"](image))
        vector = global_maximum(part["audnet"](spectrogram))
        one = Features(unit(part["img_proj1"](maps)), unit(part["aud_proj1"](vector)))
        two = Features(unit(part["img_proj2"](maps)), unit(part["aud_proj2"](vector)))
        return TwoHeads(one, two)
