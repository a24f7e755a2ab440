"""The rendered site: byte for byte reproducible, whole or continued."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from avsl_data.decode import verify
from avsl_data.errors import DataInputError
from avsl_data.files import sha256_of
from avsl_data.sources.demo_render import render_video
from avsl_data.sources.demo_scenes import DemoSpec, demo_videos
from avsl_data.sources.demo_site import render_site, spec_digest


def _files(site: Path) -> dict[str, str]:
    return {str(path.relative_to(site)): sha256_of(path) for path in site.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(tiny_site: Path, tiny_spec: DemoSpec, tmp_path: Path) -> None:
    render_site(tiny_spec, tmp_path, workers=2)
    assert _files(tmp_path) == _files(tiny_site)
    assert len(list((tmp_path / "videos").iterdir())) == tiny_spec.n_videos


def test_videos_hold_what_was_rendered(tiny_site: Path, tiny_spec: DemoSpec) -> None:
    video = demo_videos(tiny_spec)[0]
    path = tiny_site / "videos" / f"{video.video_id}.mp4"
    facts = verify(path)
    assert (facts.width, facts.height, facts.video_s) == (64, 64, pytest.approx(3.0))
    frames, _, _ = render_video(tiny_spec, video)
    with av.open(str(path)) as container:
        stored = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert stored.shape == frames.shape
    assert np.abs(stored.astype(float) - frames).mean() < 8


def test_a_stopped_run_continues_with_what_is_there(
    tiny_site: Path, tiny_spec: DemoSpec, tmp_path: Path
) -> None:
    render_site(tiny_spec, tmp_path)
    videos = sorted((tmp_path / "videos").iterdir())
    videos[0].unlink()
    (tmp_path / "site.json").unlink()
    (tmp_path / "rendering.json").write_text(json.dumps({"digest": spec_digest(tiny_spec)}))
    (tmp_path / "videos" / ".left.mp4.0123.tmp").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in videos[1:]}
    assert render_site(tiny_spec, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in videos[1:]} == before
    assert _files(tmp_path) == _files(tiny_site)
    assert not render_site(tiny_spec, tmp_path)


def test_another_specification_starts_over(tiny_spec: DemoSpec, tmp_path: Path) -> None:
    render_site(tiny_spec, tmp_path)
    first = _files(tmp_path)
    smaller = dataclasses.replace(tiny_spec, n_videos=3)
    assert render_site(smaller, tmp_path)
    second = _files(tmp_path)
    assert len([name for name in second if name.endswith(".mp4")]) == 3
    assert first["site.json"] != second["site.json"]


def test_a_folder_of_other_videos_is_left_alone(tiny_spec: DemoSpec, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(DataInputError, match="not rendered here"):
        render_site(tiny_spec, tmp_path)
    assert _files(tmp_path).keys() == {"videos/holiday.mp4"}


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the group; videos that are whole stay, and only those."""
    flags = ["--out", str(tmp_path), "--videos", "40", "--val", "1", "--test", "2", "--workers", "2"]
    command = [sys.executable, "-m", "avsl_data", "render", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list((tmp_path / "videos").glob("*.mp4")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (
        130,
        "avsl-data: interrupted. Run the same command to continue.\n",
    )
    videos = list((tmp_path / "videos").iterdir())
    assert 0 < len(videos) < 40
    assert all(verify(path).video_s == pytest.approx(40.0) for path in videos)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rendering.json", "videos"]
