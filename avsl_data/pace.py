"""Politeness towards a host, kept by all processes of a machine together.

A small file per host says when its next request may start and, after it asked for a pause, until when nobody
asks it again. Processes take turns under a lock: parallel shards do not add up to a faster robot, and a
refusal that one of them meets stops them all.

Times are wall-clock times, because processes share no other clock. One that was set back must not turn a
pause of seconds into one of years: nobody waits longer than was asked for when the time was written down.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from avsl_data.errors import StopEverythingError
from avsl_data.remotes import default_cache

logger = logging.getLogger(__name__)

MAX_DOUBLINGS: Final = 3
"""Refusals in a row double the pause, up to eight times the first."""

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass
class _HostState:
    """What the file of a host holds; times in seconds since 1970."""

    written: float = 0.0
    next_turn: float = 0.0
    stopped_until: float = 0.0
    stops_in_a_row: int = 0
    why: str = ""


@dataclass(frozen=True)
class Pace:
    """Turns at one host.

    Parameters
    ----------
    host
        Host name, with the port if it has one.
    interval_s
        Shortest and longest time between the starts of two requests, of all processes together.
    cooldown_s
        Pause after a refusal that does not say how long; doubled for each refusal in a row.
    wait
        Whether to sleep through a pause instead of stopping.
    folder
        Where the hosts' files are; ``pace`` in the cache by default.
    clock, sleep
        What tells the time and waits.
    """

    host: str
    interval_s: tuple[float, float]
    cooldown_s: float = 3600.0
    wait: bool = False
    folder: Path | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    @property
    def path(self) -> Path:
        """File of the host's state."""
        digest = hashlib.sha256(self.host.encode()).hexdigest()[:8]
        name = f"{_UNSAFE.sub('_', self.host)[:60]}.{digest}.json"
        return (self.folder or default_cache() / "pace") / name

    def take_turn(self) -> None:
        """Wait until this process may start a request.

        Raises
        ------
        StopEverythingError
            If the host asked for a pause that is not over, unless ``wait`` is set.
        """
        while True:
            with self._state() as state:
                now = self.clock()
                if state.stopped_until <= now:
                    turn = max(now, state.next_turn)
                    state.next_turn = turn + random.uniform(*self.interval_s)
                    break
                why, until = state.why, state.stopped_until
            if not self.wait:
                raise StopEverythingError(f"{self.host} asked for a pause: {why}", until=until)
            logger.warning("%s: %s; waiting until %s", self.host, why, utc(until))
            self.sleep(until - now)
        if turn > now:
            self.sleep(turn - now)
            with self._state() as state:  # another process may have been refused meanwhile
                refused = state.stopped_until > self.clock()
            if refused:
                self.take_turn()

    def refuse(self, why: str, retry_after_s: float | None = None) -> float:
        """Write down that the host refuses everything for now.

        Parameters
        ----------
        why
            Its message.
        retry_after_s
            The pause that it asks for; None if it does not say.

        Returns
        -------
        float
            When it may be asked again, in seconds since 1970.
        """
        with self._state() as state:
            now = self.clock()
            guessed = self.cooldown_s * 2 ** min(state.stops_in_a_row, MAX_DOUBLINGS)
            state.stopped_until = now + (guessed if retry_after_s is None else retry_after_s)
            state.stops_in_a_row += 1
            state.why = why
            return state.stopped_until

    def succeeded(self) -> None:
        """Forget earlier refusals: the next one is the first again."""
        if self._read().stops_in_a_row:
            with self._state() as state:
                state.stops_in_a_row, state.why = 0, ""

    def forget_pause(self) -> None:
        """Go on although the host asked for a pause."""
        with self._state() as state:
            state.stopped_until = 0.0

    def _read(self) -> _HostState:
        try:
            return _parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return _HostState()

    @contextmanager
    def _state(self) -> Iterator[_HostState]:
        """Give the state under the host's lock and write it back if it changed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            state = _parse(file.read())
            before = asdict(state)
            set_back_s = state.written - self.clock()
            if set_back_s > 0:
                state.next_turn -= set_back_s
                state.stopped_until -= set_back_s
            yield state
            if asdict(state) != before:
                state.written = self.clock()
                file.seek(0)
                file.truncate()
                file.write(json.dumps(asdict(state)))


def _parse(text: str) -> _HostState:
    """Read a state; a file that was cut off by a kill is none, which costs one pause."""
    try:
        state = _HostState(**json.loads(text))
        numbers = (state.written, state.next_turn, state.stopped_until, state.stops_in_a_row)
    except (ValueError, TypeError):
        return _HostState()
    return state if all(isinstance(number, int | float) for number in numbers) else _HostState()


def host_of(url: str) -> str:
    """Return the host of an address, with its port if it has one.

    Parameters
    ----------
    url
        An ``http`` or ``https`` address.

    Returns
    -------
    str
        In lower case.

    Examples
    --------
    >>> host_of("https://www.YouTube.com/watch?v=-0BIyqJj9ZU")
    'www.youtube.com'
    """
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{(parts.hostname or '').lower()}{port}"


def utc(seconds: float) -> str:
    """Return a time as text, to the minute.

    Parameters
    ----------
    seconds
        Since 1970.

    Returns
    -------
    str
        Such as ``2026-01-31 17:05 UTC``.

    Examples
    --------
    >>> utc(0)
    '1970-01-01 00:00 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration_text(seconds: float) -> str:
    """Return a duration as text, in one or two units.

    Parameters
    ----------
    seconds
        From 0.

    Returns
    -------
    str
        Such as ``2 h 5 min``.

    Examples
    --------
    >>> duration_text(7500), duration_text(40), duration_text(200000)
    ('2 h 5 min', '40 s', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    units = ((86400, "d"), (3600, "h"), (60, "min"))
    first = next(index for index, (size, _) in enumerate(units) if whole >= size)
    size, name = units[first]
    text = f"{whole // size} {name}"
    if first + 1 < len(units):
        smaller, its_name = units[first + 1]
        rest = whole % size // smaller
        text += f" {rest} {its_name}" if rest else ""
    return text
