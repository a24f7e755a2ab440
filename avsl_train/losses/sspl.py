"""SSPL: no negatives; two views of a clip's audio-visual feature predict each other.

The predictive coding module (PCM) that one of its two variants puts before the attention is in
`avsl_train.losses.pcm`.

Source: Song et al., "Self-Supervised Predictive Learning: A Negative-Free Method for Sound Source
Localization in Visual Scenes", CVPR 2022, and its published code (zjsong/SSPL). The symmetric loss is
SimSiam's (Chen and He, CVPR 2021).

Shape letters: B clips, C channels, D channels of the head, h = w side of the map.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

EPSILON: Final = 1e-10
"""Added to the denominator of the min-max map [code]."""

HIDDEN: Final = 2048
BOTTLENECK: Final = 512


class Attended(NamedTuple):
    """What `attend` finds.

    Parameters
    ----------
    similarity : Tensor [B, 1, h, w]
        s(p) = cos(V(p), a).
    attention : Tensor [B, 1, h, w]
        s brought to [0, 1] per clip.
    feature : Tensor [B, C]
        sum_p attention(p) V(p).
    """

    similarity: Tensor
    attention: Tensor
    feature: Tensor


def attend(visual: Tensor, audio: Tensor) -> Attended:
    """Return SSPL's attention without PCM [code].

    s(p) = cos(V(p), a), m = (s - min s) / (max s - min s + 1e-10), f = sum_p m(p) V(p); V is not normalised
    in the sum, and gradient flows through minimum and maximum.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        V, raw features.
    audio : Tensor [B, C]
        a, the mean over the patches of a sound.
    """
    unit = functional.normalize(visual, dim=1)
    own = (unit * functional.normalize(audio, dim=1)[:, :, None, None]).sum(1, keepdim=True)  # [B, 1, h, w]
    lowest, highest = own.amin((2, 3), keepdim=True), own.amax((2, 3), keepdim=True)
    attention = (own - lowest) / (highest - lowest + EPSILON)
    return Attended(own, attention, (attention * visual).sum((2, 3)))


class SSPLHead(nn.Module):
    """SimSiam's head: a projector of three layers and a predictor with a bottleneck [code].

    Projector: linear, BN, ReLU; linear, BN, ReLU; linear, BN without weights; no biases. Predictor: linear
    without bias, BN, ReLU; linear.

    Parameters
    ----------
    channels
        C of the feature.
    hidden, bottleneck
        D, and the predictor's inner width.
    """

    def __init__(self, channels: int, hidden: int = HIDDEN, bottleneck: int = BOTTLENECK) -> None:
        super().__init__()
        # names as in the published checkpoints
        self.projector = nn.ModuleDict(
            {
                "layer1": _layer(channels, hidden),
                "layer2": _layer(hidden, hidden),
                "layer3": nn.Sequential(
                    nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden, affine=False)
                ),
            }
        )
        self.predictor = nn.ModuleDict(
            {"layer1": _layer(hidden, bottleneck), "layer2": nn.Linear(bottleneck, hidden)}
        )

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction p and the projection z of features [B, C], each [B, D]."""
        z = feature
        for layer in self.projector.values():
            z = layer(z)
        p = z
        for layer in self.predictor.values():
            p = layer(p)
        return p, z


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return D(p, sg z) = -mean over clips of cos(p, z), for [B, D]; the target gets no gradient."""
    return -functional.cosine_similarity(prediction, target.detach(), dim=1).mean()


def simsiam(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Return SimSiam's loss .5 (D(p1, sg z2) + D(p2, sg z1)), in [-1, 1] [code].

    Parameters
    ----------
    p1, p2 : Tensor [B, D]
        Predictions of the two views.
    z1, z2 : Tensor [B, D]
        Projections of the two views.
    """
    return 0.5 * (negative_cosine(p1, z2) + negative_cosine(p2, z1))


def sspl(head: SSPLHead, feature1: Tensor, feature2: Tensor) -> Tensor:
    """Return SSPL's loss of the attended features [B, C] of two views, each a pass of its own (BatchNorm)."""
    (p1, z1), (p2, z2) = head(feature1), head(feature2)
    return simsiam(p1, p2, z1, z2)


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())
