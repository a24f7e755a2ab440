"""NumPy's array format, read without trusting its header.

`numpy.load` allocates what a header declares. Here the declared size is compared with the bytes that are
there, before.
"""

from __future__ import annotations

from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.readers.common import count

LARGEST_HEADER = 10_000
"""Bytes; NumPy's own limit. Headers are Python literals, which are slow to parse when they are long."""


@dataclass(frozen=True)
class Header:
    """Hold what an array declares about itself.

    Parameters
    ----------
    shape, fortran, dtype
        Its shape, whether its first axis is the fastest, and its type.
    start
        Bytes before the data.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the data."""
        return count(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> Header:
    """Read the header of an array and stop before its data.

    Parameters
    ----------
    stream
        At the beginning of the array.

    Returns
    -------
    Header
        With lengths that are not negative.

    Raises
    ------
    ValueError
        If it is malformed, or of structured arrays.
    """
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"array format version {version[0]}.{version[1]} is for structured arrays")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream, max_header_size=LARGEST_HEADER)
    except (
        TypeError,
        SyntaxError,
        TokenError,
        RecursionError,
        MemoryError,
        KeyError,
        AttributeError,
    ) as error:
        raise ValueError(f"an array's header is malformed ({error})") from error
    if any(type(length) is not int or length < 0 for length in shape) or dtype.subdtype is not None:
        raise ValueError(f"an array declares shape {shape} of {dtype}")
    return Header(shape, fortran, dtype, stream.tell())


def read_data(stream: IO[bytes], header: Header) -> NDArray[Any]:
    """Read the data of an array.

    Parameters
    ----------
    stream, header
        Just after `read_header`.

    Returns
    -------
    array
        Of the declared shape.

    Raises
    ------
    EOFError
        If the data end early.
    """
    flat = np.frombuffer(read_exactly(stream, header.n_bytes), header.dtype, count(header.shape))
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def read_exactly(stream: IO[bytes], n_bytes: int) -> bytes:
    """Read n bytes, or raise EOFError."""
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError(f"an array ends after {len(data)} of {n_bytes} bytes")
    return data
