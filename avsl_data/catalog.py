"""Stage 1: the catalog, every clip of a source with its address, label and bucket."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from avsl_data import schema
from avsl_data.errors import DataInputError
from avsl_data.ids import shown
from avsl_data.sources.source import CatalogClip

if TYPE_CHECKING:
    import pyarrow as pa

    from avsl_data.clip_table import ClipTable

MAX_BUCKETS: Final = 10_000
NULLABLE: Final = ("end_s",)
URL_SCHEMES: Final = ("http", "https", "demo", "folder")


def write_catalog(clips: Iterable[CatalogClip], source: str, n_buckets: int, path: Path) -> None:
    """Write a catalog, sorted by clip id.

    Parameters
    ----------
    clips
        The clips of a source, each once.
    source
        Name of the source.
    n_buckets
        Into how many buckets the videos are hashed; a bucket is one job of the later stages.
    path
        The Parquet file.

    Raises
    ------
    DataInputError
        If there is no clip, a clip comes twice, or the number of buckets is out of range.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from avsl_data.clip_table import ClipTable, codes_of, hashes_of

    if not 1 <= n_buckets <= MAX_BUCKETS:
        raise DataInputError(f"--buckets {n_buckets} is not in 1..{MAX_BUCKETS}")
    table = ClipTable.of(clips).table
    if not table.num_rows:
        raise DataInputError("the source has no clips")
    _check(table, path)
    if not _is_sorted(table["clip_id"]):
        table = table.take(pc.sort_indices(table["clip_id"]))
    ids = table["clip_id"]
    twice = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    if pc.any(twice).as_py():
        first = ids[pc.index(twice, True).as_py()].as_py()
        raise DataInputError(f"the source names the clip {first} twice")
    (codes,), videos = codes_of(table["video_id"])
    buckets = (hashes_of(videos) % np.uint64(n_buckets)).astype(np.int16)[codes]
    table = table.append_column("bucket", pa.array(buckets))
    schema.write_table(path, schema.CATALOG, table, {"source": source, "n_buckets": n_buckets})


def _is_sorted(column: pa.ChunkedArray) -> bool:
    import pyarrow.compute as pc

    return not pc.any(pc.less(column.slice(1), column.slice(0, len(column) - 1))).as_py()


def read_catalog(path: Path) -> ClipTable:
    """Read a catalog whose ids and addresses are safe to use as file names and requests.

    Parameters
    ----------
    path
        The Parquet file.

    Returns
    -------
    ClipTable
        The clips in file order: a sequence of `CatalogClip` that is held in columns.

    Raises
    ------
    DataInputError
        If the file is no catalog, an id could leave its folder, or an address is not of `URL_SCHEMES`.
    """
    return clips_of(schema.read_table(path, schema.CATALOG), path)


def read_columns(path: Path, names: list[str]) -> pa.Table:
    """Read some columns of a catalog, for work on all of its clips at once.

    Parameters
    ----------
    path
        The Parquet file.
    names
        Columns of the format, ``clip_id`` and ``video_id`` among them.

    Returns
    -------
    pyarrow.Table
        The columns in file order, checked as by `read_catalog`.

    Raises
    ------
    DataInputError
        As `read_catalog`.
    """
    table = schema.read_table(path, schema.CATALOG, names)
    _check(table, path)
    return table


def read_bucket(path: Path, bucket: int) -> list[CatalogClip]:
    """Read the clips of one bucket of a catalog.

    Parameters
    ----------
    path
        The Parquet file.
    bucket
        Number of the bucket.

    Returns
    -------
    list of CatalogClip
        In file order; empty if the hash put no video there.

    Raises
    ------
    DataInputError
        As `read_catalog`, and if the catalog has no such bucket.
    """
    import pyarrow.compute as pc

    table = schema.read_table(path, schema.CATALOG)
    n_buckets = schema.about_table(table).get("n_buckets")
    if bucket < 0 or (isinstance(n_buckets, int) and bucket >= n_buckets):
        raise DataInputError(f"{path} has the buckets 0 to {(n_buckets or 0) - 1}, not {bucket}")
    return list(clips_of(table.filter(pc.equal(table["bucket"], bucket)), path))


def clips_of(table: pa.Table, path: Path) -> ClipTable:
    """Turn the rows of a catalog table into clips and check them.

    Parameters
    ----------
    table
        Columns of the catalog format.
    path
        Where it came from, for messages.

    Returns
    -------
    ClipTable
        In table order.

    Raises
    ------
    DataInputError
        As `read_catalog`.
    """
    from avsl_data.clip_table import ClipTable

    _check(table, path)
    return ClipTable(table)


def _check(table: pa.Table, path: Path) -> None:
    """Raise unless every id is a safe file name, belongs to its video, and every address is known."""
    import pyarrow.compute as pc

    ids, videos = table["clip_id"], table["video_id"]
    for name in table.column_names:
        if name not in NULLABLE and table[name].null_count:
            raise DataInputError(f"{path}: the column {name} has rows without a value")
    safe = pc.match_substring_regex(ids, r"\A[A-Za-z0-9_-](?:[A-Za-z0-9_+ -]{0,126}[A-Za-z0-9_+-])?\z")
    if (row := _first_false(safe)) is not None:
        raise DataInputError(f"{path}: {shown(ids[row].as_py())} is no clip id: it could not be a file name")
    # An id that ends in a start names its video; other ids (Flickr's, pictures') are as the source says.
    timed = pc.match_substring_regex(ids, r"\A.+_[0-9]{6}\z")
    own = pc.equal(pc.utf8_slice_codeunits(ids, 0, -7), videos)
    named = pc.match_substring_regex(videos, r"\A[A-Za-z0-9_-](?:[A-Za-z0-9_ -]{0,126}[A-Za-z0-9_-])?\z")
    if (row := _first_false(pc.and_(named, pc.or_(own, pc.invert(timed))))) is not None:
        raise DataInputError(
            f"{path}: clip {ids[row].as_py()} does not belong to video {shown(videos[row].as_py())}"
        )
    if "url" not in table.column_names:
        return
    known = pc.match_substring_regex(table["url"], rf"\A(?:{'|'.join(URL_SCHEMES)})://[\x21-\x7e]+\z")
    if (row := _first_false(known)) is not None:
        raise DataInputError(
            f"{path}: clip {ids[row].as_py()} has the address {shown(table['url'][row].as_py())}; expected "
            f"one of {', '.join(f'{scheme}://' for scheme in URL_SCHEMES)} without spaces"
        )


def _first_false(mask: pa.ChunkedArray) -> int | None:
    import pyarrow.compute as pc

    row: int = pc.index(mask, False).as_py()
    return None if row < 0 else row
