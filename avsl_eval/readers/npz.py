"""``.npz``: ``clip_id`` [N] (text) and ``heatmap`` [N, h, w], streamed from the archive in stored order.

Optional: ``confidence`` [N], and ``meta``, a single text of JSON that is passed on to the scores file. Other
arrays are allowed. [N, K, h, w] holds K sources.

::

    np.savez_compressed("maps.npz", clip_id=np.array(ids), heatmap=np.stack(maps))
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import check_clip_ids
from avsl_eval.errors import EvalInputError, brief, first_few
from avsl_eval.predictions import KNOWN_FORMATS, Predictions
from avsl_eval.readers import pickle_refused
from avsl_eval.readers.common import (
    LARGEST_META,
    MOST_DEFLATED,
    Problems,
    as_text,
    check_confidence,
    check_names,
    check_numeric,
    check_shape,
    count,
    parse_meta,
)
from avsl_eval.readers.npy import Header, read_data, read_exactly, read_header

LARGEST_IDS = 512 * 1024**2
"""Bytes of all ids: 4 per character, as long as the longest."""

LARGEST_FORTRAN = 1024**3
"""Bytes of heatmaps in Fortran order, which have to be read whole."""

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OSError,
)


class NpzPredictions(Predictions):
    """Read an ``.npz``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not zipfile.is_zipfile(path):
            raise EvalInputError(
                f"{self.where} are not a readable .npz: truncated, or of another format; expected "
                f"{KNOWN_FORMATS}"
            )
        try:
            with zipfile.ZipFile(path) as archive:
                self._read_small_parts(archive)
        except EvalInputError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _read_small_parts(self, archive: zipfile.ZipFile) -> None:
        listed = archive.namelist()
        if any(name.endswith(".pkl") for name in listed) and "heatmap.npy" not in listed:
            raise pickle_refused(Path(self.path or ""))
        names = {name.removesuffix(".npy") for name in listed if name.endswith(".npy")}
        check_names({"clip_id", "heatmap"}, names, self.where)
        if len(set(listed)) < len(listed):
            raise EvalInputError(f"{self.where} hold two arrays of one name; write them again")
        problems = Problems()
        no_ids: tuple[str, ...] = ()
        ids = problems.of(lambda: self._ids(archive), no_ids)
        # A missing N is not a second problem where ids could not be read.
        self.shape = problems.of(lambda: self._shape(archive, ids), None)
        self.meta = problems.of(lambda: self._meta(archive) if "meta" in names else {}, {})
        if "confidence" in names and ids:
            self.confidence = problems.of(lambda: self._confidence(archive, ids), None)
        problems.raise_any()
        self.clip_ids = ids

    def _ids(self, archive: zipfile.ZipFile) -> tuple[str, ...]:
        return check_clip_ids(as_text(self._small(archive, "clip_id", LARGEST_IDS), self.where), self.where)

    def _confidence(self, archive: zipfile.ZipFile, ids: tuple[str, ...]) -> dict[str, float]:
        return check_confidence(ids, self._small(archive, "confidence", 8 * len(ids) + 8), self.where)

    def _meta(self, archive: zipfile.ZipFile) -> dict[str, Any]:
        raw = self._small(archive, "meta", LARGEST_META)
        if raw.dtype.kind != "U" or raw.size != 1:
            return {}  # somebody else's array of that name
        return parse_meta(as_text(raw.reshape(-1), self.where)[0], self.where)

    def _shape(self, archive: zipfile.ZipFile, ids: tuple[str, ...]) -> tuple[int, ...]:
        with self._open(archive, "heatmap") as member:
            header = self._header(archive, member, "heatmap")
        first = f" ({first_few(ids, 2)})" if ids else ""
        if len(header.shape) not in (3, 4) and ids:
            hint = "; drop the axes of length 1" if len(header.shape) > 4 and 1 in header.shape[1:] else ""
            raise EvalInputError(
                f"{self.where}: heatmap has shape {header.shape}; expected [N, h, w] with N = {len(ids)}, "
                f"one map per clip{first}{hint}"
            )
        if count(header.shape[1:]) == 0 and ids:
            raise EvalInputError(f"{self.where}: heatmap of clip {ids[0]} has shape {header.shape[1:]}")
        check_shape(header.shape, len(ids) if ids else None, self.where)
        check_numeric(header.dtype, ids[0] if ids else "?", self.where)
        if header.fortran and header.n_bytes > LARGEST_FORTRAN:
            raise EvalInputError(
                f"{self.where}: heatmap is stored in Fortran order, which must be read whole, "
                f"{header.n_bytes} bytes; write np.ascontiguousarray(maps)"
            )
        return header.shape

    def _open(self, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
        """Open an array, if what the archive says about it can be true."""
        info = archive.getinfo(f"{name}.npy")
        if info.flag_bits & 1:
            raise EvalInputError(f"{self.where} are encrypted; write them without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise EvalInputError(
                f"{self.where}: {name} is compressed in a way that NumPy never writes; use "
                "np.savez_compressed"
            )
        if info.file_size > MOST_DEFLATED * info.compress_size + 1024:
            raise EvalInputError(
                f"{self.where}: {name} would grow from {info.compress_size} to {info.file_size} bytes, more "
                "than "
                "is possible; the file is damaged or a trap"
            )
        return archive.open(info)

    def _header(self, archive: zipfile.ZipFile, member: IO[bytes], name: str) -> Header:
        header = read_header(member)
        if header.dtype.hasobject:
            advice = (
                "stack maps of one size, or write a folder of <clip_id>.npy if sizes differ"
                if name == "heatmap"
                else f"save plain values, for example {name}=np.array(values, "
                f"dtype={'str' if name == 'clip_id' else 'float'})"
            )
            raise EvalInputError(
                f"{self.where}: {name} is an array of Python objects (pickled), which is never loaded; "
                f"{advice}"
            )
        held = archive.getinfo(f"{name}.npy").file_size - header.start
        if header.n_bytes != held:
            raise EvalInputError(
                f"{self.where} are truncated or damaged: {name} declares shape {header.shape}, "
                f"{header.n_bytes} bytes, but holds {held}; write them again"
            )
        return header

    def _small(self, archive: zipfile.ZipFile, name: str, limit: int) -> NDArray[Any]:
        """Read an array whole."""
        with self._open(archive, name) as member:
            header = self._header(archive, member, name)
            if header.n_bytes > limit:
                raise EvalInputError(
                    f"{self.where}: {name} has shape {header.shape} and {header.n_bytes} bytes; at most "
                    f"{limit}"
                )
            array = read_data(member, header)
            member.read(1)  # the archive checks its checksum at the end of a member
        return array

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Read wanted clips; see `Predictions.read`."""
        try:
            with zipfile.ZipFile(self.path or "") as archive, self._open(archive, "heatmap") as member:
                header = self._header(archive, member, "heatmap")
                if header.fortran:
                    whole = read_data(member, header)
                    yield from ((i, m) for i, m in zip(self.clip_ids, whole, strict=True) if i in wanted)
                    return
                shape = header.shape[1:]
                n_bytes = count(shape) * header.dtype.itemsize
                for clip_id in self.clip_ids:
                    data = read_exactly(member, n_bytes)
                    if clip_id in wanted:
                        yield clip_id, np.frombuffer(data, header.dtype).reshape(shape)
                member.read(1)  # the archive checks its checksum at the end of a member
        except EvalInputError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> EvalInputError:
        return EvalInputError(f"{self.where} are truncated or damaged: {brief(error)}; write them again")
