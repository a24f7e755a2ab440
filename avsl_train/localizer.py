"""The shared localizer: a frame and its sound to a map of where the sound comes from.

Shape letters: B clips, S side of the image, C channels of the common space, h = w side of the map.

Both encoders end in a unit vector; their inner product is the cosine similarity S(x, y) in [-1, 1] [paper].
A learned scale s and bias b turn it into a probability, P = sigmoid(s * S + b) [ours]: the contrastive loss
moves S freely, and the calibration keeps a fixed threshold on P meaningful.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train.config import DataConfig, ModelConfig
from avsl_train.encoders import make_audio, make_visual

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Output:
    """What the localizer returns for a batch.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors of the positions.
    audio : Tensor [B, C]
        Unit vectors of the sounds.
    logit : Tensor [B, 1, h, w]
        s * S + b of each frame with its own sound; P is its sigmoid.
    grid : Tensor [B, C_v, h, w]
        What the visual encoder made of the frame, before the projection.
    vector : Tensor [B, C_a]
        What the audio encoder made of the sound, before the projection.
    """

    visual: Tensor
    audio: Tensor
    logit: Tensor
    grid: Tensor
    vector: Tensor

    @property
    def probability(self) -> Tensor:
        """P, [B, 1, h, w] in [0, 1]."""
        return self.logit.sigmoid()

    def float(self) -> Output:
        """Return the same in single precision."""
        return Output(*(getattr(self, field.name).float() for field in fields(self)))


class Localizer(nn.Module):
    """Visual encoder, audio encoder, projections and calibration.

    Parameters
    ----------
    model, data
        Sections of the training configuration.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: ModelConfig, data: DataConfig) -> None:
        super().__init__()
        self.visual = make_visual(model)
        self.audio = make_audio(model, data)
        self.visual_projection = nn.Conv2d(self.visual.channels, model.dim, 1)
        self.audio_projection = nn.Linear(self.audio.channels, model.dim)
        self.scale = nn.Parameter(torch.tensor(model.scale_init))
        self.bias = nn.Parameter(torch.tensor(math.log(model.prior / (1 - model.prior))))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, spectrogram: Tensor) -> Output:
        """Localize.

        Parameters
        ----------
        image : Tensor [B, 3, S, S]
            RGB in [0, 1].
        spectrogram : Tensor [B, 1, F, T]
            From `avsl_train.frontends`.
        """
        grid = self.see(image)
        vector = self.audio(spectrogram)
        visual = self.project(grid)  # [B, C, h, w]
        audio = functional.normalize(self.audio_projection(vector), dim=1)  # [B, C]
        similarity = torch.einsum("bchw,bc->bhw", visual, audio)[:, None]
        return Output(visual, audio, self.scale * similarity + self.bias, grid, vector)

    def see(self, image: Tensor) -> Tensor:
        """Return what the visual encoder makes of images [B, 3, S, S] in [0, 1]: [B, C_v, h, w]."""
        grid: Tensor = self.visual(normalised(image, self.mean, self.std))
        return grid

    def project(self, grid: Tensor) -> Tensor:
        """Return the unit vectors [B, C, h, w] of a grid."""
        return functional.normalize(self.visual_projection(grid), dim=1)


def normalised(
    images: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format = torch.channels_last
) -> Tensor:
    """Subtract a mean and divide by a deviation.

    Parameters
    ----------
    images : Tensor [B, 3, S, S]
        RGB in [0, 1].
    mean, std : Tensor [1, 3, 1, 1]
        Of each colour.
    memory_format
        Of the result; convolutions on a CPU are several times faster with ``channels_last``.

    Returns
    -------
    Tensor [B, 3, S, S]
        Normalised images.
    """
    if images.device.type != "cpu" or images.requires_grad:
        return (images - mean).div_(std).contiguous(memory_format=memory_format)
    # Image by image, so that what is subtracted is divided while it is in the processor's cache.
    out = torch.empty_like(images, memory_format=memory_format)
    for image, place in zip(images, out, strict=True):
        torch.div(image - mean[0], std[0], out=place)
    return out
