"""LVS: a differentiable trimap divides each frame into sounding, silent and ignored positions.

Source: Chen et al., "Localizing Visual Sounds the Hard Way", CVPR 2021, and its published model
(hche11/Localizing-Visual-Sounds-the-Hard-Way). SSL-TIE and HTF use the same loss with other features.

Shape letters: B clips, C channels, h = w side of the map, p a position. sig is the logistic function.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from avsl_train.losses.similarity import similarity

POSITIVE: Final = 0.65
"""Similarity above which a position sounds [code]."""

NEGATIVE: Final = 0.4
"""Similarity below which a position of the own frame is a hard negative [code]."""

SOFTNESS: Final = 0.03
"""Width of both soft thresholds [code]."""

TAU: Final = 0.07
"""Temperature of the logits [code]."""

OWN_PENALTY: Final = 100
"""N_ii is multiplied by 1 - 100 to take it out of the negatives [code]."""

Diagonal = Literal["published", "masked"]
"""How the own pair leaves the negatives: N_ii times -99, or not there at all."""


def regions(own: Tensor, positive: float = POSITIVE, negative: float = NEGATIVE) -> tuple[Tensor, Tensor]:
    """Return the trimap's soft masks: Pos = sig((S - positive)/.03) and Neg = 1 - sig((S - negative)/.03).

    Parameters
    ----------
    own : Tensor, any shape
        S in [-1, 1].
    positive, negative
        The two thresholds; what lies between belongs to neither mask.

    Examples
    --------
    >>> [mask.round().tolist() for mask in regions(torch.tensor([0.1, 0.5, 0.9]))]
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    # sig(-x) is 1 - sig(x) that does not round to 0, which would make H_i of a bright map 0/0
    return torch.sigmoid((own - positive) / SOFTNESS), torch.sigmoid((negative - own) / SOFTNESS)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return sum_p w(p) x(p) / sum_p w(p), the mean over the last two dimensions."""
    return (weights * values).sum((-2, -1)) / weights.sum((-2, -1))


def trimap_logits(
    visual: Tensor,
    audio: Tensor,
    positive: float = POSITIVE,
    negative: float = NEGATIVE,
    hard_negatives: bool = True,
    diagonal: Diagonal = "published",
) -> Tensor:
    """Return the logits [P_i, N_i1 .. N_iB, H_i] / .07 of every clip i [code].

    P_i = sum Pos S_ii / sum Pos over the positions of the own frame, H_i = sum Neg S_ii / sum Neg,
    N_ij = sum w S_ij / sum w with w = sig((S_ij - .65)/.03) for every sound j; N_ii is then multiplied by
    1 - 100 = -99.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors.
    audio : Tensor [B, C]
        Unit vectors.
    positive, negative
        Thresholds of the trimap. Both the same: nothing is ignored ("no trimap" in the paper's ablation).
    hard_negatives
        False leaves out the column H.
    diagonal
        ``published``: N_ii is multiplied as above; ``masked``: its logit is minus infinity [ours].

    Returns
    -------
    Tensor [B, B + 2], or [B, B + 1] without hard negatives

    Notes
    -----
    Gradient flows through the masks and through the multiplied diagonal, as in the published code. The
    multiplication hides the diagonal only while N_ii > 0, which holds for features that come out of a ReLU.
    Where N_ii < 0, its logit is +99 |N_ii| / .07 and rules the loss: features of both signs want ``masked``.
    """
    pairs = similarity(visual, audio)  # [B, B, h, w]
    own = pairs.diagonal().permute(2, 0, 1)  # [B, h, w]
    pos, neg = regions(own, positive, negative)
    others = weighted_mean(pairs, torch.sigmoid((pairs - positive) / SOFTNESS))  # [B, B]
    own_pair = torch.eye(len(others), dtype=others.dtype, device=others.device)
    if diagonal == "masked":
        others = others.masked_fill(own_pair.bool(), -torch.inf)
    else:
        others = others * (1 - OWN_PENALTY * own_pair)
    columns = [weighted_mean(own, pos)[:, None], others]
    if hard_negatives:
        columns.append(weighted_mean(own, neg)[:, None])
    return torch.cat(columns, dim=1) / TAU


def lvs(
    visual: Tensor,
    audio: Tensor,
    positive: float = POSITIVE,
    negative: float = NEGATIVE,
    hard_negatives: bool = True,
    diagonal: Diagonal = "published",
) -> Tensor:
    """Return LVS's loss: the mean over clips of -log softmax of the trimap's logits at column P.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors, of non-negative features in the original.
    audio : Tensor [B, C]
        Unit vectors.
    positive, negative, hard_negatives, diagonal
        As in `trimap_logits`.
    """
    logits = trimap_logits(visual, audio, positive, negative, hard_negatives, diagonal)
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
