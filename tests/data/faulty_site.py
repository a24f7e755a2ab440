"""A server of many addresses and few videos, which fails in every way that a publisher's does.

An address is ``/videos/<video id>.mp4``, or ``/<video id>/play/orig/x`` as Flickr's; the letters at the
beginning of the id, or a function of the test, say what happens there. What is wrong once only (`PASSING`)
leaves the same clip behind as an address where nothing is wrong.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from avsl_data.server import SiteHandler, SiteServer

LASTING = {
    "gone": "gone",  # 404
    "forb": "blocked",  # 403
    "page": "no_video",  # a page instead of a video, with code 200
    "mute": "no_audio",  # a video without a sound
    "tiny": "too_short",  # it ends before the clip does
    "half": "damaged",  # it breaks off, and its length says so
    "down": "transient",  # 503 every time
    "away": "refused",  # a redirect to file:///
}
"""Failure class of the ids that begin so."""

PASSING = ("busy", "torn", "drip", "type")
"""500 once, a body that is cut off once, one that trickles once, a content type that is wrong."""

OK = "good"
DRIP_INTERVAL_S = 0.05


@dataclass
class FaultySite:
    """What the server was asked and what it does.

    Parameters
    ----------
    calm
        Whether the faults of `PASSING` and the refusals are left out.
    refuse_every
        After so many requests one is answered by 429.
    kind_of
        What happens at a video id.
    """

    calm: bool = False
    refuse_every: int = 0
    kind_of: Callable[[str], str] = lambda video_id: video_id[:4]
    base_url: str = ""
    requests: list[str] = field(default_factory=list)
    complete: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def asked(self, video_id: str) -> tuple[int, bool]:
        """Note a request; return how often the video was asked for and whether to refuse."""
        with self.lock:
            self.requests.append(video_id)
            refuse = bool(self.refuse_every) and not self.calm and len(self.requests) % self.refuse_every == 0
            self.refused += refuse
            return self.requests.count(video_id) - (0 if not refuse else 1), refuse


class _Handler(SiteHandler):
    site: FaultySite

    def do_GET(self) -> None:  # noqa: N802 - the base class names it so
        """Answer by the beginning of the video's id."""
        parts = Path(self.path.partition("?")[0]).parts
        video_id = Path(parts[-1]).stem if parts[1] == "videos" else parts[1]
        kind = self.site.kind_of(video_id)
        count, refuse = self.site.asked(video_id)
        if refuse:
            self._empty(HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "1"})
        elif kind == "gone":
            self.send_error(HTTPStatus.NOT_FOUND)
        elif kind == "forb":
            self.send_error(HTTPStatus.FORBIDDEN)
        elif kind == "down":
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        elif kind == "away":
            self._empty(HTTPStatus.FOUND, {"Location": "file:///etc/hostname"})
        elif kind == "page":
            self._body(b"<!DOCTYPE html><html><body>Log in first</body></html>", "text/html")
        elif kind in {"mute", "tiny", "half"}:
            self._serve(kind, video_id)
        elif self.site.calm or kind == OK or (kind != "type" and count > 1):
            self._serve(OK, video_id)
        elif kind == "busy":
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif kind == "type":
            self._body((self.root / "good.mp4").read_bytes(), "text/plain")
        else:
            self._break_off(slowly=kind == "drip")

    def _serve(self, name: str, video_id: str) -> None:
        self.path = f"/{name}.mp4"
        super().do_GET()
        if not self.close_connection:
            with self.site.lock:
                self.site.complete[video_id] += 1

    def _empty(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, content: bytes, content_type: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _break_off(self, *, slowly: bool) -> None:
        """Promise the whole video and send its half, or byte by byte until the other side gives up."""
        content = (self.root / "good.mp4").read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.close_connection = True
        if not slowly:
            self.wfile.write(content[: len(content) // 2])
            return
        try:
            for position in range(len(content)):
                self.wfile.write(content[position : position + 1])
                time.sleep(DRIP_INTERVAL_S)
        except (BrokenPipeError, ConnectionResetError):
            return


@contextmanager
def serving(root: Path, site: FaultySite) -> Iterator[FaultySite]:
    """Serve ``good.mp4``, ``mute.mp4``, ``tiny.mp4`` and ``half.mp4`` of a folder under the site's rules."""
    handler = type("Handler", (_Handler,), {"site": site})
    with SiteServer(root, handler) as server:
        site.base_url = server.base_url
        yield site
