"""Shards: the right frame, the right sound, an honest status, and open to `datasets`."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from avsl_data.annotations import read_clean_boxes
from avsl_data.catalog import read_bucket, write_catalog
from avsl_data.copies import FromFolder
from avsl_data.decode import ffmpeg_executable
from avsl_data.download import download_bucket
from avsl_data.errors import DataInputError
from avsl_data.extract import SourceFacts
from avsl_data.files import sha256_of
from avsl_data.ledger import LedgerRow, ok_row, read_ledger, write_ledger
from avsl_data.notes import NOTES
from avsl_data.options import PreprocessOptions
from avsl_data.preprocess import write_shard
from avsl_data.presets import CODE, OURS, PAPER, PRESETS
from avsl_data.schema import SHARD, SOURCE
from avsl_data.sources import SOURCES
from avsl_data.sources.demo_render import render_frames
from avsl_data.sources.demo_scenes import DemoSpec, demo_videos
from avsl_data.sources.source import CatalogClip, Inputs

Shard = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """Take a folder of clips through catalog, ledger and shard; return the shard's rows by clip."""

    def run(folder: Path, annotations: Path | None = None, **options: Any) -> dict[str, dict[str, Any]]:
        clips = SOURCES["folder"].catalog(Inputs(clips=folder, annotations=annotations))
        download_bucket(clips, FromFolder.of(folder), tmp_path / "ledger.parquet")
        boxes = read_clean_boxes(annotations) if annotations else {}
        ledger, out = read_ledger(tmp_path / "ledger.parquet"), tmp_path / "shards" / "0000.parquet"
        write_shard(
            out, ledger, {clip.clip_id: clip for clip in clips}, boxes, PreprocessOptions(**options), 2
        )
        return {row["clip_id"]: row for row in pq.read_table(out).to_pylist()}

    return run


def _pixels(row: dict[str, Any]) -> Any:
    return np.asarray(Image.open(io.BytesIO(row["frame"]["bytes"])).convert("RGB"), np.float32)


def test_real_clips(shared: Path, shard: Shard) -> None:
    """The stored frame is the 125th that reading at 25 frames per second gives, of the file's own size."""
    folder = shared / "clips" / "vggss"
    rows = shard(folder, folder / "annotations.json", frame_time_s=4.96, short_side=4096)
    assert len(rows) == 6
    for clip_id, row in rows.items():
        assert row["status"] == "ok"
        assert row["audio_s"] == pytest.approx(10, abs=0.05)
        assert len(row["boxes"]) == 1
        size = (row["width"], row["height"])
        command = [ffmpeg_executable(), "-v", "error", "-i", str(folder / f"{clip_id}.mp4")]
        command += ["-vf", "fps=25", "-frames:v", "126", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"]
        raw = subprocess.run(command, check=True, capture_output=True).stdout
        frames = np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)
        distance = [float(np.abs(frames[t] - _pixels(row)).mean()) for t in (123, 124, 125)]
        assert distance[1] < 4, f"{clip_id}: the frame differs by {distance} from numbers 123, 124 and 125"
        assert distance[1] == min(distance)


def test_scaling_keeps_the_shape_and_never_enlarges(shared: Path, shard: Shard) -> None:
    rows = shard(shared / "clips" / "vggss", short_side=256)
    sizes = {clip_id: (row["width"], row["height"]) for clip_id, row in rows.items()}
    assert sizes == {
        "1aDnyPubxdY_000118": (320, 240),
        "3JYjNHFJfO4_000363": (455, 256),
        "6zlMP_kQ_-w_000030": (341, 256),
        "7tMPoaU2oL4_000000": (341, 256),
        "aEYwqY-Zt_k_000011": (256, 256),
        "nLKEdmVu3FY_000040": (320, 240),
    }
    assert all(row["boxes"] is None for row in rows.values()), "clips without annotations have a null, not []"


