"""Fetching a whole video with yt-dlp, with a failure class for everything that can go wrong."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from avsl_data.decode import ffmpeg_executable
from avsl_data.errors import StopEverythingError
from avsl_data.failures import STOPPED, TRANSIENT, Failure, classify

logger = logging.getLogger(__name__)

FETCHED_NAME: Final = "fetched"
"""Name of a video that is complete; anything else in its folder is not."""


@dataclass(frozen=True)
class FetchPolicy:
    """How hard to try, and how much to fetch.

    Parameters
    ----------
    attempts
        How often a transient failure is tried.
    backoff_s
        Seconds before the second attempt; doubled before each further one.
    timeout_s
        Seconds without an answer after which a connection has failed.
    max_height
        Largest picture height to choose where a video comes in several.
    max_bytes
        Largest file to fetch.
    sleep_s
        Shortest and longest pause before a video that is not on the loopback interface.
    cookies
        A cookie file for yt-dlp, or None.
    """

    attempts: int = 3
    backoff_s: float = 2.0
    timeout_s: float = 20.0
    max_height: int = 480
    max_bytes: int = 1 << 30
    sleep_s: tuple[float, float] = (5.0, 10.0)
    cookies: Path | None = None


class FetchFailedError(Exception):
    """Say that a video cannot be had.

    Parameters
    ----------
    failure
        Class and message.
    attempts
        How often it was asked for.
    """

    def __init__(self, failure: Failure, attempts: int) -> None:
        super().__init__(failure, attempts)
        self.failure = failure
        self.attempts = attempts

    def __str__(self) -> str:
        return f"{self.failure.reason} after {self.attempts} attempts: {self.failure.detail}"


def fetch_video(url: str, folder: Path, policy: FetchPolicy) -> tuple[Path, int]:
    """Fetch a video, unless an earlier run already did.

    Parameters
    ----------
    url
        An ``http`` or ``https`` address that yt-dlp understands.
    folder
        The video's own folder of unfinished work, from `work_folder`.
    policy
        How hard to try.

    Returns
    -------
    path : Path
        The complete file.
    attempts : int
        How often it was asked for.

    Raises
    ------
    FetchFailedError
        If it cannot be had.
    StopEverythingError
        If the server refuses everything for now.
    """
    fetched = folder / FETCHED_NAME
    if fetched.is_file():
        return fetched, 1
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, policy.attempts + 1):
        failure = _try_once(url, folder, fetched, policy)
        if failure is None:
            return fetched, attempt
        logger.info("attempt %d of %d: %s: %s", attempt, policy.attempts, failure.reason, failure.detail)
        if failure.reason == STOPPED:
            raise StopEverythingError(failure.detail)
        if failure.reason != TRANSIENT:
            shutil.rmtree(folder)
            raise FetchFailedError(failure, attempt)
        if attempt == policy.attempts:  # what came so far stays, and a later run goes on from there
            raise FetchFailedError(failure, attempt)
        time.sleep(policy.backoff_s * 2 ** (attempt - 1))
    raise AssertionError("a policy has at least one attempt")


def work_folder(url: str, work: Path) -> Path:
    """Return the folder of a video's unfinished work.

    Parameters
    ----------
    url
        Address of the video.
    work
        Folder of all unfinished work.

    Returns
    -------
    Path
        Named by a hash, so that nothing in an address can leave ``work``.
    """
    return work / hashlib.sha256(url.encode()).hexdigest()[:16]


def _try_once(url: str, folder: Path, fetched: Path, policy: FetchPolicy) -> Failure | None:
    """Ask for a video once; return None if it is complete under its final name."""
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    try:
        with YoutubeDL(_options(url, folder, policy)) as downloader:
            info = downloader.extract_info(url, download=True)
    except (YoutubeDLError, ConnectionError, TimeoutError) as error:
        return classify(error)
    path = _downloaded(info)
    if path is None or not path.is_file():
        return Failure("too_large", f"yt-dlp gave no file; the limit is {policy.max_bytes} bytes")
    os.replace(path, fetched)  # noqa: PTH105 - the one call that is atomic by contract
    return None


def _downloaded(info: Any) -> Path | None:
    """Return the file that yt-dlp says it wrote; a download that it declined has none."""
    downloads = (info or {}).get("requested_downloads") or []
    path = downloads[0].get("filepath") if downloads else None
    return Path(path) if path else None


def _options(url: str, folder: Path, policy: FetchPolicy) -> dict[str, Any]:
    height = f"[height<=?{policy.max_height}]"
    options: dict[str, Any] = {
        "format": f"bv*{height}+ba/b{height}/w",
        "format_sort": ["vcodec:h264", "acodec:aac"],
        "paths": {"home": str(folder.resolve())},
        "outtmpl": "video.%(ext)s",
        "max_filesize": policy.max_bytes,
        "socket_timeout": policy.timeout_s,
        "retries": 0,
        "extractor_retries": 0,
        "fragment_retries": 3,
        "continuedl": True,
        "noplaylist": True,
        "playlist_items": "1",
        "cachedir": False,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "ffmpeg_location": ffmpeg_executable(),
        "logger": _QuietLogger(),
    }
    if urlsplit(url).hostname not in {"127.0.0.1", "localhost"}:
        options["sleep_interval"], options["max_sleep_interval"] = policy.sleep_s
    if policy.cookies is not None:
        options["cookiefile"] = str(policy.cookies)
    return options


class _QuietLogger:
    """Take yt-dlp's messages to our logger; its errors are raised as well."""

    def debug(self, message: str) -> None:
        logger.debug("%s", message)

    info = warning = error = debug
