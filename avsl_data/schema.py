"""Parquet formats of the data stages: columns, metadata and versions.

Every table holds the schema metadata key ``avsl``: JSON with ``schema`` (format name and version) and what
belongs to the table as a whole. Shards also hold ``huggingface``, by which `datasets` opens frames as
``Image``, sounds as ``Audio`` and boxes as lists of four numbers. docs/data.md describes each column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from avsl_data.errors import DataInputError
from avsl_data.files import replacing

META_KEY: Final = b"avsl"
DIGEST_KEY: Final = "avsl_digest"
"""Key of a shard's own metadata: what `RowDigest` makes of its rows."""

SHARD_ROWS_PER_GROUP: Final = 16
"""About 3 MB of ten-second clips: training reads one clip at random by reading its row group."""


@dataclass(frozen=True)
class Format:
    """A versioned table format.

    Parameters
    ----------
    name
        Name and version, such as ``avsl-catalog/1``.
    columns
        The columns and their types.
    made_by
        The command that writes such a table, for error messages.
    """

    name: str
    columns: pa.Schema
    made_by: str


CATALOG: Final = Format(
    "avsl-catalog/1",
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("url", pa.string(), nullable=False),
            pa.field("start_s", pa.float64(), nullable=False),
            pa.field("end_s", pa.float64()),
            pa.field("label", pa.string(), nullable=False),
            pa.field("official_split", pa.string(), nullable=False),
            pa.field("bucket", pa.int16(), nullable=False),
        ]
    ),
    "avsl-data catalog",
)

LEDGER: Final = Format(
    "avsl-ledger/1",
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("path", pa.string()),
            pa.field("status", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
            pa.field("detail", pa.string()),
            pa.field("sha256", pa.string()),
            pa.field("duration_s", pa.float64()),
            pa.field("attempts", pa.int32(), nullable=False),
            pa.field("when", pa.string(), nullable=False),
        ]
    ),
    "avsl-data download",
)

BLOB: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A file, as `datasets` stores pictures and sounds."""

SOURCE: Final = pa.struct(
    [
        ("fps", pa.float32()),
        ("variable_fps", pa.bool_()),
        ("video_s", pa.float32()),
        ("audio_s", pa.float32()),
        ("audio_start_s", pa.float32()),
        ("video_codec", pa.string()),
        ("audio_codec", pa.string()),
        ("pixel_format", pa.string()),
        ("video_streams", pa.int32()),
        ("audio_streams", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("pixel_aspect", pa.float32()),
        ("audio_rate", pa.int32()),
        ("audio_channels", pa.int32()),
    ]
)
"""Facts of the file, as `avsl_data.extract.SourceFacts`."""

SHARD: Final = Format(
    "avsl-shard/2",
    pa.schema(
        [
            pa.field("clip_id", pa.string()),
            pa.field("video_id", pa.string()),
            pa.field("label", pa.string()),
            pa.field("frame", BLOB),
            pa.field("audio", BLOB),
            pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("frame_time_s", pa.float32()),
            pa.field("frame_begins_s", pa.float32()),
            pa.field("frames", pa.list_(BLOB)),
            pa.field("frames_at_s", pa.list_(pa.float32())),
            pa.field("audio_from_s", pa.float32()),
            pa.field("audio_s", pa.float32()),
            pa.field("rms_db", pa.float32()),
            pa.field("status", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("detail", pa.string()),
            pa.field("notes", pa.list_(pa.string())),
            pa.field("source", SOURCE),
        ]
    ),
    "avsl-data preprocess",
)

FLOW: Final = "flow"
"""The column of optical flow, a PNG in KITTI's format, which only shards made with ``--flow`` have."""

_FLOW_FIELD = pa.field(FLOW, pa.binary())

SPLIT: Final = Format(
    "avsl-split/1",
    pa.schema(
        [pa.field("clip_id", pa.string(), nullable=False), pa.field("subset", pa.string(), nullable=False)]
    ),
    "avsl-data split",
)


def shard_format(*, flow: bool) -> Format:
    """Return the shard format with or without the optional column.

    Parameters
    ----------
    flow
        Whether there is a column `FLOW`.

    Returns
    -------
    Format
        `SHARD`, with the column at its end if there is one.
    """
    return replace(SHARD, columns=SHARD.columns.append(_FLOW_FIELD)) if flow else SHARD


class RowDigest:
    """A digest of a table's content: the same for the same rows, however they are laid out in a file.

    Files count by their SHA-256, everything else by its JSON.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, table: pa.Table) -> None:
        """Add rows.

        Parameters
        ----------
        table
            Any columns.
        """
        for row in table.to_pylist():
            line = json.dumps(row, sort_keys=True, default=lambda value: hashlib.sha256(value).hexdigest())
            self._hash.update(line.encode() + b"\n")

    def hexdigest(self) -> str:
        """Return the digest so far.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        return self._hash.hexdigest()


