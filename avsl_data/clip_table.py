"""Clips as columns: a sequence of `CatalogClip` that holds an Arrow table, not an object per clip.

Ten million clips are 2 GB of columns and would be 10 GB of objects. Code that treats clips one by one
iterates over a `ClipTable` as over a list; code that treats all of them at once takes ``.table``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avsl_data import schema
from avsl_data.sources.source import CatalogClip

COLUMNS: Final = [field.name for field in dataclasses.fields(CatalogClip)]
ROWS_AT_ONCE: Final = 65_536
"""Rows that are turned into Python objects together."""


class ClipTable(Sequence[CatalogClip]):
    """Clips in columns.

    Parameters
    ----------
    table
        Has the columns of `CatalogClip`; others are left out.

    Examples
    --------
    >>> clip = CatalogClip("a_000001", "a", "https://x/a", 1.0, 2.0, "dog", "train")
    >>> clips = ClipTable.of([clip, clip])
    >>> len(clips), clips[1] == clip, clips.column("label").to_pylist()
    (2, True, ['dog', 'dog'])
    """

    def __init__(self, table: pa.Table) -> None:
        self.table: pa.Table = table.select(COLUMNS)

    @classmethod
    def of(cls, clips: Iterable[CatalogClip]) -> ClipTable:
        """Return clips as columns; a `ClipTable` as it is.

        Parameters
        ----------
        clips
            In any form.

        Returns
        -------
        ClipTable
            In the same order.
        """
        if isinstance(clips, ClipTable):
            return clips
        rows = list(clips)
        fields = [schema.CATALOG.columns.field(name) for name in COLUMNS]
        arrays = [pa.array([getattr(clip, f.name) for clip in rows], f.type) for f in fields]
        return cls(pa.table(arrays, pa.schema(fields)))

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column.

        Parameters
        ----------
        name
            A field of `CatalogClip`.

        Returns
        -------
        pyarrow.ChunkedArray
            Its values.
        """
        return self.table[name]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> CatalogClip: ...

    @overload
    def __getitem__(self, index: slice) -> ClipTable: ...

    def __getitem__(self, index: int | slice) -> CatalogClip | ClipTable:
        if isinstance(index, slice):
            return ClipTable(self.table.take(pa.array(range(*index.indices(len(self))), pa.int64())))
        position = range(len(self))[index]
        return CatalogClip(**self.table.slice(position, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[CatalogClip]:
        for batch in self.table.to_batches(ROWS_AT_ONCE):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield CatalogClip(*values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def codes_of(*columns: pa.ChunkedArray | pa.Array) -> tuple[list[NDArray[np.int64]], pa.Array]:
    """Give every distinct value of some string columns a number.

    Parameters
    ----------
    *columns
        Strings without nulls.

    Returns
    -------
    codes : list of int64 [n]
        Number of each value, one array per column.
    values : pyarrow.Array
        The value of each number, in the order of first occurrence.

    Examples
    --------
    >>> codes, values = codes_of(pa.array(["b", "a"]), pa.array(["a", "c"]))
    >>> [code.tolist() for code in codes], values.to_pylist()
    ([[0, 1], [1, 2]], ['b', 'a', 'c'])
    """
    chunks = [chunk for column in columns for chunk in getattr(column, "chunks", [column])]
    # One array: a chunked one is encoded by chunk, and every dictionary then merged with the others.
    joined = pa.concat_arrays([pa.array([], pa.string()), *(chunk.cast(pa.string()) for chunk in chunks)])
    encoded = joined.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(codes, ends), encoded.dictionary


def hashes_of(values: pa.Array | pa.ChunkedArray, *salt: object) -> NDArray[np.uint64]:
    """Hash every value of a column as `avsl_data.ids.hash_of` does.

    Parameters
    ----------
    values
        Strings.
    *salt
        Values that come before each of them.

    Returns
    -------
    uint64 [n]
        ``hash_of(*salt, value)`` of each value.

    Examples
    --------
    >>> from avsl_data.ids import hash_of
    >>> int(hashes_of(pa.array(["x"]), "labels", 3)[0]) == hash_of("labels", 3, "x")
    True
    """
    import hashlib

    prefix = "".join(f"{part}|" for part in salt).encode()
    hashes = np.empty(len(values), np.uint64)
    sha256, at = hashlib.sha256, 0
    for chunk in getattr(values, "chunks", [values]):
        for start in range(0, len(chunk), ROWS_AT_ONCE):
            part: list[Any] = chunk.slice(start, ROWS_AT_ONCE).cast(pa.binary()).to_pylist()
            heads = b"".join([sha256(prefix + value).digest()[:8] for value in part])
            hashes[at : at + len(part)] = np.frombuffer(heads, ">u8")
            at += len(part)
    return hashes
