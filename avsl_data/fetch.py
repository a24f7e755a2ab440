"""Fetching a whole video with yt-dlp, with a failure class for everything that can go wrong."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from avsl_data.decode import ffmpeg_executable
from avsl_data.errors import StopEverythingError
from avsl_data.failures import DISK_FULL, STOPPED, TRANSIENT, Failure, classify
from avsl_data.pace import Pace, host_of

logger = logging.getLogger(__name__)

INTERNET_SLEEP_S: Final = (5.0, 10.0)
"""YouTube refuses a session after about 300 videos in an hour; this asks for 480 and gets what is there."""

INTERNET_SLEEP_REQUESTS_S: Final = 0.75
"""As yt-dlp's own preset ``sleep``."""

LONGEST_PATIENCE_S: Final = 60.0
"""A server that asks for a longer pause before the next attempt is left alone until then."""

FETCHED_NAME: Final = "fetched"
"""Name of a video that is complete; anything else in its folder is not."""


@dataclass(frozen=True)
class FetchPolicy:
    """How hard to try, how much to fetch, and how politely.

    Parameters
    ----------
    attempts
        How often a transient failure is tried.
    backoff_s
        Seconds before the second attempt; doubled before each further one, and varied by half.
    timeout_s
        Seconds without an answer, or with one that trickles, after which a connection has failed.
    max_height
        Largest picture height to choose where a video comes in several.
    max_bytes
        Largest file to fetch.
    sleep_s
        Shortest and longest time between two requests for videos of one host, by all processes together;
        None: `INTERNET_SLEEP_S`, and no pause on the loopback interface.
    sleep_requests_s
        Pause between the requests that one video takes; None: `INTERNET_SLEEP_REQUESTS_S`, none on loopback.
    rate_limit
        Bytes per second of one process; None for no limit.
    cooldown_s
        Pause after a refusal of everything that does not say how long.
    wait
        Whether to sleep through such a pause instead of stopping.
    cookies
        A cookie file in Netscape's format, or None. It is read and never written.
    proxy
        Address of a proxy, or None.
    js_runtime
        What runs YouTube's JavaScript: ``deno``, ``node``, ``bun`` or ``quickjs``, or ``name:path``.
    player_client
        YouTube's clients to ask as, yt-dlp's choice by default.
    source_address
        Address of this machine to ask from, or None.
    """

    attempts: int = 3
    backoff_s: float = 2.0
    timeout_s: float = 20.0
    max_height: int = 480
    max_bytes: int = 1 << 30
    sleep_s: tuple[float, float] | None = None
    sleep_requests_s: float | None = None
    rate_limit: int | None = None
    cooldown_s: float = 3600.0
    wait: bool = False
    cookies: Path | None = None
    proxy: str | None = None
    js_runtime: str | None = None
    player_client: tuple[str, ...] = ()
    source_address: str | None = None

    def pace(self, url: str) -> Pace:
        """Return the turns at an address's host."""
        sleep_s = self.sleep_s or ((0.0, 0.0) if _on_loopback(url) else INTERNET_SLEEP_S)
        return Pace(host_of(url), sleep_s, self.cooldown_s, self.wait)


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
    pace = policy.pace(url)
    attempt = 1
    while True:
        pace.take_turn()
        failure = _try_once(url, folder, fetched, policy)
        if failure is None:
            pace.succeeded()
            return fetched, attempt
        logger.info("attempt %d of %d: %s: %s", attempt, policy.attempts, failure.reason, failure.detail)
        if failure.reason == DISK_FULL:
            raise StopEverythingError(f"the disk is full: {failure.detail}")
        if failure.reason == STOPPED or (failure.retry_after_s or 0.0) > LONGEST_PATIENCE_S:
            until = pace.refuse(failure.detail, failure.retry_after_s)
            if policy.wait:
                continue
            raise StopEverythingError(failure.detail, until=until)
        if failure.reason != TRANSIENT:
            shutil.rmtree(folder)
            raise FetchFailedError(failure, attempt)
        if attempt == policy.attempts:  # what came so far stays, and a later run goes on from there
            raise FetchFailedError(failure, attempt)
        time.sleep(max(_backoff_s(policy, attempt), failure.retry_after_s or 0.0))
        attempt += 1


def _backoff_s(policy: FetchPolicy, attempt: int) -> float:
    """Return the pause after an attempt; varied, so that processes which failed together part."""
    return policy.backoff_s * float(2 ** (attempt - 1)) * random.uniform(0.5, 1.5)


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
    from yt_dlp.utils import YoutubeDLError

    from avsl_data.client import Client

    with Client(url, _options(url, folder, policy)) as client:
        try:
            info = client.extract_info(url, download=True)
        except (YoutubeDLError, OSError) as error:
            return classify(client.explained(error))
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
    if policy.sleep_requests_s is not None or not _on_loopback(url):
        pause = policy.sleep_requests_s
        options["sleep_interval_requests"] = INTERNET_SLEEP_REQUESTS_S if pause is None else pause
    if policy.cookies is not None:
        # yt-dlp writes its cookies back: processes side by side would ruin a file that they share.
        options["cookiefile"] = io.StringIO(policy.cookies.read_text(encoding="utf-8"))
    if policy.js_runtime is not None:
        name, _, path = policy.js_runtime.partition(":")
        options["js_runtimes"] = {name: {"path": path} if path else {}}
    if policy.player_client:
        options["extractor_args"] = {"youtube": {"player_client": list(policy.player_client)}}
    given = {
        "ratelimit": policy.rate_limit,
        "proxy": policy.proxy,
        "source_address": policy.source_address,
    }
    return options | {key: value for key, value in given.items() if value is not None}


def _on_loopback(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}


class _QuietLogger:
    """Take yt-dlp's messages to our logger; its errors are raised as well."""

    def debug(self, message: str) -> None:
        logger.debug("%s", message)

    info = warning = error = debug
