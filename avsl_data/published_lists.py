"""Every published list by name, and what a name or a file on the command line stands for.

Lists are named ``<set>@<project>``, with a number where a project's copy has another size. A source whose
clips are all for testing is a test set by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from avsl_data.clip_table import ClipTable
from avsl_data.errors import DataInputError, unknown_name
from avsl_data.id_lists import Fault, IdList, read_list
from avsl_data.ids import PAIR_MARK, shown
from avsl_data.remotes import Remote, fetch
from avsl_data.sources import SOURCES, flickr_soundnet, vggsound, vggss
from avsl_data.sources.extended import HEADER, read_negatives
from avsl_data.sources.source import Inputs

TRAIN_LISTS: Final[Mapping[str, Remote]] = {**vggsound.LISTS, **flickr_soundnet.LISTS}
TEST_LISTS: Final[Mapping[str, Remote]] = {
    **vggss.LISTS,
    "vggsound-test": vggsound.REMOTES["test.csv"],
    **flickr_soundnet.TEST_LISTS,
}
LISTS: Final[Mapping[str, Remote]] = {**TRAIN_LISTS, **TEST_LISTS}

ALIASES: Final[Mapping[str, str]] = {"vggss": "vggss@lvs", "flickr": "flickr@slavc"}
TEST_SOURCES: Final = ("vggss-extended", "is3", "avsbench-s4", "avsbench-ms3", "vpo-ss", "vpo-ms")

_TELLS_VIDEO: Final = r"\A(?:[A-Za-z0-9_-]{1,64}_[0-9]{6}|[0-9]{8,12})\z"


@dataclass(frozen=True)
class NamedClips:
    """Clips under a name: a published list, a test set or a file.

    Parameters
    ----------
    name
        The name, or the file's.
    table : pyarrow.Table
        Columns ``clip_id``, ``video_id`` and ``label``, in the list's order, repetitions included.
    faults
        Lines that hold no clip.
    """

    name: str
    table: pa.Table
    faults: tuple[Fault, ...] = ()


def known_names() -> list[str]:
    """Return every name that `load` knows.

    Returns
    -------
    list of str
        Lists, aliases and sources.
    """
    return [*LISTS, *ALIASES, *TEST_SOURCES]


def load(name: str, mirror: Path | None = None, *, strict: bool = True) -> NamedClips:
    """Read a published list by its name, or a file.

    Parameters
    ----------
    name
        A name of `known_names`, or a path.
    mirror
        Folder of copies of published files; None fetches them.
    strict
        As in `avsl_data.id_lists.read_list`.

    Returns
    -------
    NamedClips
        Its clips.

    Raises
    ------
    DataInputError
        If there is neither such a name nor such a file, it cannot be read, or its ids do not tell which
        videos they are of.
    """
    listed = LISTS.get(ALIASES.get(name, name))
    if listed is not None:
        found = read_list(fetch(listed, mirror), strict=strict, media_paths=True)
    elif name in TEST_SOURCES:
        clips = ClipTable.of(SOURCES[name].catalog(Inputs(mirror=mirror)))
        # Classes of these sets are not VGGSound's: nothing is to be compared with them.
        none = pa.repeat(pa.scalar("", pa.string()), len(clips))
        table = clips.table.select(["clip_id", "video_id"]).append_column("label", none)
        return NamedClips(name, table)
    elif Path(name).exists():
        if (table := _catalog_columns(Path(name))) is not None:
            return NamedClips(Path(name).name, table)
        found = _pairs(Path(name)) or read_list(Path(name), strict=strict, media_paths=True)
        name = Path(name).name
    elif "/" in name or Path(name).suffix:
        raise DataInputError(f"{shown(name, 300)} does not exist, and is no published list")
    else:
        raise unknown_name("list or file", name, known_names())
    found = _with_parts(found)
    _require_videos(name, found.ids)
    columns = [found.ids, videos_of(found.ids), found.labels]
    return NamedClips(name, pa.table(columns, ["clip_id", "video_id", "label"]), found.faults)


def _with_parts(found: IdList) -> IdList:
    """Put both clips of a pair in the place of the pair: its videos are those of its frame and its sound."""
    pairs = pc.match_substring(found.ids, PAIR_MARK).to_numpy(zero_copy_only=False)
    if not pairs.any():
        return found
    clips: dict[str, str] = {}
    for clip_id, label in zip(found.ids.to_pylist(), found.labels.to_pylist(), strict=True):
        parts = clip_id.split(PAIR_MARK)
        for part in parts:
            clips.setdefault(part, label if len(parts) == 1 else "")
    return IdList(pa.array(clips, pa.string()), pa.array(clips.values(), pa.string()), found.faults)


def _require_videos(name: str, ids: pa.Array) -> None:
    """Refuse ids that do not tell their video: a wrong video would hide a leak."""
    unknown = ids.filter(pc.invert(pc.match_substring_regex(ids, _TELLS_VIDEO)))
    if len(unknown):
        raise DataInputError(
            f"{name}: the id {shown(unknown[0].as_py())} does not tell its video, as ids of pictures do not: "
            f"give the set's catalog, or its name ({', '.join(TEST_SOURCES)})"
        )


def _pairs(path: Path) -> IdList | None:
    """Return the clips that a list of pairs uses, None if the file is something else."""
    with path.open("rb") if path.is_file() else BytesIO() as file:
        if file.read(80).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].strip() != ",".join(HEADER).encode():
            return None
    pairs = read_negatives(path)
    ids = pa.array(dict.fromkeys(name for pair in pairs for name in (pair.frame_of, pair.audio_of)))
    return IdList(ids, pa.repeat(pa.scalar("", pa.string()), len(ids)))


def _catalog_columns(path: Path) -> pa.Table | None:
    """Return the columns of a catalog, None if the file is something else."""
    if not path.is_file() or path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    from avsl_data.catalog import read_columns

    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError):
        return None
    return None if "video_id" not in names else read_columns(path, ["clip_id", "video_id", "label"])


def videos_of(ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the video of every clip id, as `avsl_data.ids.video_id_of` does.

    Parameters
    ----------
    ids : [n] of string
        Normalised clip ids.

    Returns
    -------
    [n] of string
        Video ids.

    Examples
    --------
    >>> videos_of(pa.array(["-0BIyqJj9ZU_000030", "10000130166"])).to_pylist()
    ['-0BIyqJj9ZU', '10000130166']
    """
    number = pc.match_substring_regex(ids, r"\A[0-9]{8,12}\z")
    return pc.if_else(number, ids, pc.utf8_slice_codeunits(ids, 0, -7))


def known_labels(mirror: Path | None = None, table: Path | None = None) -> pa.Table:
    """Gather the class of every clip that some published file names.

    Parameters
    ----------
    mirror
        As in `load`.
    table
        A copy of vggsound.csv, which knows all of them.

    Returns
    -------
    pyarrow.Table
        Columns ``clip_id`` and ``label``; a clip may come several times.
    """
    names = ("vggsound-test", "vggss@acl", "vggsound_10k@acl", "vggsound_heard@acl")
    parts = [load(name, mirror).table.select(["clip_id", "label"]) for name in names]
    if table is not None:
        from avsl_data.id_lists import read_vggsound_table

        parts.append(read_vggsound_table(table).select(["clip_id", "label"]))
    return pa.concat_tables(parts)
