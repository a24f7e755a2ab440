"""Parquet and Arrow tables; needs pyarrow (``pip install 'avsl-toolkit[parquet]'``).

A ``.parquet`` file, a folder of them, or the folder that ``save_to_disk`` of Hugging Face ``datasets``
writes. Columns:

============== =========================================================================================
column         content
============== =========================================================================================
``clip_id``    text
``heatmap``    lists of lists of numbers, [h, w] (three levels: [K, h, w], one map per source), or one
               flat list per clip
``shape``      [h, w] or [K, h, w] of each clip, needed for flat lists only (or ``height`` and ``width``)
``confidence`` optional number
============== =========================================================================================

::

    pyarrow.parquet.write_table(
        pyarrow.table({"clip_id": ids, "heatmap": [m.tolist() for m in maps]}), "maps.parquet"
    )

Other columns are not read. Rows are read a few at a time, from one row group after the other.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import MOST_IDS, check_clip_ids
from avsl_eval.errors import EvalInputError, brief
from avsl_eval.extras import need
from avsl_eval.masks import LARGEST_SIDE
from avsl_eval.predictions import Predictions
from avsl_eval.readers.common import check_confidence, check_names, count

_ROWS = 16
"""Maps of a batch: 16 of 224 x 224 take 6 MB in double precision."""
_ID_ROWS = 65_536
_OPTIONAL = ("shape", "height", "width")


class _TablePredictions(Predictions):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = {}
        self._arrow = need("pyarrow", "parquet", self.where)
        with self._guarded():
            names = self._columns()
            check_names({"clip_id", "heatmap"}, names, self.where)
            self._wanted_columns = ["clip_id", "heatmap", *(c for c in _OPTIONAL if c in names)]
            small = ["clip_id", *(["confidence"] if "confidence" in names else [])]
            ids: list[str] = []
            confidence: list[float] = []
            for batch in self._batches(small, _ID_ROWS):
                ids += self._ids(batch)
                if len(small) > 1:
                    confidence += batch.column("confidence").to_pylist()
        self.clip_ids = check_clip_ids(ids, self.where)
        if len(small) > 1:
            self.confidence = check_confidence(self.clip_ids, confidence, self.where)

    @abstractmethod
    def _columns(self) -> list[str]:
        """Return the names of all columns."""

    @abstractmethod
    def _batches(self, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield record batches of these columns, each of at most so many rows."""

    def _ids(self, batch: Any) -> list[str]:
        column = batch.column("clip_id")
        types = self._arrow.types
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not (types.is_string(column.type) or types.is_large_string(column.type)) or column.null_count:
            raise EvalInputError(
                f"{self.where}: clip_id has type {column.type} and {column.null_count} nulls; expected text"
            )
        ids: list[str] = column.to_pylist()
        return ids

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any] | EvalInputError]]:
        """Read wanted clips; see `Predictions.read`."""
        with self._guarded():
            for batch in self._batches(self._wanted_columns, _ROWS):
                ids = self._ids(batch)
                if not any(clip_id in wanted for clip_id in ids):
                    continue
                cells = _Cells(self._arrow, batch.column("heatmap"), f"{self.where}: heatmap")
                for row, clip_id in enumerate(ids):
                    if clip_id not in wanted:
                        continue
                    heatmap: NDArray[Any] | EvalInputError
                    try:
                        heatmap = self._shaped(cells.cell(row, clip_id), batch, row, clip_id)
                    except EvalInputError as error:
                        heatmap = error  # the other rows are not affected
                    yield clip_id, heatmap

    def _shaped(self, cell: NDArray[Any], batch: Any, row: int, clip_id: str) -> NDArray[Any]:
        """Give a flat list its shape."""
        if cell.ndim > 1:
            return cell
        if "shape" in self._wanted_columns:
            shape = batch.column("shape")[row].as_py()
        elif {"height", "width"} <= set(self._wanted_columns):
            shape = [batch.column(name)[row].as_py() for name in ("height", "width")]
        else:
            raise EvalInputError(
                f"{self.where}: heatmap of clip {clip_id} is one flat list of {len(cell)} values; add a "
                "column "
                "shape with [h, w], or write lists of lists"
            )
        valid = isinstance(shape, list) and all(type(n) is int and 0 < n <= LARGEST_SIDE for n in shape)
        if not valid or len(shape) not in (2, 3) or count(shape) != len(cell):
            raise EvalInputError(
                f"{self.where}: heatmap of clip {clip_id} has {len(cell)} values, which are not of shape "
                f"{shape!r:.80}"
            )
        return cell.reshape(shape)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except EvalInputError:
            raise
        except (self._arrow.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
            raise EvalInputError(
                f"{self.where} are truncated or damaged: {brief(error)}; write them again"
            ) from error


class ParquetPredictions(_TablePredictions):
    """Read Parquet files of one table."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._parquet = need("pyarrow.parquet", "parquet", f"predictions {path}")
        super().__init__(path)

    def _open(self, file: Path) -> Any:
        # Buffered: column chunks are streamed by pages, not loaded whole.
        parquet = self._parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        if parquet.metadata.num_rows > MOST_IDS:
            raise EvalInputError(
                f"predictions {file} hold {parquet.metadata.num_rows} rows; at most {MOST_IDS}"
            )
        return parquet

    def _columns(self) -> list[str]:
        columns: list[list[str]] = []
        for file in self._files:
            with self._open(file) as parquet:
                columns.append(parquet.schema_arrow.names)
        common = set(columns[0]).intersection(*columns)
        return [name for name in columns[0] if name in common]

    def _batches(self, columns: Sequence[str], rows: int) -> Iterator[Any]:
        for file in self._files:
            with self._open(file) as parquet:
                yield from parquet.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)


class SavedDatasetPredictions(_TablePredictions):
    """Read the folder that ``save_to_disk`` writes: Arrow streams, named by ``state.json``."""

    def __init__(self, path: Path) -> None:
        self._files = _data_files(path)
        super().__init__(path)

    def _columns(self) -> list[str]:
        for file in self._files:
            with self._arrow.memory_map(str(file)) as source, self._arrow.ipc.open_stream(source) as stream:
                names: list[str] = stream.schema.names
                return names
        return []

    def _batches(self, columns: Sequence[str], rows: int) -> Iterator[Any]:
        for file in self._files:
            with self._arrow.memory_map(str(file)) as source, self._arrow.ipc.open_stream(source) as stream:
                for batch in stream:
                    part = batch.select(list(columns))
                    # What is read by offsets must not point beyond the data.
                    part.validate(full=True)
                    for start in range(0, part.num_rows, rows):
                        yield part.slice(start, rows)


def _data_files(folder: Path) -> list[Path]:
    where = f"predictions {folder}"
    try:
        state = json.loads((folder / "state.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EvalInputError(f"{where}: state.json is not readable JSON: {brief(error)}") from error
    listed = state.get("_data_files") if isinstance(state, dict) else None
    names = (
        [row.get("filename") for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    )
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise EvalInputError(f"{where}: state.json names no data file of this folder; save the dataset again")
    if state.get("_indices_data_files"):
        raise EvalInputError(
            f"{where}: the dataset was filtered or shuffled without copying; save dataset.flatten_indices()"
        )
    return [folder / str(name) for name in names]


class _Cells:
    """Cut a column of nested lists into one array per row.

    Parameters
    ----------
    arrow
        The module pyarrow.
    column
        An Arrow array of lists.
    where
        File and column, for messages.
    """

    def __init__(self, arrow: Any, column: Any, where: str) -> None:
        types = arrow.types
        self._where = where
        self._column = column
        self._offsets: list[NDArray[Any]] = []
        self._holes = column.null_count > 0
        inner = column
        while True:
            if isinstance(inner.type, arrow.BaseExtensionType):
                inner = inner.storage  # how datasets stores Array2D
            if types.is_fixed_size_list(inner.type):
                self._offsets.append(np.arange(len(inner) + 1) * inner.type.list_size)
            elif types.is_list(inner.type) or types.is_large_list(inner.type):
                offsets = inner.offsets.to_numpy()
                self._offsets.append(offsets - offsets[0])
            else:
                break
            self._holes = self._holes or inner.null_count > 0
            inner = inner.flatten()
        if not self._offsets or not (
            types.is_integer(inner.type) or types.is_floating(inner.type) or types.is_boolean(inner.type)
        ):
            raise EvalInputError(
                f"{where} has type {column.type!s:.80}; expected lists of lists of numbers, [h, w] per clip"
            )
        self._holes = self._holes or inner.null_count > 0
        self._values: NDArray[Any] = inner.to_numpy(zero_copy_only=False) if not self._holes else np.empty(0)

    def cell(self, row: int, clip_id: str) -> NDArray[Any]:
        """Return the array of one row, of as many axes as there are levels of lists."""
        if self._holes:
            # Flattening leaves nulls out, so that offsets no longer fit: the slow way, for the message.
            return self._slow_cell(row, clip_id)
        low, high = self._offsets[0][row], self._offsets[0][row + 1]
        shape = [int(high - low)]
        for offsets in self._offsets[1:]:
            lengths = np.diff(offsets[low : high + 1])
            if lengths.size and lengths.min() != lengths.max():
                raise self._ragged(clip_id)
            shape.append(int(lengths[0]) if lengths.size else 0)
            low, high = offsets[low], offsets[high]
        return self._values[low:high].reshape(shape)

    def _slow_cell(self, row: int, clip_id: str) -> NDArray[Any]:
        values = self._column[row].as_py()
        if values is None:
            raise EvalInputError(f"{self._where} of clip {clip_id} is null; leave the row out")
        try:
            cell = np.array(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self._ragged(clip_id) from error
        return cell  # nulls have become NaN, which is refused as NaN

    def _ragged(self, clip_id: str) -> EvalInputError:
        return EvalInputError(f"{self._where} of clip {clip_id} has rows of different lengths, or null")
