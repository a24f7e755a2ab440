"""The supervised loss, and the cross-entropy of maps that pseudo-labels share with it.

Shape letters: B clips, h = w side of the map, H side of the image.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


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
    >>> import torch
    >>> logit, target = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    >>> round(masked_cross_entropy(logit, target, torch.tensor([True, False])).item(), 4)
    0.6931
    """
    per_clip = functional.binary_cross_entropy_with_logits(logit, target.detach(), reduction="none").mean(
        (1, 2, 3)
    )
    weight = chosen.to(per_clip.dtype)
    return (per_clip * weight).sum() / weight.sum().clamp(min=1)
