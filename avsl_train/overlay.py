"""Heat maps drawn over pictures: colours, opacity, an outline, the original beside it.

Pure functions on arrays; `avsl_train.localize` reads and writes the files.

Shape letters: H x W picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avsl_train.errors import TrainInputError

Pixels = NDArray[np.uint8]
Float32 = NDArray[np.float32]

COLOURS: Final[dict[str, tuple[str, ...]]] = {
    "inferno": (
        "000004",
        "1b0c41",
        "4a0c6b",
        "781c6d",
        "a52c60",
        "cf4446",
        "ed6925",
        "fb9b06",
        "f7d13d",
        "fcffa4",
    ),
    "viridis": (
        "440154",
        "482878",
        "3e4989",
        "31688e",
        "26828e",
        "1f9e89",
        "35b779",
        "6ece58",
        "b5de2b",
        "fde725",
    ),
    "jet": ("000080", "0000ff", "0080ff", "00ffff", "80ff80", "ffff00", "ff8000", "ff0000", "800000"),
    "red": ("ff2000", "ff2000"),
}
"""Colours from the lowest to the highest value, at equal steps, linear between them."""

LEVELS: Final = 256
OUTLINE: Final = (255, 255, 255)
OUTLINE_SHARE: Final = 1 / 240
"""Width of the outline as a share of the picture's shorter side."""


@dataclass(frozen=True)
class Style:
    """How a map is drawn.

    Parameters
    ----------
    colours
        A name of `COLOURS`.
    alpha
        Opacity of the highest value, in [0, 1]; a lower value is proportionally more transparent, so that
        the picture stays as it is where nothing is found.
    contour
        Value that is outlined, in the units of the map; None: no outline.
    side_by_side
        Whether the picture as it was stands on the left.
    low, high
        Values that get the first and the last colour; None: the bounds of probabilities, and of other maps
        the smallest and largest value of all that are drawn.

    Raises
    ------
    TrainInputError
        A value is out of its range.
    """

    colours: str = "inferno"
    alpha: float = 0.7
    contour: float | None = None
    side_by_side: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.colours not in COLOURS:
            raise TrainInputError(f"no colours {self.colours!r} (there are: {', '.join(COLOURS)})")
        if not 0 <= self.alpha <= 1:
            raise TrainInputError(
                f"alpha is {self.alpha:g}: it lies between 0, nothing is drawn, and 1, nothing shines through"
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise TrainInputError(
                f"the range {self.low:g} to {self.high:g} is empty: the lower value comes first"
            )


def draw(pixels: Pixels, heatmap: Float32, style: Style, low: float, high: float) -> Pixels:
    """Draw a map over a picture.

    Parameters
    ----------
    pixels : uint8 [H, W, 3]
        RGB.
    heatmap : float32 [H, W]
        The map at the picture's size.
    style
        Colours, opacity, outline and layout.
    low, high
        Values of the first and the last colour; what is beyond them has these colours.

    Returns
    -------
    uint8 [H, W, 3] or [H, 2 W, 3]
        RGB; twice as wide if side by side.

    Examples
    --------
    >>> grey = np.full((1, 3, 3), 100, np.uint8)
    >>> draw(grey, np.float32([[0, 0.5, 1]]), Style("red", alpha=1.0), 0.0, 1.0)[0].tolist()
    [[100, 100, 100], [178, 66, 50], [255, 32, 0]]
    """
    span = max(high - low, float(np.finfo(np.float32).tiny))
    level = np.rint((heatmap - low).clip(0, span) / span * (LEVELS - 1)).astype(np.uint8)
    colour, opacity = Image.fromarray(level), Image.fromarray(_opacity(style.alpha)[level])
    colour.putpalette(_palette(style.colours))
    drawn = np.array(Image.composite(colour.convert("RGB"), Image.fromarray(pixels), opacity))
    if style.contour is not None:
        drawn[outline(heatmap >= style.contour, _width(pixels))] = OUTLINE
    return np.concatenate([pixels, drawn], axis=1) if style.side_by_side else drawn


def outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the inner edge of a mask; the border of the picture is no edge.

    Parameters
    ----------
    mask : bool [H, W]
        What is outlined.
    width
        Of the edge, in pixels.

    Examples
    --------
    >>> outline(np.array([[0, 1, 1, 1]], bool), 1).astype(int).tolist()
    [[0, 1, 0, 0]]
    """
    inner = mask.copy()
    for _ in range(width):
        shrunk = inner.copy()
        shrunk[1:] &= inner[:-1]
        shrunk[:-1] &= inner[1:]
        shrunk[:, 1:] &= inner[:, :-1]
        shrunk[:, :-1] &= inner[:, 1:]
        inner = shrunk
    return mask & ~inner


def even(pixels: Pixels) -> Pixels:
    """Return a picture whose sides are even, as H.264 wants them: the last row or column is repeated."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return pixels
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _width(pixels: Pixels) -> int:
    height, width = pixels.shape[:2]
    return max(1, int(min(height, width) * OUTLINE_SHARE + 0.5))


@lru_cache(maxsize=4)
def _palette(colours: str) -> bytes:
    """Return the RGB colours of all levels."""
    stops = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in COLOURS[colours]])
    at, steps = np.linspace(0, 1, len(stops)), np.linspace(0, 1, LEVELS)
    table = np.stack([np.interp(steps, at, stops[:, channel]) for channel in range(3)], axis=1)
    return bytes(np.rint(table).astype(np.uint8))


@lru_cache(maxsize=4)
def _opacity(alpha: float) -> Pixels:
    """Return the opacity of all levels, uint8 [256]."""
    return np.rint(255 * alpha * np.linspace(0, 1, LEVELS)).astype(np.uint8)
