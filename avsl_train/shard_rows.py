"""Rows of shards: what is known of each clip, and the bytes of its frame, sound and flow, one clip at a time.

Shards are the Parquet files of ``avsl-data preprocess``. Frames and sounds are read where they lie
(`parquet_values`); of a shard that was written again by something that compresses, a whole row group is
decoded for each clip, which is slower.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from avsl_train.errors import TrainInputError
from avsl_train.parquet_values import Chunk, MappedFile, NotPlainError, chunk_of

logger = logging.getLogger(__name__)

FACTS: Final = ("clip_id", "boxes", "status", "reason")
MEDIA: Final = ("frame", "audio", "flow")
"""Columns of files; a flow is plain bytes, the others are structs with the field ``bytes``."""
VALUES: Final = ("frame.bytes", "audio.bytes", "flow")
FRAME, SOUND, FLOW = range(3)
NO_FLOW: Final = "no_flow"
"""The note of a clip whose flow was asked for and could not be had."""


@dataclass(frozen=True)
class Group:
    """A row group of a shard, and where its `MEDIA` lie; None: not as plain bytes, or not there."""

    file: Path
    number: int
    rows: int
    chunks: tuple[Chunk | None, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What is known of a clip without its frame and sound, and where these lie."""

    boxes: list[list[float]] | None
    status: str
    reason: str | None
    group: Group
    offset: int
    no_flow: bool = False

    @property
    def place(self) -> tuple[Path, int, int]:
        """What to sort by to read in the order of the files."""
        return self.group.file, self.group.number, self.offset

    def why_excluded(self, need_boxes: bool, need_flow: bool = False) -> str:
        """Return why the clip cannot be used, or an empty string."""
        if self.status != "ok":
            return str(self.reason)
        if need_flow and self.no_flow:
            return "no optical flow"
        return "no boxes" if need_boxes and not self.boxes else ""


def read_rows(shards: Sequence[Path], ids: set[str], flow: bool = False) -> dict[str, Row]:
    """Return the rows of some clips, without frames and sounds: of 144,000 clips these are 25 GB.

    Parameters
    ----------
    shards
        Folders; of a clip in several of them the first usable row counts.
    ids
        The clips.
    flow
        Whether they must have optical flow.

    Raises
    ------
    TrainInputError
        A folder has no shards, one cannot be read, or the clips of one have no optical flow.
    """
    rows: dict[str, Row] = {}
    for folder in shards:
        files = sorted(folder.glob("*.parquet"))
        if not files:
            raise TrainInputError(f"no shards (*.parquet) in {folder}: make them with `avsl-data preprocess`")
        for file in files:
            try:
                for clip_id, row in _rows_of(file, flow):
                    known = rows.get(clip_id)
                    if clip_id in ids and (known is None or (known.status != "ok" and row.status == "ok")):
                        rows[clip_id] = row
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise TrainInputError(
                    f"cannot read the shard {file}: {reason}; delete it and make it again"
                ) from error
    without = [row.group.file for row in rows.values() if flow and MEDIA[FLOW] not in row.group.columns]
    if without:
        raise TrainInputError(
            f"{without[0]} has no optical flow, which data.flow asks for: make its shards with "
            "`avsl-data preprocess --flow` (in a study: datasets.NAME.flow: true)"
        )
    return rows


def _rows_of(file: Path, flow: bool) -> Iterator[tuple[str, Row]]:
    """Yield the clip ids and rows of one shard."""
    with pq.ParquetFile(file) as parquet:
        metadata = parquet.metadata
        columns = tuple(name for name in MEDIA if name in parquet.schema_arrow.names)
        wanted = [*FACTS, "notes"] if flow and MEDIA[FLOW] in columns else [*FACTS]
        for number in range(parquet.num_row_groups):
            facts = parquet.read_row_group(number, columns=wanted).to_pylist()
            chunks = tuple(
                chunk_of(metadata, number, path) for path in ("frame.bytes", "audio.bytes", "flow")
            )
            group = Group(file, number, len(facts), chunks, columns)
            for offset, fact in enumerate(facts):
                no_flow = NO_FLOW in (fact.get("notes") or ())
                place = (group, offset, no_flow)
                yield fact["clip_id"], Row(fact["boxes"], fact["status"], fact["reason"], *place)


class MediaReader:
    """The stored frames, sounds and flows of some rows.

    A page's checksum is checked by the first process that reads of it; which ones are done is known to all
    processes that were started with this reader.

    Parameters
    ----------
    rows
        The rows.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._first: dict[Group, int] = {}
        total = 0
        for row in rows:
            if row.group not in self._first:
                self._first[row.group] = total
                total += row.group.rows
        self._checked = torch.zeros((total, len(MEDIA)), dtype=torch.bool)
        self._checked.share_memory_()  # type: ignore[no-untyped-call]
        self.close()

    def close(self) -> None:
        """Forget open files."""
        self._mapped: dict[Path, MappedFile] = {}
        self._parquet: dict[Path, pq.ParquetFile] = {}
        self._table: tuple[Group, pa.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: a worker opens its own."""
        return {**self.__dict__, "_mapped": {}, "_parquet": {}, "_table": None}

    def read(self, position: int) -> tuple[bytes, bytes]:
        """Return the files of the frame and of the sound of a row.

        Raises
        ------
        TrainInputError
            The shard is damaged.
        """
        return self._file(position, FRAME), self._file(position, SOUND)

    def read_flow(self, position: int) -> bytes:
        """Return the file of the optical flow of a row that has one.

        Raises
        ------
        TrainInputError
            The shard is damaged.
        """
        return self._file(position, FLOW)

    def _file(self, position: int, number: int) -> bytes:
        row = self.rows[position]
        try:
            return self._value(row, number)
        except (OSError, ValueError, pa.ArrowException) as error:  # Arrow's wrong checksum is an OSError
            reason = str(error).strip().splitlines()[0]
            raise TrainInputError(
                f"the shard {row.group.file} is damaged ({reason}); delete it and make it again"
            ) from error

    def _value(self, row: Row, number: int) -> bytes:
        group, chunk = row.group, row.group.chunks[number]
        if chunk is not None:
            try:
                return self._plain_value(row, chunk, number)
            except NotPlainError as error:
                logger.debug("%s: %s", group.file, error)
        if self._table is None or self._table[0] != group:
            if group.file not in self._parquet:
                self._parquet[group.file] = pq.ParquetFile(group.file, page_checksum_verification=True)
            columns = list(group.columns)
            self._table = group, self._parquet[group.file].read_row_group(group.number, columns=columns)
        stored = self._table[1][MEDIA[number]][row.offset].as_py()
        value: bytes | None = stored["bytes"] if isinstance(stored, dict) else stored
        if value is None:
            raise ValueError(f"row {row.offset} of row group {group.number} has no {MEDIA[number]}")
        return value

    def _plain_value(self, row: Row, chunk: Chunk, number: int) -> bytes:
        group = row.group
        if group.file not in self._mapped:
            self._mapped[group.file] = MappedFile(group.file)
        mapped = self._mapped[group.file]
        values = mapped.values(chunk)
        first = self._first[group]
        if not self._checked[first + row.offset, number]:
            page, rows = values.page_of(row.offset)
            mapped.check(page)
            if values.dictionary is not None:
                mapped.check(values.dictionary)
            self._checked[first + rows.start : first + rows.stop, number] = True
        place = values.places[row.offset]
        if place is None:
            raise ValueError(f"row {row.offset} of row group {group.number} has no {MEDIA[number]}")
        return mapped.read(place)