def with_metadata(
    table_format: Format, about: Mapping[str, Any], extra: Mapping[bytes, bytes] | None = None
) -> pa.Schema:
    """Return the columns of a format with its metadata.

    Parameters
    ----------
    table_format
        The format.
    about
        What belongs to the table as a whole; JSON values.
    extra
        More metadata keys.

    Returns
    -------
    pyarrow.Schema
        The schema to write with.
    """
    meta = json.dumps({"schema": table_format.name, **about}, sort_keys=True).encode()
    return table_format.columns.with_metadata({META_KEY: meta, **(extra or {})})


def write_rows(
    path: Path, table_format: Format, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Write a table atomically.

    Parameters
    ----------
    path
        The Parquet file.
    table_format
        Its format.
    rows
        One mapping per row, every column present.
    about
        Metadata of the table as a whole.
    """
    table = pa.Table.from_pylist(list(rows), schema=with_metadata(table_format, about))
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def write_table(path: Path, table_format: Format, table: pa.Table, about: Mapping[str, Any]) -> None:
    """Write columns atomically.

    Parameters
    ----------
    path
        The Parquet file.
    table_format
        Its format.
    table
        Has the format's columns, in any order; others are left out.
    about
        Metadata of the table as a whole.
    """
    ordered = table.select(table_format.columns.names).cast(with_metadata(table_format, about))
    with replacing(path) as temporary:
        pq.write_table(ordered, temporary)


def read_table(path: Path, table_format: Format, columns: list[str] | None = None) -> pa.Table:
    """Read a table and check that it is of a format.

    Parameters
    ----------
    path
        The Parquet file.
    table_format
        The format that it must have.
    columns
        The columns to read; all of the format's by default.

    Returns
    -------
    pyarrow.Table
        The columns, in the format's order.

    Raises
    ------
    DataInputError
        If the file is absent, is no Parquet file, lacks a column or is of another version.
    """
    check_format(path, table_format, columns)
    try:
        return pq.read_table(path, columns=columns or table_format.columns.names)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataInputError(
            f"{path} is damaged ({reason}): remove it and run `{table_format.made_by}` again"
        ) from error


def check_format(path: Path, table_format: Format, columns: list[str] | None = None) -> None:
    """Check that a file is a table of a format, without reading its rows.

    Parameters
    ----------
    path
        The Parquet file.
    table_format
        The format that it must have.
    columns
        The columns that it must have; all of the format's by default.

    Raises
    ------
    DataInputError
        If the file is absent, is no Parquet file, lacks a column or is of another version.
    """
    if not path.is_file():
        raise DataInputError(f"{path} does not exist: run `{table_format.made_by}` first")
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataInputError(
            f"{path} is no readable Parquet file ({reason}): remove it and run `{table_format.made_by}` again"
        ) from error
    found = _about(schema.metadata, path).get("schema", table_format.name)
    if found != table_format.name:
        raise DataInputError(
            f"{path} is of format {found}, expected {table_format.name}: run `{table_format.made_by}` again"
        )
    missing = [name for name in columns or table_format.columns.names if name not in schema.names]
    if missing:
        raise DataInputError(
            f"{path} lacks the column {', '.join(missing)}: was it made by `{table_format.made_by}`?"
        )


def about_table(table: pa.Table) -> dict[str, Any]:
    """Return the metadata of a table as a whole.

    Parameters
    ----------
    table
        A table from `read_table`.

    Returns
    -------
    dict
        The JSON under the metadata key ``avsl``, or an empty dict.
    """
    return _about(table.schema.metadata, Path("table"))


def about_file(path: Path) -> dict[str, Any]:
    """Return the metadata of a file's table as a whole.

    Parameters
    ----------
    path
        The Parquet file.

    Returns
    -------
    dict
        The JSON under the metadata key ``avsl``; an empty dict if there is none or the file is broken.
    """
    try:
        return _about(pq.read_schema(path).metadata, path)
    except (pa.ArrowInvalid, OSError):
        return {}


def _about(metadata: Mapping[bytes, bytes] | None, path: Path) -> dict[str, Any]:
    try:
        about = json.loads((metadata or {}).get(META_KEY, b"{}"))
    except json.JSONDecodeError as error:
        raise DataInputError(f"{path}: its metadata key 'avsl' is no JSON ({error})") from error
    if not isinstance(about, dict):
        raise DataInputError(f"{path}: its metadata key 'avsl' is no JSON object")
    return about
