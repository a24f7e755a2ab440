"""A loopback HTTP server for a folder: the demo's publisher.

It serves ``GET`` and ``HEAD`` with byte ranges on 127.0.0.1 only and never leaves its folder.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

logger = logging.getLogger(__name__)

CONTENT_TYPES: Final = {".mp4": "video/mp4", ".json": "application/json", ".csv": "text/csv"}
_CHUNK_BYTES: Final = 1 << 16
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class SiteHandler(BaseHTTPRequestHandler):
    """Answer requests from the server's folder."""

    protocol_version = "HTTP/1.1"
    root: Path

    def do_GET(self) -> None:
        """Send a file or a part of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send the headers of `do_GET`."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log at debug level instead of printing."""
        logger.debug(format, *args)

    def _answer(self, *, with_body: bool) -> None:
        path = self.file_of(self.path)
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        wanted = _byte_range(self.headers.get("Range"), size)
        if wanted is None:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first, last, partial = wanted
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPES.get(path.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if with_body:
            self._send(path, first, last - first + 1)

    def file_of(self, target: str) -> Path | None:
        """Return the file that a request's target names.

        Parameters
        ----------
        target
            Path and query of the request; the query is ignored.

        Returns
        -------
        Path or None
            A regular file inside the folder, or None.
        """
        name = unquote(urlsplit(target).path).lstrip("/")
        if "\0" in name:
            return None
        path = (self.root / name).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None

    def _send(self, path: Path, first: int, count: int) -> None:
        try:
            with path.open("rb") as file:
                file.seek(first)
                while count and (chunk := file.read(min(_CHUNK_BYTES, count))):
                    self.wfile.write(chunk)
                    count -= len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            logger.debug("the client closed the connection while reading %s", path)
            self.close_connection = True


def _byte_range(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """Return first byte, last byte and whether it is a part; None if the range lies outside the file."""
    match = _RANGE.fullmatch(header or "")
    if match is None or not any(match.groups()):
        return 0, size - 1, False
    first_text, last_text = match.groups()
    if not first_text:
        first, last = max(0, size - int(last_text)), size - 1
    else:
        first, last = int(first_text), min(int(last_text or size - 1), size - 1)
    return (first, last, True) if first <= last else None


class _Server(ThreadingHTTPServer):
    """A threading server for which a client that hangs up is nothing to report."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log a lost connection at debug level and anything else as an error."""
        lost = isinstance(sys.exc_info()[1], ConnectionError)
        logger.log(
            logging.DEBUG if lost else logging.ERROR,
            "request from %s failed",
            client_address,
            exc_info=not lost,
        )


class SiteServer:
    """Serve a folder while the ``with`` block runs.

    Parameters
    ----------
    root
        The folder.
    handler
        Class that answers; tests give one with faults.

    Examples
    --------
    >>> import tempfile, urllib.request
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.csv").write_text("demo")
    ...     with SiteServer(Path(folder)) as server:
    ...         urllib.request.urlopen(f"{server.base_url}/a.csv").read()
    b'demo'
    """

    def __init__(self, root: Path, handler: type[SiteHandler] = SiteHandler) -> None:
        bound = type("BoundHandler", (handler,), {"root": root.resolve()})
        self._server = _Server(("127.0.0.1", 0), bound)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        """Address without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
