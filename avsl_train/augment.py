"""Views of a clip: weak and strong, made in batches, with the geometry that maps and labels must follow.

A view's geometry is a crop of the un-cropped frame and a flip. Images, ground truth and stored pseudo-labels
are brought into a view with the same geometry (`crop`), and a prediction made in a view is brought back to
the frame with `uncrop`. Nothing here draws: every change is a function of uniform numbers that are passed in
(`avsl_train.draws`), one row per clip, as many as its ``..._DRAWS`` says.

Shape letters: B clips, F side of the stored frame, S side of the image, h = w side of a map.

Sources: which changes are weak and which are strong, XPL and DMT; the strong view's values, SSL-TIE's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from avsl_train.config import AugmentConfig

BLUR_REACH = 2.0
"""Taps of the Gaussian reach this many of the largest sigma to each side."""

CROP_DRAWS: Final = 5
"""Uniform numbers of a clip that `draw_weak` and `draw_strong` use."""
COLOUR_DRAWS: Final = 8
"""Uniform numbers of a clip that `change_colours` uses."""
MASK_DRAWS: Final = 4
"""Uniform numbers of a clip that the masks of sounds use."""

_RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True)
class Geometry:
    """Where a view lies in its frame.

    Parameters
    ----------
    box : Tensor [B, 4]
        (x0, y0, x1, y1) of the crop, in [0, 1] of the un-cropped frame.
    flip : Tensor [B] of bool
        Whether the crop was mirrored left to right.
    """

    box: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> Geometry:
        """Return the same geometry on a device."""
        return Geometry(self.box.to(device), self.flip.to(device))

    def centres(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the columns and rows of a view's pixel centres, [B, size] each, in [0, 1] of the frame."""
        steps = (torch.arange(size, device=self.box.device, dtype=torch.float32) + 0.5) / size
        x0, y0, x1, y1 = self.box[:, :, None].unbind(1)
        across = torch.where(self.flip[:, None], 1 - steps, steps)
        return x0 + across * (x1 - x0), y0 + steps * (y1 - y0)

    def __getitem__(self, clips: slice) -> Geometry:
        """Return the geometry of some of the clips."""
        return Geometry(self.box[clips], self.flip[clips])


def identity(batch: int) -> Geometry:
    """Return the geometry of the un-cropped, un-flipped frame for ``batch`` clips."""
    return Geometry(
        torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(batch, 1), torch.zeros(batch, dtype=torch.bool)
    )


def draw_weak(u: Tensor, config: AugmentConfig) -> Geometry:
    """Return weak crops: a square of at least ``crop_weak`` of the frame's side, anywhere, and a flip.

    Parameters
    ----------
    u : Tensor [B, CROP_DRAWS]
        Uniform numbers.
    config
        ``crop_weak`` and ``flip``.
    """
    side = _between(config.crop_weak, 1.0, u[:, 0])
    return _place(side, side, config.flip, u)


def draw_strong(u: Tensor, config: AugmentConfig) -> Geometry:
    """Return strong crops: area and aspect ratio at random (as RandomResizedCrop), and a flip.

    Parameters
    ----------
    u : Tensor [B, CROP_DRAWS]
        Uniform numbers.
    config
        ``crop_scale``, ``crop_aspect`` and ``flip``.
    """
    area = _between(*config.crop_scale, u[:, 0])
    limit = math.log(config.crop_aspect)
    aspect = torch.exp(_between(-limit, limit, u[:, 1]))
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    return _place(width, height, config.flip, u)


def _place(width: Tensor, height: Tensor, flip: float, u: Tensor) -> Geometry:
    x0, y0 = u[:, 2] * (1 - width), u[:, 3] * (1 - height)
    return Geometry(torch.stack([x0, y0, x0 + width, y0 + height], dim=1), u[:, 4] < flip)


def _between(low: float, high: float, u: Tensor) -> Tensor:
    return low + (high - low) * u


def crop(images: Tensor, geometry: Geometry, size: int) -> Tensor:
    """Bring images or maps of the frame into a view.

    Parameters
    ----------
    images : Tensor [B, C, H, W]
        Images or maps that cover the un-cropped frame.
    geometry
        The view.
    size
        Side of the result.

    Returns
    -------
    Tensor [B, C, size, size]
        Bilinear samples at the view's pixel centres.
    """
    return sample(images, *geometry.centres(size))


def uncrop(maps: Tensor, geometry: Geometry, size: int) -> tuple[Tensor, Tensor]:
    """Bring maps of a view back to the un-cropped frame.

    Parameters
    ----------
    maps : Tensor [B, C, h, w]
        Maps that cover the view.
    geometry
        The view.
    size
        Side of the result.

    Returns
    -------
    frame_maps : Tensor [B, C, size, size]
        The map over the frame; outside the view the value of the view's nearest border.
    covered : Tensor [B, 1, size, size] of bool
        Whether the centre of a cell lies inside the view.
    """
    steps = (torch.arange(size, device=maps.device, dtype=torch.float32) + 0.5) / size
    x0, y0, x1, y1 = geometry.box[:, :, None].unbind(1)
    u, v = (steps - x0) / (x1 - x0), (steps - y0) / (y1 - y0)
    inside_x, inside_y = (u >= 0) & (u <= 1), (v >= 0) & (v <= 1)
    u = torch.where(geometry.flip[:, None], 1 - u, u)
    covered = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    return sample(maps, u, v), covered


