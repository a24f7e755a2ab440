"""A folder with one file per clip, ``<clip_id>.npy`` or a grey ``<clip_id>.png`` / ``.jpg``.

Arrays are [h, w] (or [K, h, w], one map per source) of any size and range. Pictures are divided by their
white, 255 or 65535; large values are where the sound is, so a picture that shows it dark has to be inverted
before. A ``confidence.csv`` with the header ``clip_id,confidence`` may lie beside them.

::

    for clip_id, heatmap in zip(ids, maps):
        np.save(f"maps/{clip_id}.npy", heatmap)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import check_clip_ids
from avsl_eval.errors import EvalInputError, brief
from avsl_eval.extras import need
from avsl_eval.masks import LARGEST_SIDE
from avsl_eval.pictures import read_grey
from avsl_eval.predictions import MOST_SOURCES, Predictions
from avsl_eval.readers.common import read_confidence
from avsl_eval.readers.npy import Header, read_data, read_header

CONFIDENCE = "confidence.csv"


class _OneFilePerClip(Predictions):
    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.meta = {}
        self._files = [path / name for name in names]
        self.clip_ids = check_clip_ids((file.stem for file in self._files), self.where)
        if (path / CONFIDENCE).exists():
            self.confidence = read_confidence(path / CONFIDENCE, self.clip_ids)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any] | EvalInputError]]:
        """Read wanted clips; see `Predictions.read`."""
        for clip_id, file in zip(self.clip_ids, self._files, strict=True):
            if clip_id not in wanted:
                continue
            try:
                heatmap: NDArray[Any] | EvalInputError = self._load(file, clip_id)
            except EvalInputError as error:
                heatmap = error  # the other files are not affected
            yield clip_id, heatmap

    @abstractmethod
    def _load(self, file: Path, clip_id: str) -> NDArray[Any]:
        """Read one file."""


class FolderPredictions(_OneFilePerClip):
    """Read a folder of ``<clip_id>.npy``, one file at a time."""

    def _load(self, file: Path, clip_id: str) -> NDArray[Any]:
        try:
            with file.open("rb") as stream:
                header = read_header(stream)
                _check(header, file.stat().st_size, f"heatmap of clip {clip_id}, {file},")
                return read_data(stream, header)
        except EvalInputError:
            raise
        except (OSError, EOFError, ValueError) as error:
            raise EvalInputError(
                f"heatmap of clip {clip_id}, {file}, is no readable array: {brief(error)}; objects are never "
                "unpickled"
            ) from error


def _check(header: Header, file_size: int, what: str) -> None:
    if header.dtype.hasobject:
        raise EvalInputError(f"{what} holds Python objects, which are never unpickled; save plain numbers")
    if header.n_bytes > file_size - header.start:
        raise EvalInputError(
            f"{what} is no readable array: it declares shape {header.shape}, {header.n_bytes} bytes, but "
            "holds "
            f"{file_size - header.start}; write it again"
        )
    sources = header.shape[0] if len(header.shape) == 3 else 1
    if len(header.shape) > 3 or max(header.shape[-2:], default=0) > LARGEST_SIDE or sources > MOST_SOURCES:
        raise EvalInputError(
            f"{what} has shape {header.shape}; expected [h, w] with sides of at most {LARGEST_SIDE}"
        )


class PicturePredictions(_OneFilePerClip):
    """Read a folder of grey pictures."""

    notes = (
        "heatmaps are read from pictures: 8 bits have 256 values, so that many pixels tie at a threshold "
        "(and JPEG "
        "changes values); write .npy or .npz to be scored exactly",
    )

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__(path, names)
        need("PIL.Image", "images", f"{self.where}, a folder of pictures,")

    def _load(self, file: Path, clip_id: str) -> NDArray[Any]:
        pixels, white = read_grey(file, f"heatmap of clip {clip_id}")
        return np.asarray(pixels, np.float32) / np.float32(white)
