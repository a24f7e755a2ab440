"""What a published network makes of a batch, and the similarities that maps and losses are made of.

Shape letters: B clips, C channels, h = w side of the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Features:
    """Unit vectors of the positions and of the sounds.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit length over C.
    audio : Tensor [B, C]
        Unit length.
    """

    visual: Tensor
    audio: Tensor

    @property
    def own(self) -> Tensor:
        """S_ii, each frame with its own sound: cosine similarities [B, 1, h, w]."""
        return torch.einsum("bchw,bc->bhw", self.visual, self.audio)[:, None]

    @property
    def all(self) -> Tensor:
        """S_ij, every frame i with every sound j: cosine similarities [B, B, h, w]."""
        return torch.einsum("ichw,jc->ijhw", self.visual, self.audio)


def unit(vectors: Tensor) -> Tensor:
    """Return vectors with unit length over axis 1."""
    return functional.normalize(vectors, dim=1)


def global_maximum(maps: Tensor) -> Tensor:
    """Return the maximum over space, [B, C] of [B, C, h, w]."""
    return maps.amax(dim=(2, 3))
