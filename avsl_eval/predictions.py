"""Predictions: clip ids with one heatmap each, read a few maps at a time.

================================================================== =======================================
what                                                               module
================================================================== =======================================
``.npz``: ``clip_id`` [N], ``heatmap`` [N, h, w]                   `avsl_eval.readers.npz`
folder of ``<clip_id>.npy``, each [h, w]                           `avsl_eval.readers.folder`
folder of grey ``<clip_id>.png`` or ``.jpg``                       `avsl_eval.readers.folder`
HDF5: ``clip_id`` and ``heatmap``, or one dataset per clip         `avsl_eval.readers.hdf5`
Parquet, a folder of it, or a saved folder of Hugging Face         `avsl_eval.readers.arrow`
``datasets``
a mapping from clip id to [h, w]                                   `avsl_eval.readers.memory`
================================================================== =======================================

Larger values mean "the sound is here". Maps with one more axis in front, [K, h, w], hold K sources; `chunks`
refuses them, `stacks` reads them.

Nothing is ever unpickled, and no id is made into a path: ids of a folder are the names that are there. Sizes
that a file declares are checked before anything of that size is allocated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError, first_few, kind_of
from avsl_eval.masks import LARGEST_SIDE

Maps = NDArray[np.float32]

CHUNK = 4
"""Maps in memory at a time: 4 of 224 x 224, and what is computed from them, stay in a processor's cache."""

CHUNK_BYTES = 32 * 1024**2
"""What the maps of a chunk take at most, unless a single one takes more."""

LARGEST = 1e30
"""Values beyond this overflow float32 as soon as two are subtracted."""

MOST_SOURCES = 1000
"""Sources of one clip."""

KNOWN_FORMATS = (
    "an .npz with clip_id [N] and heatmap [N, h, w], a folder of <clip_id>.npy (or of grey .png or .jpg), "
    "HDF5, "
    "Parquet, or a saved folder of Hugging Face datasets"
)


