"""What every encoder offers: features, their number of channels, and a trunk that can be frozen."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from torch import Tensor, nn

BatchNormMode = Literal["eval", "train"]


class Encoder(nn.Module):
    """A network whose ``trunk`` may start from published weights and be frozen; what else it has is trained.

    Subclasses set ``trunk`` and ``channels`` and define ``forward``: a visual encoder gives a grid of
    features [B, channels, h, w], an audio encoder one vector [B, channels].
    """

    trunk: nn.Module
    channels: int

    def __init__(self) -> None:
        super().__init__()
        self._frozen_epochs = 0.0
        self._batchnorm: BatchNormMode = "eval"

    @property
    def frozen(self) -> bool:
        """Whether the trunk is frozen now."""
        return self._frozen_epochs > 0

    @property
    def thaws(self) -> bool:
        """Whether the trunk is or will be trained."""
        return math.isfinite(self._frozen_epochs)

    def freeze(self, epochs: float = math.inf, batchnorm: BatchNormMode = "eval") -> Self:
        """Give the trunk no gradient until `begin_epoch` says that its time is over.

        Parameters
        ----------
        epochs
            For how many epochs; default: always.
        batchnorm
            ``eval``: its BatchNorm uses the stored statistics. ``train``: it uses those of the batch and goes
            on storing them, as in HTF's published training [code].
        """
        self._frozen_epochs, self._batchnorm = epochs, batchnorm
        self.trunk.requires_grad_(epochs <= 0)
        return self.train(self.training)

    def begin_epoch(self, epoch: float) -> None:
        """Let go of the trunk if ``epoch`` epochs are done and it was frozen for no more than that."""
        if 0 < self._frozen_epochs <= epoch:
            self.freeze(0)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen trunk stays in evaluation unless `freeze` said otherwise."""
        super().train(mode)
        if self.frozen and self._batchnorm == "eval":
            self.trunk.eval()
        return self


def published_init_(module: nn.Module, linear_std: float | None = None) -> None:
    """Initialise a network as EZ-VSL, SLAVC, FNAC, LVS, SSL-TIE, Alignment and HTF do theirs.

    Convolutions: normal with deviation sqrt(2 / (outputs * kernel area)); BatchNorm: weight N(1, 0.02), bias
    0; linear layers: normal with ``linear_std`` (None: torch's default, as LVS's).

    Source: the published models.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear) and linear_std is not None:
            nn.init.normal_(part.weight, 0.0, linear_std)


def flattened(features: Tensor) -> Tensor:
    """Return [B, C, h, w] as [B, h * w * C], the order in which VGGish's first linear layer reads it."""
    return torch.flatten(features.permute(0, 2, 3, 1), 1)
