"""Decoded clips on disk: frames and sounds are decoded once, and read where they lie from then on.

A cache belongs to shards and to what a stored clip is (side of the frame, rate and length of the sound), not
to a set of clips: every set, training and process of the same shards shares it. Each row of the shards has
its place in one flat file per array; the files are sparse, so a row that nobody asked for takes no space.

Nothing is trusted that was not finished: a row counts when its record stands in the index, with the
checksums of its arrays and one of its own, and a record is written after the arrays. Whoever reads a row
first compares its checksums, so also what a power failure took out of the files is found, told and decoded
again. Files are read and not mapped: a mapped file that is cut short ends the process that reads it, and a
full disk ends the one that writes.

Shape letters: N rows of the shards, A arrays.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from avsl_train.cache_place import cache_name, cache_place, first_rows_of
from avsl_train.config import DataConfig
from avsl_train.errors import TrainInputError
from avsl_train.excerpts import clip_samples
from avsl_train.files import write_json
from avsl_train.loading import Workers
from avsl_train.shard_rows import Row
from avsl_train.weights import CACHE

logger = logging.getLogger(__name__)

FORMAT: Final = 1
INDEX, LOCK, ABOUT = "index", "lock", "about.json"
CHUNK: Final = 8
"""Clips that a process decodes at a time."""

Words = np.ndarray[Any, np.dtype[np.uint32]]
Decode = Callable[[int], Sequence[Tensor]]


@dataclass(frozen=True)
class Array:
    """What is kept of every clip under one name."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of a clip."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def arrays_of(config: DataConfig) -> tuple[Array, ...]:
    """Return what is kept of a clip: frame, sound, and flow if it is loaded."""
    side = config.frame_size
    kept = (
        Array("frames", torch.uint8, (3, side, side)),
        Array("sounds", torch.int16, (clip_samples(config),)),
    )
    return (*kept, Array("flows", torch.float32, (2, side, side))) if config.flow else kept


