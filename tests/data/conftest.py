"""Real videos, a real loopback server and a small rendered site for the data tests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_data.catalog import write_catalog
from avsl_data.server import SiteHandler, SiteServer
from avsl_data.sources.demo_scenes import DemoSpec
from avsl_data.sources.demo_site import render_site, write_video
from avsl_data.sources.source import CatalogClip

SIZE = 64
FPS = 10
SAMPLE_RATE = 16000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own: what hosts asked for is kept there."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AVSL_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_spec() -> DemoSpec:
    return DemoSpec(
        seed=3,
        n_videos=4,
        scenes_per_video=3,
        scene_s=1,
        size=SIZE,
        fps=FPS,
        frame_time_s=0.4,
        n_val=1,
        n_test=1,
    )


@pytest.fixture(scope="session")
def tiny_site(tiny_spec: DemoSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rendered videos of three one-second scenes; tests must not change it."""
    site = tmp_path_factory.mktemp("site")
    assert render_site(tiny_spec, site, workers=1)
    return site


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """Write a video whose frame t is of grey level 8 t and whose sound is a sine."""

    def make(
        path: Path, seconds: int = 3, *, size: tuple[int, int] = (SIZE, SIZE), tone: float = 0.3
    ) -> Path:
        height, width = size
        grey = np.minimum(np.arange(seconds * FPS) * 8, 255).astype(np.uint8)
        frames = np.broadcast_to(grey[:, None, None, None], (len(grey), height, width, 3))
        time = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
        samples = (tone * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        write_video(path, np.ascontiguousarray(frames), samples, SAMPLE_RATE, FPS)
        return path

    return make


@pytest.fixture
def make_catalog(tmp_path: Path) -> Callable[..., Path]:
    """Write a catalog of one-second clips of videos under demo:///videos."""

    def make(videos: dict[str, int], *, length_s: float = 1.0, url: str = "demo:///videos/{}.mp4") -> Path:
        clips = [
            CatalogClip(
                f"{video}_{start:06d}",
                video,
                url.format(video),
                float(start),
                start + length_s,
                "red disc",
                "train",
            )
            for video, n_clips in videos.items()
            for start in range(n_clips)
        ]
        path = tmp_path / "catalog.parquet"
        write_catalog(clips, "demo", 1, path)
        return path

    return make


@dataclass
class FaultyServer:
    """A site server that counts requests and fails on demand.

    ``statuses`` maps a path to the statuses of its next answers (0 serves the file, -1 hangs up in the
    middle); the last one stays.
    """

    base_url: str = ""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    lock: Any = field(default_factory=threading.Lock)

    def next_status(self, path: str) -> int:
        with self.lock:
            self.hits[path] += 1
            planned = self.statuses.get(path, [0])
            return planned.pop(0) if len(planned) > 1 else planned[0]


@pytest.fixture
def serve() -> Iterator[Callable[[Path], FaultyServer]]:
    """Start servers that can be told to fail."""
    running: list[SiteServer] = []

    def start(root: Path) -> FaultyServer:
        state = FaultyServer()

        class Handler(SiteHandler):
            def do_GET(self) -> None:  # noqa: N802 - the base class names it so
                status = state.next_status(self.path)
                if status > 0:
                    self.send_error(status)
                elif status < 0:
                    self._hang_up()
                else:
                    super().do_GET()

            def _hang_up(self) -> None:
                path = self.file_of(self.path)
                assert path is not None
                content = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Type", "video/mp4")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True

        server = SiteServer(root, Handler)
        server.__enter__()
        running.append(server)
        state.base_url = server.base_url
        return state

    yield start
    for server in running:
        server.__exit__(None, None, None)
