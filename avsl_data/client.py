"""yt-dlp, held to one video at one address.

What it may do by itself is more than a data set needs: follow a redirect to any scheme or machine, search a
page for embedded players, read an endless answer. Here it asks over ``http`` and ``https`` only, never goes
from a public server to a private one, opens no address but the one it was given (and where that redirects
to), and gives up on an answer that trickles or outgrows the limit.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.extractor import get_info_extractor
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking._requests import RequestsRH
from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import determine_ext

SCHEMES: Final = ("http", "https")
SITES: Final = {
    "youtube": ("youtube.com", "youtu.be", "youtube-nocookie.com"),
    "flickr": ("flickr.com",),
}
"""Sites whose pages are understood, by the name of yt-dlp's extractor."""

MIN_BYTES_PER_S: Final = 1000
"""An answer slower than this is taken for one that will never end."""


class RefusedError(RequestError):  # type: ignore[misc]
    """Say why an address is not followed."""


class DirectIE(InfoExtractor):  # type: ignore[misc]
    """Take an address for the video itself: no page is searched, nothing else is asked for."""

    _VALID_URL = r"https?://.+"
    IE_NAME = "direct"

    def _real_extract(self, url: str) -> dict[str, Any]:
        """Describe the one file behind an address."""
        return {"id": "video", "title": "video", "url": url, "ext": determine_ext(url, "mp4"), "direct": True}


class Client(YoutubeDL):  # type: ignore[misc]
    """A downloader of the one video that it was made for.

    Parameters
    ----------
    url
        Address of the video.
    params
        Options of yt-dlp; ``max_filesize`` and ``socket_timeout`` bound every answer.

    Attributes
    ----------
    refusal
        The last HTTP status of failure that was answered.
    """

    def __init__(self, url: str, params: Mapping[str, Any]) -> None:
        self.refusal: HTTPError | None = None
        self._answers: list[Any] = []
        super().__init__(dict(params), auto_init=False)
        self.add_info_extractor(_extractor(url))

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        """Send every request through the one handler that checks redirects."""
        del handlers
        checked = type("CheckedRH", (_CheckedRH,), {"proxied": bool(self.proxies)})
        return super().build_request_director([checked], preferences)

    def urlopen(self, req: Any) -> Any:
        """Open an address; the answer's body is read under the limits."""
        address = req if isinstance(req, str) else req.url
        scheme = urlsplit(address).scheme
        if scheme not in SCHEMES:
            raise RefusedError(f"refused: the address {address[:100]} is neither http nor https")
        try:
            response = super().urlopen(req)
        except HTTPError as error:
            self.refusal = error
            self._answers.append(error.response)
            raise
        self._answers.append(response)
        response.fp = _Bounded(
            response.fp, float(self.params["socket_timeout"]), int(self.params["max_filesize"])
        )
        return response

    def close(self) -> None:
        """Close every answer, whether it was read to its end or not."""
        for answer in self._answers:
            answer.close()
        super().close()

    def explained(self, error: Exception) -> Exception:
        """Give an error the answer that caused it, where yt-dlp kept only its text."""
        if self.refusal is not None and f"HTTP Error {self.refusal.status}" in str(error):
            error.__cause__ = self.refusal
        return error


def _extractor(url: str) -> InfoExtractor:
    """Choose what understands an address: the extractor of its site, else `DirectIE`."""
    host = (urlsplit(url).hostname or "").lower()
    for name, domains in SITES.items():
        if any(host == domain or host.endswith(f".{domain}") for domain in domains):
            extractor = get_info_extractor(name.capitalize())
            if extractor.suitable(url):
                return extractor()
    return DirectIE()


class _CheckedRH(RequestsRH):  # type: ignore[misc]
    """The handler of yt-dlp's http requests; looks at each redirect before it is followed."""

    proxied = False

    def _create_instance(self, cookiejar: Any, legacy_ssl_support: Any = None) -> Any:
        session = super()._create_instance(cookiejar, legacy_ssl_support)
        follow = session.get_redirect_target

        def checked(response: Any) -> str | None:
            target: str | None = follow(response)
            if target is not None:
                check_redirect(response.url, urljoin(response.url, target), resolve=not self.proxied)
            return target

        session.get_redirect_target = checked
        return session


def check_redirect(origin: str, target: str, *, resolve: bool = True) -> None:
    """Refuse a redirect to another scheme, or from one machine to a private other one.

    Parameters
    ----------
    origin, target
        From where to where.
    resolve
        Whether to look a host name up; behind a proxy that is the proxy's work.

    Raises
    ------
    RefusedError
        If it is not to be followed.

    Examples
    --------
    >>> check_redirect("https://a.org/x", "https://a.org/y")
    >>> check_redirect("https://a.org/x", "file:///etc/passwd")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    RefusedError: refused: https://a.org/x redirects to file:///etc/passwd, which is neither http nor https
    """
    old, new = urlsplit(origin), urlsplit(target)
    if new.scheme not in SCHEMES:
        raise RefusedError(
            f"refused: {origin[:100]} redirects to {target[:100]}, which is neither http nor https"
        )
    if (old.hostname, old.port) == (new.hostname, new.port):
        return
    if any(not address.is_global for address in _addresses(new.hostname or "", resolve=resolve)):
        raise RefusedError(f"refused: {origin[:100]} redirects to {target[:100]}, a private address")
    if any(address.is_loopback for address in _addresses(old.hostname or "", resolve=False)):
        raise RefusedError(f"refused: {origin[:100]} redirects to {target[:100]}, which is another server")


def _addresses(host: str, *, resolve: bool) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses of a host; none if it has to be looked up and may not or cannot be."""
    if host == "localhost":
        return [ipaddress.ip_address("127.0.0.1")]
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    if not resolve:
        return []
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # the request itself will say so
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


class _Bounded:
    """A body that is read piece by piece, so that one that trickles or does not end is noticed."""

    def __init__(self, body: Any, timeout_s: float, max_bytes: int) -> None:
        self._body = body
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._count = 0
        self._window_start = time.monotonic()
        self._window_count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def read(self, amount: int | None = None, **options: Any) -> bytes:
        """Read some bytes, all by default, as the body itself would."""
        pieces: list[bytes] = []
        missing = amount
        while missing is None or missing > 0:
            piece: bytes = self._body.read1(missing or 1 << 16, **options)
            if not piece:
                break
            pieces.append(piece)
            self._check(len(piece))
            if missing is not None:
                missing -= len(piece)
        return b"".join(pieces)

    def _check(self, count: int) -> None:
        self._count += count
        if self._count > self._max_bytes:
            raise RefusedError(f"too large: more than {self._max_bytes} bytes came")
        self._window_count += count
        waited = time.monotonic() - self._window_start
        if waited < self._timeout_s:
            return
        if self._window_count < MIN_BYTES_PER_S * waited:
            raise TransportError(
                f"slower than {MIN_BYTES_PER_S} bytes per second for {self._timeout_s:g} s: timed out"
            )
        self._window_start, self._window_count = time.monotonic(), 0
