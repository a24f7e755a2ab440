"""Single values of a Parquet file without the rows around them: where the bytes of a frame or a sound lie.

Parquet readers decode a whole row group, 3 MB for the 200 kB of one clip. `avsl_data` stores frames and
sounds uncompressed, so that each value lies in the file as it is: four bytes of length, then the bytes. What
is needed to find them are the headers of the pages, which are read here; a column that is stored in any other
way is left to a Parquet reader (`NotPlainError`).

A value is given out once the checksum of its page was right. That is checked at the first value that is asked
of a page, by whichever process that is.

Source: the Parquet format's description (pages, the hybrid of run lengths and bit packing, the compact
protocol of Thrift).
"""

from __future__ import annotations

import mmap
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

DATA_PAGE: Final = 0
DICTIONARY_PAGE: Final = 2
PLAIN: Final = 0
DICTIONARIES: Final = (2, 8)
"""Encodings of data pages that hold places in the dictionary."""
LENGTH: Final = 4
"""Bytes of a length, little endian."""


class NotPlainError(Exception):
    """A column is not stored as uncompressed values, or in a way that is not read here."""


class WrongChecksumError(ValueError):
    """The content of a page is not what was written."""


@dataclass(frozen=True)
class Chunk:
    """The values of one column in one row group.

    Parameters
    ----------
    start, stop
        Where its pages lie in the file.
    rows
        Number of values, missing ones included.
    levels
        Largest definition level: a value that is there has it.
    """

    start: int
    stop: int
    rows: int
    levels: int


@dataclass(frozen=True)
class Page:
    """The content of a page: its place in the file, and its checksum if one was written."""

    start: int
    stop: int
    checksum: int | None


@dataclass(frozen=True)
class Values:
    """Where the values of a chunk lie.

    Parameters
    ----------
    places
        (start, stop) of each row's bytes; None where there is no value.
    pages
        The data pages in order.
    first_rows
        First row of each data page.
    dictionary
        The page that values of other pages may lie in.
    """

    places: list[tuple[int, int] | None]
    pages: list[Page]
    first_rows: list[int]
    dictionary: Page | None

    def page_of(self, row: int) -> tuple[Page, range]:
        """Return the data page of a row and all of the rows that it holds."""
        number = bisect_right(self.first_rows, row) - 1
        ends = [*self.first_rows[1:], len(self.places)]
        return self.pages[number], range(self.first_rows[number], ends[number])


def chunk_of(metadata: pq.FileMetaData, group: int, path: str) -> Chunk | None:
    """Return where a column of a row group lies; None if it is compressed, nested or not there.

    Parameters
    ----------
    metadata
        Of the file.
    group
        Number of the row group.
    path
        Name of the column, such as ``frame.bytes``.
    """
    row_group = metadata.row_group(group)
    names = [row_group.column(number).path_in_schema for number in range(row_group.num_columns)]
    if path not in names:
        return None
    column, kind = row_group.column(names.index(path)), metadata.schema.column(names.index(path))
    if (
        column.compression != "UNCOMPRESSED"
        or kind.max_repetition_level
        or column.physical_type != "BYTE_ARRAY"
    ):
        return None
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    stop = start + column.total_compressed_size
    return Chunk(start, stop, row_group.num_rows, kind.max_definition_level)


