"""The ledger: what became of each clip of a bucket, written so that a kill loses and repeats nothing.

While a bucket is worked on, a *journal* (``<bucket>.jsonl`` beside the ledger) grows by one line per clip.
A line is appended with a single write after the clip's file has its final name. A run that was killed
leaves at most one incomplete line, which the next run cuts off. When every clip has a line, the ledger
(Parquet) is written atomically from the journal.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from avsl_data import schema
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.failures import MISSING, TRANSIENT
from avsl_data.files import sha256_of, write_text
from avsl_data.ids import check_safe_id
from avsl_data.sources.source import CatalogClip

logger = logging.getLogger(__name__)

OK: Final = "ok"
FAILED: Final = "failed"

UNSETTLED: Final = (TRANSIENT, MISSING)
"""Failure classes of clips that the next run tries again."""

LOCK_PATIENCE_S: Final = 1.0
"""`is_locked` holds a free lock for a moment; whoever meets it waits so long."""


@dataclass(frozen=True)
class LedgerRow:
    """What became of one clip.

    Parameters
    ----------
    clip_id, video_id
        The clip.
    path
        Its file, as the clips folder was given; None unless ok.
    status
        ``ok`` or ``failed``.
    reason, detail
        Failure class of `avsl_data.failures` and what was seen; None if ok.
    sha256
        Of the file; None unless ok.
    duration_s
        Seconds of the shorter one of picture and sound, as decoded; None unless ok.
    attempts
        How often its video was asked for, by all runs that settled it together.
    when
        UTC time in ISO format, to the second.
    """

    clip_id: str
    video_id: str
    path: str | None
    status: str
    reason: str | None
    detail: str | None
    sha256: str | None
    duration_s: float | None
    attempts: int
    when: str


def ok_row(clip: CatalogClip, path: Path, duration_s: float, attempts: int) -> LedgerRow:
    """Build the row of a clip whose file was verified.

    Parameters
    ----------
    clip
        The clip.
    path
        Its file.
    duration_s
        Seconds, as decoded.
    attempts
        How often its video was asked for.

    Returns
    -------
    LedgerRow
        With the file's checksum.
    """
    return LedgerRow(
        clip.clip_id, clip.video_id, str(path), OK, None, None, sha256_of(path), duration_s, attempts, _now()
    )


def failed_row(clip: CatalogClip, reason: str, detail: str, attempts: int) -> LedgerRow:
    """Build the row of a clip that could not be had.

    Parameters
    ----------
    clip
        The clip.
    reason, detail
        Failure class and message.
    attempts
        How often its video was asked for.

    Returns
    -------
    LedgerRow
        Without a file.
    """
    return LedgerRow(clip.clip_id, clip.video_id, None, FAILED, reason, detail, None, None, attempts, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _request_digest(clip: CatalogClip) -> str:
    """Digest what a row answers: the same clip of another address or length is asked for anew."""
    return hashlib.sha256(f"{clip.url}|{clip.start_s}|{clip.end_s}".encode()).hexdigest()[:16]


class Journal:
    """The growing record of one bucket.

    Parameters
    ----------
    path
        The ``.jsonl`` file; made if absent, and cut back to its last complete line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        self._load()

    def _load(self) -> None:
        if not self.path.is_file():
            return
        whole = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            entry = _parse(line)
            if entry is None:
                logger.warning("%s: cut off an incomplete line at byte %d", self.path, whole)
                os.truncate(self.path, whole)
                break
            whole += len(line)
            self._entries[entry["row"]["clip_id"]] = entry

    def row(self, clip: CatalogClip) -> LedgerRow | None:
        """Return the last row of a clip, if it answers the same request.

        Parameters
        ----------
        clip
            The clip.

        Returns
        -------
        LedgerRow or None
            None if the clip was never tried, or its address, start or end were others.
        """
        entry = self._entries.get(clip.clip_id)
        if entry is None or entry["request"] != _request_digest(clip):
            return None
        return LedgerRow(**entry["row"])

    def settled(self, clip: CatalogClip) -> bool:
        """Tell whether a clip needs no more work.

        Parameters
        ----------
        clip
            The clip.

        Returns
        -------
        bool
            True if its file is there with the recorded checksum, or it failed for good. A clip that a folder
            or an archive lacked is looked for again: the next run may look elsewhere.
        """
        row = self.row(clip)
        if row is None:
            return False
        if row.status == OK:
            path = Path(row.path or "")
            return path.is_file() and sha256_of(path) == row.sha256
        return row.reason not in UNSETTLED

    def append(self, clip: CatalogClip, row: LedgerRow) -> None:
        """Add a row.

        Parameters
        ----------
        clip
            The clip.
        row
            What became of it.

        Raises
        ------
        StopEverythingError
            If the disk is full.
        """
        entry = {"request": _request_digest(clip), "row": dataclasses.asdict(row)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(entry) + "\n").encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, line)
            except OSError as error:
                raise StopEverythingError(f"{self.path} cannot grow: {error.strerror}") from error
            if written < len(line):  # the next line must not begin behind half of this one
                os.ftruncate(descriptor, size)
                raise StopEverythingError(f"{self.path} cannot grow: the disk is full")
        finally:
            os.close(descriptor)
        self._entries[clip.clip_id] = entry


