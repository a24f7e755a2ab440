"""HDF5, in two layouts; needs h5py (``pip install 'avsl-toolkit[hdf5]'``).

- as the ``.npz``: datasets ``clip_id`` [N] and ``heatmap`` [N, h, w] (or [N, K, h, w]), optional
``confidence`` [N]
- or one dataset [h, w] (or [K, h, w]) per clip, named by its id, at the top of the file

::

    with h5py.File("maps.h5", "w") as file:
        file["clip_id"], file["heatmap"] = ids, np.stack(maps)

Links to other files and data stored in other files are refused. A file with chunks is read by whole chunks.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from os import SEEK_END
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import LONGEST_ID, MOST_IDS, check_clip_ids
from avsl_eval.errors import EvalInputError, brief
from avsl_eval.extras import need
from avsl_eval.predictions import CHUNK_BYTES, Predictions
from avsl_eval.readers.common import (
    MOST_DEFLATED,
    Problems,
    as_text,
    check_confidence,
    check_names,
    check_numeric,
    check_shape,
    count,
)

LARGEST_CHUNK = 256 * 1024**2
"""Bytes of one chunk, which is read and decompressed whole."""

_IDS_AT_A_TIME = 4096
_HEAP = b"GCOL\x01\x00\x00\x00"
# What h5py raises for files that are not as they should be.
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError)


class Hdf5Predictions(Predictions):
    """Read an HDF5 file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = {}
        self._h5py = need("h5py", "hdf5", self.where)
        self._stacked = False
        with self._opened() as file:
            self._read_small_parts(file)

    def _read_small_parts(self, file: Any) -> None:
        # Names that are not UTF-8 come as bytes; the surrogates that they become are refused as ids.
        names = [n if isinstance(n, str) else n.decode("utf-8", "surrogateescape") for n in file]
        if len(names) > MOST_IDS:
            raise EvalInputError(f"{self.where} hold {len(names)} datasets; at most {MOST_IDS}")
        self._stacked = bool({"clip_id", "heatmap"} & set(names)) or not names
        if not self._stacked:
            self.clip_ids = check_clip_ids(names, self.where)
            return
        check_names({"clip_id", "heatmap"}, names, self.where)
        problems = Problems()
        no_ids: tuple[str, ...] = ()
        ids = problems.of(lambda: self._ids(file), no_ids)
        self.shape = problems.of(lambda: self._shape(file, ids), None)
        if "confidence" in names and ids:
            self.confidence = problems.of(lambda: self._confidence(file, ids), None)
        problems.raise_any()
        self.clip_ids = ids

    def _ids(self, file: Any) -> tuple[str, ...]:
        dataset = self._dataset(file, "clip_id")
        kind = self._h5py.check_string_dtype(dataset.dtype)
        if kind is None or dataset.ndim != 1 or len(dataset) > MOST_IDS:
            raise EvalInputError(
                f"{self.where}: clip_id has shape {dataset.shape} and dtype {dataset.dtype}; expected text, "
                "[N], "
                f"of at most {MOST_IDS} clips"
            )
        if kind.length is not None and kind.length > 4 * LONGEST_ID:
            raise EvalInputError(f"{self.where}: clip_id is text of {kind.length} bytes each; are these ids?")
        if kind.length is None:
            self._check_heaps()
            self._check_lengths(dataset)
        ids: list[str] = []
        for start in range(0, len(dataset), _IDS_AT_A_TIME):
            # Text of variable length may be one long text that every row refers to: a few rows at a time.
            part = dataset[start : start + _IDS_AT_A_TIME]
            if any(len(text) > 4 * LONGEST_ID for text in part.tolist()):
                raise EvalInputError(
                    f"{self.where}: clip ids are longer than {LONGEST_ID} characters; are these ids?"
                )
            ids += as_text(np.array(part.tolist(), dtype=np.bytes_), self.where)
        return check_clip_ids(ids, self.where)

    def _check_heaps(self) -> None:
        """Check the heaps that hold text of variable length.

        The HDF5 library (2.0) walks through a heap by the sizes that it declares, and never ends where one
        is 0. A heap collection is ``GCOL``, version 1, its size (8 bytes), and objects: index (2 bytes), 6
        bytes, size (8 bytes), data up to a multiple of 8. Index 0 is free space, whose size counts its head.
        Source: HDF5 file format specification, section III.E.
        """
        with Path(self.path or "").open("rb") as file:
            size = file.seek(0, SEEK_END)
            for at in _positions(file, _HEAP):
                file.seek(at + 8)
                end, place = at + int.from_bytes(file.read(8), "little"), at + 16
                if end > size:
                    raise self._damaged("a heap ends beyond the file")
                while place + 16 <= end:
                    file.seek(place)
                    index, length = struct.unpack("<H6xQ", file.read(16))
                    step = length if index == 0 else 16 + (length + 7) // 8 * 8
                    if step < 16 or step > end - place:
                        raise self._damaged(f"an object of a heap has {length} bytes")
                    place += step

    def _check_lengths(self, dataset: Any) -> None:
        """Check the lengths of text of variable length, of which the library allocates as much as they say.

        An element is stored as its length (4 bytes), a heap's address and an index in it. Chunked ones, which
        may be compressed, cannot be looked at before.
        """
        n, offset = len(dataset), dataset.id.get_offset()
        size = dataset.id.get_storage_size() // max(n, 1)
        if offset is None or size < 4:
            return
        with Path(self.path or "").open("rb") as file:
            file.seek(offset)
            elements = np.frombuffer(file.read(n * size), np.uint8)
        lengths = np.ascontiguousarray(
            elements[: len(elements) // size * size].reshape(-1, size)[:, :4]
        ).view("<u4")
        if lengths.size and lengths.max() > 4 * LONGEST_ID:
            raise self._damaged(f"a clip id has {lengths.max()} bytes")

    def _shape(self, file: Any, ids: tuple[str, ...]) -> tuple[int, ...]:
        dataset = self._dataset(file, "heatmap")
        check_shape(dataset.shape, len(ids) if ids else None, self.where)
        check_numeric(dataset.dtype, ids[0] if ids else "?", self.where)
        return tuple(dataset.shape)

    def _confidence(self, file: Any, ids: tuple[str, ...]) -> dict[str, float]:
        dataset = self._dataset(file, "confidence")
        if dataset.shape != (len(ids),):
            raise EvalInputError(
                f"{self.where}: confidence has shape {dataset.shape}; expected one number per clip, "
                f"[{len(ids)}]"
            )
        return check_confidence(ids, dataset[()], self.where)

    def _dataset(self, file: Any, name: str) -> Any:
        """Return a dataset that lies in this very file."""
        link = file.get(name, getlink=True)
        if not isinstance(link, self._h5py.HardLink):
            raise EvalInputError(
                f"{self.where}: {name[:80]} is a link, which is not followed; copy the data here"
            )
        dataset = file[name]
        if not isinstance(dataset, self._h5py.Dataset):
            raise EvalInputError(
                f"{self.where}: {name[:80]} is a group; one dataset per clip is expected at the top of the "
                "file"
            )
        if dataset.external or dataset.is_virtual:
            raise EvalInputError(f"{self.where}: {name[:80]} is stored in another file, which is not read")
        if dataset.shape is None:
            raise EvalInputError(f"{self.where}: {name[:80]} is empty")
        if dataset.chunks and count(dataset.chunks) * dataset.dtype.itemsize > LARGEST_CHUNK:
            raise EvalInputError(
                f"{self.where}: {name[:80]} has chunks of shape {dataset.chunks}, more than {LARGEST_CHUNK} "
                "bytes; "
                "write chunks of one map, chunks=(1, h, w)"
            )
        declared, held = count(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
        if declared > (MOST_DEFLATED if dataset.chunks else 1) * held:
            raise EvalInputError(
                f"{self.where}: {name[:80]} declares shape {dataset.shape}, {declared} bytes, but {held} are "
                "stored; "
                "was the program that wrote it stopped?"
            )
        return dataset

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any] | EvalInputError]]:
        """Read wanted clips; see `Predictions.read`."""
        with self._opened() as file:
            yield from self._stack(file, wanted) if self._stacked else self._one_by_one(file, wanted)

    def _stack(self, file: Any, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        dataset = self._dataset(file, "heatmap")
        one = count(dataset.shape[1:]) * dataset.dtype.itemsize
        # Whole chunks, or a compressed one would be decompressed again for every map in it.
        step = dataset.chunks[0] if dataset.chunks else max(1, CHUNK_BYTES // one)
        step = max(1, min(step, LARGEST_CHUNK // one))
        for start in range(0, len(self.clip_ids), step):
            ids = self.clip_ids[start : start + step]
            if any(clip_id in wanted for clip_id in ids):
                block = dataset[start : start + step]
                yield from ((i, m) for i, m in zip(ids, block, strict=True) if i in wanted)

    def _one_by_one(
        self, file: Any, wanted: Collection[str]
    ) -> Iterator[tuple[str, NDArray[Any] | EvalInputError]]:
        for clip_id in self.clip_ids:
            if clip_id not in wanted:
                continue
            try:
                dataset = self._dataset(file, clip_id)
                check_shape((1, *dataset.shape), None, f"{self.where}, clip {clip_id}")
                check_numeric(dataset.dtype, clip_id, self.where)
                yield clip_id, dataset[()]
            except EvalInputError as error:
                yield clip_id, error

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with self._h5py.File(self.path, "r") as file:
                yield file
        except EvalInputError:
            raise
        except _DAMAGE as error:
            raise self._damaged(brief(error)) from error

    def _damaged(self, what: str) -> EvalInputError:
        return EvalInputError(f"{self.where} are truncated or damaged: {what}; write them again")


def _positions(file: IO[bytes], pattern: bytes) -> Iterator[int]:
    """Find a pattern in a file; the file may be moved in between."""
    start, overlap, kept = 0, len(pattern) - 1, b""
    while True:
        file.seek(start + len(kept))
        block = file.read(1 << 20)
        data = kept + block
        at = data.find(pattern)
        while at >= 0:
            yield start + at
            at = data.find(pattern, at + 1)
        if not block:
            return
        kept = data[-overlap:]
        start += len(data) - len(kept)
