"""Failure classes of clips, and which class an error of yt-dlp belongs to.

The class decides what happens next: only *transient* failures are tried again, and *stopped* ends the whole
run before a live clip is taken for a dead one. Everything else is a row in the ledger, and the run goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

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
    "missing": "a folder of clips lacks the file",
    "unknown": "yt-dlp failed in a way that no rule knows; the detail has its message",
}
"""Every class and what it means."""

TRANSIENT: Final = "transient"
STOPPED: Final = "stopped"

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
    ("stopped", r"not a bot|captcha|try again later|too many requests|rate.?limit|http error 429"),
    ("blocked", r"in your (country|location|region)|from your location|geo.?restrict"),
    (
        "gone",
        r"private video|video (is )?(unavailable|not available|private)|no longer available|terminated|"
        r"(been|was) removed|copyright|confirm your age|age.?restrict|inappropriate|members.only|"
        r"does not exist|account .*closed|live event has ended|isn.t available",
    ),
    ("transient", r"timed? ?out|connection|temporar|incomplete|bytes read|network is unreachable|resolve"),
    ("no_video", r"unsupported url|no video formats|no media found|requested format is not available"),
)
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
    """

    reason: str
    detail: str


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
    if by_message == STOPPED:
        return Failure(STOPPED, detail)
    for item in chain:
        status = getattr(item, "status", None)
        if isinstance(status, int):
            if status in _SERVER_ERRORS:
                return Failure(TRANSIENT, detail)
            if status in _STATUS_REASONS:
                return Failure(_STATUS_REASONS[status], detail)
    if by_message is not None:
        return Failure(by_message, detail)
    return Failure(TRANSIENT if any(_is_network(item) for item in chain) else "unknown", detail)


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
