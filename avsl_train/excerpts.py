"""Which part of a clip's sound a view hears: known before the sound is decoded, so that only it is.

Shape letters: B clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from avsl_train.config import DataConfig
from avsl_train.draws import Draws

START_DRAWS = 1
"""Uniform numbers of a clip that say where a drawn view's sound begins; they are the view's first ones."""

Heard = Sequence[Draws | None]
"""The views that will be asked of some clips: the draws of each weak or strong one, None for a plain one."""
PLAIN: Final[Heard] = (None,)
"""The plain view alone."""


def whole(step: int) -> Heard | None:  # noqa: ARG001 - the signature of `Method.heard`
    """Return that the whole sound is heard."""
    return None


def excerpt_samples(config: DataConfig) -> int:
    """Return the number of samples that a view hears."""
    return round(config.audio_s * config.sample_rate)


def clip_samples(config: DataConfig) -> int:
    """Return the number of samples that a clip has."""
    return round(config.clip_s * config.sample_rate)


def excerpt_start(config: DataConfig, keys: Tensor, draws: Draws | None) -> Tensor:
    """Return the first sample that a view hears of each clip: any place alike, or the middle.

    Parameters
    ----------
    config
        ``audio_s`` of ``clip_s`` seconds are heard.
    keys : Tensor [B] of int64
        `Clips.key`.
    draws
        Of a weak or strong view; None: the plain view.

    Returns
    -------
    Tensor [B] of int64
    """
    room = clip_samples(config) - excerpt_samples(config)
    if draws is None:
        return torch.full((len(keys),), room // 2)
    return (draws.uniform(keys, START_DRAWS)[:, 0].double() * (room + 1)).long()


def spans(config: DataConfig, keys: Tensor, heard: Heard | None) -> Tensor:
    """Return the first sample and the one after the last of what some views hear of each clip.

    Returns
    -------
    Tensor [B, 2] of int64
        The shortest stretch that holds the part of every view; the whole clip if ``heard`` is None.
    """
    if not heard:
        return torch.tensor([0, clip_samples(config)]).repeat(len(keys), 1)
    starts = torch.stack([excerpt_start(config, keys, draws) for draws in heard], dim=1)  # [B, views]
    return torch.stack([starts.amin(1), starts.amax(1) + excerpt_samples(config)], dim=1)