def test_awkward_files_have_honest_statuses(shared: Path, shard: Shard, tmp_path: Path) -> None:
    """Six seconds have a frame at 4.96 s and none at 9.5 s; files without sound fail before."""
    folder = tmp_path / "edge"
    folder.mkdir()
    for number, path in enumerate(sorted((shared / "clips" / "edge").iterdir())):
        if path.suffix != ".wav":
            (folder / f"edge{number}_000000{path.suffix}").symlink_to(path)
    rows = shard(folder, frame_time_s=4.96, short_side=128)
    assert {clip_id: row["reason"] for clip_id, row in rows.items()} == {
        "edge1_000000": "no_audio",  # damaged as well
        "edge2_000000": None,  # Opus in Matroska
        "edge3_000000": None,  # six seconds
        "edge4_000000": "no_audio",  # AV1
        "edge5_000000": "no_audio",  # HEVC
        "edge6_000000": None,  # two video and two audio streams: the first ones
    }
    assert rows["edge3_000000"]["audio_s"] == pytest.approx(6.0, abs=0.05)
    late = shard(folder, frame_time_s=9.5)
    assert late["edge3_000000"]["reason"] == "too_short"
    assert "no frame at 9.5 s" in late["edge3_000000"]["detail"]
    assert late["edge3_000000"]["frame"] is None
    assert late["edge2_000000"]["status"] == "ok"


def test_demo_frames_and_sounds(tiny_site: Path, tiny_spec: DemoSpec, tmp_path: Path) -> None:
    """Through render, download and preprocess, the frame is the one that the boxes were drawn for."""
    from avsl_data.download import FromNetwork
    from avsl_data.fetch import FetchPolicy
    from avsl_data.server import SiteServer

    inputs = Inputs(site=tiny_site)
    write_catalog(SOURCES["demo"].catalog(inputs), "demo", 1, tmp_path / "c.parquet")
    clips = read_bucket(tmp_path / "c.parquet", 0)
    with SiteServer(tiny_site) as server:
        acquire = FromNetwork(tmp_path / "clips", FetchPolicy(), server.base_url)
        counts = download_bucket(clips, acquire, tmp_path / "l.parquet")
    assert counts == {"ok": 12, "resumed": 0}
    boxes = read_clean_boxes(tiny_site / "demo_ss.json")
    options = PreprocessOptions(tiny_spec.frame_time_s, 64)
    catalog = {clip.clip_id: clip for clip in clips}
    counts = write_shard(tmp_path / "s.parquet", read_ledger(tmp_path / "l.parquet"), catalog, boxes, options)
    assert counts == {"ok": 12}
    rows = {row["clip_id"]: row for row in pq.read_table(tmp_path / "s.parquet").to_pylist()}
    number = round(tiny_spec.frame_time_s * tiny_spec.fps)
    for video in demo_videos(tiny_spec):
        for scene in video.scenes:
            row = rows[scene.clip_id]
            frames = render_frames(tiny_spec, scene).astype(np.float32)
            distance = [float(np.abs(frame - _pixels(row)).mean()) for frame in frames]
            assert distance[number] < 10
            assert distance[number] < min(distance) + 0.5  # objects drift by a quarter of a pixel per frame
            assert np.allclose(row["boxes"], scene.boxes, atol=1e-6)
            assert row["label"] == scene.label
            samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
            assert (rate, samples.ndim) == (16000, 1)
            assert len(samples) == pytest.approx(16000, abs=1100)
            assert -40 < row["rms_db"] < -5


@pytest.mark.parametrize("number", [0, 4, 9, 19])
def test_the_frame_is_the_one_on_screen(number: int, make_video: Any, shard: Shard, tmp_path: Path) -> None:
    """Frame t of the video is of grey level 8 t and is shown from t / 10 s to (t + 1) / 10 s."""
    make_video(tmp_path / "clips" / "good0000000_000000.mp4", 2)
    for late in (0.0, 0.06):
        row = shard(tmp_path / "clips", frame_time_s=number / 10 + late)["good0000000_000000"]
        assert _pixels(row).mean() == pytest.approx(8 * number, abs=3)
        assert row["frame_time_s"] == pytest.approx(number / 10 + late)
        assert row["frame_begins_s"] == pytest.approx(number / 10)


