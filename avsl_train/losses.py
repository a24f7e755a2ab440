"""Loss terms that the methods compose.

Shape letters: B clips, C channels, h = w side of the map, p a position, n_l labelled clips.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TAU = 0.03
"""Temperature of EZ-VSL's contrastive loss [code]."""


def supervised(logit: Tensor, truth: Tensor, labeled: Tensor, loss_at: str = "map") -> Tensor:
    """Return the mean pixel binary cross-entropy of P against the ground-truth map [paper].

    The mean is taken over the labelled clips only; with none of them in the batch it is 0 and has no
    gradient.

    Parameters
    ----------
    logit : Tensor [B, 1, h, w]
        Logit of P.
    truth : Tensor [B, 1, H, H]
        Ground truth in [0, 1] at image resolution; rows of clips without labels are ignored.
    labeled : Tensor [B] of bool
        Which clips have ground truth.
    loss_at
        ``map``: against the ground truth averaged over each map cell; ``image``: the logit is enlarged
        (bilinear) to the ground truth's size.
    """
    if loss_at == "map":
        height, width = logit.shape[-2:]
        truth = functional.adaptive_avg_pool2d(truth, (height, width))
    else:
        logit = functional.interpolate(logit, size=truth.shape[-2:], mode="bilinear", align_corners=False)
    return masked_cross_entropy(logit, truth, labeled)


def masked_cross_entropy(logit: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    """Return the binary cross-entropy of [B, 1, h, w] maps, a mean over the pixels of the chosen clips.

    Parameters
    ----------
    logit, target : Tensor [B, 1, h, w]
        Logit of P and a soft or hard label in [0, 1]; no gradient flows into the label.
    chosen : Tensor [B] of bool
        Clips that count. If none does, the result is 0.

    Examples
    --------
    >>> logit, target = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    >>> round(masked_cross_entropy(logit, target, torch.tensor([True, False])).item(), 4)
    0.6931
    """
    per_clip = functional.binary_cross_entropy_with_logits(logit, target.detach(), reduction="none").mean(
        (1, 2, 3)
    )
    weight = chosen.to(per_clip.dtype)
    return (per_clip * weight).sum() / weight.sum().clamp(min=1)


def ezvsl(visual: Tensor, audio: Tensor, tau: float = TAU) -> Tensor:
    """Return EZ-VSL's multiple-instance contrastive loss.

    L_ij = max over p of <v_i(p), a_j> / tau; loss = CE(L) + CE(L transposed), a sum of both directions, where
    CE is the mean over rows of -log softmax at the diagonal.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors.
    audio : Tensor [B, C]
        Unit vectors.

    Notes
    -----
    Source: EZ-VSL (Mo and Morgado, ECCV 2022), its published model.
    """
    logits = torch.einsum("ichw,jc->ijhw", visual, audio).amax(dim=(2, 3)) / tau
    target = torch.arange(len(logits), device=logits.device)
    return functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
