"""Image strips: frames and maps of a few clips side by side, as a picture.

Shape letters: K clips, H = W side of a cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

CELL: Final = 112
"""Side of a cell, in pixels."""
HEADER: Final = 14
GAP: Final = 2
INK: Final = (255, 255, 255)
PAPER: Final = (40, 40, 40)


def draw_strip(strips: dict[str, Tensor]) -> Image.Image:
    """Return frames and maps as one picture.

    Parameters
    ----------
    strips : dict of Tensor [K, 1 or 3, H, W]
        Values in [0, 1], one column each, under its name; maps are grey, white is 1.

    Returns
    -------
    Image
        One row per clip.
    """
    columns = {name: _pixels(strip) for name, strip in strips.items()}
    rows = max((len(column) for column in columns.values()), default=0)
    step = CELL + GAP
    picture = Image.new("RGB", (len(columns) * step + GAP, HEADER + rows * step), PAPER)
    write = ImageDraw.Draw(picture)
    for number, (name, column) in enumerate(columns.items()):
        left = GAP + number * step
        write.text((left, 1), name, fill=INK)
        for row, pixels in enumerate(column):
            picture.paste(Image.fromarray(pixels), (left, HEADER + row * step))
    return picture


def read_strip(path: Path) -> Image.Image:
    """Read a picture that `draw_strip` made."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _pixels(strip: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return uint8 [K, CELL, CELL, 3]; maps keep their blocks, frames are smoothed."""
    strip = strip.detach().float().cpu().clamp(0, 1)
    if strip.shape[1] == 1:
        cells = functional.interpolate(strip, size=(CELL, CELL), mode="nearest").expand(-1, 3, -1, -1)
    else:
        cells = functional.interpolate(strip, size=(CELL, CELL), mode="bilinear", antialias=True)
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = (
        (cells * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    )
    return pixels
