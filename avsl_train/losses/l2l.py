"""Attention10k ("learning to localize"): a sound attends to a frame, and a triplet or a person judges it.

Source: Senocak et al., "Learning to Localize Sound Source in Visual Scenes", CVPR 2018, and its published
code (ardasnck/learning_to_localize_sound_source).

Shape letters: B clips, C = 512 channels of the frame, A = 1000 of the sound, h = w = 20 side of the map.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON: Final = 1e-6
"""Added to every difference before the distance is taken [code]."""


class Heard(NamedTuple):
    """What `SoundAttention` returns.

    Parameters
    ----------
    attention : Tensor [B, 1, h, w]
        Sums to 1 over the positions of each clip.
    embedding : Tensor [B, A]
        z, the attended frame in the space of the sound.
    """

    attention: Tensor
    embedding: Tensor


class SoundAttention(nn.Module):
    """Attention of a sound to the positions of a frame [code].

    h = unit(fc2(relu(fc1(relu(x))))), att = softmax over positions of relu(cos(V(p), h)),
    z = vfc2(relu(vfc1(relu(sum_p att(p) V(p))))); V is not normalised in the sum.

    Parameters
    ----------
    channels, sound_channels
        C and A.
    """

    def __init__(self, channels: int = 512, sound_channels: int = 1000) -> None:
        super().__init__()
        # names as in the published checkpoints
        self.sound_fc1 = nn.Linear(sound_channels, sound_channels)
        self.sound_fc2 = nn.Linear(sound_channels, channels)
        self.vision_fc1 = nn.Linear(channels, channels)
        self.vision_fc2 = nn.Linear(channels, sound_channels)

    def forward(self, visual: Tensor, sound: Tensor) -> Heard:
        """Attend.

        Parameters
        ----------
        visual : Tensor [B, C, h, w]
            V, raw features.
        sound : Tensor [B, A]
            x, the raw output of the sound network; rectified here.
        """
        query = self.sound_fc2(functional.relu(self.sound_fc1(functional.relu(sound))))
        query = functional.normalize(query, dim=1)  # [B, C]
        cosine = torch.einsum("bchw,bc->bhw", functional.normalize(visual, dim=1), query)
        attention = functional.relu(cosine).flatten(1).softmax(1).view_as(cosine)[:, None]  # [B, 1, h, w]
        pooled = (attention * visual).sum((2, 3))  # [B, C]
        embedding = self.vision_fc2(functional.relu(self.vision_fc1(functional.relu(pooled))))
        return Heard(attention, embedding)


def triplet(embedding: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the unsupervised loss: the mean over clips and columns of (softmax([d+, d-]) - [0, 1])^2 [code].

    d = |z - x + 1e-6| is the Euclidean distance to a raw sound, of the own clip (d+) or of another (d-). Both
    columns have the same error, so the mean is that of softmax(d+)^2.

    Parameters
    ----------
    embedding, positive, negative : Tensor [B, A]
        z, and the raw features (not rectified) of the own and of another sound.

    Examples
    --------
    >>> near, far = torch.zeros(1, 4), torch.full((1, 4), 9.0)
    >>> round(triplet(near, near, far).item(), 4), round(triplet(near, far, near).item(), 4)
    (0.0, 1.0)
    """
    distances = torch.stack(
        [(embedding - sound + EPSILON).norm(dim=1) for sound in (positive, negative)], dim=1
    )
    return distances.softmax(1)[:, 0].square().mean()


def attention_likelihood(attention: Tensor, truth: Tensor, labeled: Tensor) -> Tensor:
    """Return the supervised loss: mean over *all* clips of w_i * -sum_p truth_i(p) log att_i(p) [code].

    Parameters
    ----------
    attention, truth : Tensor [B, 1, h, w]
        The attention, which is above 0 everywhere, and 1 where a person marked the source, else 0.
    labeled : Tensor [B] of bool
        w. Unlabelled clips count in the mean with 0, so the weight of a label depends on the batch.
    """
    per_clip = -(truth * attention.log()).sum((1, 2, 3))
    return (labeled.to(per_clip.dtype) * per_clip).mean()


def l2l(heard: Heard, positive: Tensor, negative: Tensor, truth: Tensor, labeled: Tensor) -> Tensor:
    """Return Attention10k's semi-supervised loss, `triplet` + `attention_likelihood` [code]."""
    return triplet(heard.embedding, positive, negative) + attention_likelihood(
        heard.attention, truth, labeled
    )
