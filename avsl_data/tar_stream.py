"""Reading tar archives that nobody vouches for: one pass, little memory, nothing written.

Members are only looked at: their paths are never used to write anything. Links, devices and folders are
passed over. What is broken ends the reading with a reason, and every member before it has been yielded.

The standard library's ``tarfile`` keeps every member in memory, takes a damaged header in the middle for the
end of the archive, and reads an extended header of any size at once; its header parser is used here.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

MAX_MEMBERS: Final = 5_000_000
"""An archive with more members is not read on."""

MAX_HEADER_BYTES: Final = 1 << 20
"""Of an extended header: it holds a name."""

MAX_RATIO: Final = 50
"""Times that an archive may grow on unpacking; audio and video hardly do."""

_FREE_BYTES: Final = 1 << 26
"""What may come out of any archive before `MAX_RATIO` counts."""

_CHUNK_BYTES: Final = 1 << 20
_LENGTH: Final = re.compile(rb"[0-9]{1,7}")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
_BLOCK: Final = tarfile.BLOCKSIZE
_MAGIC: Final[dict[bytes, Callable[[IO[bytes]], IO[bytes]]]] = {
    b"\x1f\x8b": lambda raw: cast("IO[bytes]", gzip.GzipFile(fileobj=raw)),
    b"BZh": lambda raw: cast("IO[bytes]", bz2.BZ2File(raw)),
    b"\xfd7zXZ\x00": lambda raw: cast("IO[bytes]", lzma.LZMAFile(raw)),  # noqa: SIM115 - closed by TarStream
}


class ArchiveFaultError(Exception):
    """Say where and why an archive cannot be read on."""


@dataclass(frozen=True)
class Member:
    """A regular file of an archive.

    Parameters
    ----------
    name
        Its path in the archive; never to be used as a path here.
    offset
        Where its content begins, in the unpacked stream.
    size
        Bytes.
    """

    name: str
    offset: int
    size: int


class TarStream:
    """The members of an archive, from the first to the last.

    Parameters
    ----------
    path
        A tar file, plain or compressed with gzip, bzip2 or xz.

    Attributes
    ----------
    compressed
        Whether a member's offset is of no use in the file itself.
    skipped
        Number of members passed over, by kind.
    """

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb")
        head = self._raw.read(8)
        self._raw.seek(0)
        opener = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), None)
        self.compressed = opener is not None
        self._file = self._raw if opener is None else opener(self._raw)
        self._size = path.stat().st_size
        self._position = 0
        self._unread = 0
        self.skipped: dict[str, int] = {}

    def __enter__(self) -> TarStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._raw.close()

    def __iter__(self) -> Iterator[Member]:
        """Yield the regular members whose content is whole.

        A member's content may be read with `read` before the next member is asked for.

        Raises
        ------
        ArchiveFaultError
            At the first thing that is broken.
        """
        name: str | None = None
        size: int | None = None
        count = 0
        while (info := self._header(count)) is not None:
            count += 1
            if count > MAX_MEMBERS:
                raise ArchiveFaultError(f"more than {MAX_MEMBERS} members")
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records = _pax(self._small(info, count))
                name, size = records.get("path", name), _size(records.get("size"), size, count)
            elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
                text = self._small(info, count)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    name = text.rstrip(b"\0").decode("utf-8", "replace")
            else:
                member = Member(name or info.name, self._position, info.size if size is None else size)
                name = size = None
                if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
                    self._unread = member.size
                    self._require(member, count)
                    yield member
                    self._skip(self._unread, count)
                    self._skip(-member.size % _BLOCK, count)
                else:
                    self._pass_over(info, member, count)

    def _pass_over(self, info: tarfile.TarInfo, member: Member, count: int) -> None:
        kind = "folder" if info.isdir() else "link" if info.islnk() or info.issym() else "device"
        kind = "sparse file" if info.type == tarfile.GNUTYPE_SPARSE else kind
        self.skipped[kind] = self.skipped.get(kind, 0) + 1
        if kind == "sparse file":
            self._require(member, count)
            self._skip(member.size + (-member.size % _BLOCK), count)

    def read(self, limit: int = _CHUNK_BYTES) -> bytes:
        """Return the next bytes of the member that was yielded last; none at its end.

        Raises
        ------
        ArchiveFaultError
            If the archive ends or is damaged there.
        """
        wanted = min(limit, self._unread)
        chunk = self._bytes(wanted) if wanted else b""
        if len(chunk) < wanted:
            raise ArchiveFaultError("the archive ends inside a member")
        self._unread -= len(chunk)
        return chunk

    def _header(self, count: int) -> tarfile.TarInfo | None:
        """Return the next header, or None at the archive's end mark."""
        block = self._bytes(_BLOCK)
        if block == bytes(_BLOCK):
            while self.compressed and self._bytes(_CHUNK_BYTES):  # the checksum of it all stands at the end
                pass
            return None
        if len(block) < _BLOCK:
            raise ArchiveFaultError(f"it ends after {count} members without an end mark")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            where = f"after {count} members" if count else "at its beginning: is it a tar file?"
            raise ArchiveFaultError(f"a damaged header {where} ({error})") from error
        if info.size < 0:
            raise ArchiveFaultError(f"a member of negative size after {count} members")
        return info

    def _require(self, member: Member, count: int) -> None:
        """Check, where that costs nothing, that a member's content is all there."""
        if not self.compressed and member.offset + member.size > self._size:
            there = max(0, self._size - member.offset)
            raise ArchiveFaultError(
                f"member {count} declares {member.size} bytes, of which {there} are there"
            )

    def _small(self, info: tarfile.TarInfo, count: int) -> bytes:
        if info.size > MAX_HEADER_BYTES:
            raise ArchiveFaultError(f"an extended header of {info.size} bytes after {count} members")
        content = self._bytes(info.size)
        self._skip(-info.size % _BLOCK, count)
        return content

    def _skip(self, amount: int, count: int) -> None:
        if not self.compressed:
            self._file.seek(amount, 1)
            self._position += amount
            return
        while amount > 0:
            chunk = self._bytes(min(amount, _CHUNK_BYTES))
            if not chunk:
                raise ArchiveFaultError(f"it ends inside member {count}")
            amount -= len(chunk)

    def _bytes(self, amount: int) -> bytes:
        try:
            content = self._file.read(amount)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ArchiveFaultError(f"damaged near byte {self._raw.tell()} of the file: {error}") from error
        self._position += len(content)
        if self.compressed and self._position > _FREE_BYTES + MAX_RATIO * self._raw.tell():
            raise ArchiveFaultError(f"it unpacks to more than {MAX_RATIO} times its size")
        return content


def _pax(content: bytes) -> dict[str, str]:
    """Parse the records ``<length> <key>=<value>`` of an extended header; nonsense ends them."""
    records: dict[str, str] = {}
    while content:
        digits, _, _ = content.partition(b" ")
        if not _LENGTH.fullmatch(digits) or not 0 < int(digits) <= len(content):
            break
        record, content = content[len(digits) + 1 : int(digits) - 1], content[int(digits) :]
        key, _, value = record.partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return records


def _size(text: str | None, default: int | None, count: int) -> int | None:
    """Read the size of an extended header; nobody knows where a member without a number ends."""
    if text is None:
        return default
    if not _SIZE.fullmatch(text):
        raise ArchiveFaultError(f"an extended header after {count - 1} members whose size is no number")
    return int(text)
