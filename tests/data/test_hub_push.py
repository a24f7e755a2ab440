"""Pushing, with the hub's real client, to a loopback server that speaks the few endpoints it needs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Hub:
    """A dataset hub of one repository, in memory."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refuse = 0
        self.address = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and JSON of a request."""
        path = path.partition("?")[0]
        if self.refuse:
            return self.refuse, {"error": "You have no rights here"}
        if method == "PUT":
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/put/")
            self.objects[path.removeprefix("/put/")] = body
            return 200, {}
        known = {"id": "me/mine", "sha": "0" * 40, "siblings": [{"rfilename": name} for name in self.files]}
        routes = {
            "/api/repos/create": self._create,
            "/api/validate-yaml": lambda _: {"errors": [], "warnings": []},
            "/api/datasets/me/mine": lambda _: known,
            "/api/datasets/me/mine/revision/main": lambda _: known,
            "/api/datasets/me/mine/preupload/main": self._preupload,
            "/datasets/me/mine.git/info/lfs/objects/batch": self._batch,
            "/api/datasets/me/mine/commit/main": self._commit,
            "/api/datasets/me/mine/tree/main": self._tree,
        }
        return (200, routes[path](body)) if path in routes else (404, {"error": f"no {path} here"})

    def _create(self, body: bytes) -> Any:
        self.created.append(json.loads(body))
        return {"url": f"{self.address}/datasets/me/mine"}

    def _preupload(self, body: bytes) -> Any:
        names = [file["path"] for file in json.loads(body)["files"]]
        return {"files": [{"path": name, "uploadMode": _mode(name), "shouldIgnore": False} for name in names]}

    def _batch(self, body: bytes) -> Any:
        wanted = [(item["oid"], item["size"]) for item in json.loads(body)["objects"]]
        where = {oid: {"upload": {"href": f"{self.address}/put/{oid}"}} for oid, _ in wanted}
        objects = [{"oid": oid, "size": size, "actions": where[oid]} for oid, size in wanted]
        return {"transfer": "basic", "objects": objects}

    def _tree(self, _: bytes) -> Any:
        return [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in self.files]

    def _commit(self, body: bytes) -> Any:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del self.files[value["path"]]
        address = f"{self.address}/datasets/me/mine/commit/1"
        return {"commitUrl": address, "commitOid": "1" * 40, "pullRequestUrl": None, "success": True}


def _mode(name: str) -> str:
    return "lfs" if name.endswith(".parquet") else "regular"


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            state.tokens.add(self.headers.get("Authorization"))
            body = self._body()
            status, content = state.answer(self.command, self.path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815 - the base class names them so

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shards(make_video: Any, tmp_path: Path) -> Path:
    from avsl_data.files import sha256_of
    from avsl_data.ledger import LedgerRow
    from avsl_data.options import PreprocessOptions
    from avsl_data.preprocess import write_shard
    from avsl_data.sources.source import CatalogClip

    clip_id, path = "video000000_000000", make_video(tmp_path / "video000000_000000.mp4", 1)
    row = LedgerRow(clip_id, clip_id[:-7], str(path), "ok", None, None, sha256_of(path), 1.0, 1, "")
    catalog = {clip_id: CatalogClip(clip_id, clip_id[:-7], "folder:///x", 0.0, None, "dog", "test")}
    write_shard(tmp_path / "shards" / "0000.parquet", [row], catalog, {}, PreprocessOptions(0.5))
    return tmp_path / "shards"


def _push(hub: Hub, shards: Path, out: Path, *options: str, token: str = "hf_secret") -> Any:
    """Run the command in a process of its own: the client reads its address when it is imported."""
    command = [sys.executable, "-m", "avsl_data", "hub", "--shards", str(shards), "--out", str(out)]
    changes = {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(out.parent / "home")}
    environment = {**os.environ, **changes, "HF_TOKEN": token, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    if not token:
        del environment["HF_TOKEN"]
    return subprocess.run(
        [*command, "--push", "me/mine", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_arrives_is_the_folder(hub: Hub, shards: Path, tmp_path: Path) -> None:
    done = _push(hub, shards, tmp_path / "out", "--source", "vggss")
    assert done.returncode == 0, done.stderr
    assert "belong to their uploaders" in done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.address}/datasets/me/mine/commit/1"
    assert hub.created[0]["name"] == "mine"
    assert hub.created[0]["type"] == "dataset"
    assert hub.created[0]["visibility"] == "private"
    written = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert hub.files == written
    assert "Bearer hf_secret" in hub.tokens
    hub.files["data/old-00000.parquet"] = b"of an earlier push"
    done = _push(hub, shards, tmp_path / "out", "--source", "vggss", "--metadata-only", "--public")
    assert done.returncode == 0, done.stderr
    assert "uploaders" not in done.stderr
    assert hub.created[1]["visibility"] == "public"
    assert sorted(hub.files) == sorted(written)
    assert hub.files["data/clips-00000.parquet"] == (tmp_path / "out/data/clips-00000.parquet").read_bytes()


@pytest.mark.parametrize(("source", "warned"), [((), True), (("--source", "folder"), False)])
def test_videos_of_nobody_knows_whom_are_warned_of_too(
    source: tuple[str, ...], warned: bool, hub: Hub, shards: Path, tmp_path: Path
) -> None:
    done = _push(hub, shards, tmp_path / "out", *source)
    assert done.returncode == 0, done.stderr
    assert ("belong to their uploaders" in done.stderr) is warned


def test_nobody_is_logged_in(hub: Hub, shards: Path, tmp_path: Path) -> None:
    done = _push(hub, shards, tmp_path / "out", token="")
    assert done.returncode == 2
    assert "needs a token with write access: run `hf auth login` or set $HF_TOKEN" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not hub.created


def test_the_hub_refuses(hub: Hub, shards: Path, tmp_path: Path) -> None:
    hub.refuse = 403
    done = _push(hub, shards, tmp_path / "out")
    assert done.returncode == 3
    assert "the hub did not take" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "README.md").is_file()
