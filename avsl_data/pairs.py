"""Pairs of one clip's frame with another clip's sound, as a shard that later stages read like any other.

The catalog, download and preprocess stages know clips only; a pair is made here, out of their shards, as the
annotations of an extended test set say (`avsl_data.sources.extended`). Rows are joined as they were stored:
nothing is decoded or encoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from avsl_data import schema
from avsl_data.errors import DataInputError
from avsl_data.failures import MISSING
from avsl_data.files import replacing, sha256_of
from avsl_data.ledger import FAILED, OK
from avsl_data.preprocess import write_shard_rows
from avsl_data.shards import all_have_flow, row_groups, shard_files
from avsl_data.sources.published import read_annotations
from avsl_data.sources.source import ClipBoxes

AUDIO_COLUMNS: Final = ("audio", "audio_from_s", "audio_s", "rms_db")
"""Columns of a pair's row that come from the clip of its sound."""

GROUPS_IN_MEMORY: Final = 8


def write_pairs(shards: Path, annotations: Path, out: Path) -> dict[str, int]:
    """Write a shard with a row for every entry of some annotations.

    Parameters
    ----------
    shards
        Folder of the shards of all clips that the entries use.
    annotations
        Of an extended test set: entries with ``frame_of`` and ``audio_of`` are pairs, others plain clips.
    out
        The shard; it must lie elsewhere, or a reader of the folder would see clips twice.

    Returns
    -------
    dict of str to int
        Number of ``clips`` and ``pairs``, and of those that ``failed``. A pair fails as its worse half does.

    Raises
    ------
    DataInputError
        If there are no pairs, or the shards cannot be read.
    """
    if out.resolve().parent == shards.resolve():
        raise DataInputError(f"--out {out} lies among the shards that are read: give another folder")
    entries = sorted(read_annotations(annotations), key=lambda entry: entry.clip_id)
    if not any(entry.frame_of for entry in entries):
        raise DataInputError(f"{annotations} has no pairs: they come from the sources *-extended")
    files = shard_files(shards)
    about = schema.about_file(files[0])
    if "preprocess" not in about:
        raise DataInputError(
            f"{files[0]} does not say how it was preprocessed: run `avsl-data preprocess` again"
        )
    all_have_flow(files)
    made_of = [schema.SHARD.name, sha256_of(annotations), *(sha256_of(path) for path in files)]
    digest = hashlib.sha256("\n".join(made_of).encode()).hexdigest()
    about = {"preprocess": about["preprocess"], "inputs": digest}
    counts = {"clips": 0, "pairs": 0, "failed": 0}
    with replacing(out) as temporary:
        write_shard_rows(temporary, _counted(_rows(entries, _Store(files)), counts), about)
    return counts


def _counted(rows: Iterator[dict[str, Any]], counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    for row in rows:
        counts["pairs" if "+" in row["clip_id"] else "clips"] += 1
        counts["failed"] += row["status"] != OK
        yield row


class _Store:
    """The rows of some shards by clip id, read from the disk when they are asked for."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._places: dict[str, tuple[int, int, int]] = {}
        for number, path in enumerate(files):
            for group, table in enumerate(row_groups(path, ["clip_id"])):
                for row, clip_id in enumerate(table["clip_id"].to_pylist()):
                    self._places.setdefault(clip_id, (number, group, row))
        self._group = lru_cache(GROUPS_IN_MEMORY)(self._read)

    def _read(self, number: int, group: int) -> Any:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._files[number], page_checksum_verification=True) as file:
            return file.read_row_group(group)

    def row(self, clip_id: str) -> dict[str, Any]:
        """Return a clip's row; one that says ``missing`` if no shard has it."""
        if clip_id not in self._places:
            absent = dict.fromkeys(schema.SHARD.columns.names)
            detail = f"no shard has the clip {clip_id}"
            return absent | {"clip_id": clip_id, "status": FAILED, "reason": MISSING, "detail": detail}
        number, group, row = self._places[clip_id]
        found: dict[str, Any] = self._group(number, group).slice(row, 1).to_pylist()[0]
        return found


def _rows(entries: list[ClipBoxes], store: _Store) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if not entry.frame_of:
            yield store.row(entry.clip_id)
            continue
        frame, sound = store.row(entry.frame_of), store.row(entry.audio_of)
        pair = frame | {name: sound[name] for name in AUDIO_COLUMNS}
        pair |= {"clip_id": entry.clip_id, "label": entry.label, "boxes": []}
        broken = next((half for half in (frame, sound) if half["status"] != OK), None)
        if broken is not None:
            empty = dict.fromkeys(("frame", "frames", schema.FLOW, *AUDIO_COLUMNS))
            detail = f"{broken['clip_id']}: {broken['detail']}"
            pair |= empty | {"status": FAILED, "reason": broken["reason"], "detail": detail}
        yield pair
