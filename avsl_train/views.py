"""From stored clips to what the models see and hear, and to the ground truth in the same geometry.

Shape letters: B clips, F side of the stored frame, S side of the image, T time steps, M boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avsl_train.augment import (
    Geometry,
    change_colours,
    crop,
    draw_strong,
    draw_weak,
    identity,
    mask_spectrogram,
)
from avsl_train.config import AugmentConfig, DataConfig
from avsl_train.data import Clips
from avsl_train.frontends import make_frontend

INT16_SCALE = 32768.0


@dataclass(frozen=True)
class View:
    """A batch as one model sees it.

    Parameters
    ----------
    image : Tensor [B, 3, S, S]
        RGB in [0, 1].
    spectrogram : Tensor [B, 1, frequencies, T]
        Log spectrogram of ``DataConfig.audio_s`` seconds.
    geometry
        Where the image lies in the frame.
    """

    image: Tensor
    spectrogram: Tensor
    geometry: Geometry


class Viewer:
    """Makes views of clips on a device.

    Parameters
    ----------
    config
        Section ``data`` of the training configuration.
    device
        Where views are made and stay.
    """

    def __init__(self, config: DataConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.frontend = make_frontend(config).to(device)

    def plain(self, clips: Clips) -> View:
        """Return the whole frame and the middle of the sound: the view of prediction."""
        geometry = identity(len(clips)).to(self.device)
        start = torch.full((len(clips),), (self._clip_samples - self._samples) // 2)
        return View(self._images(clips, geometry), self._spectrogram(clips, start), geometry)

    def weak(self, clips: Clips, config: AugmentConfig, generator: torch.Generator) -> View:
        """Return a weak view: crop, flip and a random part of the sound."""
        geometry = draw_weak(len(clips), config, generator).to(self.device)
        spectrogram = self._spectrogram(clips, self._random_start(clips, generator))
        return View(self._images(clips, geometry), spectrogram, geometry)

    def strong(self, clips: Clips, config: AugmentConfig, generator: torch.Generator) -> View:
        """Return a strong view: crop, flip, colours, blur and SpecAugment."""
        geometry = draw_strong(len(clips), config, generator).to(self.device)
        image = change_colours(self._images(clips, geometry), config, generator)
        spectrogram = self._spectrogram(clips, self._random_start(clips, generator))
        return View(image, mask_spectrogram(spectrogram, config, generator), geometry)

    def truth(self, clips: Clips, geometry: Geometry) -> Tensor:
        """Return the union of the boxes as a view sees it, [B, 1, S, S] in {0, 1}."""
        return rasterise(clips.boxes.to(self.device), geometry, self.config.image_size)

    @property
    def _samples(self) -> int:
        return round(self.config.audio_s * self.config.sample_rate)

    @property
    def _clip_samples(self) -> int:
        return round(self.config.clip_s * self.config.sample_rate)

    def _random_start(self, clips: Clips, generator: torch.Generator) -> Tensor:
        room = self._clip_samples - self._samples
        return torch.randint(0, room + 1, (len(clips),), generator=generator)

    def _images(self, clips: Clips, geometry: Geometry) -> Tensor:
        return crop(clips.frames.to(self.device).float() / 255, geometry, self.config.image_size)

    def _spectrogram(self, clips: Clips, start: Tensor) -> Tensor:
        positions = start[:, None] + torch.arange(self._samples)[None, :]
        waves = clips.waves.gather(1, positions).to(self.device).float() / INT16_SCALE
        with torch.no_grad():
            spectrogram: Tensor = self.frontend(waves)
        return spectrogram


def rasterise(boxes: Tensor, geometry: Geometry, size: int) -> Tensor:
    """Return the union of boxes as a mask in a view.

    Parameters
    ----------
    boxes : Tensor [B, M, 4]
        xyxy in [0, 1] of the un-cropped frame; a box without area covers nothing.
    geometry
        The view.
    size
        Side of the mask.

    Returns
    -------
    Tensor [B, 1, size, size]
        1 where the pixel's centre lies in a box (half-open), else 0.
    """
    x, y = geometry.centres(size)
    across = (x[:, None] >= boxes[..., 0:1]) & (x[:, None] < boxes[..., 2:3])  # [B, M, size]
    along = (y[:, None] >= boxes[..., 1:2]) & (y[:, None] < boxes[..., 3:4])
    return (along[..., :, None] & across[..., None, :]).any(1, keepdim=True).float()
