"""SLAVC: two heads, momentum features, and a softmax over both the sounds and the positions.

The first head asks which sound belongs to a position, the second which position belongs to a sound; a pair is
near if both agree somewhere.

Source: Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization", NeurIPS 2022,
and its published model (stoneMo/SLAVC).

Shape letters: B clips, C channels, h = w side of the map, H side of the image, n a frame, m a sound,
p a position.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from avsl_train.losses.ezvsl import TAU
from avsl_train.losses.similarity import Features, diagonal_cross_entropy, own_similarity, similarity


def relation_factors(first: Features, second: Features, tau: float = TAU) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the two factors of `relation`, each [B, B, h w] in (n, m, p).

    The first is a softmax over the sounds m of <v1_n(p), a1_m> / .03, the second a softmax over the positions
    p of <v2_n(p), a2_m> / .03.
    """
    by_sound = (similarity(*first).flatten(2) / tau).log_softmax(1)
    by_position = (similarity(*second).flatten(2) / tau).log_softmax(2)
    return by_sound, by_position


def relation(first: Features, second: Features, tau: float = TAU) -> Tensor:
    """Return r_nm = log sum_p softmax_m(<v1_n(p), a1_m>/.03) softmax_p(<v2_n(p), a2_m>/.03), [B, B] [code].

    Rows are frames and columns sounds, whichever side the momentum features are on; the first softmax runs
    over sounds. Computed from logarithms, so that a tiny product does not become log 0.
    """
    by_sound, by_position = relation_factors(first, second, tau)
    return (by_sound + by_position).logsumexp(2)


def slavc(
    first: Features, second: Features, target_first: Features, target_second: Features, tau: float = TAU
) -> Tensor:
    """Return SLAVC's loss CE(i2a) + CE(a2i) [code].

    i2a takes the online frames and the momentum sounds, a2i the momentum frames and the online sounds. The
    momentum features get no gradient. CE normalises the rows again, over the sounds.

    Parameters
    ----------
    first, second
        Both heads' features of the online encoders.
    target_first, target_second
        The same of the momentum encoders. Their step comes *before* these features are computed [code]; the
        caller does it (`avsl_train.ema`).
    """
    visual_1, audio_1, visual_2, audio_2 = (
        part.detach() for heads in (target_first, target_second) for part in heads
    )
    i2a = relation(Features(first.visual, audio_1), Features(second.visual, audio_2), tau)
    a2i = relation(Features(visual_1, first.audio), Features(visual_2, second.audio), tau)
    return diagonal_cross_entropy(i2a) + diagonal_cross_entropy(a2i)


def slavc_map(first: Features, second: Features, tau: float = TAU) -> Tensor:
    """Return the map that SLAVC is scored by: the mean of both heads' S_nn / .03, [B, 1, h, w].

    Of the online or of the momentum features; the published test commands take the online ones [code].
    """
    return (own_similarity(*first) + own_similarity(*second)) / (2 * tau)


def slavc_supervised_as_published(own: Tensor, truth: Tensor, labeled: Tensor) -> Tensor:
    """Return SLAVC's semi-supervised loss with its defects, to compare with; train with `supervised` instead.

    u = the map enlarged to the image's size (bicubic), p = (u - min u) / (max u - min u) with minimum and
    maximum over the *whole batch*, loss = sum over labelled clips and pixels of BCE(p, truth), divided by the
    pixels of *all* clips [code].

    Parameters
    ----------
    own : Tensor [B, 1, h, w]
        S_nn / .03, from `slavc_map`.
    truth : Tensor [B, 1, H, H]
        Ground truth in {0, .5, 1}.
    labeled : Tensor [B] of bool
        Which clips have ground truth.

    Notes
    -----
    Three defects. The loss of a clip depends on the other clips of its batch. Unlabelled clips dilute it. And
    the published model computes this map without gradient, so there the loss trains nothing; here gradient
    flows into ``own``.
    """
    enlarged = functional.interpolate(own, size=truth.shape[-2:], mode="bicubic", align_corners=False)
    p = (enlarged - enlarged.min()) / (enlarged.max() - enlarged.min())
    pixels = functional.binary_cross_entropy(p, truth, reduction="none")
    return (labeled.to(pixels.dtype)[:, None, None, None] * pixels).mean()
