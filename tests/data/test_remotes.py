"""Published files are verified wherever they come from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from avsl_data.errors import DataInputError
from avsl_data.remotes import Remote, default_cache, fetch

CONTENT = b"a,b\r\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_mirror(tmp_path: Path) -> None:
    remote = Remote("https://example.org/data/list.csv", SHA256, "none")
    with pytest.raises(DataInputError, match=r"has no copy of https://example\.org/data/list\.csv"):
        fetch(remote, mirror=tmp_path)
    path = tmp_path / "example.org" / "data" / "list.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(remote, mirror=tmp_path) == path
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(DataInputError, match=f"its sha256 is .*, expected {SHA256}"):
        fetch(remote, mirror=tmp_path)


def test_network(tmp_path: Path, serve: Any) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "list.csv").write_bytes(CONTENT)
    server = serve(tmp_path / "site")
    remote = Remote(f"{server.base_url}/list.csv", SHA256, "none")
    path = fetch(remote, cache=tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert fetch(remote, cache=tmp_path / "cache") == path
    assert server.hits["/list.csv"] == 1


def test_a_changed_file_never_enters_the_cache(tmp_path: Path, serve: Any) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "list.csv").write_bytes(CONTENT + b"changed")
    server = serve(tmp_path / "site")
    with pytest.raises(DataInputError, match="is not the published"):
        fetch(Remote(f"{server.base_url}/list.csv", SHA256, "none"), cache=tmp_path / "cache")
    with pytest.raises(DataInputError, match=r"cannot fetch .*404.*--mirror"):
        fetch(Remote(f"{server.base_url}/absent.csv", SHA256, "none"), cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_cache_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVSL_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("AVSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "avsl"
