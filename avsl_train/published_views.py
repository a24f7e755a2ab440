"""What the published trainings of the self-supervised methods see and hear of a clip.

=============================================  ==================================  ===========================
view                                           image                               sound
=============================================  ==================================  ===========================
`PublishedViewer.cropped`                      short side 246, a square of 224     middle ``data.audio_s``
(all but those below)                          anywhere, flip .5 [code]            seconds [code]
`PublishedViewer.masked` (FNAC)                the same                            the same; one mask of time,
                                                                                   one of frequencies [code]
`PublishedViewer.contrasted` (SSL-TIE)         area .3 to 1, jitter .8, grey .2,   the same; one mask of time
                                               blur .5, flip .5 [code]             and one of mels with p = .8
`PublishedViewer.disturbed` (Alignment's       quarter turn, jitter, blur, grey,    ``data.audio_s`` seconds
second view)                                   crop, both flips, shift             anywhere [code]
plain (Attention10k)                           whole frame [code]                  middle [code: all]
=============================================  ==================================  ===========================

Frames are stored as squares, so a crop is the same share of both sides, where the originals cut a square out
of a wide frame [ours]. Every draw depends on seed, purpose and clip only (`avsl_train.draws`).

Sources: the published data loaders. Which of SSL-TIE's augmentations its published runs switched on is not
stated there; these are its strongest ones, and the ones its paper describes.

Shape letters: B clips, S side of the image, F rows and T columns of a spectrogram.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from avsl_train.augment import COLOUR_DRAWS, CROP_DRAWS, Geometry, change_colours, draw_strong
from avsl_train.config import SPECTROGRAMS, AugmentConfig, FrontendName
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.excerpts import START_DRAWS
from avsl_train.views import View, Viewer

CROP: Final = 224 / 246
"""Side of the crop: 224 of int(224 * 1.1) pixels [code]."""
FLIP: Final = 0.5

MOCO: Final = AugmentConfig(
    crop_scale=(0.3, 1.0),
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    gray=0.2,
    blur=0.5,
    blur_sigma=(0.1, 2.0),
)
"""SSL-TIE's images [code]."""
TIME_SHARE: Final = 180 / 670
MEL_SHARE: Final = 35 / 257
"""Largest masked shares of SSL-TIE's spectrogram: 180 of its 670 columns, 35 of its 257 rows [code]."""

DISTURBED: Final = MOCO.model_copy(update={"crop_scale": (1.0, 1.0)})
"""Colours of Alignment's second view, with jitter about 1 [ours]."""
DIMMED: Final = DISTURBED.model_copy(update={"brightness": 0.0, "contrast": 0.0, "saturation": 0.0})
DIM: Final = 0.4
"""Largest factor of its brightness, contrast and saturation as published, drawn from 0 on [code]."""
SHIFT: Final = 0.2
"""Its largest shift, share of the side [code]."""
_LUMA: Final = (0.299, 0.587, 0.114)

MASK_LIMIT: Final = 10
"""FNAC's masks are narrower than this [code]."""


@dataclass(frozen=True)
class Spans:
    """One masked span of rows and one of columns for every clip.

    Parameters
    ----------
    rows, columns : Tensor [B, 2] of int64
        First masked one and how many.
    """

    rows: Tensor
    columns: Tensor

    def mask(self, height: int, width: int) -> Tensor:
        """Return what is masked, [B, 1, height, width] of bool."""
        return _inside(self.rows, height)[:, None, :, None] | _inside(self.columns, width)[:, None, None, :]