class MappedFile:
    """A file whose bytes are read where they lie.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._bytes)  # whose slices are no copies
        self._values: dict[Chunk, Values] = {}

    def values(self, chunk: Chunk) -> Values:
        """Return where the values of a chunk lie.

        Raises
        ------
        NotPlainError
            The chunk is stored in a way that is not read here.
        ValueError
            The file is damaged.
        """
        if chunk not in self._values:
            try:
                self._values[chunk] = find_values(self._bytes, chunk)
            except (IndexError, KeyError, TypeError) as error:
                raise ValueError(f"the pages at byte {chunk.start} make no sense") from error
        return self._values[chunk]

    def check(self, page: Page) -> None:
        """Raise WrongChecksumError if the content of a page is not what was written."""
        found = zlib.crc32(self._view[page.start : page.stop])
        if page.checksum is not None and found != page.checksum:
            raise WrongChecksumError(
                f"wrong checksum of the page at byte {page.start}: {found:08x} instead of {page.checksum:08x}"
            )

    def read(self, place: tuple[int, int]) -> bytes:
        """Return the bytes of a value."""
        return self._bytes[place[0] : place[1]]


def find_values(data: Sequence[int] | mmap.mmap, chunk: Chunk) -> Values:
    """Return where the values of a chunk lie in a file; of the values themselves only lengths are read."""
    words: list[tuple[int, int]] = []
    dictionary: Page | None = None
    places: list[tuple[int, int] | None] = []
    pages: list[Page] = []
    first_rows: list[int] = []
    position = chunk.start
    while position < chunk.stop:
        header, body = read_struct(data, position)
        position = body + header[3]
        checksum = None if 4 not in header else header[4] & 0xFFFFFFFF
        page = Page(body, position, checksum)
        if position > chunk.stop or header[2] != header[3]:
            raise ValueError(f"the page at byte {body} is larger than its column")
        if header[1] == DICTIONARY_PAGE:
            dictionary, words = page, _plain(data, body, position, header[7][1])
        elif header[1] == DATA_PAGE:
            pages.append(page)
            first_rows.append(len(places))
            places += _page_values(data, page, header[5], chunk.levels, words)
        else:
            raise NotPlainError(f"pages of type {header[1]}")
    if len(places) != chunk.rows:
        raise ValueError(f"the pages at byte {chunk.start} hold {len(places)} rows instead of {chunk.rows}")
    return Values(places, pages, first_rows, dictionary)


def _page_values(
    data: Any, page: Page, header: dict[int, Any], levels: int, words: list[tuple[int, int]]
) -> list[tuple[int, int] | None]:
    """Return where the values of a data page lie."""
    rows, encoding, position = header[1], header[2], page.start
    there = [True] * rows
    if levels:
        length = _integer(data, position, LENGTH)
        position += LENGTH
        found = read_hybrid(data, position, position + length, levels.bit_length(), rows)
        there = [level == levels for level in found]
        position += length
    count = sum(there)
    if encoding == PLAIN:
        known = _plain(data, position, page.stop, count)
    elif encoding in DICTIONARIES:
        width = data[position] if count else 0
        known = [words[word] for word in read_hybrid(data, position + 1, page.stop, width, count)]
    else:
        raise NotPlainError(f"values of encoding {encoding}")
    values = iter(known)
    return [next(values) if is_there else None for is_there in there]


def _plain(data: Any, position: int, stop: int, count: int) -> list[tuple[int, int]]:
    """Return where byte arrays lie that follow each other, each after its length."""
    places = []
    for _ in range(count):
        start = position + LENGTH
        position = start + _integer(data, position, LENGTH)
        if position > stop:
            raise ValueError(f"a value at byte {start} is longer than its page")
        places.append((start, position))
    return places


def _integer(data: Any, position: int, length: int) -> int:
    return int.from_bytes(data[position : position + length], "little")


def read_hybrid(data: Any, position: int, stop: int, width: int, count: int) -> list[int]:
    """Return ``count`` numbers of ``width`` bits, stored as runs and as packed groups of eight.

    Examples
    --------
    >>> read_hybrid(bytes([0b1010, 3, 0b11, 0b10001000, 0b11000110, 0b11111010]), 0, 6, 3, 9)
    [3, 3, 3, 3, 3, 0, 1, 2, 3]
    """
    numbers: list[int] = []
    while len(numbers) < count:
        if position >= stop:
            raise ValueError(f"the numbers that end at byte {stop} are too few")
        header, position = read_varint(data, position)
        if header & 1:
            length = (header >> 1) * width
            packed = _integer(data, position, length)
            mask = (1 << width) - 1
            places = range(min(8 * (header >> 1), count))
            numbers += [packed >> (width * place) & mask for place in places]
        else:
            length = (width + 7) // 8
            numbers += [_integer(data, position, length)] * min(header >> 1, count)
        position += length
    return numbers[:count]


def read_varint(data: Any, position: int) -> tuple[int, int]:
    """Return an integer of seven bits per byte, the low ones first, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def read_struct(data: Any, position: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a Thrift struct in compact protocol by their numbers, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while header := data[position]:
        position += 1
        if header >> 4:
            number += header >> 4
        else:
            number, position = _zigzag(data, position)
        fields[number], position = _field(data, position, header & 0x0F)
    return fields, position + 1


def _field(data: Any, position: int, kind: int) -> tuple[Any, int]:
    """Return a field of a type that page headers have."""
    if kind in (1, 2):  # true, false
        return kind == 1, position
    if kind in (4, 5, 6):  # integers
        return _zigzag(data, position)
    if kind == 8:  # bytes
        length, position = read_varint(data, position)
        return data[position : position + length], position + length
    if kind == 12:
        return read_struct(data, position)
    if kind == 3:
        return data[position], position + 1
    raise ValueError(f"a page header at byte {position} has a field of type {kind}")


def _zigzag(data: Any, position: int) -> tuple[int, int]:
    value, position = read_varint(data, position)
    return value >> 1 ^ -(value & 1), position
