"""Pseudo-labels: how they are sharpened, averaged over the epochs and stored.

Shape letters: N unlabelled clips, B clips of a batch, h = w side of the map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsl_train.augment import Geometry, crop


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Return q = p^(1/T) / (p^(1/T) + (1-p)^(1/T)) per pixel: MixMatch's, in binary form [ours].

    Equal to sigmoid(logit(p) / T), which stays exact for p near 0 and 1. A resampled map may leave [0, 1] by
    a rounding error; it is clamped, because the logit of such a value is NaN.

    Parameters
    ----------
    p
        Probabilities in [0, 1], any shape.
    temperature
        T; below 1 sharpens, 1 changes nothing.

    Examples
    --------
    >>> sharpen(torch.tensor([0.5, 0.8]), 0.5)
    tensor([0.5000, 0.9412])
    """
    return torch.sigmoid(torch.logit(p.clamp(0, 1)) / temperature)


def harden(p: Tensor, threshold: float) -> Tensor:
    """Return 1 where p >= threshold, else 0."""
    return (p >= threshold).to(p.dtype)


class LabelStore:
    """The stored pseudo-labels of one model: one map per unlabelled clip, on the un-cropped frame.

    Parameters
    ----------
    clips
        N.
    size
        h = w.
    beta
        Weight of the previous label: Y_t = beta * Y_(t-1) + (1 - beta) * q_t, Y_0 = q_0. 0 keeps no history.

    Notes
    -----
    The averaging is XPL's PL-EMA [paper]; beta is [ours]. Maps are float16: 144,000 clips at 14x14 take
    57 MB.
    """

    def __init__(self, clips: int, size: int, beta: float) -> None:
        self.beta = beta
        self.maps = torch.zeros(clips, 1, size, size, dtype=torch.float16)
        self.seen = torch.zeros(clips, dtype=torch.bool)

    def update(self, index: Tensor, label: Tensor, covered: Tensor) -> None:
        """Make one step of the average for some clips.

        Parameters
        ----------
        index : Tensor [B] of int64
            Which clips; each at most once.
        label : Tensor [B, 1, h, w]
            q_t on the un-cropped frame.
        covered : Tensor [B, 1, h, w] of bool
            Where the view that q_t comes from saw the frame; elsewhere an older label stays.
        """
        label, covered = label.cpu().float(), covered.cpu()
        old = self.maps[index].float()
        mixed = torch.where(covered, self.beta * old + (1 - self.beta) * label, old)
        first = ~self.seen[index][:, None, None, None]
        self.maps[index] = torch.where(first, label, mixed).half()
        self.seen[index] = True

    def view(self, index: Tensor, geometry: Geometry, size: int) -> Tensor:
        """Return the labels of some clips as a view sees them, [B, 1, size, size] float32."""
        return crop(self.maps[index].to(geometry.box.device).float(), geometry, size)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""
        return {"maps": self.maps, "seen": self.seen}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what a checkpoint held."""
        self.maps, self.seen = state["maps"].clone(), state["seen"].clone()