class PublishedViewer(Viewer):
    """Makes the views of the published trainings."""

    def cropped(self, clips: Clips, draws: Draws, frontend: FrontendName | None = None) -> View:
        """Return a crop of 224/246 of the side, a flip, and the middle of the sound."""
        return self.placed(clips, crop_geometry(draws.uniform(clips.key, CROP_DRAWS)), frontend)

    def placed(self, clips: Clips, geometry: Geometry, frontend: FrontendName | None = None) -> View:
        """Return a part of the frame and the middle of the sound."""
        geometry = geometry.to(self.device)
        return self._view(self._images(clips, geometry), self._wave(clips, None), geometry, frontend)

    def masked(
        self, clips: Clips, draws: Draws, limit: int, swapped: bool, frontend: FrontendName | None = None
    ) -> View:
        """Return FNAC's view: `cropped`, with one mask of frequencies and one of time.

        Masked energy is 0 in the units of ``ln P / 12``, which is loud, as in the original [code].

        Parameters
        ----------
        clips, draws, frontend
            As for every view.
        limit
            Masks are narrower than this.
        swapped
            Whether a mask's start is drawn within the other axis, as in the original.
        """
        u = draws.uniform(clips.key, CROP_DRAWS + 4)
        view = self.placed(clips, crop_geometry(u[:, :CROP_DRAWS]), frontend)
        if view.frontend not in SPECTROGRAMS:
            return view
        height, width = view.spectrogram.shape[-2:]
        limits = torch.tensor(mask_limits(height, width, limit, swapped))
        mask = fnac_spans((u[:, CROP_DRAWS:] * limits).long()).mask(height, width)
        heard = view.spectrogram.masked_fill(mask.to(view.spectrogram.device), 0.0)
        return replace(view, spectrogram=heard, wave=None)

    def contrasted(
        self, clips: Clips, draws: Draws, spec_mask: float, frontend: FrontendName | None = None
    ) -> View:
        """Return SSL-TIE's view; its spectrogram is masked with probability ``spec_mask``.

        Masked energy is none: -100 dB, the lowest value of every spectrogram, whose lowest mels are empty.
        What is no spectrogram is not masked.
        """
        parts = [CROP_DRAWS, COLOUR_DRAWS, 5]
        place, colours, masks = draws.uniform(clips.key, sum(parts)).split_with_sizes(parts, 1)
        view = self.placed(clips, draw_strong(place, MOCO), frontend)
        view = replace(view, image=change_colours(view.image, MOCO, colours))
        if view.frontend not in SPECTROGRAMS:
            return view
        heard = view.spectrogram
        height, width = heard.shape[-2:]
        mask = ssltie_spans(masks, height, width, spec_mask).mask(height, width).to(heard.device)
        lowest = heard.amin((-2, -1), keepdim=True)
        return replace(view, spectrogram=torch.where(mask, lowest, heard), wave=None)

    def disturbed(
        self, clips: Clips, draws: Draws, dimmed: bool = False, frontend: FrontendName | None = None
    ) -> View:
        """Return Alignment's second view, of another part of the sound.

        A quarter turn, jitter with p = .8, grey with .2, blur with .5, crop, both flips, and a shift of up to
        a fifth of the side that leaves black. Nothing can be located in it: its geometry leaves the turn, the
        shift and the upside-down out.

        Parameters
        ----------
        clips, draws, frontend
            As for every view.
        dimmed
            Whether jitter multiplies brightness, contrast and saturation by 0 to .4, as in the original,
            which leaves most frames almost black.
        """
        parts = [START_DRAWS, CROP_DRAWS, COLOUR_DRAWS, 7]
        _, place, colours, u = draws.uniform(clips.key, sum(parts)).split_with_sizes(parts, 1)
        geometry = crop_geometry(place).to(self.device)
        image = quarter_turned(self._images(clips, geometry), (u[:, 0] * 4).long())
        if dimmed:
            on = colours[:, :1] < DISTURBED.jitter
            image = darkened(image, torch.where(on, DIM * u[:, 1:4], 1.0))
        image = change_colours(image, DIMMED if dimmed else DISTURBED, colours)
        image = shifted(image, SHIFT * (2 * u[:, 4:6] - 1), upside_down=u[:, 6] < FLIP)
        return self._view(image, self._wave(clips, draws), geometry, frontend)


