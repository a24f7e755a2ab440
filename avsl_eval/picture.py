"""Pictures of the report by the standard library only: heatmap overlays, mask outlines, sizes of JPEGs."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError

COLOUR_STOPS = (
    (0.0, (38, 18, 92)),
    (0.35, (160, 32, 120)),
    (0.6, (232, 75, 60)),
    (0.85, (252, 170, 45)),
    (1.0, (253, 240, 140)),
)
"""Value to RGB: dark violet, red, yellow; ever brighter, so that it reads without colour vision."""

ALPHA_AT_ONE = 0.78
_LEVELS = 64
"""Number of overlay colours; more cannot be told apart on a photograph and cost bytes."""


def overlay_png(p: NDArray[np.floating]) -> bytes:
    """Draw a map as a PNG that is the more opaque the larger its values are.

    Parameters
    ----------
    p : float [h, w]
        Values; those outside [0, 1] are clipped.

    Returns
    -------
    bytes
        An 8-bit palette PNG with transparency, h x w pixels.
    """
    x = np.linspace(0, 1, _LEVELS)
    stops = [value for value, _ in COLOUR_STOPS]
    palette = np.stack(
        [np.interp(x, stops, [colour[c] for _, colour in COLOUR_STOPS]) for c in range(3)], axis=1
    )
    index = np.rint(np.clip(p, 0, 1) * (_LEVELS - 1)).astype(np.uint8)
    height, width = index.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = index
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.round().astype(np.uint8).tobytes()),
            _chunk(b"tRNS", (255 * ALPHA_AT_ONE * x).round().astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_uri(content: bytes, media_type: str) -> str:
    """Put a file into a URI.

    Parameters
    ----------
    content
        The file.
    media_type
        For example ``image/png``.

    Returns
    -------
    str
        ``data:<media_type>;base64,...``

    Examples
    --------
    >>> data_uri(b"x", "image/png")
    'data:image/png;base64,eA=='
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def outline_path(mask: NDArray[np.bool_]) -> str:
    """Trace the border between a mask and the rest, along the edges of pixels.

    Parameters
    ----------
    mask : bool [h, w]
        The mask. The image's own border is no border of it.

    Returns
    -------
    str
        Path data of an SVG whose unit is the pixel.

    Examples
    --------
    >>> outline_path(np.array([[True, True], [False, True]]))
    'M0 1H1M1 1V2'
    """
    horizontal = (f"M{a} {y}H{b}" for y, a, b in _runs(mask[1:] != mask[:-1]))
    vertical = (f"M{x} {a}V{b}" for x, a, b in _runs((mask[:, 1:] != mask[:, :-1]).T))
    return "".join((*horizontal, *vertical))


def _runs(edge: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """List the runs of True along axis 1 as (line, start, end); line k lies below row k."""
    padded = np.pad(edge, ((0, 0), (1, 1))).astype(np.int8)
    step = np.diff(padded, axis=1)
    lines, starts = np.nonzero(step == 1)
    _, ends = np.nonzero(step == -1)
    return [(int(y) + 1, int(a), int(b)) for y, a, b in zip(lines, starts, ends, strict=True)]


_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG segments that hold the size (SOF0 to SOF15 without DHT, JPG, DAC)."""


def picture_size(content: bytes, name: str) -> tuple[int, int]:
    """Read width and height of a JPEG or PNG.

    Parameters
    ----------
    content
        The file.
    name
        For the message.

    Returns
    -------
    width, height : int
        In pixels.

    Raises
    ------
    EvalInputError
        If it is neither.

    Examples
    --------
    >>> picture_size(overlay_png(np.zeros((2, 3))), "x.png")
    (3, 2)
    """
    width, height = _png_size(content) or _jpeg_size(content) or (0, 0)
    if not (width and height):
        raise EvalInputError(f"{name} is neither JPEG nor PNG; avsl-data frames writes such files")
    return width, height


def _png_size(content: bytes) -> tuple[int, int] | None:
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    position = 2
    while content[:2] == b"\xff\xd8" and position + 9 <= len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4])
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return width, height
        position += 2 + length
    return None
