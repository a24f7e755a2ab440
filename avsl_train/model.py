"""A trained model in use: a frame and a sound go in, a map of where the sound comes from comes out.

`Model` is what `avsl_train.load_model` returns. Behind it stands a `Network`: the trained method of a
checkpoint, or a published network with its own preprocessing (`avsl_train.import_published`).

Shape letters: B clips, H x W frame, h x w map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from avsl_train.errors import TrainInputError
from avsl_train.inputs import Int16, picture_of, samples_of

Float32 = NDArray[np.float32]
Size = Literal["map", "frame"]


@dataclass(frozen=True)
class Values:
    """What the values of a map are.

    Parameters
    ----------
    name
        ``probability``, ``cosine``, ``cosine/TAU`` such as ``cosine/0.03``, or ``attention`` (sum 1).
    low, high
        Their bounds.
    """

    name: str
    low: float
    high: float

    @property
    def record(self) -> dict[str, Any]:
        """The same for a file's meta data."""
        return {"values": self.name, "value_range": [self.low, self.high]}


PROBABILITY: Final = Values("probability", 0.0, 1.0)
COSINE: Final = Values("cosine", -1.0, 1.0)
ATTENTION: Final = Values("attention", 0.0, 1.0)


def cosine_over(tau: float) -> Values:
    """Return what maps of cosine / tau hold.

    Examples
    --------
    >>> cosine_over(0.05)
    Values(name='cosine/0.05', low=-20.0, high=20.0)
    """
    return Values(f"cosine/{tau:g}", -1 / tau, 1 / tau)


@dataclass(frozen=True)
class Region:
    """The part of a frame that a map covers: its borders as fractions of width and height."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def whole(self) -> bool:
        """Whether it is the whole frame."""
        return (self.x0, self.y0, self.x1, self.y1) == (0, 0, 1, 1)

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right and lower border in whole pixels of a frame."""
        left, right = round(self.x0 * width), round(self.x1 * width)
        top, bottom = round(self.y0 * height), round(self.y1 * height)
        return left, top, max(right, left + 1), max(bottom, top + 1)


WHOLE: Final = Region(0, 0, 1, 1)


class Network(Protocol):
    """What stands behind a model.

    Attributes
    ----------
    sample_rate
        Samples per second of the sounds that it takes.
    window_s
        Seconds of sound that one map needs; more is not heard, less is repeated.
    values
        What its maps hold.
    about
        Facts for files that it makes: method, seed, digests.
    """

    sample_rate: int
    window_s: float
    values: Values
    about: Mapping[str, Any]

    def maps(self, frames: Sequence[Image.Image], sounds: Sequence[Int16]) -> Tensor:
        """Return the maps [B, h, w] of RGB frames of any size and sounds of at least one sample."""

    def region(self, width: int, height: int) -> Region:
        """Return the part of a frame of this size that a map covers."""


class Model:
    """A trained model, ready to localize; `avsl_train.load_model` makes it.

    Parameters
    ----------
    network
        What computes the maps.

    Attributes
    ----------
    method : str
        Name of the method.
    values : Values
        What a map holds: probabilities in [0, 1], or what a published method's map holds.
    sample_rate : int
        Samples per second at which the model hears; other rates are changed to it.
    window_s : float
        Seconds of sound that it hears at once: the middle of what it is given (or the part that the
        published method's test loader takes); a shorter sound is repeated.
    about : dict
        Where it comes from.

    Examples
    --------
    ::

        model = avsl_train.load_model("runs/mine/seed0/checkpoint.pt")
        heatmap = model.localize(frame, waveform, sample_rate=44100)  # [H, W] of the frame
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.about["method"])

    @property
    def values(self) -> Values:
        """What a map holds."""
        return self.network.values

    @property
    def sample_rate(self) -> int:
        """Samples per second at which the model hears."""
        return self.network.sample_rate

    @property
    def window_s(self) -> float:
        """Seconds of sound that it hears at once."""
        return self.network.window_s

    @property
    def about(self) -> Mapping[str, Any]:
        """Where the model comes from."""
        return self.network.about

    def localize(self, frame: object, waveform: object, *, sample_rate: int, size: Size = "frame") -> Float32:
        """Return the map of where in a frame a sound comes from.

        Parameters
        ----------
        frame : PIL image, array [H, W, 3] or tensor [3, H, W]
            RGB of any size, uint8, or floats in [0, 1]. Not normalised, not resized.
        waveform : array or tensor [n], [channels, n] or [n, channels]
            int16, int32, or floats in [-1, 1]; channels are averaged. Of more than `window_s` seconds the
            middle is heard.
        sample_rate
            Samples per second of ``waveform``.
        size
            ``frame``: interpolated to the frame; where the method sees only a part of it, as LVS its middle
            square, the rest has the lowest value that a map can have. ``map``: as the model gives it.

        Returns
        -------
        float32 [H, W] or [h, w]
            Larger where the sound comes from; `values` says what the numbers are.

        Raises
        ------
        TrainInputError
            Frame or sound cannot be used: the message says what it is and guesses the mistake.
        """
        if size not in ("map", "frame"):
            raise TrainInputError(f"size is {size!r}: it is 'frame' or 'map'")
        picture = picture_of(frame)
        found = self.maps([picture], [samples_of(waveform, sample_rate, self.sample_rate)])[0]
        return found if size == "map" else self.on_frame(found, *picture.size)

    def maps(self, frames: Sequence[Image.Image], sounds: Sequence[Int16]) -> Float32:
        """Return the maps [B, h, w] of RGB pictures and of sounds at `sample_rate`."""
        with torch.no_grad():
            return self.network.maps(frames, sounds).float().cpu().numpy()

    def on_frame(self, heatmap: Float32, width: int, height: int) -> Float32:
        """Return a map [h, w] interpolated to the frame [H, W] that it was made of.

        Bilinear between the centres of the map's cells (``align_corners=False``).
        """
        region = self.network.region(width, height)
        left, top, right, bottom = region.pixels(width, height)
        inside = functional.interpolate(
            torch.from_numpy(heatmap)[None, None], (bottom - top, right - left), mode="bilinear"
        )[0, 0].numpy()
        if region.whole:
            return inside
        whole = np.full((height, width), self.values.low, np.float32)
        whole[top:bottom, left:right] = inside
        return whole
