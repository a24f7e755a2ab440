"""Frames for galleries: copy chosen frames out of shards as JPEG files."""

from __future__ import annotations

import logging
from pathlib import Path

from avsl_data.errors import DataInputError
from avsl_data.files import replacing
from avsl_data.ids import check_safe_id
from avsl_data.shards import shard_rows

logger = logging.getLogger(__name__)


def read_ids(path: Path) -> list[str]:
    """Read clip ids, one per line.

    Parameters
    ----------
    path
        The text file.

    Returns
    -------
    list of str
        In file order, each once.

    Raises
    ------
    DataInputError
        If the file is absent or holds none, or a line is no clip id.
    """
    if not path.is_file():
        raise DataInputError(f"the list of ids {path} does not exist")
    lines = path.read_text(encoding="utf-8").splitlines()
    ids = list(dict.fromkeys(check_safe_id(line.strip()) for line in lines if line.strip()))
    if not ids:
        raise DataInputError(f"{path} holds no clip id")
    return ids


def write_frames(shards: Path, ids: list[str], out: Path) -> list[str]:
    """Write the frames of some clips as ``<clip_id>.jpg``.

    Parameters
    ----------
    shards
        Folder of shards.
    ids
        The clips.
    out
        Folder for the pictures; made if absent.

    Returns
    -------
    list of str
        The clips that have no frame, because they failed.

    Raises
    ------
    DataInputError
        If there is no shard, or a clip is in none of them.
    """
    wanted = set(ids)
    frames = {
        row["clip_id"]: row["frame"]["bytes"] if row["frame"] else None
        for row in shard_rows(shards, ["clip_id", "frame"])
        if row["clip_id"] in wanted
    }
    unknown = [clip_id for clip_id in ids if clip_id not in frames]
    if unknown:
        raise DataInputError(
            f"{len(unknown)} of {len(ids)} clips are in no shard of {shards}, first "
            f"{unknown[0]}: is it another set's?"
        )
    for clip_id, content in frames.items():
        if content is not None:
            with replacing(out / f"{clip_id}.jpg") as temporary:
                temporary.write_bytes(content)
    return [clip_id for clip_id in ids if frames[clip_id] is None]
