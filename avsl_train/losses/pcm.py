"""PCM: SSPL's predictive coding module, which draws visual features towards the sound before the attention.

A ladder of three layers: 0 next to the sound (3x3), 1 (7x7) and 2 next to the frame (14x14). Top-down passes
predict the layer below, bottom-up passes carry the error of the prediction back up.

Source: Song et al., CVPR 2022 (SSPL), and its published code (zjsong/SSPL); the formulas below are [code].

Shape letters: B clips, C = 512 channels, A = 128 channels of the sound.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

CYCLES: Final = 4
"""How often prediction and error are exchanged [code]."""


class Predict(nn.Module):
    """P_i: 3x3 convolution without bias, then 2x2 max-pooling; 14x14 to 7x7 to 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        """Return features of half the side."""
        return functional.max_pool2d(self.conv2d(u), 2)


class Correct(nn.Module):
    """E_2: twice the side (bilinear, corners aligned), then a 3x3 transposed convolution without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convtrans2d = nn.ConvTranspose2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, error: Tensor) -> Tensor:
        """Return features of twice the side."""
        larger = functional.interpolate(error, scale_factor=2, mode="bilinear", align_corners=True)
        corrected: Tensor = self.convtrans2d(larger)
        return corrected


class PCM(nn.Module):
    """The predictive coding module.

    With g = exact GELU, a_i = relu(a0_i), b_i = relu(b0_i) learned per channel, and
    e(u) = sound - mean over positions of g(P_0 u), spread over 3x3:

    - start: r_2 = frame, r_1 = g(BN(P_2 r_2)), r_0 = g(BN(P_1 r_1)); u_0 = g(BN(r_0 + a_0 E_0 e(r_0))),
      u_i = g(BN(r_i + a_i E_i (u_(i-1) - r_(i-1)))) for i = 1, 2.
    - each of 4 cycles, down: u_2 = g((1 - b_2) u_2 + b_2 frame); for i = 2, 1: r_(i-1) = P_i u_i,
      u_(i-1) = g(BN((1 - b_(i-1)) u_(i-1) + b_(i-1) r_(i-1))). Up: u_0 = g(BN(u_0 + a_0 E_0 e(u_0))),
      u_i = g(BN(u_i + a_i E_i (u_(i-1) - r_(i-1)))) for i = 1, 2.
    - result: E_3 u_2.

    Parameters
    ----------
    channels
        C.
    sound_channels
        A.

    Notes
    -----
    Every use has a BatchNorm of its own, 25 in all. The sizes are those of 14x14 features: 3x3 grows to 7x7
    by a transposed convolution with stride 2.
    """

    def __init__(self, channels: int = 512, sound_channels: int = 128) -> None:
        super().__init__()
        # names as in the published checkpoints; index i belongs to layer i
        self.PredProcess = nn.ModuleList(
            [nn.Conv2d(channels, sound_channels, 1), Predict(channels), Predict(channels)]
        )
        self.ErrorProcess = nn.ModuleList(
            [
                nn.ConvTranspose2d(sound_channels, channels, 1, bias=False),
                nn.ConvTranspose2d(channels, channels, 3, stride=2, bias=False),
                Correct(channels),
                nn.ConvTranspose2d(channels, channels, 1),
            ]
        )
        self.b0 = nn.ParameterList([torch.full((1, channels, 1, 1), 0.5) for _ in range(3)])
        self.a0 = nn.ParameterList([torch.ones(1, channels, 1, 1) for _ in range(3)])
        self.BNPred = _norms(2, channels)
        self.BNError = _norms(3, channels)
        self.BNPred_step = _norms(2 * CYCLES, channels)
        self.BNError_step = _norms(3 * CYCLES, channels)

    def forward(self, frame: Tensor, sound: Tensor) -> Tensor:
        """Return the frame's features drawn towards the sound, [B, C, 14, 14].

        Parameters
        ----------
        frame : Tensor [B, C, 14, 14]
            r_2.
        sound : Tensor [B, A]
            What layer 0 predicts.
        """
        r = self._start(frame)
        u = self._up(r, r, sound, list(self.BNError))
        for cycle in range(CYCLES):
            u, r = self._down(u, frame, list(self.BNPred_step[2 * cycle : 2 * cycle + 2]))
            u = self._up(u, r, sound, list(self.BNError_step[3 * cycle : 3 * cycle + 3]))
        drawn: Tensor = self.ErrorProcess[3](u[2])
        return drawn

    def _start(self, frame: Tensor) -> list[Tensor]:
        """Return r_0, r_1, r_2 of the first pass down."""
        r_1 = functional.gelu(self.BNPred[1](self.PredProcess[2](frame)))  # [B, C, 7, 7]
        r_0 = functional.gelu(self.BNPred[0](self.PredProcess[1](r_1)))  # [B, C, 3, 3]
        return [r_0, r_1, frame]

    def _down(
        self, u: list[Tensor], frame: Tensor, norms: list[nn.Module]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the layers after a pass down, and the predictions r_0, r_1 of the layers 0 and 1."""
        u, r = list(u), [frame, frame, frame]
        b = [functional.relu(rate) for rate in self.b0]
        u[2] = functional.gelu((1 - b[2]) * u[2] + b[2] * frame)
        for i in (2, 1):
            r[i - 1] = self.PredProcess[i](u[i])
            u[i - 1] = functional.gelu(norms[i - 1]((1 - b[i - 1]) * u[i - 1] + b[i - 1] * r[i - 1]))
        return u, r[:2]

    def _up(self, u: list[Tensor], r: list[Tensor], sound: Tensor, norms: list[nn.Module]) -> list[Tensor]:
        """Return the layers after a pass up, which adds to each the error that the layer below shows."""
        u = list(u)
        guess = functional.gelu(self.PredProcess[0](u[0])).mean((2, 3), keepdim=True)  # [B, A, 1, 1]
        error = (sound[:, :, None, None] - guess).expand(-1, -1, *u[0].shape[-2:])  # [B, A, 3, 3]
        for i in range(3):
            step = functional.relu(self.a0[i]) * self.ErrorProcess[i](error)
            u[i] = functional.gelu(norms[i](u[i] + step))
            if i < 2:
                error = u[i] - r[i]
        return u


def _norms(count: int, channels: int) -> nn.ModuleList:
    return nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(count)])
