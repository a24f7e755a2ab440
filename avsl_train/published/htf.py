"""Hear The Flow: the frame's features attend to those of its optical flow.

Parameters have the names and the order of the published checkpoints. Source: the published model, with
vectors of the original in the tests.

Shape letters: B clips, S side of the image, F x T spectrogram, C = 512 channels, h = w side of the map.
"""

from __future__ import annotations

import math
from typing import Final

from torch import Tensor, nn

from avsl_train.encoders.encoder import published_init_
from avsl_train.encoders.resnet import ResNetTrunk
from avsl_train.published.features import Features, global_maximum, unit

CHANNELS: Final = 512
QUERY_CHANNELS: Final = CHANNELS // 8


class FlowAttention(nn.Module):
    """Attention of the frame's positions to all positions: queries and values of the frame, keys of the flow.

    A[q, k] = softmax over k of q.k / sqrt(C/8); the result is sum over k of A[q, k] v(k).

    Examples
    --------
    >>> import torch
    >>> maps = torch.ones(1, 16, 7, 7)
    >>> FlowAttention(16)(maps, maps).shape
    torch.Size([1, 16, 7, 7])
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, frame: Tensor, flow: Tensor) -> Tensor:
        """Return the attended values [B, C, h, w] of two feature maps of that shape."""
        attended: Tensor = self.value_conv(frame).flatten(2) @ self.attention(frame, flow).mT
        return attended.view_as(frame)

    def attention(self, frame: Tensor, flow: Tensor) -> Tensor:
        """Return A, [B, h * w, h * w]: one row per query."""
        query, key = self.query_conv(frame).flatten(2), self.key_conv(flow).flatten(2)
        weights: Tensor = (query.mT @ key / math.sqrt(query.shape[1])).softmax(-1)
        return weights


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
        self.flowatt = FlowAttention()
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
        visual = unit(maps + self.flowatt(maps, self.flownet(flow)))
        return Features(visual, unit(global_maximum(self.audnet(spectrogram))))

    def localize(self, image: Tensor, spectrogram: Tensor, flow: Tensor) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self(image, spectrogram, flow).own  # type: ignore[no-any-return]
