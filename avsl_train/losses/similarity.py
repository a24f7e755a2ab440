"""Inner products that the contrastive losses share.

Shape letters: B clips, C channels of the common space, h = w side of the map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Features(NamedTuple):
    """A batch of frames and its sounds in the common space.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors of the positions.
    audio : Tensor [B, C]
        Unit vectors of the sounds.
    """

    visual: Tensor
    audio: Tensor


def similarity(visual: Tensor, audio: Tensor) -> Tensor:
    """Return S_ij(p) = <v_i(p), a_j> of every frame with every sound, [B, B, h, w].

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
    audio : Tensor [B, C]

    Examples
    --------
    >>> visual = torch.eye(2)[:, :, None, None]
    >>> similarity(visual, torch.tensor([[1.0, 0.0], [0.6, 0.8]]))[..., 0, 0]
    tensor([[1.0000, 0.6000],
            [0.0000, 0.8000]])
    """
    return torch.einsum("ichw,jc->ijhw", visual, audio)


def own_similarity(visual: Tensor, audio: Tensor) -> Tensor:
    """Return S_ii(p), the similarity of every frame with its own sound, [B, 1, h, w]."""
    return torch.einsum("ichw,ic->ihw", visual, audio)[:, None]


def diagonal_cross_entropy(logits: Tensor) -> Tensor:
    """Return CE(x), the mean over rows i of -log softmax(x_i) at column i.

    Parameters
    ----------
    logits : Tensor [B, B]

    Examples
    --------
    >>> round(diagonal_cross_entropy(torch.zeros(4, 4)).item(), 4)  # log 4
    1.3863
    """
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
