"""Reading shards: streamed, with their checksums, and one message for a file that is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsl_data import schema
from avsl_data.errors import DataInputError

if TYPE_CHECKING:
    import pyarrow as pa


def shard_files(folder: Path) -> list[Path]:
    """Find the shards of a folder.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    list of Path
        In the order of their names.

    Raises
    ------
    DataInputError
        If it holds none.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise DataInputError(f"{folder} holds no shards (*.parquet): run `avsl-data preprocess` first")
    return paths


def row_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read a shard a few rows at a time and check every page's checksum.

    Parameters
    ----------
    path
        The shard.
    columns
        The columns to read; all that it has by default.

    Yields
    ------
    pyarrow.Table
        The rows of a row group.

    Raises
    ------
    DataInputError
        If the file is no shard, of another version, or a page of it is damaged.
    """
    import pyarrow.parquet as pq

    schema.check_format(path, schema.SHARD)
    wanted = list(columns or schema.shard_format(flow=has_flow(path)).columns.names)
    with _one_message(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=wanted)


def has_flow(path: Path) -> bool:
    """Return whether a shard has the optional column of optical flow.

    Parameters
    ----------
    path
        The shard.

    Returns
    -------
    bool
        Whether it was made with ``--flow``.
    """
    import pyarrow.parquet as pq

    with _one_message(path):
        return schema.FLOW in pq.read_schema(path).names


def all_have_flow(paths: Sequence[Path]) -> bool:
    """Return whether some shards have the optional column of optical flow.

    Parameters
    ----------
    paths
        The shards.

    Returns
    -------
    bool
        Whether all of them do.

    Raises
    ------
    DataInputError
        If only some do.
    """
    without = [path for path in paths if not has_flow(path)]
    if without and len(without) < len(paths):
        raise DataInputError(
            f"{without[0]} has no optical flow and others of its folder have: run `avsl-data preprocess` for "
            "all of them with --flow, or for none"
        )
    return not without


def shard_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Read the rows of all shards of a folder.

    Parameters
    ----------
    folder
        The folder.
    columns
        The columns to read; all by default.

    Yields
    ------
    dict
        A row.
    """
    for path in shard_files(folder):
        for table in row_groups(path, columns):
            yield from table.to_pylist()


def check_shard(path: Path) -> tuple[int, str]:
    """Read a whole shard and compare its rows with the digest that was written with them.

    Parameters
    ----------
    path
        The shard.

    Returns
    -------
    rows : int
        Number of rows.
    digest : str
        SHA-256 over them, see `avsl_data.schema.RowDigest`.

    Raises
    ------
    DataInputError
        If it cannot be read, has no digest or another one.
    """
    digest, rows = schema.RowDigest(), 0
    for table in row_groups(path):
        digest.update(table)
        rows += len(table)
    written = recorded_digest(path)
    if written != digest.hexdigest():
        raise DataInputError(
            f"{path} does not hold the rows it was written with (digest {digest.hexdigest()[:12]}, recorded "
            f"{(written or 'none')[:12]}): delete it and run `avsl-data preprocess` again"
        )
    return rows, written


def recorded_digest(path: Path) -> str | None:
    """Return the digest that was written with a shard.

    Parameters
    ----------
    path
        The shard.

    Returns
    -------
    str or None
        64 hexadecimal digits; None if it has none.
    """
    import pyarrow.parquet as pq

    with _one_message(path):
        value = (pq.read_metadata(path).metadata or {}).get(schema.DIGEST_KEY.encode())
    return None if value is None else value.decode()


@contextmanager
def _one_message(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:  # a wrong checksum is an OSError
        reason = str(error).strip().splitlines()[0]
        raise DataInputError(
            f"{path} is damaged ({reason}): delete it and run `avsl-data preprocess` again"
        ) from error
