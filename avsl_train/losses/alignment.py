"""Alignment: several views of a clip are aligned across modalities, locally and as a whole.

Source: Senocak et al., "Sound Source Localization is All about Cross-Modal Alignment", ICCV 2023, and its
published code (kaistmm/ssl_kccv).

Shape letters: B clips, C channels, h = w side of the map.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from avsl_train.losses.lvs import POSITIVE, SOFTNESS, TAU, weighted_mean
from avsl_train.losses.similarity import diagonal_cross_entropy, similarity


class AlignmentView(NamedTuple):
    """One view of a batch: the clips themselves, an augmented view, or their nearest neighbours.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors of the positions.
    audio : Tensor [B, C]
        Unit vectors of the sounds.
    visual_projected, audio_projected : Tensor [B, C]
        Unit vectors of whole frames and sounds, of their own projections.
    """

    visual: Tensor
    audio: Tensor
    visual_projected: Tensor
    audio_projected: Tensor


def local_logits(visual: Tensor, audio: Tensor) -> Tensor:
    """Return q_ij = [sum_p w S_ij / sum_p w] / .07 with w = sig((S_ij - .65)/.03), [B, B] [code]."""
    pairs = similarity(visual, audio)  # [B, B, h, w]
    return weighted_mean(pairs, torch.sigmoid((pairs - POSITIVE) / SOFTNESS)) / TAU


def global_logits(left: Tensor, right: Tensor) -> Tensor:
    """Return q_ij = <x_i, y_j> / .07 of vectors [B, C], [B, B] [code]."""
    return left @ right.T / TAU


def alignment_logits(
    plain: AlignmentView,
    augmented: AlignmentView | None = None,
    neighbours: AlignmentView | None = None,
    projected: bool = True,
    intra: bool = False,
) -> list[Tensor]:
    """Return the logits of every term, each [B, B] with frames as rows and sounds as columns.

    For every pair of a frame's view and a sound's view, frames slow: first all local ones, then all projected
    ones. Three views give 18.

    Parameters
    ----------
    plain
        The clips themselves.
    augmented, neighbours
        Further views; a view that is None has no terms.
    projected
        Whether the terms of whole frames and sounds are there.
    intra
        Adds the terms within a modality, off in the published commands: frames with neighbours' frames,
        sounds with neighbours' sounds, frames with augmented frames, sounds with augmented sounds.
    """
    views = [view for view in (plain, augmented, neighbours) if view is not None]
    logits = [local_logits(frame.visual, sound.audio) for frame, sound in product(views, views)]
    if projected:
        logits += [
            global_logits(frame.visual_projected, sound.audio_projected)
            for frame, sound in product(views, views)
        ]
    if intra:
        for view in (neighbours, augmented):
            if view is not None:
                logits.append(global_logits(plain.visual_projected, view.visual_projected))
                logits.append(global_logits(plain.audio_projected, view.audio_projected))
    return logits


def alignment(
    plain: AlignmentView,
    augmented: AlignmentView | None = None,
    neighbours: AlignmentView | None = None,
    projected: bool = True,
    intra: bool = False,
) -> Tensor:
    """Return Alignment's loss: the plain sum of CE over the terms of `alignment_logits` [code].

    The softmax runs over sounds only. Parameters as there.
    """
    terms = [
        diagonal_cross_entropy(logits)
        for logits in alignment_logits(plain, augmented, neighbours, projected, intra)
    ]
    return torch.stack(terms).sum()
