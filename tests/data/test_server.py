"""The loopback server: ranges, HEAD, and never a file from outside its folder."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from avsl_data.server import SiteServer

CONTENT = bytes(range(100))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    (tmp_path / "site" / "videos").mkdir(parents=True)
    (tmp_path / "site" / "videos" / "a b.mp4").write_bytes(CONTENT)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "site" / "link.txt").symlink_to(tmp_path / "secret.txt")
    with SiteServer(tmp_path / "site") as server:
        link = http.client.HTTPConnection(urlsplit(server.base_url).netloc)
        yield link
        link.close()


def _ask(
    connection: http.client.HTTPConnection, target: str, byte_range: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection.request(method, target, headers={"Range": byte_range} if byte_range else {})
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


@pytest.mark.parametrize(
    ("byte_range", "status", "part"),
    [
        (None, 200, slice(0, 100)),
        ("bytes=0-", 206, slice(0, 100)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=90-500", 206, slice(90, 100)),
        ("bytes=-5", 206, slice(95, 100)),
        ("nonsense", 200, slice(0, 100)),
    ],
)
def test_ranges(
    connection: http.client.HTTPConnection, byte_range: str | None, status: int, part: slice
) -> None:
    for method in ("GET", "HEAD"):
        found, headers, body = _ask(connection, "/videos/a%20b.mp4?sha256=1", byte_range, method)
        assert (found, headers["Content-Type"]) == (status, "video/mp4")
        assert int(headers["Content-Length"]) == part.stop - part.start
        assert body == (CONTENT[part] if method == "GET" else b"")
        if status == 206:
            assert headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/100"


def test_a_range_outside_the_file(connection: http.client.HTTPConnection) -> None:
    status, headers, _ = _ask(connection, "/videos/a%20b.mp4", "bytes=100-")
    assert (status, headers["Content-Range"]) == (416, "bytes */100")


@pytest.mark.parametrize(
    "target",
    [
        "/absent",
        "/videos",
        "/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/link.txt",
        "/a%00b",
    ],
)
def test_what_is_not_served(connection: http.client.HTTPConnection, target: str) -> None:
    status, _, body = _ask(connection, target)
    assert status == 404
    assert b"secret" not in body
