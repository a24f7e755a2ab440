"""Ground truth masks, kept as COCO run lengths: a test set of masks stays small in memory.

A run-length string comes from a file that anybody may have written, and the decoder of pycocotools trusts it:
it reads and writes beyond its arrays where runs do not fit. They are decoded and checked here; pycocotools
encodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError

LARGEST_SIDE = 4096
"""No map, mask or image of the field is larger, in pixels; what says it is, is damaged or a trap."""


@dataclass(frozen=True)
class Mask:
    """Hold one binary mask.

    Parameters
    ----------
    height, width
        Its own size in pixels.
    counts
        COCO's compressed run lengths, column by column.

    Examples
    --------
    >>> mask = Mask.from_array(np.array([[0, 1], [0, 1]]))
    >>> mask.counts, mask.to_array().tolist()
    (b'22', [[0, 1], [0, 1]])
    """

    height: int
    width: int
    counts: bytes

    @classmethod
    def from_array(cls, pixels: NDArray[Any]) -> Mask:
        """Make a mask of what is not 0.

        Parameters
        ----------
        pixels : [h, w]
            Numbers or booleans.

        Returns
        -------
        Mask
            Of the same size.
        """
        from pycocotools import mask as coco

        encoded = coco.encode(np.asfortranarray(pixels != 0, dtype=np.uint8))
        height, width = pixels.shape
        return cls(height, width, encoded["counts"])

    @classmethod
    def from_rle(cls, rle: Mapping[str, Any], where: str) -> Mask:
        """Make a mask of a COCO run-length object.

        Parameters
        ----------
        rle
            ``size`` [h, w] and ``counts``, compressed (text) or not (a list of run lengths).
        where
            The file and clip, for the message.

        Returns
        -------
        Mask
            The same mask.

        Raises
        ------
        EvalInputError
            If size or runs are malformed, or the runs do not cover the size exactly.
        """
        height, width = checked_size(rle.get("size"), where)
        counts = rle.get("counts")
        if isinstance(counts, str | bytes):
            runs = _decode_runs(counts.encode() if isinstance(counts, str) else counts, where)
        elif isinstance(counts, list) and all(type(n) is int for n in counts):
            runs = counts
        else:
            raise EvalInputError(f"{where}: counts of a mask must be COCO's text or a list of run lengths")
        if any(n < 0 for n in runs) or sum(runs) != height * width:
            raise EvalInputError(
                f"{where}: the runs of a mask cover {sum(runs)} pixels, its size {height} x {width} has "
                f"{height * width}; is size [height, width], in this order?"
            )
        return cls.from_array(_from_runs(runs, height, width))  # encoded anew: equal masks have equal counts

    def to_array(self) -> NDArray[np.uint8]:
        """Decode the mask.

        Returns
        -------
        uint8 [height, width]
            0 and 1.
        """
        return _from_runs(_decode_runs(self.counts, "mask"), self.height, self.width)

    def drawn(self, size: int) -> NDArray[np.uint8]:
        """Draw the mask on a map.

        Parameters
        ----------
        size
            Map size S in pixels.

        Returns
        -------
        uint8 [S, S]
            0 and 1: the mask itself where it is S x S; else its nearest pixels,
            ``row = floor((i + 1/2) height / S)``, which keeps it binary (our choice: the published code
            resizes the picture by its library's default, which differs between versions).
        """
        return nearest(self.to_array(), size, size)


def nearest(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize an array by nearest pixels.

    Parameters
    ----------
    pixels : [h, w]
        Of any type.
    height, width
        The new size.

    Returns
    -------
    [height, width]
        Pixel (i, j) is ``pixels[floor((i + 1/2) h / height), floor((j + 1/2) w / width)]``; the array itself
        if the size is the same.

    Examples
    --------
    >>> nearest(np.array([[1, 2, 3, 4]]), 1, 2).tolist()
    [[2, 4]]
    """
    if pixels.shape == (height, width):
        return pixels
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip((height, width), pixels.shape, strict=True)
    )
    return np.ascontiguousarray(pixels[rows[:, None], columns])


def checked_size(size: object, where: str) -> tuple[int, int]:
    """Check the size of a mask or picture.

    Parameters
    ----------
    size
        What should be [height, width].
    where
        The file and clip, for the message.

    Returns
    -------
    height, width : int
        Both in [1, `LARGEST_SIDE`].

    Raises
    ------
    EvalInputError
        If it is something else.
    """
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int for n in size)):
        raise EvalInputError(f"{where}: size must be two whole numbers, [height, width]; found {size!r:.80}")
    if not all(1 <= n <= LARGEST_SIDE for n in size):
        raise EvalInputError(f"{where}: size {list(size)} is not within 1 to {LARGEST_SIDE} pixels a side")
    return size[0], size[1]


def _from_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
    values = (np.arange(len(runs)) % 2).astype(np.uint8)  # runs alternate, beginning with background
    return np.repeat(values, runs).reshape((height, width), order="F")


def _decode_runs(counts: bytes, where: str) -> list[int]:
    """Decode COCO's string: 5 bits a character, lowest first; from the third run on, differences."""
    runs: list[int] = []
    value = shift = 0
    for code in counts:
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            raise EvalInputError(f"{where}: counts of a mask are not COCO's run-length text; copied whole?")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # more characters belong to this run
            continue
        if bits & 16:  # negative, in two's complement
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise EvalInputError(f"{where}: counts of a mask end within a run; copied whole?")
    return runs
