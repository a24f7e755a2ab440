"""FNAC: false-negative-aware contrastive learning.

Clips of one class are negatives of each other in a contrastive loss. FNAC compares how alike clips are
*within* a modality with how alike the loss makes them across modalities, and pulls the two together.

Source: Sun et al., "Learning Audio-Visual Source Localization via False Negative Aware Contrastive Learning",
CVPR 2023, and its published model (OpenNLPLab/FNAC_AVL).

Shape letters: B clips, C channels, h = w side of the map, p a position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from avsl_train.losses.ezvsl import TAU, instance_logits
from avsl_train.losses.similarity import diagonal_cross_entropy, own_similarity

FOREGROUND: Final = 0.6
"""A position of the min-max map above it is foreground [code]."""

EPSILON: Final = 1e-5
"""Added to the denominator of the min-max map of S / .03 [code]."""

WEIGHT: Final = 100.0
"""Weight of each of the three L1 terms after warm-up [code]."""


@dataclass(frozen=True)
class FNACTerms:
    """The four terms of FNAC's loss, scalars.

    Parameters
    ----------
    contrastive
        EZ-VSL's loss.
    audio_suppression
        l1 = mean |A - Q|: sounds that are alike are no negatives (FNS-1).
    enhancement
        l2 = mean |A - f|: the foregrounds relate as the sounds do, so that true negatives part (TNE).
    visual_suppression
        l3 = mean |V - Q|: frames that are alike are no negatives (FNS-2).
    """

    contrastive: Tensor
    audio_suppression: Tensor
    enhancement: Tensor
    visual_suppression: Tensor


def adjacency_logits(features: Tensor, tau: float = TAU) -> Tensor:
    """Return <x_i, x_j> / tau of features [B, C]; its row-wise softmax tells which clips are alike.

    The features are taken as they are: means of unit vectors are not brought to unit length again [code].
    """
    return features @ features.T / tau


def normalized_map(visual: Tensor, audio: Tensor, tau: float = TAU) -> Tensor:
    """Return m_i = (s - min s) / (max s - min s + 1e-5) over the positions of each clip, [B, 1, h, w] [code].

    s = S_ii / tau.
    """
    own = own_similarity(visual, audio) / tau
    lowest, highest = own.amin((2, 3), keepdim=True), own.amax((2, 3), keepdim=True)
    return (own - lowest) / (highest - lowest + EPSILON)


def foreground(visual: Tensor, audio: Tensor, tau: float = TAU) -> Tensor:
    """Return F_i = mean over all h w positions of v_i(p) [m_i(p) > .6], [B, C] [code].

    The sum is divided by all positions, not by those of the foreground. No gradient flows through the
    choice of positions.
    """
    return (visual * (normalized_map(visual, audio, tau) > FOREGROUND)).mean((2, 3))


def fnac_terms(visual: Tensor, audio: Tensor, tau: float = TAU) -> FNACTerms:
    """Return the terms of FNAC's loss [code].

    Q = softmax of the rows of L (`ezvsl.instance_logits`), A, f and V the softmax of the rows of
    `adjacency_logits` of the sounds, the foregrounds and the frames' means. Each term is a mean over all
    B x B entries; both sides of a difference receive gradient.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors.
    audio : Tensor [B, C]
        Unit vectors.
    tau
        Temperature, .03 [code].
    """
    logits = instance_logits(visual, audio, tau)  # [B, B]
    cross = logits.softmax(1)
    by_sound = adjacency_logits(audio, tau).softmax(1)
    by_frame = adjacency_logits(visual.mean((2, 3)), tau).softmax(1)
    by_foreground = adjacency_logits(foreground(visual, audio, tau), tau).softmax(1)
    return FNACTerms(
        contrastive=diagonal_cross_entropy(logits) + diagonal_cross_entropy(logits.T),
        audio_suppression=(by_sound - cross).abs().mean(),
        enhancement=(by_sound - by_foreground).abs().mean(),
        visual_suppression=(by_frame - cross).abs().mean(),
    )


def fnac(visual: Tensor, audio: Tensor, warmed_up: bool = True) -> Tensor:
    """Return FNAC's loss: EZ-VSL's, and after warm-up + 100 (l1 + l2 + l3).

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors.
    audio : Tensor [B, C]
        Unit vectors.
    warmed_up
        False during the first epochs: 3 by the code's default, 5 in its scripts [code].
    """
    terms = fnac_terms(visual, audio)
    if not warmed_up:
        return terms.contrastive
    return terms.contrastive + WEIGHT * (
        terms.audio_suppression + terms.enhancement + terms.visual_suppression
    )