class Predictions(ABC):
    """Give access to the heatmaps of a model, in whatever they are stored.

    Attributes
    ----------
    clip_ids : tuple of str
        Ids of all predictions, in stored order.
    meta : mapping
        What the predicting program says about itself; empty if nothing.
    path : Path or None
        Where they are stored.
    confidence : mapping or None
        Clip id to the model's confidence that something sounds there, for every clip; None if the
        predictions have none.
    shape : tuple of int or None
        Shape of all heatmaps together, [N, h, w] or [N, K, h, w], where they are one array.
    notes : tuple of str
        What a reader of the scores should know about the format, one sentence each.
    """

    clip_ids: tuple[str, ...]
    meta: Mapping[str, Any]
    path: Path | None
    confidence: Mapping[str, float] | None = None
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any] | EvalInputError]]:
        """Read wanted clips as they are stored, unchecked.

        Parameters
        ----------
        wanted
            Ids to read; ids without prediction are passed over.

        Yields
        ------
        clip_id : str
            In stored order.
        heatmap : array or EvalInputError
            Its map; or what is wrong with it, where the maps after it can be read all the same.

        Raises
        ------
        EvalInputError
            If nothing more can be read.
        """

    def chunks(
        self, wanted: Collection[str], size: int = CHUNK, n_bytes: int = CHUNK_BYTES
    ) -> Iterator[tuple[list[str], Maps]]:
        """Read heatmaps, a few at a time.

        Parameters
        ----------
        wanted
            Ids to read; ids without prediction are passed over.
        size
            The most maps of a chunk.
        n_bytes
            The most that they take as float32, unless a single one takes more.

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
        if self.shape is not None and len(self.shape) > 3:
            raise EvalInputError(
                f"{self.where}: heatmap has shape {self.shape}; expected [N, h, w] with N = "
                f"{len(self.clip_ids)}, "
                f"one map per clip ({first_few(self.clip_ids, 2)}){_hint(self.shape[1:])}"
            )
        ids: list[str] = []
        raws: list[NDArray[Any]] = []
        for clip_id, raw in self.read(wanted):
            if isinstance(raw, EvalInputError):
                yield from self._checked_chunk(ids, raws)  # what is wrong with a map before it comes first
                raise raw
            full = len(raws) == size or (len(raws) + 1) * raw.size * 4 > n_bytes
            if raws and (full or raws[0].shape != raw.shape or raws[0].dtype != raw.dtype):
                yield from self._checked_chunk(ids, raws)
                ids, raws = [], []
            ids.append(clip_id)
            raws.append(raw)
        yield from self._checked_chunk(ids, raws)

    def _checked_chunk(self, ids: list[str], raws: list[NDArray[Any]]) -> Iterator[tuple[list[str], Maps]]:
        """Check maps of one shape and type and convert them: all at once, and one by one if a check fails."""
        if not raws:
            return
        if raws[0].dtype.kind in "fiub" and raws[0].ndim == 2 and raws[0].size:
            with np.errstate(over="ignore"):
                maps = np.stack(raws).astype(np.float32, copy=False)
            flat = maps.reshape(len(maps), -1)
            if max(maps.shape[1:]) <= LARGEST_SIDE and flat.min() >= -LARGEST and flat.max() <= LARGEST:
                yield ids, maps
                return
        good: list[Maps] = []
        for k, (clip_id, raw) in enumerate(zip(ids, raws, strict=True)):
            try:
                good.append(checked_heatmap(raw, clip_id, self.where))
            except EvalInputError:
                if good:
                    yield ids[:k], np.stack(good)
                raise
        yield ids, np.stack(good)

    def stacks(self, wanted: Collection[str]) -> Iterator[tuple[str, Maps]]:
        """Read the maps of several sources, one clip at a time.

        Parameters
        ----------
        wanted
            Ids to read; ids without prediction are passed over.

        Yields
        ------
        clip_id : str
            In stored order.
        maps : float32 [K, h, w]
            One map per source, K = 1 where a single map is stored. K may differ between clips, and be 0.

        Raises
        ------
        EvalInputError
            If a map is of another shape, not numeric or not finite, or the file is damaged.
        """
        for clip_id, raw in self.read(wanted):
            if isinstance(raw, EvalInputError):
                raise raw
            yield clip_id, checked_stack(raw[None] if raw.ndim == 2 else raw, clip_id, self.where)

    @property
    def where(self) -> str:
        """What to call the predictions in a message."""
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
    if raw.dtype.kind in "fiub" and raw.ndim != 2:
        raise EvalInputError(
            f"{where}: heatmap of clip {clip_id} has shape {raw.shape}; expected [h, w]{_hint(raw.shape)}"
        )
    return _checked(raw, clip_id, where, "[h, w]")


def checked_stack(raw: NDArray[Any], clip_id: str, where: str) -> Maps:
    """Check the maps of one clip's sources and convert them; as `checked_heatmap`, for [K, h, w], K >= 0."""
    if raw.dtype.kind in "fiub" and raw.ndim == 3 and len(raw) == 0:
        return np.zeros(raw.shape, np.float32)  # the model says that nothing sounds
    if raw.dtype.kind in "fiub" and (raw.ndim != 3 or len(raw) > MOST_SOURCES):
        raise EvalInputError(
            f"{where}: heatmap of clip {clip_id} has shape {raw.shape}; expected [K, h, w], one map per "
            "source"
        )
    return _checked(raw, clip_id, where, "[K, h, w]")


def _checked(raw: NDArray[Any], clip_id: str, where: str, expected: str) -> Maps:
    if raw.dtype.kind not in "fiub":
        hint = "; take its absolute or real values" if raw.dtype.kind == "c" else ""
        raise EvalInputError(
            f"{where}: heatmap of clip {clip_id} has dtype {raw.dtype}; expected floats{hint}"
        )
    if raw.size == 0 or max(raw.shape[-2:]) > LARGEST_SIDE:
        raise EvalInputError(
            f"{where}: heatmap of clip {clip_id} has shape {raw.shape}; expected {expected} with sides of 1 "
            "to "
            f"{LARGEST_SIDE}"
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


def _hint(shape: tuple[int, ...]) -> str:
    if 1 in shape and sum(side != 1 for side in shape) <= 2 < len(shape):
        return "; drop the axes of length 1"
    if len(shape) == 3:
        return (
            f"; are these {shape[0]} sources? Score them by avsl-eval sources; else write one map: "
            "their sum, or the one to be scored"
        )
    return ""


def open_predictions(source: str | Path | Mapping[str, Any] | Predictions) -> Predictions:
    """Open predictions of any known format.

    Parameters
    ----------
    source
        A file or folder, told by what is in it and not by its name; a mapping; or predictions already open.

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
    from avsl_eval.readers import open_mapping, open_path  # they make subclasses of this module's class

    if isinstance(source, Predictions):
        return source
    if isinstance(source, Mapping):
        return open_mapping(source)
    if not isinstance(source, str | Path):
        raise EvalInputError(
            f"predictions are {kind_of(source)}, not a path or a mapping from clip id to heatmap; for "
            "arrays: dict(zip(clip_ids, heatmaps))"
        )
    return open_path(Path(source))