def crop_geometry(u: Tensor) -> Geometry:
    """Return the published crop, 224 of 246 pixels anywhere, and a flip, of uniform [B, CROP_DRAWS]."""
    x0, y0 = u[:, 2] * (1 - CROP), u[:, 3] * (1 - CROP)
    return Geometry(torch.stack([x0, y0, x0 + CROP, y0 + CROP], dim=1), u[:, 4] < FLIP)


def mask_limits(rows: int, columns: int, limit: int, swapped: bool) -> tuple[int, int, int, int]:
    """Return below what FNAC draws its four whole numbers, in their order [code].

    First masked frequency, how many, first masked time, how many.

    Parameters
    ----------
    rows, columns
        F and T.
    limit
        Masks are narrower than this.
    swapped
        Whether the frequency's start is drawn below T and the time's below F, as in the original.
    """
    first, second = (columns, rows) if swapped else (rows, columns)
    return first, limit, second, limit


def fnac_spans(drawn: Tensor) -> Spans:
    """Return FNAC's masks of what was drawn below `mask_limits`, [B, 4] of int64."""
    return Spans(drawn[:, :2], drawn[:, 2:])


def ssltie_spans(u: Tensor, rows: int, columns: int, probability: float) -> Spans:
    """Return SSL-TIE's masks of uniform numbers [B, 5], with torchaudio's rule [code].

    The width is uniform up to a share of the axis, the start uniform where the width fits; both are cut to
    whole numbers. Time comes first.
    """
    on = (u[:, 0] < probability).long()

    def span(length: int, share: float, u: Tensor) -> Tensor:
        width = u[:, 0] * round(share * length)
        start = u[:, 1] * (length - width)
        return torch.stack([start.long(), width.long() * on], dim=1)

    columns_span = span(columns, TIME_SHARE, u[:, 1:3])
    return Spans(span(rows, MEL_SHARE, u[:, 3:5]), columns_span)


def quarter_turned(images: Tensor, turns: Tensor) -> Tensor:
    """Return images [B, 3, S, S] turned by so many quarters, [B] of int64 in 0 to 3."""
    turned = images.clone()
    for quarters in (1, 2, 3):
        chosen = (turns == quarters).to(images.device)
        turned[chosen] = images[chosen].rot90(quarters, (2, 3))
    return turned


def darkened(images: Tensor, factors: Tensor) -> Tensor:
    """Return images [B, 3, S, S] with brightness, contrast and saturation multiplied, by [B, 3]."""
    brightness, contrast, saturation = factors.to(images.device)[:, :, None, None, None].unbind(1)
    luma = torch.tensor(_LUMA, device=images.device)[:, None, None]
    images = brightness * images
    mean = (images * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = mean + contrast * (images - mean)
    gray = (images * luma).sum(1, keepdim=True)
    return gray + saturation * (images - gray)


def shifted(images: Tensor, shift: Tensor, upside_down: Tensor) -> Tensor:
    """Return images [B, 3, S, S] moved by whole pixels, black where nothing comes from, some upside down.

    Parameters
    ----------
    images
        RGB in [0, 1].
    shift : Tensor [B, 2]
        To the right and down, in sides of the image.
    upside_down : Tensor [B] of bool
    """
    size = images.shape[-1]
    right, down = (-2 * (shift * size).round() / size).unbind(1)
    sign = torch.where(upside_down, -1.0, 1.0)
    zero, one = torch.zeros_like(sign), torch.ones_like(sign)
    rows = [torch.stack([one, zero, right], 1), torch.stack([zero, sign, sign * down], 1)]
    grid = functional.affine_grid(
        torch.stack(rows, 1).to(images.device), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)


def _inside(span: Tensor, length: int) -> Tensor:
    """Return [B, length] of bool: which places lie in spans [B, 2] of a start and a width."""
    places = torch.arange(length)[None]
    return (places >= span[:, :1]) & (places < span.sum(1, keepdim=True))
