"""Every known message and status has its failure class."""

from __future__ import annotations

import errno

import pytest
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import DownloadError, ExtractorError, UnsupportedError

from avsl_data.failures import REASONS, classify

MESSAGES = {
    "[youtube] x: Private video. Sign in if you've been granted access to this video": "gone",
    "[youtube] x: Video unavailable": "gone",
    "[youtube] x: Video unavailable. This video has been removed by the uploader": "gone",
    "[youtube] x: This video is no longer available because the account has been terminated.": "gone",
    "[youtube] x: Video unavailable. This video contains content blocked on copyright grounds": "gone",
    "[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.": "gone",
    "[youtube] x: Video unavailable. The uploader has not made this available in your country": "blocked",
    "[youtube] x: Sign in to confirm you’re not a bot. Use --cookies-from-browser": "stopped",
    "[youtube] x: Video unavailable. This content isn't available, try again later.": "stopped",
    "[youtube] x: HTTP Error 429: Too Many Requests": "stopped",
    "Unable to download webpage: The read operation timed out": "transient",
    "Unable to download webpage: [Errno 101] Network is unreachable": "transient",
    "Unable to download API page: Failed to resolve 'www.youtube.com'": "transient",
    "[youtube] x: Requested format is not available": "no_video",
    "something that nobody has seen": "unknown",
}


@pytest.mark.parametrize(("message", "reason"), MESSAGES.items())
def test_messages(message: str, reason: str) -> None:
    failure = classify(
        DownloadError(f"\x1b[0;31mERROR:\x1b[0m {message}; please report this issue on GitHub")
    )
    assert failure.reason == reason
    assert "\x1b" not in failure.detail
    assert "report" not in failure.detail


class _Response:
    def __init__(self, status: int) -> None:
        self.status = status
        self.reason = "status"

    def close(self) -> None:
        """Close nothing."""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "gone"),
        (410, "gone"),
        (403, "blocked"),
        (451, "blocked"),
        (429, "stopped"),
        (500, "transient"),
        (503, "transient"),
    ],
)
@pytest.mark.parametrize("wrapped_by", ["cause", "exc_info"])
def test_statuses(status: int, reason: str, wrapped_by: str) -> None:
    http = HTTPError(_Response(status))  # type: ignore[arg-type]
    if wrapped_by == "cause":
        error = DownloadError("failed", (ExtractorError, ExtractorError("failed", cause=http), None))
    else:
        error = DownloadError("failed", (HTTPError, http, None))
    assert classify(error).reason == reason


def test_network_errors_without_a_known_message() -> None:
    assert classify(TransportError("odd")).reason == "transient"
    assert classify(IncompleteRead(1, 2)).reason == "transient"
    assert classify(ConnectionResetError(errno.ECONNRESET, "peer")).reason == "transient"


def test_a_page_without_video() -> None:
    assert (
        classify(DownloadError("x", (UnsupportedError, UnsupportedError("http://127.0.0.1/a"), None))).reason
        == "no_video"
    )


def test_error_chains_may_be_circular() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert classify(first).reason == "unknown"


def test_every_class_of_the_rules_is_documented() -> None:
    assert set(MESSAGES.values()) <= set(REASONS)
