"""What yt-dlp is kept from: other schemes, private servers, other addresses, answers without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avsl_data.client import DirectIE, RefusedError, _extractor, check_redirect
from avsl_data.errors import StopEverythingError
from avsl_data.fetch import FetchFailedError, FetchPolicy, fetch_video
from avsl_data.server import SiteHandler, SiteServer

FAST = FetchPolicy(attempts=2, backoff_s=0.01, timeout_s=0.4)

Answer = Callable[[SiteHandler], None]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, dict[str, Answer], list[str]]]:
    """Serve answers by path and note every request."""
    answers: dict[str, Answer] = {}
    asked: list[str] = []

    class Handler(SiteHandler):
        def do_GET(self) -> None:  # noqa: N802 - the base class names it so
            asked.append(self.path)
            answers[self.path](self)

    with SiteServer(tmp_path, Handler) as server:
        yield server.base_url, answers, asked


def _send(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: SiteHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def _failure(url: str, tmp_path: Path, policy: FetchPolicy = FAST) -> FetchFailedError:
    with pytest.raises(FetchFailedError) as failed:
        fetch_video(url, tmp_path / "work", policy)
    return failed.value


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("file:///etc/passwd", "neither http nor https"),
        ("ftp://127.0.0.1/x", "neither http nor https"),
        ("gopher://127.0.0.1/x", "neither http nor https"),
        ("data:video/mp4;base64,AAAA", "neither http nor https"),
        ("http://127.0.0.1:9/x", "a private address"),
        ("http://169.254.169.254/latest/meta-data", "a private address"),
        ("http://[::1]/x", "a private address"),
        ("http://8.8.8.8/x", "which is another server"),
    ],
)
def test_redirects_that_are_not_followed(site: Any, tmp_path: Path, target: str, why: str) -> None:
    base_url, answers, asked = site
    answers["/a.mp4"] = _send(302, Location=target)
    failed = _failure(f"{base_url}/a.mp4", tmp_path)
    assert failed.failure.reason == "refused"
    assert why in failed.failure.detail
    assert asked == ["/a.mp4"]
    assert not (tmp_path / "work").exists()


def test_a_redirect_on_the_same_server_is_followed(site: Any, tmp_path: Path) -> None:
    base_url, answers, asked = site
    answers["/a.mp4"] = _send(301, Location="/b/../c.mp4")
    answers["/c.mp4"] = _send(200, b"x" * 5000)
    path, attempts = fetch_video(f"{base_url}/a.mp4", tmp_path / "work", FAST)
    assert (path.read_bytes(), attempts, asked) == (b"x" * 5000, 1, ["/a.mp4", "/c.mp4"])


@pytest.mark.parametrize(
    ("origin", "target", "followed"),
    [
        ("http://8.8.8.8/a", "https://1.1.1.1/a", True),
        ("http://8.8.8.8/a", "http://127.0.0.1/a", False),
        ("http://8.8.8.8/a", "http://localhost/a", False),
        ("http://8.8.8.8/a", "http://10.0.0.7/a", False),
        ("http://8.8.8.8/a", "http://192.168.1.1/a", False),
        ("http://192.168.1.1/a", "http://192.168.1.1/b", True),
        ("http://192.168.1.1/a", "http://192.168.1.2/b", False),
        ("http://localhost:1/a", "http://localhost:1/b", True),
        ("http://localhost:1/a", "http://localhost:2/b", False),
    ],
)
def test_where_a_redirect_may_lead(origin: str, target: str, followed: bool) -> None:
    if followed:
        check_redirect(origin, target)
    else:
        with pytest.raises(RefusedError, match="refused: "):
            check_redirect(origin, target)


def test_a_page_is_not_searched_for_players(site: Any, tmp_path: Path) -> None:
    base_url, answers, asked = site
    page = f'<html><video src="{base_url}/other.mp4"></video><iframe src="https://www.youtube.com/embed/x">'
    answers["/a.mp4"] = _send(200, page.encode(), Content_Type="text/html")
    path, _ = fetch_video(f"{base_url}/a.mp4", tmp_path / "work", FAST)
    assert path.read_bytes() == page.encode()  # the download stage sees that it is no video
    assert asked == ["/a.mp4"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://www.youtube.com/watch?v=-0BIyqJj9ZU", "youtube"),
        ("https://youtu.be/-0BIyqJj9ZU", "youtube"),
        ("https://www.flickr.com/photos/someone/3908875350/", "Flickr"),
        ("http://www.flickr.com/videos/3908875350/play/orig/abc/", "direct"),
        ("https://notyoutube.com/watch?v=-0BIyqJj9ZU", "direct"),
        ("https://example.org/a.mp4", "direct"),
    ],
)
def test_each_address_has_one_extractor(url: str, name: str) -> None:
    extractor = _extractor(url)
    found = extractor.IE_NAME
    assert found == name
    assert isinstance(extractor, DirectIE) == (name == "direct")


def test_an_answer_that_trickles_has_failed(site: Any, tmp_path: Path) -> None:
    base_url, answers, _ = site

    def drip(handler: SiteHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.close_connection = True
        try:
            for _ in range(1000):
                handler.wfile.write(b"x")
                time.sleep(0.02)
        except (BrokenPipeError, ConnectionResetError):
            return

    answers["/a.mp4"] = drip
    started = time.monotonic()
    failed = _failure(f"{base_url}/a.mp4", tmp_path)
    assert (failed.failure.reason, failed.attempts) == ("transient", 2)
    assert "slower than 1000 bytes per second" in failed.failure.detail
    assert time.monotonic() - started < 5


def test_an_answer_without_end_is_cut_at_the_limit(site: Any, tmp_path: Path) -> None:
    base_url, answers, _ = site

    def endless(handler: SiteHandler) -> None:
        handler.send_response(200)  # no length: nothing can be known before it comes
        handler.end_headers()
        handler.close_connection = True
        try:
            for _ in range(1000):
                handler.wfile.write(bytes(10_000))
        except (BrokenPipeError, ConnectionResetError):
            return

    answers["/a.mp4"] = endless
    failed = _failure(f"{base_url}/a.mp4", tmp_path, FetchPolicy(attempts=1, max_bytes=100_000))
    assert failed.failure.reason == "too_large"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("status", "retry_after", "stops"),
    [(429, "90", True), (429, "1", True), (503, "90", True), (503, "1", False)],
)
def test_a_pause_that_a_server_asks_for(
    site: Any, tmp_path: Path, status: int, retry_after: str, stops: bool
) -> None:
    base_url, answers, asked = site
    answers["/a.mp4"] = _send(status, Retry_After=retry_after)
    before = time.time()
    if not stops:
        assert _failure(f"{base_url}/a.mp4", tmp_path).failure.reason == "transient"
        assert time.time() - before >= 1
        return
    with pytest.raises(StopEverythingError, match=str(status)) as stopped:
        fetch_video(f"{base_url}/a.mp4", tmp_path / "work", FAST)
    assert stopped.value.until == pytest.approx(before + int(retry_after), abs=5)
    with pytest.raises(StopEverythingError, match="asked for a pause"):
        fetch_video(f"{base_url}/b.mp4", tmp_path / "other", FAST)
    assert asked == ["/a.mp4"]


def test_waiting_instead_of_stopping(site: Any, tmp_path: Path) -> None:
    base_url, answers, asked = site

    def first_refuse(handler: SiteHandler) -> None:
        _send(429 if len(asked) == 1 else 200, b"x" * 3000, Retry_After="1")(handler)

    answers["/a.mp4"] = first_refuse
    started = time.monotonic()
    path, attempts = fetch_video(f"{base_url}/a.mp4", tmp_path / "work", FetchPolicy(wait=True))
    assert (len(path.read_bytes()), attempts, len(asked)) == (3000, 1, 2)
    assert time.monotonic() - started >= 1


def test_cookies_are_read_and_never_written(site: Any, tmp_path: Path) -> None:
    base_url, answers, _ = site
    sent: list[str | None] = []

    def answer(handler: SiteHandler) -> None:
        sent.append(handler.headers.get("Cookie"))
        _send(200, b"x" * 2000, Set_Cookie="fresh=1")(handler)

    answers["/a.mp4"] = answer
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tname\tvalue\n")
    cookies.chmod(0o400)
    before = cookies.read_bytes()
    fetch_video(f"{base_url}/a.mp4", tmp_path / "work", FetchPolicy(cookies=cookies))
    assert sent == ["name=value"]
    assert cookies.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["fetched"]
