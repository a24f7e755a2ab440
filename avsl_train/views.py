"""From stored clips to what the models see and hear, and to the ground truth in the same geometry.

Shape letters: B clips, F side of the stored frame, S side of the image, T time steps, n samples, M boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avsl_eval.memory import keep_freed_memory
from avsl_train.augment import (
    COLOUR_DRAWS,
    CROP_DRAWS,
    MASK_DRAWS,
    Geometry,
    change_colours,
    crop,
    draw_strong,
    draw_weak,
    identity,
    mask_patches,
    mask_spectrogram,
    mask_wave,
    sample,
)
from avsl_train.config import HEARS, AugmentConfig, DataConfig, FrontendName
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.excerpts import START_DRAWS, excerpt_samples, excerpt_start
from avsl_train.frontends import Frontend, make_frontend
from avsl_train.frontends.frontend import INT16_MIN

CACHED_SAMPLES = 2**17
"""On a CPU a front end is given about so many samples at a time: what it makes of them fits the cache."""
CACHED_PIXELS = 2**18
"""So with values of frames: whole batches in floats take twice the time, most of it for fresh memory."""

LARGE_TENSORS = 31 * 1024**2
"""Bytes of a batch's images, about."""


@dataclass(frozen=True)
class View:
    """A batch as one model sees it.

    Parameters
    ----------
    image : Tensor [B, 3, S, S]
        RGB in [0, 1].
    spectrogram : Tensor [B, 1, frequencies, T]
        What the front end makes of ``DataConfig.audio_s`` seconds: mostly a log spectrogram, else patches
        [B, N, 96, 64] or a waveform [B, 1, 1, n].
    geometry
        Where the image lies in the frame.
    frontend
        Whose features ``spectrogram`` holds.
    wave : Tensor [B, n] of int16 or None
        The sound of the view, for a second front end (`Viewer.heard`); None where the sound was masked.
    """

    image: Tensor
    spectrogram: Tensor
    geometry: Geometry
    frontend: FrontendName
    wave: Tensor | None = None


class Viewer:
    """Makes views of clips on a device.

    A view that is drawn depends on its `Draws` and on each clip's key, and on nothing else: not on the other
    clips of the batch, nor on which process makes it.

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
        self._frontends: dict[FrontendName, Frontend] = {}
        if device.type == "cpu":
            keep_freed_memory(LARGE_TENSORS)

    def plain(self, clips: Clips, frontend: FrontendName | None = None) -> View:
        """Return the whole frame and the middle of the sound: the view of prediction.

        ``frontend`` is that of the model that hears the view; None: ``data.frontend``. So in every view.
        """
        geometry = identity(len(clips)).to(self.device)
        return self._view(self._images(clips, geometry), self._wave(clips, None), geometry, frontend)

    def weak(
        self, clips: Clips, config: AugmentConfig, draws: Draws, frontend: FrontendName | None = None
    ) -> View:
        """Return a weak view: crop, flip and a random part of the sound."""
        place = draws.uniform(clips.key, START_DRAWS + CROP_DRAWS)[:, START_DRAWS:]
        geometry = draw_weak(place, config).to(self.device)
        wave = self._wave(clips, draws)
        return self._view(self._images(clips, geometry), wave, geometry, frontend)

    def strong(
        self, clips: Clips, config: AugmentConfig, draws: Draws, frontend: FrontendName | None = None
    ) -> View:
        """Return a strong view: crop, flip, colours, blur and SpecAugment.

        Of a waveform SpecAugment masks the span of time only, before the front end.
        """
        parts = [START_DRAWS, CROP_DRAWS, COLOUR_DRAWS, MASK_DRAWS]
        _, place, colours, masks = draws.uniform(clips.key, sum(parts)).split_with_sizes(parts, 1)
        geometry = draw_strong(place, config).to(self.device)
        image = change_colours(self._images(clips, geometry), config, colours)
        wave = self._wave(clips, draws)
        name = frontend or self.config.frontend
        if name in HEARS["soundnet"]:
            return View(
                image,
                self._features(mask_wave(wave.float() / INT16_MIN, config, masks), name),
                geometry,
                name,
            )
        mask = mask_patches if name in HEARS["vggish"] else mask_spectrogram
        return View(image, mask(self._features(wave, name), config, masks), geometry, name)

    def heard(self, view: View, frontend: FrontendName | None) -> View:
        """Return a view as a model with another front end hears it.

        Raises
        ------
        ValueError
            The sound of the view was masked for its own front end: ask for the view with ``frontend``.
        """
        name = frontend or self.config.frontend
        if name == view.frontend:
            return view
        if view.wave is None:
            raise ValueError(
                f"a strong view for the front end {view.frontend} cannot be heard by {name}: ask "
                f"`Viewer.strong` for it with frontend={name!r}"
            )
        return replace(view, spectrogram=self._features(view.wave, name), frontend=name)

    def truth(self, clips: Clips, geometry: Geometry) -> Tensor:
        """Return the union of the boxes as a view sees it, [B, 1, S, S] in {0, 1}."""
        return rasterise(clips.boxes.to(self.device), geometry, self.config.image_size)

    def _images(self, clips: Clips, geometry: Geometry) -> Tensor:
        frames, size = clips.frames.to(self.device, non_blocking=True), self.config.image_size
        if self.device.type != "cpu":
            return crop(frames.float(), geometry, size).div_(255)
        images = torch.empty(len(frames), frames.shape[1], size, size)
        at_a_time, (x, y) = max(1, CACHED_PIXELS // frames.shape[1:].numel()), geometry.centres(size)
        for first in range(0, len(frames), at_a_time):
            part = slice(first, first + at_a_time)
            torch.div(sample(frames[part].float(), x[part], y[part]), 255, out=images[part])
        return images

    def _wave(self, clips: Clips, draws: Draws | None) -> Tensor:
        """Return the heard part of every sound, [B, n] of int16."""
        start = excerpt_start(self.config, clips.key, draws)
        sound = clips.sound(start, excerpt_samples(self.config))
        return sound.to(self.device, non_blocking=True)

    def _features(self, wave: Tensor, name: FrontendName) -> Tensor:
        if name not in self._frontends:
            self._frontends[name] = make_frontend(self.config, name).to(self.device)
        with torch.no_grad():
            frontend = self._frontends[name]
            if self.device.type == "cpu":
                return _by_parts(frontend, wave, max(1, CACHED_SAMPLES // wave.shape[1]))
            features: Tensor = frontend(wave)
            return features

    def _view(self, image: Tensor, wave: Tensor, geometry: Geometry, frontend: FrontendName | None) -> View:
        name = frontend or self.config.frontend
        return View(image, self._features(wave, name), geometry, name, wave)


def _by_parts(frontend: Frontend, wave: Tensor, at_a_time: int) -> Tensor:
    """Return the features of waveforms [B, n], made of some at a time in memory that they share."""
    first: Tensor = frontend(wave[:at_a_time])
    features = first.new_empty((len(wave), *first.shape[1:]))
    features[:at_a_time] = first
    for start in range(at_a_time, len(wave), at_a_time):
        part = slice(start, start + at_a_time)
        features[part] = frontend(wave[part])
    return features


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
