"""Small encoders for the demo and for tests: seconds on a CPU [ours].

Shape letters: B clips, S side of the image, F mel bands, T time steps, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train.encoders.encoder import Encoder


def _conv(inputs: int, outputs: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """Return 3x3 convolution, BatchNorm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class TinyVisual(Encoder):
    """A four-level convolutional network whose levels are summed at stride 4 (a small feature pyramid).

    An object fills anything from a fiftieth to nine tenths of the frame: the coarse levels see all of it,
    the fine ones keep its border.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, c3, c4 = (max(8, int(width * channels) // 8 * 8) for channels in (24, 48, 96, 128))
        self.stem = _conv(3, c1, 2)
        self.level2 = _conv(c1, c2, 2)
        self.level3 = nn.Sequential(_conv(c2, c3, 2), _conv(c3, c3, 1))
        self.level4 = nn.Sequential(_conv(c3, c4, 2), _conv(c4, c4, 1), _conv(c4, c4, 1, dilation=2))
        self.lateral2 = nn.Conv2d(c2, c3, 1)
        self.lateral3 = nn.Conv2d(c3, c3, 1)
        self.lateral4 = nn.Conv2d(c4, c3, 1)
        self.merge = nn.Sequential(nn.BatchNorm2d(c3), nn.ReLU(inplace=True))
        self.channels = c3

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, channels, S/4, S/4] of images [B, 3, S, S]."""
        level2 = self.level2(self.stem(image))
        level3 = self.level3(level2)
        level4 = self.level4(level3)
        top = self.lateral3(level3) + functional.interpolate(self.lateral4(level4), size=level3.shape[-2:])
        merged: Tensor = self.merge(
            self.lateral2(level2) + functional.interpolate(top, size=level2.shape[-2:], mode="bilinear")
        )
        return merged


class TinyAudio(Encoder):
    """Four convolutions, then mean and maximum over time and frequency.

    Where a tone lies on the frequency axis is its pitch, so the height of the last feature map is kept and
    only time is pooled away.
    """

    def __init__(self, mels: int, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, c3 = (max(8, int(width * channels) // 8 * 8) for channels in (16, 32, 64))
        self.layers = nn.Sequential(_conv(1, c1, 2), _conv(c1, c2, 2), _conv(c2, c3, 2))
        rows = mels
        for _ in range(3):
            rows = (rows + 1) // 2
        self.channels = 2 * c3 * rows

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Return features [B, channels] of log mel spectrograms [B, 1, F, T]."""
        maps = self.layers(spectrogram)  # [B, c3, F/8, T/8]
        return torch.cat([maps.mean(-1).flatten(1), maps.amax(-1).flatten(1)], dim=1)
