"""Curriculum data selection: which unlabelled clips are reliable enough, and how many are used when.

Shape letters: N clips, h = w side of the map.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-6
"""A map with a smaller standard deviation is constant: it varies by the rounding of its resampling only."""


def reliability(p_a: Tensor, p_b: Tensor, weight: Tensor) -> Tensor:
    """Return the Pearson correlation over pixels of two prediction maps, per clip.

    Parameters
    ----------
    p_a, p_b : Tensor [N, 1, h, w]
        The two models' maps on the un-cropped frame.
    weight : Tensor [N, 1, h, w] of bool
        Pixels that count: where both views saw the frame.

    Returns
    -------
    Tensor [N]
        r in [-1, 1]; 0 where a map is constant, so that a constant map is never called reliable.

    Notes
    -----
    XPL [paper: correlation of the two prediction maps; Pearson's].
    """
    w = weight.flatten(1).double()
    a, b = p_a.flatten(1).double(), p_b.flatten(1).double()
    total = w.sum(1, keepdim=True).clamp(min=1)
    a = (a - (a * w).sum(1, keepdim=True) / total) * w
    b = (b - (b * w).sum(1, keepdim=True) / total) * w
    total = total[:, 0]
    varies = ((a.square().sum(1) / total).sqrt() > FLAT) & ((b.square().sum(1) / total).sqrt() > FLAT)
    spread = (a.square().sum(1) * b.square().sum(1)).sqrt()
    r = (a * b).sum(1) / torch.where(varies, spread, 1.0)
    return torch.where(varies, r, 0.0).float()


def ramp_up(step: int, steps: int, warmup: float, ramp: float, start: float) -> float:
    """Return rho(t), the share of the unlabelled clips that the curriculum keeps.

    0 during warm-up, then linear from ``start`` to 1 over the first ``ramp`` of the remaining steps [ours].

    Examples
    --------
    >>> [ramp_up(step, 100, warmup=0.1, ramp=0.5, start=0.1) for step in (9, 10, 55, 99)]
    [0.0, 0.1, 1.0, 1.0]
    """
    first = warmup * steps
    if step < first:
        return 0.0
    done = (step - first) / (ramp * (steps - first))
    return min(1.0, start + (1 - start) * done)


def keep_most_reliable(scores: Tensor, share: float) -> Tensor:
    """Return which clips are kept: exactly round(share * N) of the highest scores, ties by the lower index.

    Parameters
    ----------
    scores : Tensor [N]
        Reliability.
    share
        In [0, 1].

    Returns
    -------
    Tensor [N] of bool

    Examples
    --------
    >>> keep_most_reliable(torch.tensor([0.2, 0.9, 0.9, -0.1]), 0.5).tolist()
    [False, True, True, False]
    """
    kept = torch.zeros(len(scores), dtype=torch.bool)
    order = torch.argsort(scores, descending=True, stable=True)
    kept[order[: round(share * len(scores))]] = True
    return kept
