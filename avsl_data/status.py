"""How far a download is: read from the files that the buckets' jobs write while they work.

Nothing here writes, waits or disturbs a job. A bucket is *finished* when its ledger stands, *running* while a
process holds its lock, *stopped* if its last run ended before its end and said why, *interrupted* if it left
a journal and nothing else, and *waiting* if nobody has begun it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from avsl_data import schema
from avsl_data.errors import DataInputError
from avsl_data.failures import TRANSIENT
from avsl_data.ledger import OK, UNSETTLED, StopRecord, is_locked, journal_rows
from avsl_data.pace import duration_text, utc

STATUS_SCHEMA: Final = "avsl-download-status/1"
STATES: Final = ("finished", "running", "stopped", "interrupted", "waiting")
RATE_WINDOW: Final = timedelta(hours=1)
"""Clips per hour are counted over the last hour in which clips were done."""


@dataclass(frozen=True)
class BucketStatus:
    """How far one bucket is.

    Parameters
    ----------
    ledger
        Its ledger, which need not exist.
    clips
        Number of its clips; None if no catalog says.
    state
        One of `STATES`.
    stop
        Why its last run stopped; None unless stopped.
    kinds
        Number of clips by how they ended: ``ok`` or failure class.
    times
        When each of them was written down.
    """

    ledger: Path
    clips: int | None
    state: str
    stop: StopRecord | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    times: Sequence[datetime] = ()

    @property
    def name(self) -> str:
        """Number of the bucket, as it stands in the name of its files."""
        return self.ledger.stem


@dataclass(frozen=True)
class DownloadStatus:
    """How far a download is.

    Parameters
    ----------
    buckets
        Every bucket.
    now
        The time of asking.
    """

    buckets: Sequence[BucketStatus]
    now: datetime

    @property
    def clips(self) -> int:
        """Number of clips, as far as it is known."""
        return sum(self._known(bucket) for bucket in self.buckets)

    @staticmethod
    def _known(bucket: BucketStatus) -> int:
        return sum(bucket.kinds.values()) if bucket.clips is None else bucket.clips

    @property
    def kinds(self) -> Counter[str]:
        """Number of clips by how they ended."""
        total: Counter[str] = Counter()
        for bucket in self.buckets:
            total.update(bucket.kinds)
        return total

    @property
    def settled(self) -> int:
        """Number of clips that need no more work."""
        return sum(count for kind, count in self.kinds.items() if kind not in UNSETTLED)

    @property
    def success_rate(self) -> float | None:
        """Share of the tried clips that are there; None before the first."""
        tried = self.kinds.total()
        return self.kinds[OK] / tried if tried else None

    @property
    def clips_per_hour(self) -> float | None:
        """Clips done per hour, over the last hour in which some were; None if that says nothing."""
        times = sorted(time for bucket in self.buckets for time in bucket.times)
        if not times:
            return None
        recent = [time for time in times if time >= times[-1] - RATE_WINDOW]
        hours = (recent[-1] - recent[0]) / timedelta(hours=1)
        return (len(recent) - 1) / hours if hours else None

    @property
    def expected_end(self) -> datetime | None:
        """When all clips will have been tried at this rate; None unless a bucket is running."""
        rate = self.clips_per_hour
        if not rate or not any(bucket.state == "running" for bucket in self.buckets):
            return None
        left = self.clips - self.kinds.total()
        try:
            return self.now + timedelta(hours=left / rate)
        except OverflowError:
            return None

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        rate, end = self.clips_per_hour, self.expected_end
        return {
            "schema": STATUS_SCHEMA,
            "when": self.now.isoformat(timespec="seconds"),
            "clips": self.clips,
            "tried": self.kinds.total(),
            "settled": self.settled,
            "ok": self.kinds[OK],
            "failed": {kind: count for kind, count in sorted(self.kinds.items()) if kind != OK},
            "success_rate": self.success_rate,
            "clips_per_hour": None if rate is None else round(rate, 1),
            "expected_end": None if end is None else end.isoformat(timespec="seconds"),
            "buckets": [self._bucket_json(bucket) for bucket in self.buckets],
        }

    @staticmethod
    def _bucket_json(bucket: BucketStatus) -> dict[str, Any]:
        stop = bucket.stop
        return {
            "bucket": bucket.name,
            "state": bucket.state,
            "clips": bucket.clips,
            "tried": sum(bucket.kinds.values()),
            "ok": bucket.kinds.get(OK, 0),
            "stopped_until": None if stop is None or stop.until is None else utc(stop.until),
            "why": None if stop is None else stop.why,
        }

    def as_text(self) -> str:
        """Return what a person wants to know, in a few lines."""
        tried, rate, end = self.kinds.total(), self.clips_per_hour, self.expected_end
        share = f" ({100 * tried / self.clips:.1f} %)" if self.clips else ""
        lines = [f"tried    {tried} of {self.clips} clips{share}"]
        if self.success_rate is not None:
            lines.append(f"there    {self.kinds[OK]} ({100 * self.success_rate:.1f} % of those tried)")
        failed = [(kind, count) for kind, count in self.kinds.most_common() if kind != OK]
        if failed:
            lines.append("failed   " + ", ".join(f"{kind} {count}" for kind, count in failed))
        if self.kinds[TRANSIENT]:
            lines.append(f"         the next run tries the {self.kinds[TRANSIENT]} transient ones again")
        if rate is not None:
            lines.append(f"rate     {rate:.0f} clips per hour")
        if end is not None:
            left = duration_text((end - self.now).total_seconds())
            lines.append(f"end      in about {left}, {utc(end.timestamp())}")
        states = Counter(bucket.state for bucket in self.buckets)
        lines.append("buckets  " + ", ".join(f"{states[state]} {state}" for state in STATES if states[state]))
        lines.extend(_running(self.buckets))
        lines.extend(_stopped(self.buckets, self.now))
        return "\n".join(lines)


def _running(buckets: Iterable[BucketStatus]) -> list[str]:
    return [
        f"         {bucket.name} is running: {sum(bucket.kinds.values())} of "
        f"{'?' if bucket.clips is None else bucket.clips} clips"
        for bucket in buckets
        if bucket.state == "running"
    ]


def _stopped(buckets: Iterable[BucketStatus], now: datetime) -> list[str]:
    """Tell which buckets stopped, those with one reason together."""
    groups: dict[str, list[str]] = {}
    for bucket in buckets:
        if bucket.stop is not None:
            until = bucket.stop.until
            left = 0.0 if until is None else until - now.timestamp()
            when = f" until {utc(until or 0)} (in {duration_text(left)})" if left > 0 else ", may go on now"
            groups.setdefault(f"{when}: {bucket.stop.why}", []).append(bucket.name)
    return [f"         {', '.join(names)} stopped{text}" for text, names in groups.items()]


def read_status(
    ledgers: Sequence[Path], catalog: Path | None = None, now: datetime | None = None
) -> DownloadStatus:
    """Read how far some buckets are.

    Parameters
    ----------
    ledgers
        Their ledgers; a file that is absent is a bucket whose work is not finished.
    catalog
        The catalog that says how many clips each has; None if that is not known.
    now
        The time of asking; that of the clock by default.

    Returns
    -------
    DownloadStatus
        In the order of the ledgers.

    Raises
    ------
    DataInputError
        If a file is not what its name says.
    """
    sizes = None if catalog is None else _bucket_sizes(catalog)
    buckets = []
    for ledger in ledgers:
        clips = None
        if sizes is not None:
            if not ledger.stem.isdigit():
                raise DataInputError(f"{ledger} is not named by the number of a bucket, such as 0007.parquet")
            clips = sizes.get(int(ledger.stem), 0)
        buckets.append(_bucket(ledger, clips))
    return DownloadStatus(buckets, now or datetime.now(UTC))


def ledgers_of(dataset: Path) -> tuple[list[Path], Path]:
    """Return the ledgers and the catalog of a data set's folder.

    Parameters
    ----------
    dataset
        Folder with ``catalog.parquet`` and ``ledger/``, as the workflow makes it.

    Returns
    -------
    ledgers : list of Path
        One per bucket of the catalog, whether it exists or not.
    catalog : Path
        The catalog.

    Raises
    ------
    DataInputError
        If the folder has no catalog.
    """
    catalog = dataset / "catalog.parquet"
    if not dataset.is_dir():
        raise DataInputError(f"{dataset} is no folder: give a data set's, such as data/vggss")
    about = schema.about_table(schema.read_table(catalog, schema.CATALOG, ["bucket"]))
    n_buckets = about.get("n_buckets")
    if not isinstance(n_buckets, int):
        n_buckets = max(_bucket_sizes(catalog), default=-1) + 1
    return [dataset / "ledger" / f"{bucket:04d}.parquet" for bucket in range(n_buckets)], catalog


def _bucket_sizes(catalog: Path) -> Counter[int]:
    return Counter(schema.read_table(catalog, schema.CATALOG, ["bucket"])["bucket"].to_pylist())


def _bucket(ledger: Path, clips: int | None) -> BucketStatus:
    rows = _finished_rows(ledger) if ledger.is_file() else journal_rows(ledger.with_suffix(".jsonl"))
    kinds = Counter(str(row["reason"] or row["status"]) for row in rows)
    times = [datetime.fromisoformat(row["when"]) for row in rows]
    stop = StopRecord.read(ledger)
    if is_locked(ledger.with_suffix(".lock")):
        return BucketStatus(ledger, clips, "running", None, kinds, times)
    if ledger.is_file():
        return BucketStatus(ledger, clips, "finished", None, kinds, times)
    if stop is not None:
        return BucketStatus(ledger, clips, "stopped", stop, kinds, times)
    return BucketStatus(ledger, clips, "interrupted" if rows else "waiting", None, kinds, times)


def _finished_rows(ledger: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = schema.read_table(
        ledger, schema.LEDGER, ["status", "reason", "when"]
    ).to_pylist()
    return rows


def status_text(status: DownloadStatus, *, as_json: bool) -> str:
    """Return a status as it is printed.

    Parameters
    ----------
    status
        From `read_status`.
    as_json
        Whether as JSON.

    Returns
    -------
    str
        Without a newline at its end.
    """
    return json.dumps(status.as_json(), indent=1) if as_json else status.as_text()
