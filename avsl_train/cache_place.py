"""Where the decoded clips of some shards are kept, and how the shards are told from others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from avsl_train.weights import CACHE

TAIL: Final = 8
"""Bytes at the end of a Parquet file: the length of the footer before them, and a mark."""
SHARD_DIGEST: Final = b"avsl_digest"
"""Key of a footer that holds the digest of the shard's rows."""


def cache_place(shards: Sequence[Path]) -> Path:
    """Return the folder of decoded clips: ``clips`` in ``$AVSL_CACHE``, or one beside the first shards."""
    given = os.environ.get(CACHE)
    first = shards[0].resolve()
    return Path(given) / "clips" if given else first.with_name(f"{first.name}.decoded")


def cache_name(shards: Sequence[Path], settings: Sequence[Any]) -> str:
    """Return the name of the cache of some shards: a digest of all that the decoded values depend on.

    The programs that decode are part of it: another libjpeg may round a pixel differently.

    Parameters
    ----------
    shards
        Folders.
    settings
        What JSON can hold of how the clips are decoded.
    """
    decoders = [version(name) for name in ("torch", "torchvision", "soundfile")]
    digests = [_digest(file) for file in _files(shards)]
    return hashlib.sha256(json.dumps([decoders, digests, *settings]).encode()).hexdigest()[:16]


def _digest(file: Path) -> str:
    """Return the digest of a shard: of its footer, which holds one of the rows.

    Of a shard without one, which `avsl-data preprocess` did not write, size and time of change count too.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(size - TAIL)
        length = int.from_bytes(opened.read(4), "little")
        opened.seek(size - TAIL - length)
        footer = opened.read()
    known = SHARD_DIGEST in (pq.read_metadata(file).metadata or {})
    return hashlib.sha256(footer + (b"" if known else repr(file.stat().st_mtime_ns).encode())).hexdigest()


def _files(shards: Sequence[Path]) -> list[Path]:
    return [file for folder in shards for file in sorted(folder.glob("*.parquet"))]


def first_rows_of(shards: Sequence[Path]) -> tuple[dict[tuple[Path, int], int], int]:
    """Return the number of each row group's first row in some shards, and how many rows there are."""
    first_rows, total = {}, 0
    for file in _files(shards):
        metadata = pq.read_metadata(file)
        for number in range(metadata.num_row_groups):
            first_rows[file, number] = total
            total += metadata.row_group(number).num_rows
    return first_rows, total
