"""Stage 1: the catalog, every clip of a source with its address, label and bucket."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from avsl_data import schema
from avsl_data.errors import DataInputError
from avsl_data.ids import bucket_of, check_clip_id, video_id_of
from avsl_data.sources.source import CatalogClip

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BUCKETS: Final = 10_000
URL_SCHEMES: Final = ("http", "https", "demo", "folder")


def write_catalog(clips: Sequence[CatalogClip], source: str, n_buckets: int, path: Path) -> None:
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
    if not 1 <= n_buckets <= MAX_BUCKETS:
        raise DataInputError(f"--buckets {n_buckets} is not in 1..{MAX_BUCKETS}")
    _check(clips)
    rows = [
        {**dataclasses.asdict(clip), "bucket": bucket_of(clip.video_id, n_buckets)}
        for clip in sorted(clips, key=lambda clip: clip.clip_id)
    ]
    schema.write_rows(path, schema.CATALOG, rows, {"source": source, "n_buckets": n_buckets})


def _check(clips: Sequence[CatalogClip]) -> None:
    if not clips:
        raise DataInputError("the source has no clips")
    seen: set[str] = set()
    for clip in clips:
        if clip.clip_id in seen:
            raise DataInputError(f"the source names the clip {clip.clip_id} twice")
        seen.add(clip.clip_id)


def read_catalog(path: Path) -> list[CatalogClip]:
    """Read a catalog whose ids and addresses are safe to use as file names and requests.

    Parameters
    ----------
    path
        The Parquet file.

    Returns
    -------
    list of CatalogClip
        In file order.

    Raises
    ------
    DataInputError
        If the file is no catalog, an id could leave its folder, or an address is not of `URL_SCHEMES`.
    """
    return clips_of(schema.read_table(path, schema.CATALOG), path)


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
    return clips_of(table.filter(pc.equal(table["bucket"], bucket)), path)


def clips_of(table: pa.Table, path: Path) -> list[CatalogClip]:
    """Turn the rows of a catalog table into clips and check them.

    Parameters
    ----------
    table
        Columns of the catalog format.
    path
        Where it came from, for messages.

    Returns
    -------
    list of CatalogClip
        In table order.

    Raises
    ------
    DataInputError
        As `read_catalog`.
    """
    names = [field.name for field in dataclasses.fields(CatalogClip)]
    clips = [CatalogClip(**row) for row in table.select(names).to_pylist()]
    for clip in clips:
        try:
            check_clip_id(clip.clip_id)
        except DataInputError as error:
            raise DataInputError(f"{path}: {error}") from error
        if video_id_of(clip.clip_id) != clip.video_id:
            raise DataInputError(f"{path}: clip {clip.clip_id} does not belong to video {clip.video_id!r}")
        if urlsplit(clip.url).scheme not in URL_SCHEMES:
            raise DataInputError(
                f"{path}: clip {clip.clip_id} has the address {clip.url!r}; expected one of "
                f"{', '.join(f'{scheme}://' for scheme in URL_SCHEMES)}"
            )
    return clips
