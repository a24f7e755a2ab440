"""Weights from files and from a real server on the loopback interface, with everything that goes wrong."""

from __future__ import annotations

import hashlib
import http.server
import logging
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights

from avsl_train import weights
from avsl_train.errors import TrainInputError
from avsl_train.weights import fetch, load_state, locate, read_state, torchvision_state

BODY = bytes(range(256)) * 4096  # a megabyte
DIGEST = hashlib.sha256(BODY).hexdigest()


class Site:
    """A server of one file that behaves badly where a test tells it to."""

    def __init__(self) -> None:
        self.body = BODY
        self.ranges = True
        self.length = True
        self.cuts: list[int] = []  # of each of the next answers, only so many bytes are sent
        self.errors: list[int] = []  # status of the next answers
        self.requests: list[str | None] = []  # their Range headers
        self.sending: Callable[[], None] = lambda: None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/net-1.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.requests.append(asked)
        if site.errors:
            self.send_error(site.errors.pop(0))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
        size = len(site.body)
        if start >= size:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if site.length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        site.sending()
        stop = start + site.cuts.pop(0) if site.cuts else size
        self.wfile.write(site.body[start:stop])

    def log_message(self, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve `BODY`; attempts follow each other at once."""
    monkeypatch.setattr(weights, "WAIT_S", 0.0)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    handler = type("BoundHandler", (Handler,), {"site": site})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once_and_checked(site: Site, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch(site.url, DIGEST, "model.weights", tmp_path)
        assert path.read_bytes() == BODY
    assert site.requests == [None]
    assert kept(tmp_path) == [f"{DIGEST[:16]}-net-1.pth"]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.cuts = [300_000, 200_000]
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY
    assert site.requests == [None, "bytes=300000-", "bytes=500000-"]


def test_the_next_run_goes_on_where_one_gave_up(site: Site, tmp_path: Path) -> None:
    site.cuts = [100_000, *[0] * (weights.ATTEMPTS - 1)]
    with pytest.raises(
        TrainInputError, match=r"\(broke off after 100000 of 1048576 bytes\); its first 0\.1 MB"
    ):
        fetch(site.url, DIGEST, "w", tmp_path)
    assert kept(tmp_path) == [f".{DIGEST[:16]}-net-1.pth.part"]
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY
    assert site.requests[-1] == "bytes=100000-"
    assert len(kept(tmp_path)) == 1


def test_a_server_without_ranges_sends_all_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [300_000]
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY
    assert len(site.requests) == 2


def test_a_server_that_tells_no_length_is_believed_if_the_digest_is_right(site: Site, tmp_path: Path) -> None:
    site.length = False
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY
    site.cuts = [1000]
    with pytest.raises(TrainInputError, match="SHA-256"):
        fetch(site.url, DIGEST, "w", tmp_path / "other")


def test_a_part_that_is_whole_already_is_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / f".{DIGEST[:16]}-net-1.pth.part").write_bytes(BODY)
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("part", [b"x" * 5000, BODY + b"x"])
def test_a_part_of_another_file_is_dropped(site: Site, tmp_path: Path, part: bytes) -> None:
    (tmp_path / f".{DIGEST[:16]}-net-1.pth.part").write_bytes(part)
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY
    assert site.requests == [f"bytes={len(part)}-", None]


def test_another_file_than_the_one_meant_is_not_kept(site: Site, tmp_path: Path) -> None:
    site.body = b"another"
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(TrainInputError, match=f"w: {site.url} has the SHA-256 {found}, not {DIGEST}"):
        fetch(site.url, DIGEST, "w", tmp_path)
    assert kept(tmp_path) == []


def test_a_busy_server_is_asked_again_and_a_wrong_address_is_not(site: Site, tmp_path: Path) -> None:
    site.errors = [503, 429]
    assert fetch(site.url, DIGEST, "w", tmp_path).read_bytes() == BODY
    assert len(site.requests) == 3
    site.errors = [404] * 9
    with pytest.raises(TrainInputError, match=r"cannot download .* \(HTTP 404 Not Found\).*give its path"):
        fetch(site.url, DIGEST, "w", tmp_path / "other")
    assert len(site.requests) == 4


def test_nobody_at_the_address_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(
        TrainInputError,
        match=r"cannot download http://127\.0\.0\.1:1/x \(\[Errno \d+\] Connection refused\)\. Or fetch",
    ):
        fetch("http://127.0.0.1:1/x", DIGEST, "w", tmp_path)
    assert kept(tmp_path) == []


def test_two_processes_download_once(site: Site, tmp_path: Path) -> None:
    site.sending = lambda: time.sleep(0.3)  # the second one comes while the first one is being served
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch(site.url, DIGEST, "w", tmp_path), range(2)))
    assert found[0] == found[1]
    assert site.requests == [None]
    assert len(kept(tmp_path)) == 1


def test_progress_is_said(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights, "SAY_EVERY_S", 0.0)
    monkeypatch.setattr(weights, "CHUNK", 1 << 18)
    with caplog.at_level(logging.INFO):
        fetch(site.url, DIGEST, "w", tmp_path)
    assert len(caplog.messages) >= 4
    assert re.fullmatch(r"net-1\.pth: 1 of 1 MB \([\d.]+ MB/s\)", caplog.messages[-1])


def test_an_address_is_a_specification_and_lands_in_the_cache(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSL_CACHE", str(tmp_path / "cache"))
    path = locate(f"{site.url}#sha256={DIGEST[:8].upper()}", "model.weights")
    assert path.parent == tmp_path / "cache/weights"
    assert path.read_bytes() == BODY
    monkeypatch.delenv("AVSL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.cache_folder() == tmp_path / ".cache/avsl"


@pytest.mark.parametrize("end", ["", "#sha256=", "#sha256=1234567", "#sha256=nothexadecimal"])
def test_an_address_without_a_digest_is_not_fetched(site: Site, end: str) -> None:
    with pytest.raises(TrainInputError, match=r"needs its digest.*append #sha256=DIGEST"):
        locate(site.url + end, "model.weights")
    assert site.requests == []


def test_a_local_file_may_have_a_digest_too(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with pytest.raises(TrainInputError, match=r"model\.weights: no file .*net\.pth; use `imagenet`"):
        locate(str(path), "model.weights")
    path.write_bytes(BODY)
    assert locate(f"{path}#sha256={DIGEST[:12]}", "w") == path
    with pytest.raises(TrainInputError, match=f"has the SHA-256 {DIGEST}, not 00000000"):
        locate(f"{path}#sha256=00000000", "w")


def test_torchvisions_weights_come_from_its_cache_or_say_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # no network
    place = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    with pytest.raises(
        TrainInputError, match=rf"cannot download https://.*put it at {place}, or give its path"
    ):
        torchvision_state(ResNet18_Weights.IMAGENET1K_V1, "model.weights")
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"a": torch.ones(1)}, place)
    assert torchvision_state(ResNet18_Weights.IMAGENET1K_V1, "model.weights").keys() == {"a"}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_found_in_a_checkpoint(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = {f"{prefix}conv.weight": torch.ones(2)}
    torch.save(state if wrapper is None else {"epoch": 3, wrapper: state}, tmp_path / "c.pth")
    assert read_state(tmp_path / "c.pth", "w").keys() == {"conv.weight"}


@pytest.mark.parametrize("core", ["core", "_core"])
def test_scores_as_numpys_numbers_do_not_keep_a_checkpoint_from_being_read(tmp_path: Path, core: str) -> None:
    """Published checkpoints hold some; their name in the file is of numpy 1 or of numpy 2."""
    scores = {"best_cIoU": np.float64(0.4), "epoch": np.int64(3), "best": np.bool_(True)}
    torch.save({"model": {"a": torch.ones(1)}, **scores}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "c.pth", "w") as changed:
        for entry in new.namelist():
            data = new.read(entry).replace(b"numpy._core.multiarray", b"numpy.%b.multiarray" % core.encode())
            changed.writestr(entry, data)
    assert read_state(tmp_path / "c.pth", "w")["a"].tolist() == [1]


def test_files_that_are_no_weights_are_told(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(
        TrainInputError, match=r"holds a Python object \(torch\.nn\.modules\.linear\.Linear\)"
    ):
        read_state(path, "w")
    torch.save({"epoch": 3}, path)
    with pytest.raises(TrainInputError, match="holds no weights"):
        read_state(path, "w")
    torch.save([torch.ones(1)], path)
    with pytest.raises(TrainInputError, match="holds no weights"):
        read_state(path, "w")
    torch.save({"a": torch.ones(100)}, path)
    whole = path.read_bytes()
    for size in (0, 10, 200, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(TrainInputError, match="cannot be read as a state_dict: it may be cut short"):
            read_state(path, "w")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5))


def load(state: dict[str, torch.Tensor], unused: tuple[str, ...] = ()) -> nn.Sequential:
    module = net()
    load_state(module, state, "model.weights: x.pth", "state_dict of the net", unused)
    return module


def test_weights_that_fit_are_loaded() -> None:
    state = net().state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    extra = {"fc.weight": torch.ones(1)}
    for given in (state, old, {**old, **extra}):
        found = load(given, unused=("fc.",)).state_dict()
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_weights_that_do_not_fit_are_counted_and_named() -> None:
    state = {name: value for name, value in net().state_dict().items() if name != "2.bias"}
    given = {**state, "2.weight": torch.ones(5, 3), "fc.weight": torch.ones(1)}
    with pytest.raises(
        TrainInputError,
        match=r"^model\.weights: x\.pth is no state_dict of the net: 7 of 9 names fit; missing: 2\.bias; "
        r"unknown: fc\.weight; shapes: 2\.weight is 5x3 instead of 5x4\. Is it .* of another network\?$",
    ):
        load(given)
    with pytest.raises(
        TrainInputError, match=r"0 of 9 names fit; missing: 0\.weight, .* and 5 more; unknown: a"
    ):
        load({"a": torch.ones(1)})


def test_the_likely_mistake_is_guessed() -> None:
    state = net().state_dict()
    with pytest.raises(
        TrainInputError, match=r"Its names begin with 'encoder\.': save that part of it alone"
    ):
        load({f"encoder.{name}": value for name, value in state.items()})
    with pytest.raises(TrainInputError, match="The names fit: is it the same network with other sizes"):
        load({**state, "2.weight": torch.ones(9, 4), "2.bias": torch.ones(9)})


def test_a_network_keeps_its_weights_where_some_do_not_fit() -> None:
    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    bad = {name: value + 1 for name, value in before.items()} | {"2.bias": torch.ones(9)}
    with pytest.raises(TrainInputError):
        load_state(module, bad, "x", "net")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
