"""Failure classes of clips, and which class an error of yt-dlp belongs to.

The class decides what happens next: only *transient* failures are tried again, and *stopped* ends the whole
run before a live clip is taken for a dead one. Everything else is a row in the ledger, and the run goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from avsl_data.decode import DETAIL_CHARACTERS

REASONS: Final[dict[str, str]] = {
    "gone": "the video is private, removed, age-gated or no longer there (HTTP 404, 410)",
    "blocked": "the server refuses it here (not available in your country, HTTP 401, 403, 451)",
    "transient": "the network or the server failed every time (time-outs, HTTP 5xx); rerun to try again",
    "stopped": "the server refuses everything for now (bot check, HTTP 429); never written, the run ends",
    "no_audio": "there is no sound",
    "no_video": "there is no picture, or the address shows no video",
    "too_short": "the video ends before the clip does, or before the annotated frame",
    "too_large": "the file is larger than the limit",
    "damaged": "the file cannot be decoded to its end",
    "missing": "the folder or the archives lack the clip",
    "refused": "the address leads to another scheme or to a private server, and is not followed",
    "disk_full": "there is no room for the file; never written, the run ends",
    "unknown": "yt-dlp failed in a way that no rule knows; the detail has its message",
}
"""Every class and what it means."""

TRANSIENT: Final = "transient"
STOPPED: Final = "stopped"
MISSING: Final = "missing"
DISK_FULL: Final = "disk_full"

NEVER_WRITTEN: Final = (STOPPED, DISK_FULL)
"""Classes that end the run: a clip that meets one has not been tried."""

MAX_RETRY_AFTER_S: Final = 7 * 86400.0
"""A server that asks for a longer pause is taken for a faulty one."""

_STATUS_REASONS: Final = {
    400: "blocked",
    401: "blocked",
    403: "blocked",
    404: "gone",
    408: "transient",
    410: "gone",
    429: "stopped",
    451: "blocked",
}
_SERVER_ERRORS: Final = range(500, 600)

_MESSAGES: Final = (
    # The order matters: a bot check also says "sign in", a country block also says "video unavailable".
    ("disk_full", r"no space left on device|disk quota exceeded|errno 27\b|read-only file system"),
    ("stopped", r"not a bot|captcha|try again later|too many requests|rate.?limit|http error 429"),
    ("blocked", r"in your (country|location|region)|from your location|geo.?restrict"),
    (
        "gone",
        r"private video|video (is )?(unavailable|not available|private)|no longer available|terminated|"
        r"(been|was) removed|copyright|confirm your age|age.?restrict|inappropriate|members.only|"
        r"does not exist|account .*closed|live event has ended|isn.t available",
    ),
    ("refused", r"\brefused: "),
    ("too_large", r"\btoo large: "),
    (
        "transient",
        r"http error 5\d\d|timed? ?out|connection|temporar|incomplete|bytes read|"
        r"network is unreachable|resolve",
    ),
    ("no_video", r"unsupported url|no video formats|no media found|requested format is not available"),
)
_MEDIA_HOSTS: Final = ("googlevideo.com",)
"""Hosts whose HTTP 403 says that an address or a token has expired, not that the video is refused."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """Why a video could not be fetched.

    Parameters
    ----------
    reason
        A key of `REASONS`.
    detail
        The message, one line.
    retry_after_s
        The pause that the server asks for; None if it does not say.
    """

    reason: str
    detail: str
    retry_after_s: float | None = None


def classify(error: BaseException) -> Failure:
    """Tell the failure class of an error that yt-dlp raised.

    Parameters
    ----------
    error
        What was raised; the errors that it wraps are looked at too.

    Returns
    -------
    Failure
        By the HTTP status if there is one, else by the message, else by the kind of error.

    Examples
    --------
    >>> classify(RuntimeError("ERROR: [youtube] x: Sign in to confirm you're not a bot")).reason
    'stopped'
    >>> classify(RuntimeError("Sign in to confirm your age")).reason
    'gone'
    """
    chain = list(_chain(error))
    detail = _one_line(str(error))
    text = (
        " ".join(_one_line(str(item)) for item in chain)
        .lower()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    by_message = next((reason for reason, pattern in _MESSAGES if re.search(pattern, text)), None)
    retry_after_s = next((pause for item in chain if (pause := _retry_after(item)) is not None), None)
    if by_message in NEVER_WRITTEN:
        return Failure(by_message, detail, retry_after_s)
    for item in chain:
        reason = _by_status(item)
        if reason is not None:
            return Failure(reason, detail, retry_after_s)
    if by_message is not None:
        return Failure(by_message, detail)
    return Failure(TRANSIENT if any(_is_network(item) for item in chain) else "unknown", detail)


def _by_status(error: BaseException) -> str | None:
    """Return the class of an HTTP status, if the error has one that says something."""
    status = getattr(error, "status", None)
    if not isinstance(status, int):
        return None
    if status in _SERVER_ERRORS:
        return TRANSIENT
    host = urlsplit(str(getattr(getattr(error, "response", None), "url", ""))).hostname or ""
    if status == HTTPStatus.FORBIDDEN and host.endswith(_MEDIA_HOSTS):
        return TRANSIENT
    return _STATUS_REASONS.get(status)


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds of an answer's header ``Retry-After``: a number, or a date to come."""
    response = getattr(error, "response", None)
    text = str(getattr(response, "headers", {}).get("Retry-After") or "").strip()
    if not text:
        return None
    if text.isdigit():
        seconds = float(text)
    else:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk an error and those that it wraps; yt-dlp keeps them in ``exc_info`` and ``cause``."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        item = pending.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        exc_info = getattr(item, "exc_info", None)
        pending.append(exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) > 1 else None)
        pending.extend((getattr(item, "cause", None), item.__cause__, item.__context__))


def _is_network(error: BaseException) -> bool:
    from yt_dlp.networking.exceptions import TransportError
    from yt_dlp.utils import ContentTooShortError

    return isinstance(error, TransportError | ContentTooShortError | ConnectionError | TimeoutError)


def _one_line(text: str) -> str:
    """Strip colours, yt-dlp's prefix and its advice to report an issue."""
    line = " ".join(_ANSI.sub("", text).split()).removeprefix("ERROR: ")
    return line.split("; please report this issue")[0][:DETAIL_CHARACTERS]
