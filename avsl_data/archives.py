"""Archives of clips as sources of single clips, such as the hub's tarballs of VGGSound.

A plain tar file is passed over once; where each clip lies goes into a small index in the cache, and from then
on a clip is read from its place. A compressed one cannot be read from the middle. It is passed over once as
well, by the first bucket that needs it, and the clips that the catalog names are put aside in a spool
folder, for all buckets; the others are never written.

The corrupt shard of the hub's VGGSound shows what has to hold: every clip before a fault is used, and the
fault is told with each clip that is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from avsl_data.errors import DataInputError
from avsl_data.files import replacing, write_text
from avsl_data.remotes import default_cache
from avsl_data.tar_stream import ArchiveFaultError, TarStream

logger = logging.getLogger(__name__)

INDEX_SCHEMA: Final = "avsl-archive-index/1"
MAX_CLIP_BYTES: Final = 1 << 30
SPOOL_FOLDER: Final = ".archives"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Archive:
    """The clips of an archive.

    Parameters
    ----------
    path
        The archive.
    members
        Offset and size of each file by its key, see `avsl_data.copies.key_of`.
    fault
        Why the archive could not be read to its end; None if it could.
    skipped
        Number of members that are no clips, by kind.
    spool
        Folder in which the clips of a compressed archive were put aside; None for a plain one.
    """

    path: Path
    members: dict[str, tuple[int, int]]
    fault: str | None
    skipped: dict[str, int] = field(default_factory=dict)
    spool: Path | None = None

    def copy_out(self, key: str, target: Path) -> None:
        """Write one file of a clip.

        Parameters
        ----------
        key
            A key of ``members``.
        target
            Where to; overwritten.
        """
        offset, size = self.members[key]
        if self.spool is not None:
            target.unlink(missing_ok=True)
            try:
                os.link(_spooled(self.spool, key), target)
            except PermissionError:  # a file system without hard links
                shutil.copyfile(_spooled(self.spool, key), target)
            return
        with self.path.open("rb") as source, target.open("wb") as copy:
            source.seek(offset)
            while size and (chunk := source.read(min(size, _CHUNK_BYTES))):
                copy.write(chunk)
                size -= len(chunk)


def open_archive(
    path: Path, wanted: Collection[str], clips: Path, key_of: Callable[[str], str | None]
) -> Archive:
    """Find the clips of an archive, with the index of an earlier pass if there is one.

    Parameters
    ----------
    path
        A tar file, plain or compressed.
    wanted
        Ids of the catalog's clips: those of a compressed archive that are put aside.
    clips
        The data set's folder of clips, which gets the spool folder.
    key_of
        From a member's name to its key, or None.

    Returns
    -------
    Archive
        Knows every whole clip before the first fault.

    Raises
    ------
    DataInputError
        If there is no such file, or it is no tar file.
    """
    if not path.is_file():
        raise DataInputError(f"--from-tar {path} is no file")
    about = path.stat()
    identity = [str(path.resolve()), about.st_size, about.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    with TarStream(path) as stream:
        spool = clips / SPOOL_FOLDER / digest if stream.compressed else None
    index = (default_cache() / "archives" / f"{digest}.json") if spool is None else spool / "index.json"
    with _lock(index.with_suffix(".lock")):
        found = _read_index(index, path, spool, wanted)
        if found is None:
            found = _scan(path, frozenset(wanted), spool, key_of)
            _write_index(index, found, wanted)
    if found.fault is not None:
        if not found.members:
            raise DataInputError(f"--from-tar {path}: {found.fault}")
        logger.warning("%s: %s; the %d clips before it are used", path, found.fault, len(found.members))
    return found


def _scan(
    path: Path, wanted: frozenset[str], spool: Path | None, key_of: Callable[[str], str | None]
) -> Archive:
    """Pass over an archive once."""
    members: dict[str, tuple[int, int]] = {}
    fault: str | None = None
    skipped: dict[str, int] = {}
    with TarStream(path) as stream:
        try:
            for member in stream:
                key = key_of(member.name)
                kind = _why_not(key, member.size, members)
                if kind is not None:
                    skipped[kind] = skipped.get(kind, 0) + 1
                elif key is not None:
                    if spool is not None and _clip_of(key) in wanted:
                        _put_aside(stream, _spooled(spool, key), member.size)
                    members[key] = (member.offset, member.size)
        except ArchiveFaultError as error:
            fault = str(error)
        skipped |= stream.skipped
    if spool is not None:
        members = {key: place for key, place in members.items() if _clip_of(key) in wanted}
    return Archive(path, members, fault, skipped, spool)


def _clip_of(key: str) -> str:
    return key.partition(".")[0]


def _why_not(key: str | None, size: int, members: Collection[str]) -> str | None:
    if key is None:
        return "no clip"
    if key in members:
        return "second copy"
    return "too large" if size > MAX_CLIP_BYTES else None


def _put_aside(stream: TarStream, target: Path, size: int) -> None:
    """Write the member that was yielded last, unless an earlier pass did."""
    if target.is_file() and target.stat().st_size == size:
        return
    with replacing(target) as temporary, temporary.open("wb") as file:
        while chunk := stream.read():
            file.write(chunk)


def _spooled(spool: Path, key: str) -> Path:
    return spool / key


def _read_index(path: Path, archive: Path, spool: Path | None, wanted: Collection[str]) -> Archive | None:
    """Read an index; None if there is none, or clips of this catalog were not put aside by it."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a damaged one is made again
        return None
    if not isinstance(found, dict) or found.get("schema") != INDEX_SCHEMA:
        return None
    if spool is not None and found["wanted"] != _digest(wanted):
        return None
    members = {key: (int(offset), int(size)) for key, offset, size in found["members"]}
    return Archive(archive, members, found["fault"], found["skipped"], spool)


def _write_index(path: Path, archive: Archive, wanted: Collection[str]) -> None:
    content = {
        "schema": INDEX_SCHEMA,
        "archive": str(archive.path),
        "wanted": _digest(wanted),
        "fault": archive.fault,
        "skipped": archive.skipped,
        "members": [[key, *place] for key, place in sorted(archive.members.items())],
    }
    write_text(path, json.dumps(content) + "\n")


def _digest(wanted: Collection[str]) -> str:
    return hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for whoever reads the same archive: its index then serves both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("waiting for the process that reads the same archive (%s)", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