def sample(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample images at columns and rows.

    Parameters
    ----------
    images : Tensor [B, C, H, W]
        Images or maps.
    x : Tensor [B, W']
        Columns, in [0, 1] of the images; borders repeat.
    y : Tensor [B, H']
        Rows.

    Returns
    -------
    Tensor [B, C, H', W']
        Bilinear samples.
    """
    x, y = 2 * x - 1, 2 * y - 1  # of the axes, before they become a grid
    grid = torch.view_as_real(torch.complex(x[:, None, :], y[:, :, None]))  # faster than to stack them
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def change_colours(images: Tensor, config: AugmentConfig, u: Tensor) -> Tensor:
    """Jitter colours, make grey and blur, each with its probability and per image.

    Brightness, saturation, hue and grey are one 3x3 matrix per image, contrast pulls towards the mean grey.
    The hue is turned in the YIQ plane [ours], which is linear, unlike the turn in HSV of torchvision.

    Parameters
    ----------
    images : Tensor [B, 3, S, S]
        RGB in [0, 1].
    config
        Probabilities and ranges.
    u : Tensor [B, COLOUR_DRAWS]
        Uniform numbers, on the CPU.

    Returns
    -------
    Tensor [B, 3, S, S]
        RGB in [0, 1].
    """
    on = u[:, 0] < config.jitter

    def factor(width: float, column: int) -> Tensor:
        return torch.where(on, _between(max(0.0, 1 - width), 1 + width, u[:, column]), 1.0)

    brightness, contrast = factor(config.brightness, 1), factor(config.contrast, 2)
    turn = torch.where(on, _between(-config.hue, config.hue, u[:, 4]), 0.0) * (2 * math.pi)
    saturation = torch.where(u[:, 5] < config.gray, 0.0, factor(config.saturation, 3))
    matrix = _colour_matrix(turn, saturation) * brightness[:, None, None]
    flat, matrix, contrast = images.flatten(2), matrix.to(images.device), contrast.to(images.device)
    mean = (matrix @ flat.mean(2, keepdim=True)).mean(1, keepdim=True)  # of the changed image, [B, 1, 1]
    contrast = contrast[:, None, None]
    changed = torch.baddbmm((1 - contrast) * mean, contrast * matrix, flat).clamp_(0, 1)
    return _blur(changed.view(images.shape), config, u[:, 6:])


def _colour_matrix(turn: Tensor, saturation: Tensor) -> Tensor:
    """Return the [B, 3, 3] matrices that turn the hue and scale the saturation of RGB values."""
    cos, sin, zero = torch.cos(turn) * saturation, torch.sin(turn) * saturation, torch.zeros_like(turn)
    middle = torch.stack([torch.ones_like(turn), zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(
        -1, 3, 3
    )
    matrix: Tensor = torch.linalg.inv(_RGB_TO_YIQ) @ middle @ _RGB_TO_YIQ
    return matrix


def _blur(images: Tensor, config: AugmentConfig, u: Tensor) -> Tensor:
    """Blur each image with its probability by a Gaussian of its own width; may change ``images``."""
    chosen = torch.nonzero(u[:, 1] < config.blur)[:, 0]
    if not len(chosen):
        return images
    size = images.shape[-1]
    low, high = (sigma * size / 224 for sigma in config.blur_sigma)
    sigma = _between(low, high, u[chosen, 0])
    reach = math.ceil(BLUR_REACH * high)
    offsets = torch.arange(-reach, reach + 1)
    taps = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    taps = (taps / taps.sum(1, keepdim=True)).to(images.device)[:, :, None, None, None]
    chosen = chosen.to(images.device)
    some = images[chosen]
    for axis in (2, 3):
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded = functional.pad(some, pad, mode="replicate")
        some = taps[:, 0] * padded.narrow(axis, 0, size)
        for k in range(1, 2 * reach + 1):
            some.addcmul_(taps[:, k], padded.narrow(axis, k, size))
    images[chosen] = some
    return images


def mask_spectrogram(spectrogram: Tensor, config: AugmentConfig, u: Tensor) -> Tensor:
    """Set one band of frequencies and one span of time to the clip's mean (SpecAugment).

    Parameters
    ----------
    spectrogram : Tensor [B, 1, frequencies, time]
        Log spectrogram.
    config
        Largest masked shares ``freq_mask`` and ``time_mask``.
    u : Tensor [B, MASK_DRAWS]
        Uniform numbers, on the CPU.
    """
    _, _, n_freq, n_time = spectrogram.shape
    mask = _span(n_freq, config.freq_mask, u[:, 0:2])[:, None, :, None]
    mask = mask | _span(n_time, config.time_mask, u[:, 2:4])[:, None, None, :]
    mean = spectrogram.mean(dim=(2, 3), keepdim=True)
    return torch.where(mask.to(spectrogram.device), mean, spectrogram)


def mask_patches(patches: Tensor, config: AugmentConfig, u: Tensor) -> Tensor:
    """Mask patches [B, N, time, mels] of log mel spectrograms as the one spectrogram that they are cut from.

    The span of time may lie across two patches, the band is the same in all of them.
    """
    batch, n, steps, mels = patches.shape
    whole = patches.reshape(batch, 1, n * steps, mels).transpose(2, 3)
    return mask_spectrogram(whole, config, u).transpose(2, 3).reshape(patches.shape)


def mask_wave(wave: Tensor, config: AugmentConfig, u: Tensor) -> Tensor:
    """Set one span of time of waveforms [B, n] to their mean; samples have no band that could be masked."""
    mask = _span(wave.shape[1], config.time_mask, u[:, 2:4])
    return torch.where(mask.to(wave.device), wave.mean(1, keepdim=True), wave)


def _span(length: int, share: float, u: Tensor) -> Tensor:
    """Return [B, length] of bool with one span of a random width up to ``share`` of the length."""
    width = u[:, 0:1] * share * length
    start = u[:, 1:2] * (length - width)
    steps = torch.arange(length)[None, :]
    return (steps >= start.round()) & (steps < (start + width).round())
