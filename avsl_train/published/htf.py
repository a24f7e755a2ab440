"""Hear The Flow: the frame's features attend to those of its optical flow.

Parameters have the names and the order of the published checkpoints. Source: the published model, with
vectors of the original in the tests.

Shape letters: B clips, S side of the image, F x T spectrogram, C = 512 channels, h = w side of the map.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from avsl_train.encoders.encoder import published_init_
from avsl_train.encoders.resnet import ResNetTrunk
from avsl_train.losses.htf import FlowAttention
from avsl_train.published.features import Features, global_maximum, unit

CHANNELS: Final = 512


class HTF(nn.Module):
    """Hear The Flow. In the published training the frames' trunk is frozen and its BatchNorm is not.

    Parameters
    ----------
    weights
        Start of the trunks of frame and flow; ``imagenet`` in the published training.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.imgnet = ResNetTrunk(18, weights=weights)
        self.audnet = ResNetTrunk(18, inputs=1)
        self.flownet = ResNetTrunk(18, inputs=2, weights=weights)
        self.flowatt = FlowAttention(CHANNELS)
        published_init_(self.audnet)

    def forward(self, image: Tensor, spectrogram: Tensor, flow: Tensor) -> Features:
        """Return unit vectors.

        Parameters
        ----------
        image : Tensor [B, 3, S, S]
            Normalised.
        spectrogram : Tensor [B, 1, F, T]
            From the front end ``htf``.
        flow : Tensor [B, 2, S, S]
            Optical flow.
        """
        maps = self.imgnet(image)
        attended, _ = self.flowatt(maps, self.flownet(flow))
        return Features(unit(maps + attended), unit(global_maximum(self.audnet(spectrogram))))

    def localize(self, image: Tensor, spectrogram: Tensor, flow: Tensor) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self(image, spectrogram, flow).own  # type: ignore[no-any-return]
