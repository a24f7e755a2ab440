"""Maps and masks as tiles of 8 x 8 pixels: a tile of a mask is the 64 bits of one word.

Counting what a mask and a truth share is then one AND and one count of bits per tile, and what a threshold
does to a tile whose values are all above it, or all below, is known without looking at its pixels.

Shapes: n maps of P = S * S pixels; a map has T = G * G tiles, G = ceil(S / 8), row by row. Within a tile,
pixels go column by column: byte c of a word is the tile's column c, bit r of the byte its row r. Pixels of a
tile beyond the map's border are never set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

TILE = 8
"""Pixels along a tile's side; 8 x 8 are one word."""
PIXELS = TILE * TILE

_FULL = np.uint64(2**64 - 1)
_BELOW = ((1 << np.arange(TILE + 1)) - 1).astype(np.uint8)
"""Bytes with the first k bits set."""
_REPEATED = np.repeat(np.arange(256, dtype=np.uint8)[:, None], TILE, axis=1).view(np.uint64).ravel()
"""Words all bytes of which are one byte."""
_SPREAD = (
    (np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") * np.uint8(255))
    .view(np.uint64)
    .ravel()
)
"""Words whose byte c is full where bit c of one byte is set."""


def tiles_along(size: int) -> int:
    """Return G, the number of tiles along a side of a map of S pixels."""
    return -(-size // TILE)


@lru_cache(maxsize=16)
def inside_map(size: int) -> Words:
    """Return the pixels of each tile that lie on the map, uint64 [T]: all if S is a multiple of 8."""
    words: Words = words_of_pixels(np.ones((1, size, size), bool))[0]
    words.flags.writeable = False
    return words


def words_of_pixels(masks: Bools) -> Words:
    """Pack masks.

    Parameters
    ----------
    masks : bool [n, S, S]
        Any masks.

    Returns
    -------
    uint64 [n, T]
        Their tiles.

    Examples
    --------
    >>> words_of_pixels(np.array([[[True, True], [False, True]]])).tolist()  # bytes 1 and 3, the columns
    [[769]]
    """
    tiles = tiles_of_pixels(masks, 0)
    return packed(tiles).reshape(len(masks), -1)


def tiles_of_pixels(pixels: NDArray[Any], beyond: int) -> NDArray[Any]:
    """Arrange pixels [n, S, S] tile by tile, [n, T, 64], with a value for what is beyond the border."""
    n, size, _ = pixels.shape
    side = tiles_along(size)
    if size % TILE:
        wide = np.full((n, side * TILE, side * TILE), beyond, pixels.dtype)
        wide[:, :size, :size] = pixels
        pixels = wide
    by_tile = pixels.reshape(n, side, TILE, side, TILE).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(by_tile).reshape(n, side * side, PIXELS)


def pixels_of_tiles(tiles: NDArray[Any], size: int) -> NDArray[Any]:
    """Arrange tiles of one map, T * 64 values, as pixels [S, S]."""
    side = tiles_along(size)
    by_row = tiles.reshape(side, side, TILE, TILE).transpose(0, 3, 1, 2)
    return by_row.reshape(side * TILE, side * TILE)[:size, :size]


def packed(tiles: Bools) -> Words:
    """Pack tiles bool [..., 64], or [..., 8, 8] by column and row, into words, one after another."""
    return np.packbits(tiles.reshape(-1), bitorder="little").view(np.uint64)


def words_of_rows(taken: Bools) -> Words:
    """Pack tiles bool [8, p, 8], by row, tile and column, into words, uint64 [p]."""
    rows = taken.view(np.uint8)
    out = rows[-1].copy()
    for row in rows[-2::-1]:  # row k is bit k of a column's byte
        out += out  # faster than to shift
        out |= row
    words: Words = out.reshape(-1).view(np.uint64)
    return words


def pixels_of_words(words: Words, size: int) -> Bools:
    """Unpack masks; the inverse of `words_of_pixels`.

    Parameters
    ----------
    words : uint64 [n, T]
        Masks.
    size
        S.

    Returns
    -------
    bool [n, S, S]
        Their pixels.
    """
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").view(np.bool_)
    return np.stack([pixels_of_tiles(row, size) for row in bits])


def words_of_boxes(corners: NDArray[np.integer[Any]], size: int) -> Words:
    """Draw boxes, one map each.

    Parameters
    ----------
    corners : int [n, 4]
        x0, y0, x1, y1 in pixels from 0 to S; a box covers the half-open slice [y0:y1, x0:x1].
    size
        S.

    Returns
    -------
    uint64 [n, T]
        Masks; empty where a box covers nothing.

    Examples
    --------
    >>> words_of_boxes(np.array([[0, 0, 2, 1]]), 2).tolist()
    [[257]]
    """
    tile = TILE * np.arange(tiles_along(size))
    first = np.clip(corners[:, :2, None] - tile, 0, TILE)
    last = np.clip(corners[:, 2:, None] - tile, 0, TILE)
    columns, rows = (_BELOW[last] & ~_BELOW[first]).transpose(1, 0, 2)
    words: Words = _REPEATED[rows][:, :, None] & _SPREAD[columns][:, None, :]
    return words.reshape(len(corners), tile.size**2)


_ONES_OF_A_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def ones(words: Words) -> NDArray[np.uint8]:
    """Count the pixels of each tile, uint8 [...]."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words))
    by_byte = _ONES_OF_A_BYTE[words.view(np.uint8)].reshape(*words.shape, TILE)
    return np.asarray(by_byte.sum(axis=-1, dtype=np.uint8))


def count_bits(words: Words) -> Ints:
    """Count the pixels of masks.

    Parameters
    ----------
    words : uint64 [..., T]
        Masks.

    Returns
    -------
    int64 [...]
        Pixels of each.

    Examples
    --------
    >>> count_bits(np.array([[3, 255], [0, 1]], np.uint64)).tolist()
    [10, 1]
    """
    narrow = np.uint16 if words.shape[-1] * PIXELS < 2**16 else np.int64  # narrow sums are faster
    return np.asarray(ones(words).sum(axis=-1, dtype=narrow), np.int64)


def whole_words(taken: Bools, size: int) -> Words:
    """Return the mask that consists of whole tiles.

    Parameters
    ----------
    taken : bool [..., T]
        Which.
    size
        S.

    Returns
    -------
    uint64 [..., T]
        Masks.
    """
    words = (-taken.astype(np.int64)).view(np.uint64)  # -1 has all bits set
    if size % TILE:
        words &= inside_map(size)
    return words


def divided(numbers: NDArray[np.intp], by: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide with remainder: `numpy.divmod` by one positive number, several times faster.

    NumPy multiplies where a quotient by one number is asked for, and divides for a remainder.
    """
    quotient = numbers // by
    return quotient, numbers - quotient * by