def journal_rows(path: Path) -> list[dict[str, Any]]:
    """Read the last row of each clip of a journal that may be growing.

    Parameters
    ----------
    path
        The ``.jsonl`` file, which need not exist; an incomplete last line is left alone.

    Returns
    -------
    list of dict
        Fields of `LedgerRow`.
    """
    if not path.is_file():
        return []
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        entry = _parse(line)
        if entry is None:
            break
        rows[entry["row"]["clip_id"]] = entry["row"]
    return list(rows.values())


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        LedgerRow(**entry["row"])
        str(entry["request"])
    except (ValueError, TypeError, KeyError):
        return None
    return dict(entry)


@contextmanager
def bucket_lock(path: Path) -> Iterator[None]:
    """Keep a second process away from a bucket; the lock ends with the process, however it ends.

    Parameters
    ----------
    path
        The lock file, beside the ledger.

    Raises
    ------
    DataInputError
        If another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _taken(descriptor):
            holder = os.read(descriptor, 64).decode(errors="replace").strip()
            raise DataInputError(
                f"process {holder or '(unknown)'} is working on this bucket ({path}): wait for it or end it"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    """Take a lock; return False if somebody keeps it."""
    give_up = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.05)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Tell whether a process works on a bucket.

    Parameters
    ----------
    path
        The lock file of `bucket_lock`.

    Returns
    -------
    bool
        True while some process, on any machine that shares the file system, holds the lock.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True)
class StopRecord:
    """Why a bucket's last run stopped before its end.

    Parameters
    ----------
    why
        The message.
    when
        UTC time in ISO format.
    until
        When the server may be asked again, in seconds since 1970; None if nothing says when.
    """

    why: str
    when: str
    until: float | None

    @staticmethod
    def path_of(ledger: Path) -> Path:
        """Return the file of a ledger's record."""
        return ledger.with_suffix(".stopped.json")

    @classmethod
    def read(cls, ledger: Path) -> StopRecord | None:
        """Read the record beside a ledger; None if its last run was not stopped."""
        try:
            return cls(**json.loads(cls.path_of(ledger).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise DataInputError(f"{cls.path_of(ledger)} is no record of a stop: remove it") from error


@contextmanager
def stop_recorded(ledger: Path) -> Iterator[None]:
    """Write down, beside a ledger, that and why the block stopped; forget what was written before.

    Parameters
    ----------
    ledger
        The Parquet file, which need not exist.
    """
    record = StopRecord.path_of(ledger)
    record.unlink(missing_ok=True)
    try:
        yield
    except StopEverythingError as error:
        text = json.dumps(dataclasses.asdict(StopRecord(str(error), _now(), error.until)))
        with suppress(OSError):  # a full disk is one of the reasons to stop; the exit code tells it anyway
            write_text(record, text + "\n")
        raise


def write_ledger(path: Path, rows: Iterable[LedgerRow]) -> None:
    """Write a finished bucket's ledger, sorted by clip id.

    Parameters
    ----------
    path
        The Parquet file.
    rows
        One row per clip of the bucket.
    """
    ordered = sorted(rows, key=lambda row: row.clip_id)
    schema.write_rows(path, schema.LEDGER, [dataclasses.asdict(row) for row in ordered], {})


def read_ledger(path: Path) -> list[LedgerRow]:
    """Read a ledger.

    Parameters
    ----------
    path
        The Parquet file.

    Returns
    -------
    list of LedgerRow
        In file order.

    Raises
    ------
    DataInputError
        If the file is no ledger.
    """
    rows = [LedgerRow(**row) for row in schema.read_table(path, schema.LEDGER).to_pylist()]
    for row in rows:
        check_safe_id(row.clip_id)
    return rows
