"""The supervised loss, and the cross-entropy of maps that pseudo-labels share with it.

Shape letters: B clips, h = w side of the map, H side of the image.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from avsl_train.distributed import total, world_size


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


def masked_cross_entropy(
    logit: Tensor, target: Tensor, chosen: Tensor, covered: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy of [B, 1, h, w] maps: a mean over pixels, then `mean_of_chosen`.

    Parameters
    ----------
    logit, target : Tensor [B, 1, h, w]
        Logit of P and a soft or hard label in [0, 1]; no gradient flows into the label.
    chosen : Tensor [B] of bool
        Clips that count. If none does, the result is 0.
    covered : Tensor [B, 1, h, w] of bool or None
        Pixels that count; None: all. A clip without any has a mean of 0.

    Examples
    --------
    >>> import torch
    >>> logit, target = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    >>> round(masked_cross_entropy(logit, target, torch.tensor([True, False])).item(), 4)
    0.6931
    """
    pixels = functional.binary_cross_entropy_with_logits(logit, target.detach(), reduction="none")
    return mean_of_chosen(pixel_mean(pixels, covered), chosen)


def pixel_mean(pixels: Tensor, covered: Tensor | None = None) -> Tensor:
    """Return the mean over each clip's covered pixels, [B]; 0 for a clip without any.

    Parameters
    ----------
    pixels : Tensor [B, 1, h, w]
    covered : Tensor [B, 1, h, w] of bool or None
        None: all pixels.
    """
    if covered is None:
        return pixels.mean((1, 2, 3))
    weight = covered.to(pixels.dtype)
    return (pixels * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)


def mean_of_chosen(per_clip: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean over the chosen clips of the batch of all processes; 0 if there are none.

    Each process returns its own part of the sum, divided so that the *average* over processes, which is what
    becomes of their gradients, is the mean over all chosen clips wherever they lie.

    Parameters
    ----------
    per_clip : Tensor [B]
    chosen : Tensor [B] of bool

    Examples
    --------
    >>> import torch
    >>> mean_of_chosen(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([True, False, True])).item()
    2.0
    """
    weight = chosen.to(per_clip.dtype)
    return (per_clip * weight).sum() / (total(weight.sum()).clamp(min=1) / world_size())