def test_silence_is_recorded_not_refused(make_video: Any, shard: Shard, tmp_path: Path) -> None:
    make_video(tmp_path / "clips" / "quiet000000_000000.mp4", 1, tone=0.0)
    make_video(tmp_path / "clips" / "loud0000000_000000.mp4", 1, tone=0.5)
    rows = shard(tmp_path / "clips", frame_time_s=0.5)
    assert rows["quiet000000_000000"]["status"] == "ok"
    assert rows["quiet000000_000000"]["rms_db"] == pytest.approx(-120)
    assert rows["loud0000000_000000"]["rms_db"] == pytest.approx(-9.03, abs=0.3)  # 20 log10(0.5 / sqrt 2)


def test_clips_that_changed_after_the_download(make_video: Any, shard: Shard, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for name in ("gone0000000", "same0000000", "else0000000"):
        make_video(folder / f"{name}_000000.mp4", 1)
    shard(folder, frame_time_s=0.5)
    (folder / "gone0000000_000000.mp4").unlink()
    (folder / "else0000000_000000.mp4").write_bytes(b"x")
    ledger = read_ledger(tmp_path / "ledger.parquet")
    catalog = {row.clip_id: CatalogClip(row.clip_id, row.video_id, "", 0, None, "", "") for row in ledger}
    counts = write_shard(tmp_path / "s.parquet", ledger, catalog, {}, PreprocessOptions(0.5))
    assert counts == {"missing": 1, "ok": 1, "damaged": 1}


def test_failed_clips_stay_as_rows(tmp_path: Path) -> None:
    row = LedgerRow(
        "abc_000000", "abc", None, "failed", "gone", "HTTP Error 404", None, None, 3, "2026-01-01"
    )
    catalog = {"abc_000000": CatalogClip("abc_000000", "abc", "", 0, 1, "dog", "")}
    boxes = {"abc_000000": [(0.0, 0.0, 0.5, 0.5)]}
    write_shard(tmp_path / "s.parquet", [row], catalog, boxes, PreprocessOptions())
    (stored,) = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert (stored["status"], stored["reason"], stored["detail"]) == ("failed", "gone", "HTTP Error 404")
    assert stored["frame"] is stored["audio"] is stored["width"] is None
    assert stored["boxes"] == [[0.0, 0.0, 0.5, 0.5]]
    with pytest.raises(
        DataInputError, match="the ledger has 1 clips that the catalog lacks, first abc_000000"
    ):
        write_shard(tmp_path / "t.parquet", [row], {}, {}, PreprocessOptions())
    assert not (tmp_path / "t.parquet").exists()


def test_an_empty_bucket_is_an_empty_shard(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "s.parquet", [], {}, {}, PreprocessOptions()) == {}
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 0


def test_a_worker_that_is_killed_stops_the_shard(make_video: Any, tmp_path: Path) -> None:
    """The message names where, nothing is written, and the same command makes the shard afterwards."""
    path = make_video(tmp_path / "a.mp4", 3)
    checksum = sha256_of(path)
    clips = [
        CatalogClip(f"clip{k:04d}_000000", f"clip{k:04d}", "folder:///a", 0, None, "", "")
        for k in range(4000)
    ]
    write_catalog(clips, "folder", 1, tmp_path / "c.parquet")
    rows = [ok_row(clip, path, 3.0, 1) for clip in clips]
    write_ledger(tmp_path / "l.parquet", [dataclasses.replace(row, sha256=checksum) for row in rows])
    command = [sys.executable, "-m", "avsl_data", "preprocess", "--frame-time", "0.5", "--workers", "2"]
    command += ["--ledger", "l.parquet", "--catalog", "c.parquet", "--out", "s.parquet"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        while len(workers := _workers_of(running.pid)) < 2:
            assert running.poll() is None
            time.sleep(0.01)
        os.kill(workers[0], signal.SIGKILL)
        _, error = running.communicate(timeout=60)
    assert running.returncode == 3
    assert re.fullmatch(r"avsl-data: stopped: a worker process was killed at clip.* Run the same .*\n", error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "c.parquet", "l.parquet"]


def _workers_of(pid: int) -> list[int]:
    """Return the worker processes of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets(name: str, shared: Path, shard: Shard, tmp_path: Path) -> None:
    """Each keeps the seconds of sound that it says, from where it says; every value has a source."""
    preset = PRESETS[name]
    fields = {field.name for field in dataclasses.fields(preset)} - {"sources", "note"}
    assert set(preset.sources) == fields
    assert set(preset.sources.values()) <= {CODE, OURS, PAPER}
    options = PreprocessOptions.of_preset(name)
    assert options.preset == name
    (tmp_path / "two").mkdir()
    for path in sorted((shared / "clips" / "vggss").glob("*.mp4"))[:2]:
        (tmp_path / "two" / path.name).symlink_to(path)
    whole = shard(tmp_path / "two", sample_rate=preset.sample_rate)
    given = dataclasses.asdict(options) | {"frame_times_s": ()}
    for clip_id, row in shard(tmp_path / "two", **given).items():
        all_of_it, rate = soundfile.read(io.BytesIO(whole[clip_id]["audio"]["bytes"]), dtype="int16")
        kept, own_rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        assert own_rate == rate == preset.sample_rate
        wanted = min(len(all_of_it), round((preset.audio_s or 99) * rate))
        begin = (len(all_of_it) - wanted) // 2 if preset.audio_from == "middle" else 0
        assert np.array_equal(kept, all_of_it[begin : begin + wanted])
        assert row["audio_from_s"] == pytest.approx(begin / rate)
        middle = row["source"]["video_s"] / 2
        assert row["frame_time_s"] == pytest.approx(preset.frame_time_s or middle, abs=0.02)


def test_the_docs_list_every_note_and_preset(repository: Path) -> None:
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    for name, meaning in NOTES.items():
        assert f"| `{name}` | {meaning} |" in text
    for name, preset in PRESETS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |") and "[" in line]
        frame, seconds, begin, rate, flow = (cell.strip() for cell in line.split("|")[2:7])
        time = "middle" if preset.frame_time_s is None else f"{preset.frame_time_s:g} s"
        assert frame == f"{time} [{preset.sources['frame_time_s']}]"
        assert seconds == f"{preset.audio_s:g} s [{preset.sources['audio_s']}]"
        assert begin == f"{preset.audio_from} [{preset.sources['audio_from']}]"
        assert rate == f"{preset.sample_rate:,} [{preset.sources['sample_rate']}]"
        assert flow == f"{'yes' if preset.flow else 'no'} [{preset.sources['flow']}]"


def test_an_unknown_preset_and_a_changed_one() -> None:
    with pytest.raises(DataInputError, match="unknown preset 'ezvs': did you mean 'ezvsl'"):
        PreprocessOptions.of_preset("ezvs")
    assert PreprocessOptions.of_preset("ezvsl", audio_s=5.0).audio_s == 5.0


def test_further_frames(make_video: Any, shard: Shard, tmp_path: Path) -> None:
    make_video(tmp_path / "clips" / "good0000000_000000.mp4", 2)
    row = shard(tmp_path / "clips", frame_time_s=0.5, frame_times_s=(1.0, 0.3, 5.0))["good0000000_000000"]
    assert row["frames_at_s"] == pytest.approx([1.0, 0.3, 5.0])
    assert row["frames"][2] is None
    assert row["notes"] == ["frames_missing"]
    greys = [_pixels({"frame": frame}).mean() for frame in (row["frame"], *row["frames"][:2])]
    assert greys == pytest.approx([40, 80, 24], abs=3)
    row = shard(tmp_path / "clips", frame_time_s=None, frames_per_clip=4)["good0000000_000000"]
    assert row["frames_at_s"] == pytest.approx([0.25, 0.75, 1.25, 1.75])
    assert [_pixels({"frame": frame}).mean() for frame in row["frames"]] == pytest.approx(
        [16, 56, 96, 136], abs=3
    )
    assert row["frame_time_s"] == pytest.approx(1.0)
    assert row["notes"] == []


def test_notes_on_peculiar_clips(make_video: Any, shard: Shard, tmp_path: Path) -> None:
    """Files that published preprocessing takes without a word are usable, and say what they are."""
    plain, folder = make_video(tmp_path / "plain.mp4", 3), tmp_path / "clips"
    folder.mkdir()
    made: dict[str, tuple[object, ...]] = {
        "silent": ("-i", plain, "-af", "volume=0", "-c:v", "copy"),
        "short_audio": ("-i", plain, "-af", "atrim=end=2", "-c:v", "copy"),
        "short_video": ("-i", plain, "-t", 2, "-i", plain, "-map", "1:v", "-map", "0:a", "-c", "copy"),
        "late_audio": (
            "-i",
            plain,
            "-itsoffset",
            0.2,
            "-i",
            plain,
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c",
            "copy",
        ),
        "odd_fps": ("-i", plain, "-r", 23.65),
        "variable_fps": ("-i", plain, "-vf", r"select=not(between(n\,9\,12))", "-fps_mode", "vfr"),
        "several_streams": ("-i", plain, "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy"),
        "rotated": ("-display_rotation", 90, "-i", plain, "-c", "copy"),
        "anamorphic": ("-i", plain, "-vf", "setsar=16/15"),
    }
    for number, arguments in enumerate(made.values()):
        command = [ffmpeg_executable(), "-v", "error", *map(str, arguments)]
        subprocess.run([*command, str(folder / f"clip{number}_000000.mp4")], check=True)
    found = shard(folder, frame_time_s=0.5)
    assert all(row["status"] == "ok" for row in found.values())
    notes = {name: found[f"clip{number}_000000"]["notes"] for number, name in enumerate(made)}
    assert all(name in notes[name] for name in made), notes
    assert {name for names in notes.values() for name in names} <= set(NOTES)
    assert notes["silent"] == ["silent"]
    assert notes["rotated"] == ["rotated"]


def test_any_number_of_workers_writes_the_same_bytes(make_video: Any, tmp_path: Path) -> None:
    for number in range(20):
        make_video(tmp_path / "clips" / f"clip{number}_000000.mp4", 1)
    (tmp_path / "clips" / "clip7_000000.mp4").write_bytes(b"")
    clips = SOURCES["folder"].catalog(Inputs(clips=tmp_path / "clips"))
    download_bucket(clips, FromFolder.of(tmp_path / "clips"), tmp_path / "ledger.parquet")
    ledger = read_ledger(tmp_path / "ledger.parquet")
    catalog = {clip.clip_id: clip for clip in clips}
    for workers, order in ((1, 1), (2, -1), (3, 1)):
        out, rows = tmp_path / f"{workers}.parquet", ledger[::order]
        counts = write_shard(out, rows, catalog, {}, PreprocessOptions(0.5), workers)
        assert counts == {"ok": 19, "damaged": 1}
    assert len({(tmp_path / f"{workers}.parquet").read_bytes() for workers in (1, 2, 3)}) == 1


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"frame_time_s": -1.0}, "--frame-time"),
        ({"frame_time_s": float("nan")}, "--frame-time"),
        ({"short_side": 0}, "--short-side"),
        ({"sample_rate": 10**6}, "--sample-rate"),
        ({"audio_s": 0.0}, "--audio-seconds"),
        ({"audio_from": "end"}, "--audio-from end: give start or middle"),
        ({"frame_times_s": (1.0, -2.0)}, "--frame-times -2"),
        ({"frames_per_clip": -1}, "--frames-per-clip"),
        ({"frames_per_clip": 2, "frame_times_s": (1.0,)}, "give one of them"),
    ],
)
def test_options_are_checked(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(DataInputError, match=flag):
        PreprocessOptions(**options)


LOAD = """
import json, sys, warnings
import datasets
folder, cache = sys.argv[1:]
for streaming in (False, True):
    data = datasets.load_dataset("parquet", data_files=f"{folder}/*.parquet", split="train", cache_dir=cache,
                                 streaming=streaming)
    data = data.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))
    rows = list(data)
    print(json.dumps({
        "features": {name: type(kind).__name__ for name, kind in data.features.items()},
        "boxes": [data.features["boxes"].feature.length, data.features["boxes"].feature.feature.dtype],
        "sizes": [row["frame"].size if row["frame"] else None for row in rows],
        "audio": [row["audio"]["bytes"][:4].decode() if row["audio"] else None for row in rows],
        "truth": [row["boxes"] for row in rows],
    }))
