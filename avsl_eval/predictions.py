"""Prediction files: clip ids with one heatmap each, read a few maps at a time.

Formats
-------
- ``.npz`` with ``clip_id`` [N] (text) and ``heatmap`` [N, h, w]; other arrays are allowed. ``meta``, a single
text of JSON, is
  passed on to the scores file.
- a folder of ``<clip_id>.npy``, each [h, w]; sizes may differ
- a mapping from clip id to [h, w]

Nothing is ever unpickled, and no id is made into a path: ids of a folder are the names that are there.
"""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import check_clip_ids
from avsl_eval.errors import EvalInputError, first_few

Maps = NDArray[np.float32]

CHUNK = 4
"""Maps in memory at a time: 4 of 224 x 224, and what is computed from them, stay in a processor's cache."""

LARGEST = 1e30
"""Values beyond this overflow float32 as soon as two are subtracted."""

KNOWN_FORMATS = "an .npz with clip_id [N] and heatmap [N, h, w], or a folder of <clip_id>.npy"
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


class Predictions(ABC):
    """Give access to the heatmaps of a model, in whatever they are stored.

    Attributes
    ----------
    clip_ids : tuple of str
        Ids of all predictions, in stored order.
    meta : dict
        What the predicting program says about itself; empty if nothing.
    path : Path or None
        Where they are stored.
    """

    clip_ids: tuple[str, ...]
    meta: Mapping[str, Any]
    path: Path | None

    @abstractmethod
    def _read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield (id, array as stored) of wanted clips, in stored order."""

    def chunks(self, wanted: Collection[str], size: int = CHUNK) -> Iterator[tuple[list[str], Maps]]:
        """Read heatmaps, a few at a time.

        Parameters
        ----------
        wanted
            Ids to read; ids without prediction are passed over.
        size
            The most maps of a chunk.

        Yields
        ------
        clip_ids : list of str
            n ids, n <= size.
        maps : float32 [n, h, w]
            Their maps, all of one resolution.

        Raises
        ------
        EvalInputError
            If a map is not two-dimensional, not numeric or not finite, or the file is damaged.
        """
        ids: list[str] = []
        maps: list[Maps] = []
        for clip_id, raw in self._read(wanted):
            heatmap = checked_heatmap(raw, clip_id, self._where())
            if maps and (len(maps) == size or maps[0].shape != heatmap.shape):
                yield ids, np.stack(maps)
                ids, maps = [], []
            ids.append(clip_id)
            maps.append(heatmap)
        if maps:
            yield ids, np.stack(maps)

    def _where(self) -> str:
        return f"predictions {self.path}" if self.path else "predictions"


def checked_heatmap(raw: NDArray[Any], clip_id: str, where: str) -> Maps:
    """Check one heatmap and convert it.

    Parameters
    ----------
    raw
        Array as stored.
    clip_id, where
        For the message.

    Returns
    -------
    float32 [h, w]
        The map.

    Raises
    ------
    EvalInputError
        If it is not numeric, not two-dimensional, empty, or holds NaN, infinity or values beyond 1e30.
    """
    if raw.dtype.kind not in "fiub":
        raise EvalInputError(f"{where}: heatmap of clip {clip_id} has dtype {raw.dtype}; expected floats")
    if raw.ndim != 2 or raw.size == 0:
        hint = "; drop the axes of length 1" if 1 in raw.shape and raw.squeeze().ndim == 2 else ""
        raise EvalInputError(
            f"{where}: heatmap of clip {clip_id} has shape {raw.shape}; expected [h, w]{hint}"
        )
    with np.errstate(over="ignore"):
        heatmap = raw.astype(np.float32)
    low, high = float(heatmap.min()), float(heatmap.max())
    if not (low >= -LARGEST and high <= LARGEST):  # written so that NaN fails too
        bad = int(np.count_nonzero(~(np.abs(heatmap) <= LARGEST)))
        raise EvalInputError(
            f"{where}: heatmap of clip {clip_id} has {bad} values that are NaN, infinite or beyond "
            f"{LARGEST:g}; "
            "did the model divide by zero or run in half precision?"
        )
    return heatmap


class NpzPredictions(Predictions):
    """Read an ``.npz``, whose heatmaps are streamed from the archive in stored order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise EvalInputError(
                f"predictions {path} are empty (0 bytes); was the program that wrote them stopped?"
            )
        if not zipfile.is_zipfile(path):
            raise EvalInputError(
                f"predictions {path} are not a readable .npz: truncated, or of another format; expected "
                f"{KNOWN_FORMATS}"
            )
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist()}
                self._need({"clip_id", "heatmap"}, names)
                ids = self._small(archive, "clip_id")
                self.clip_ids = check_clip_ids(_as_text(ids, path), f"predictions {path}")
                self._check_heatmap_header(archive)
                self.meta = self._read_meta(archive) if "meta" in names else {}
        except EvalInputError:
            raise
        except (*_DAMAGE, OSError) as error:
            raise self._damaged(error) from error

    def _need(self, needed: set[str], names: set[str]) -> None:
        if not names:
            raise EvalInputError(f"predictions {self.path} hold no array; expected {KNOWN_FORMATS}")
        if lacking := sorted(needed - names):
            raise EvalInputError(
                f"predictions {self.path} lack {' and '.join(lacking)}; they hold "
                f"{first_few(sorted(names))}; "
                f"expected {KNOWN_FORMATS}"
            )

    def _damaged(self, error: Exception) -> EvalInputError:
        return EvalInputError(f"predictions {self.path} are truncated or damaged: {error}; write them again")

    def _small(self, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
        """Read an array whole."""
        with archive.open(f"{name}.npy") as member:
            shape, fortran, dtype = _header(member)
            if dtype.hasobject:
                raise EvalInputError(
                    f"predictions {self.path}: {name} is an array of Python objects (pickled), which is "
                    "never loaded; "
                    f"save plain values, for example {name}=np.array(values, "
                    f"dtype={'str' if name == 'clip_id' else 'float'})"
                )
            array = np.frombuffer(_read_exactly(member, _count(shape) * dtype.itemsize), dtype)
        return array.reshape(shape, order="F" if fortran else "C")

    def _check_heatmap_header(self, archive: zipfile.ZipFile) -> None:
        with archive.open("heatmap.npy") as member:
            shape, _, dtype = _header(member)
        n = len(self.clip_ids)
        if dtype.hasobject:
            raise EvalInputError(
                f"predictions {self.path}: heatmap is an array of Python objects (pickled), which is "
                "never loaded; "
                "stack maps of one size, or write a folder of <clip_id>.npy if sizes differ"
            )
        if len(shape) != 3:
            hint = "; drop the axes of length 1" if len(shape) > 3 and 1 in shape[1:] else ""
            raise EvalInputError(
                f"predictions {self.path}: heatmap has shape {shape}; expected [N, h, w] with N = {n}, "
                f"one map per clip ({first_few(self.clip_ids, 2)}){hint}"
            )
        if shape[0] != n:
            raise EvalInputError(
                f"predictions {self.path}: {n} clip_id but {shape[0]} heatmap; N must be the same"
            )
        if _count(shape) == 0:
            raise EvalInputError(
                f"predictions {self.path}: heatmap of clip {self.clip_ids[0]} has shape {shape[1:]}"
            )

    def _read_meta(self, archive: zipfile.ZipFile) -> dict[str, Any]:
        raw = self._small(archive, "meta")
        if raw.dtype.kind != "U" or raw.size != 1:
            return {}  # somebody else's array of that name
        try:
            meta = json.loads(str(raw.reshape(-1)[0]), parse_constant=str)  # JSON proper has no NaN
        except ValueError as error:
            raise EvalInputError(f"predictions {self.path}: meta is not JSON: {error}") from error
        return meta if isinstance(meta, dict) else {}

    def _read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        try:
            with zipfile.ZipFile(self.path or "") as archive, archive.open("heatmap.npy") as member:
                shape, fortran, dtype = _header(member)
                if fortran:
                    # Maps are not contiguous in the file: this rare order has to be read whole.
                    data = _read_exactly(member, _count(shape) * dtype.itemsize)
                    whole = np.frombuffer(data, dtype).reshape(shape, order="F")
                    yield from ((i, m) for i, m in zip(self.clip_ids, whole, strict=True) if i in wanted)
                    return
                for clip_id in self.clip_ids:
                    data = _read_exactly(member, _count(shape[1:]) * dtype.itemsize)
                    if clip_id in wanted:
                        yield clip_id, np.frombuffer(data, dtype).reshape(shape[1:])
                member.read(1)  # the archive checks its checksum at the end of a member
        except EvalInputError:
            raise
        except (*_DAMAGE, OSError) as error:
            raise self._damaged(error) from error


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"array format version {version[0]}.{version[1]} is for structured arrays")


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:  # Python integers: a forged shape cannot overflow
        count *= length
    return count


