"""SSL-TIE: a second, moved view of each frame must give the first view's map, moved alike.

Source: Liu et al., "Exploiting Transformation Invariance and Equivariance for Self-supervised Sound
Localisation", ACM MM 2022, and its published code (jinxiang-liu/SSL-TIE).

Shape letters: B clips, C channels, S side of an image or a map.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from avsl_train.losses.lvs import Diagonal, lvs
from avsl_train.losses.similarity import Features, own_similarity

WORKING_SIZE: Final = 224
"""Side in pixels at which everything is rotated, maps too [code]."""

MAX_DEGREES: Final = 30
"""Largest rotation, to either side [code]."""


@dataclass(frozen=True)
class Transform:
    """T: rotate and shrink about the middle, shrink the result, flip. One per batch, but for the angles.

    Parameters
    ----------
    scale
        1 or .5. It acts twice, inside the rotation and by the output size: with .5 an image enters at half
        the side and its content at a *quarter* [code].
    degrees : Tensor [B]
        Angle of each clip.
    flip
        Whether all clips are mirrored left to right.
    """

    scale: float
    degrees: Tensor
    flip: bool

    @property
    def matrices(self) -> Tensor:
        """Rotations [B, 2, 3] that map (x, y) of the source to the target, in pixels of a 224-pixel image.

        M = [[al, be, (1-al) c - be c], [-be, al, be c + (1-al) c]], al = s cos, be = s sin, c = 112 [code].
        """
        angle, middle = torch.deg2rad(self.degrees.float()), WORKING_SIZE / 2
        al, be = self.scale * angle.cos(), self.scale * angle.sin()
        top = torch.stack([al, be, (1 - al) * middle - be * middle], dim=1)
        bottom = torch.stack([-be, al, be * middle + (1 - al) * middle], dim=1)
        return torch.stack([top, bottom], dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return T(x), with gradient.

        Enlarge to 224x224 (bilinear), rotate (bilinear, 0 outside), resize to int(scale * S) (bilinear, no
        antialiasing), flip [code].

        Parameters
        ----------
        x : Tensor [B, C, S, S]
            Images or maps.

        Returns
        -------
        Tensor [B, C, int(scale * S), int(scale * S)]
        """
        height, width = x.shape[-2:]
        if (height, width) != (WORKING_SIZE, WORKING_SIZE):
            x = functional.interpolate(x, size=WORKING_SIZE, mode="bilinear", align_corners=False)
        x = functional.grid_sample(x, self._grid(x), mode="bilinear", align_corners=True)
        size = (int(self.scale * height), int(self.scale * width))
        if size != (WORKING_SIZE, WORKING_SIZE):
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x.flip(-1) if self.flip else x

    def _grid(self, x: Tensor) -> Tensor:
        """Return where each target pixel comes from, [B, 224, 224, 2] in [-1, 1] of pixel centres."""
        matrices = self.matrices.to(x.device, torch.float64)
        back = torch.linalg.inv(matrices[:, :, :2])  # [B, 2, 2]
        steps = torch.arange(WORKING_SIZE, dtype=torch.float64, device=x.device)
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        target = torch.stack([columns, rows], dim=-1)  # [224, 224, 2] in (x, y)
        source = torch.einsum("bij,yxbj->byxi", back, target[:, :, None] - matrices[:, :, 2])
        return (2 * source / (WORKING_SIZE - 1) - 1).to(x.dtype)


def draw_transform(clips: int, draw: random.Random) -> Transform:
    """Return a random transform, drawn in the published code's order.

    Scale 1 if random() > .5, else .5; an angle from randint(-30, 30) for every clip; a flip if
    random() > .5 [code].

    Parameters
    ----------
    clips
        B.
    draw
        The generator; the published code's is Python's global one.

    Examples
    --------
    >>> found = draw_transform(3, random.Random(0))
    >>> found.scale, found.degrees.tolist(), found.flip
    (1.0, [18, 26, -4], False)
    """
    scale = 1.0 if draw.random() > 0.5 else 0.5
    degrees = torch.tensor([draw.randint(-MAX_DEGREES, MAX_DEGREES) for _ in range(clips)])
    return Transform(scale, degrees, draw.random() > 0.5)


def ssltie(view: Features, moved: Features, transform: Transform, diagonal: Diagonal = "published") -> Tensor:
    """Return .5 (LVS(view) + LVS(moved)) + mean (S_moved - T(S_view))^2 over all pixels and clips [code].

    Parameters
    ----------
    view
        Unit features of the first view.
    moved
        Unit features of the second view, whose image went through ``transform``; the sounds may be the same.
    transform
        T. Gradient flows through T(S_view) too.
    diagonal
        As in `lvs.trimap_logits`.
    """
    invariance = 0.5 * (lvs(*view, diagonal=diagonal) + lvs(*moved, diagonal=diagonal))
    equivariance = functional.mse_loss(own_similarity(*moved), transform(own_similarity(*view)))
    return invariance + equivariance