assert "torch" not in sys.modules
"""


def test_datasets_opens_a_shard(make_video: Any, shard: Shard, tmp_path: Path) -> None:
    """In a fresh process and without torch: frames as images, sounds undecoded, boxes as written."""
    make_video(tmp_path / "clips" / "good0000000_000000.mp4", 1)
    entries = [
        {"file": "good0000000_000000", "class": "x", "bbox": [[0.25, 0, 0.5, 1], [0, 0.5, 1, 0.75]]},
        {"file": "lost0000000_000000", "class": "x", "bbox": []},
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    shard(tmp_path / "clips", tmp_path / "a.json", frame_time_s=0.5)
    command = [sys.executable, "-c", LOAD, str(tmp_path / "shards"), str(tmp_path / "cache")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_offline())
    for line in done.stdout.strip().splitlines():
        found = json.loads(line)
        assert found["features"]["frame"] == "Image"
        assert found["features"]["audio"] == "Audio"
        assert found["boxes"] == [4, "float32"]
        assert found["sizes"] == [[64, 64], None]
        assert found["audio"] == ["fLaC", None]
        assert found["truth"] == [[[0.25, 0, 0.5, 1], [0, 0.5, 1, 0.75]], []]
    assert len(done.stdout.strip().splitlines()) == 2


def _offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "USE_TORCH": "NO"}


def test_the_written_features_are_those_of_datasets() -> None:
    from datasets import Audio, Features, Image, List, Value

    from avsl_data.features import huggingface_features

    plain = {"string": "string", "int32": "int32", "float": "float32", "bool": "bool"}
    expected: dict[str, Any] = {
        field.name: Value(plain[str(field.type)]) for field in SHARD.columns if str(field.type) in plain
    }
    expected |= {
        "frame": Image(),
        "frames": List(Image()),
        "audio": Audio(sampling_rate=16000),
        "boxes": List(List(Value("float32"), length=4)),
        "frames_at_s": List(Value("float32")),
        "notes": List(Value("string")),
        "source": {field.name: Value(plain[str(field.type)]) for field in SOURCE},
    }
    schema = Features({name: expected[name] for name in SHARD.columns.names}).arrow_schema
    written = json.loads(huggingface_features(16000))["info"]["features"]
    assert written == json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert schema.remove_metadata().equals(SHARD.columns.remove_metadata())


def test_the_columns_of_the_source_are_the_facts() -> None:
    assert [field.name for field in SOURCE] == [field.name for field in dataclasses.fields(SourceFacts)]