class DiskCache:
    """The decoded clips of some rows.

    Parameters
    ----------
    shards
        Folders of shards.
    rows
        The rows that will be asked for, each by its position in this list.
    config
        Section ``data`` of the training configuration.
    decode
        Decodes a row: its arrays in the order of `arrays_of`.

    Raises
    ------
    TrainInputError
        The disk is too small, or the folder cannot be written or read.
    """

    def __init__(
        self, shards: Sequence[Path], rows: Sequence[Row], config: DataConfig, decode: Decode
    ) -> None:
        self._files: dict[str, int] = {}
        self.arrays = arrays_of(config)
        self.decode = decode
        first_rows, self.total = first_rows_of(shards)
        self.places = [first_rows[row.group.file, row.group.number] + row.offset for row in rows]
        kept = {array.name: array.shape for array in self.arrays}
        self.folder = cache_place(shards) / cache_name(shards, [FORMAT, config.sample_rate, kept])
        self._checked = torch.zeros(len(rows), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        self._fill(config.workers)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: a worker opens its own."""
        return {**self.__dict__, "_files": {}}

    def __del__(self) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files; reading opens them again."""
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def read(self, position: int, parts: Sequence[tuple[int, Tensor]]) -> None:
        """Read a part of every array of a row.

        Parameters
        ----------
        position
            The row.
        parts
            For every array how many of its values are passed over, and a contiguous tensor for the next ones.

        Raises
        ------
        TrainInputError
            The files cannot be read.
        """
        if not self._checked[position]:
            self._check(position)
            self._checked[position] = True
        for array, (first, into) in zip(self.arrays, parts, strict=True):
            if not self._read(array, position, first, into):
                raise TrainInputError(f"{self.folder / array.name} was cut while it was read: start again")

    def _check(self, position: int) -> None:
        """Compare a row with its checksums; decode it again if they are wrong."""
        found = [torch.empty(array.shape, dtype=array.dtype) for array in self.arrays]
        whole = all(
            self._read(array, position, 0, into) for array, into in zip(self.arrays, found, strict=True)
        )
        if whole and [_checksum(part) for part in found] == self._sums[position].tolist():
            return
        logger.warning("%s is damaged at row %d: decoding its clip again", self.folder, self.places[position])
        self.write(position)

    def write(self, position: int) -> None:
        """Decode a row and write it, its record last."""
        place, record = self.places[position], []
        try:
            for array, part in zip(self.arrays, self.decode(position), strict=True):
                assert (part.dtype, tuple(part.shape)) == (array.dtype, array.shape)
                _write(self.folder / array.name, _memory(part), place * array.bytes)
                record.append(_checksum(part))
            words = np.array([*record, _seal(place, record)], np.uint32)
            _write(self.folder / INDEX, words.data.cast("B"), place * words.nbytes)
        except OSError as error:
            raise self._refused(error) from error

    def _fill(self, processes: int) -> None:
        """Decode what is missing, or wait for another process that does."""
        try:
            if self._cut() or self._missing():
                self.folder.mkdir(parents=True, exist_ok=True)
                with _locked(self.folder / LOCK):
                    self._fill_alone(processes)
            self._sums = np.array([record for record in self._records() if record is not None], np.uint32)
        except OSError as error:
            raise self._refused(error) from error
        if len(self._sums) < len(self.places):
            raise TrainInputError(f"another program changes {self.folder}: end it and start again")

    def _fill_alone(self, processes: int) -> None:
        index, cut = self.folder / INDEX, self._cut()
        if cut and index.exists():
            logger.warning("%s is damaged (%s is not whole): decoding its clips again", self.folder, cut)
            index.unlink()
        missing = self._missing()
        if missing:
            self._require_space(len(missing))
            self._lay_out()
            _decode_into(self, missing, processes)

    def _cut(self) -> str:
        """Return the name of an array's file that is not there or not whole, or an empty string."""
        for array in self.arrays:
            path = self.folder / array.name
            if not path.exists() or path.stat().st_size != self.total * array.bytes:
                return array.name
        return ""

    def _missing(self) -> list[int]:
        """Return the positions without a record, in the order of the shards."""
        records = self._records()
        missing = (position for position, record in enumerate(records) if record is None)
        return sorted(missing, key=self.places.__getitem__)

    def _records(self) -> list[list[int] | None]:
        """Return the checksums of every row; None for those without a record, or with a damaged one."""
        path, words = self.folder / INDEX, np.zeros((self.total, len(self.arrays) + 1), np.uint32)
        content = path.read_bytes()[: words.nbytes] if path.exists() else b""
        words.view(np.uint8).reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
        found: list[list[int] | None] = []
        for place in self.places:
            *record, seal = words[place].tolist()
            found.append(record if seal == _seal(place, record) else None)
        return found

    def _require_space(self, clips: int) -> None:
        each = sum(array.bytes for array in self.arrays)
        needed, free = clips * each, shutil.disk_usage(self.folder).free
        if needed > free:
            raise TrainInputError(
                f"data.cache: disk needs {_size(needed)} in {self.folder.parent} ({clips:,} clips of "
                f"{_size(each)}), but {_size(free)} are free: make room, name a folder on a larger disk in "
                f"${CACHE}, or set data.cache: none"
            )
        logger.info("decoding %s clips once into %s: %s", f"{clips:,}", self.folder, _size(needed))

    def _lay_out(self) -> None:
        """Make the files as large as they will be; they are sparse."""
        about = {array.name: {"dtype": str(array.dtype), "shape": array.shape} for array in self.arrays}
        write_json({"format": FORMAT, "rows": self.total, "arrays": about}, self.folder / ABOUT)
        for array in self.arrays:
            with (self.folder / array.name).open("ab") as file:
                file.truncate(self.total * array.bytes)

    def _read(self, array: Array, position: int, first: int, into: Tensor) -> bool:
        """Read values of an array; return whether there were enough."""
        try:
            if array.name not in self._files:
                self._files[array.name] = os.open(self.folder / array.name, os.O_RDONLY)
            start = self.places[position] * array.bytes + first * array.dtype.itemsize
            memory, done = _memory(into), 0
            while done < len(memory):
                count = os.preadv(self._files[array.name], [memory[done:]], start + done)
                if not count:
                    return False
                done += count
        except OSError as error:
            raise self._refused(error) from error
        return True

    def _refused(self, error: OSError) -> TrainInputError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return TrainInputError(
                f"the disk of {self.folder} became full while clips were decoded into it: make room and "
                f"start again, which goes on from here, or name a folder on a larger disk in ${CACHE}"
            )
        return TrainInputError(
            f"cannot use the cache {self.folder} ({error.strerror}): name a folder that can be written in "
            f"${CACHE}, or set data.cache: none"
        )


class _Writer:
    """What processes do while a cache is filled: they decode and write some rows."""

    def __init__(self, cache: DiskCache) -> None:
        self.cache = cache

    def __call__(self, positions: list[int]) -> int:
        for position in positions:
            self.cache.write(position)
        return len(positions)


def _decode_into(cache: DiskCache, missing: Sequence[int], processes: int) -> None:
    """Decode rows, in processes if there are any, with a progress bar on a terminal."""
    from tqdm import tqdm

    chunks = [list(missing[first : first + CHUNK]) for first in range(0, len(missing), CHUNK)]
    writer = _Writer(cache)
    workers = Workers(writer, min(processes, len(chunks)), pin=False) if processes else None
    counts: Iterator[int] = map(writer, chunks) if workers is None else workers.make(chunks)
    try:
        with tqdm(total=len(missing), desc="decode", unit=" clips", disable=not sys.stderr.isatty()) as bar:
            for count in counts:
                bar.update(count)
    finally:
        if workers is not None:
            workers.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only process that fills a cache. The lock ends with the process, however that ends."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process decodes clips into %s: waiting for it", path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a process that was started meanwhile holds the file as well


def _write(path: Path, content: memoryview, start: int) -> None:
    """Write bytes into an existing or new file at a place."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        done = 0
        while done < len(content):
            done += os.pwrite(file, content[done:], start + done)
    finally:
        os.close(file)


def _memory(values: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor."""
    return values.numpy().data.cast("B")


def _checksum(values: Tensor) -> int:
    return zlib.crc32(_memory(values))


def _seal(place: int, record: Sequence[int]) -> int:
    """Return the checksum of a record, which also says whose it is."""
    return zlib.crc32(np.array([FORMAT, place, *record], np.uint64).tobytes())


def _size(count: int) -> str:
    """Return bytes as text.

    Examples
    --------
    >>> _size(516_608), _size(2_664_664_064)
    ('517 KB', '2.7 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.0f} KB"
