"""EZ-VSL: multiple-instance contrastive learning.

Source: Mo and Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022, and its published model
(stoneMo/EZ-VSL).

Shape letters: B clips, C channels, h = w side of the map, p a position.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from avsl_train.losses.similarity import diagonal_cross_entropy, similarity

TAU: Final = 0.03
"""Temperature of EZ-VSL's contrastive loss [code]."""


def instance_logits(visual: Tensor, audio: Tensor, tau: float = TAU) -> Tensor:
    """Return L_ij = max over p of <v_i(p), a_j> / tau: a frame is as near to a sound as its nearest position.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors; rows of the result.
    audio : Tensor [B, C]
        Unit vectors; columns of the result.

    Returns
    -------
    Tensor [B, B]
    """
    return similarity(visual, audio).amax(dim=(2, 3)) / tau


def ezvsl(visual: Tensor, audio: Tensor, tau: float = TAU) -> Tensor:
    """Return EZ-VSL's multiple-instance contrastive loss.

    L_ij = max over p of <v_i(p), a_j> / tau; loss = CE(L) + CE(L transposed), a sum of both directions, where
    CE is the mean over rows of -log softmax at the diagonal [code].

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors.
    audio : Tensor [B, C]
        Unit vectors.
    """
    logits = instance_logits(visual, audio, tau)  # [B, B]
    return diagonal_cross_entropy(logits) + diagonal_cross_entropy(logits.T)