def _read_exactly(member: IO[bytes], n_bytes: int) -> bytes:
    data = member.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError(f"an array ends after {len(data)} of {n_bytes} bytes")
    return data


def _as_text(ids: NDArray[Any], path: Path) -> list[str]:
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        raise EvalInputError(
            f"predictions {path}: clip_id has shape {ids.shape} and dtype {ids.dtype}; expected text, [N]"
        )
    if ids.dtype.kind == "S":
        ids = np.char.decode(ids, "utf-8")
    return [str(i) for i in ids]


class FolderPredictions(Predictions):
    """Read a folder of ``<clip_id>.npy``, one file at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = {}
        self._files = {
            p.name.removesuffix(".npy"): p for p in sorted(path.iterdir()) if p.name.endswith(".npy")
        }
        if not self._files:
            raise EvalInputError(f"predictions folder {path} holds no .npy file; expected {KNOWN_FORMATS}")
        self.clip_ids = check_clip_ids(self._files, f"predictions {path}")

    def _read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        for clip_id, path in self._files.items():
            if clip_id not in wanted:
                continue
            try:
                heatmap = np.load(path, allow_pickle=False)
            except (*_DAMAGE, OSError) as error:
                raise EvalInputError(
                    f"heatmap of clip {clip_id}, {path}, is no readable array: {error}; objects are never "
                    "unpickled"
                ) from error
            if not isinstance(heatmap, np.ndarray):
                raise EvalInputError(f"{path} is an archive of several arrays; expected one array [h, w]")
            yield clip_id, heatmap


class MappingPredictions(Predictions):
    """Read a mapping from clip id to heatmap."""

    def __init__(self, maps: Mapping[str, Any]) -> None:
        self.path = None
        self.meta = {}
        self._maps = maps
        self.clip_ids = check_clip_ids(maps, "predictions")

    def _read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        return ((clip_id, np.asarray(self._maps[clip_id])) for clip_id in self.clip_ids if clip_id in wanted)


def open_predictions(source: str | Path | Mapping[str, Any] | Predictions) -> Predictions:
    """Open predictions of any known format.

    Parameters
    ----------
    source
        An ``.npz``, a folder of ``.npy``, a mapping, or predictions already open.

    Returns
    -------
    Predictions
        Ids are known and checked; maps are read when asked for.

    Raises
    ------
    EvalInputError
        If the source does not exist or is of no known format.

    Examples
    --------
    >>> open_predictions({"a_000001": np.zeros((7, 7))}).clip_ids
    ('a_000001',)
    """
    if isinstance(source, Predictions):
        return source
    if isinstance(source, Mapping):
        return MappingPredictions(source)
    path = Path(source)
    if path.is_dir():
        return FolderPredictions(path)
    if not path.exists():
        raise EvalInputError(f"there are no predictions {path}; expected {KNOWN_FORMATS}")
    return NpzPredictions(path)
