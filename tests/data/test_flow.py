"""Optical flow: the known motion of a square, what published files hold, and an honest null."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from avsl_data.__main__ import main
from avsl_data.annotations import build_annotations, write_annotations
from avsl_data.decode import BadMediaError, ffmpeg_executable
from avsl_data.errors import DataInputError
from avsl_data.extract import read_clip
from avsl_data.files import sha256_of
from avsl_data.flow import decode_flow, encode_flow, optical_flow, published_flow
from avsl_data.hub_dataset import write_dataset
from avsl_data.ledger import LedgerRow, write_ledger
from avsl_data.options import PreprocessOptions
from avsl_data.pairs import write_pairs
from avsl_data.preprocess import write_shard
from avsl_data.schema import SHARD
from avsl_data.shards import all_have_flow, check_shard, shard_rows
from avsl_data.sources.source import CatalogClip, ClipBoxes
from avsl_data.stills import join_still

SIDE, SQUARE = 160, slice(60, 100)
"""Of the pictures with a textured square of 40 pixels in the middle; and where the square is."""

INSIDE = slice(68, 92)


def ffmpeg(*arguments: object) -> None:
    subprocess.run([ffmpeg_executable(), "-y", "-v", "error", *map(str, arguments)], check=True)


def pictures(n: int, right: int, down: int) -> Any:
    """Return n grey pictures of a square that moves over a ground that does not, [n, side, side, 3]."""
    draw = np.random.default_rng(4)
    noise = (draw.integers(0, 256, (side, side)).astype(np.uint8) for side in (SIDE, 40))
    smooth = (cv2.GaussianBlur(texture, (0, 0), 2) for texture in noise)
    ground, texture = (cv2.normalize(field, None, 0, 255, cv2.NORM_MINMAX) for field in smooth)
    frames = np.repeat(ground[None], n, 0)
    for t in range(n):
        y, x = SQUARE.start + t * down, SQUARE.start + t * right
        frames[t, y : y + 40, x : x + 40] = texture
    return np.repeat(frames[..., None], 3, -1)


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Write the moving square as a video of 10 pictures per second with a sound, nearly without loss."""

    def make(name: str, n: int, right: int, down: int, *options: object) -> Path:
        raw = tmp_path / "raw.rgb"
        raw.write_bytes(pictures(n, right, down).tobytes())
        video = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{SIDE}x{SIDE}", "-r", 10, "-i", raw)
        sound = ("-f", "lavfi", "-i", f"sine=duration={n / 10}")
        ffmpeg(*video, *sound, "-c:v", "libx264", "-crf", 4, "-pix_fmt", "yuv420p", *options, tmp_path / name)
        return tmp_path / name

    return make


def flow_at(path: Path, time_s: float, side: int = 4096) -> Any:
    """Return the flow of the picture of a time, or None."""
    (picture,) = read_clip(path, lambda _: (time_s,), side, 16_000, flow=True).pictures
    assert picture is not None
    if picture.flow is None:
        return None
    flow = decode_flow(picture.flow)
    assert flow.shape == (picture.height, picture.width, 2)
    return flow


def median(flow: Any, rows: slice = INSIDE, columns: slice = INSIDE) -> list[float]:
    return np.median(flow[rows, columns], (0, 1)).tolist()  # type: ignore[no-any-return]


# --- the field --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-4, 3), (2, -5)])
def test_a_square_moves_and_the_ground_does_not(right: int, down: int) -> None:
    before, after = (av.VideoFrame.from_ndarray(frame, "rgb24") for frame in pictures(2, right, down))
    flow = optical_flow(before, after, SIDE, SIDE)
    assert flow is not None
    assert median(flow) == pytest.approx([right, down], abs=0.25)
    assert np.abs(flow[:30]).max() < 0.1


def test_the_flow_of_a_clip_is_that_to_the_next_picture(film: Callable[..., Path]) -> None:
    """Whichever the time; a picture that is scaled down keeps displacements in pixels of the video."""
    path = film("a.mp4", 10, 4, -3)
    for number in (0, 2, 3):
        y, x = (slice(INSIDE.start + number * step, INSIDE.stop + number * step) for step in (-3, 4))
        assert median(flow_at(path, number / 10), y, x) == pytest.approx([4, -3], abs=0.3)
    assert median(flow_at(path, 0.0, side=80), slice(34, 46), slice(34, 46)) == pytest.approx(
        [4, -3], abs=0.4
    )


def test_variable_rate_and_further_pictures(film: Callable[..., Path], tmp_path: Path) -> None:
    """The next picture is the next that is shown, whenever; only the first of the times has a flow."""
    path = tmp_path / "drops.mp4"
    ffmpeg("-i", film("a.mp4", 10, 2, 1), "-vf", r"select=not(between(n\,1\,2))", "-fps_mode", "vfr", path)
    assert median(flow_at(path, 0.0)) == pytest.approx([6, 3], abs=0.3)
    media = read_clip(path, lambda _: (0.4, 0.0, 0.4), 4096, 16_000, flow=True)
    flows = [None if picture is None else picture.flow for picture in media.pictures]
    assert [flow is None for flow in flows] == [False, True, False]


def test_a_rotated_video_moves_as_it_is_seen(film: Callable[..., Path], tmp_path: Path) -> None:
    """A quarter turn counter-clockwise makes right into up."""
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", film("a.mp4", 3, 3, 1), "-c", "copy", path)
    assert median(flow_at(path, 0.0)) == pytest.approx([1, -3], abs=0.3)


def test_square_pixels(film: Callable[..., Path]) -> None:
    """The field has the size of the stored picture, its values are pixels of the video."""
    flow = flow_at(film("a.mp4", 3, 3, 0, "-vf", "setsar=2/1"), 0.0)
    assert flow.shape == (SIDE, 2 * SIDE, 2)
    assert median(flow, INSIDE, slice(136, 184)) == pytest.approx([3, 0], abs=0.3)


@pytest.mark.parametrize("size", ["16x16", "34x640", "302x98"])
def test_odd_sizes(size: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    source = f"testsrc2=size={size}:rate=10:duration=1"
    ffmpeg("-f", "lavfi", "-i", source, "-f", "lavfi", "-i", "sine=duration=1", path)
    assert np.isfinite(flow_at(path, 0.5)).all()


def test_real_clips_have_the_flow_of_the_published_preprocessing(shared: Path, tmp_path: Path) -> None:
    """As published: OpenCV reads the video, and writes each direction of the flow as a JPEG; then 224 x 224.

    The JPEGs, and that they are of full resolution, make the difference; the motion is up to 25 pixels.
    """
    largest = 0
    for path in sorted((shared / "clips" / "vggss").glob("*.mp4")):
        media = read_clip(path, lambda _: (4.96,), 256, 16_000, flow=True)
        (picture,) = media.pictures
        assert picture is not None
        assert picture.flow is not None
        whole = _published(path, round(picture.begins_s * media.facts.fps))
        written = []
        for number, name in enumerate(("flow_x", "flow_y")):
            saturated = np.clip(np.rint(whole[..., number]), 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / f"{name}.jpg"), saturated)
            written.append(_loaded(Image.open(tmp_path / f"{name}.jpg").convert("L")))
        ours = published_flow(decode_flow(picture.flow))
        found = [_loaded(Image.fromarray(ours[..., number])) for number in (0, 1)]
        difference = np.abs(np.stack(written) - np.stack(found))
        assert difference.max() <= 2
        assert difference.mean() < 0.03
        largest = max(largest, int(ours.max()))
        # At full size nothing but the step of 1/64 pixel is lost.
        (full,) = read_clip(path, lambda _: (4.96,), 4096, 16_000, flow=True).pictures
        assert full is not None
        assert full.flow is not None
        assert np.abs(decode_flow(full.flow) - whole).max() <= 1 / 128
    assert largest > 20


def _published(path: Path, number: int) -> Any:
    video = cv2.VideoCapture(str(path))
    grey = []
    for position in (number, number + 1):
        video.set(cv2.CAP_PROP_POS_FRAMES, position)
        _, picture = video.read()
        grey.append(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    return cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def _loaded(picture: Image.Image) -> Any:
    return np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC), np.float32)


# --- the file ---------------------------------------------------------------------------------------

FIELDS = arrays(np.float32, (3, 5, 2), elements=st.floats(-600, 600, width=32))


@given(FIELDS)
def test_a_flow_is_kept_to_a_sixty_fourth_of_a_pixel(flow: Any) -> None:
    kept = decode_flow(encode_flow(flow))
    within = np.clip(flow, -512, 512 - 1 / 64)
    assert np.abs(kept - within).max() <= 1 / 128
    assert np.array_equal(decode_flow(encode_flow(kept)), kept)


def test_the_file_is_what_kitti_describes(tmp_path: Path) -> None:
    """Red is 64 x + 2^15, green 64 y + 2^15, blue 1, by another decoder than the one that wrote it."""
    flow = np.array([[[0.0, -1.0], [2.5, 100.0]], [[-512.0, 0.25], [0.015625, -0.015625]]], np.float32)
    (tmp_path / "a.png").write_bytes(encode_flow(flow))
    ffmpeg("-i", tmp_path / "a.png", "-f", "rawvideo", "-pix_fmt", "rgb48le", tmp_path / "a.raw")
    stored = np.fromfile(tmp_path / "a.raw", "<u2").reshape(2, 2, 3)
    assert stored.tolist() == [
        [[32768, 32704, 1], [32928, 39168, 1]],
        [[0, 32784, 1], [32769, 32767, 1]],
    ]


def test_the_published_form_has_no_signs() -> None:
    flow = np.array([[[-3.0, 0.4], [0.5, 1.5], [254.6, 400.0]]], np.float32)
    assert published_flow(flow).tolist() == [[[0, 0], [0, 2], [255, 255]]]
    rounded = cv2.imdecode(cv2.imencode(".png", published_flow(flow)[..., 0])[1], cv2.IMREAD_GRAYSCALE)
    assert rounded.tolist() == [[0, 0, 255]]


def test_what_is_no_flow() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    for content in (b"", b"no picture", file.getvalue()):
        with pytest.raises(DataInputError, match="no optical flow as a PNG of three channels of 16 bits"):
            decode_flow(content)


# --- never made up ----------------------------------------------------------------------------------


def test_the_last_picture_has_none(film: Callable[..., Path]) -> None:
    path = film("a.mp4", 5, 2, 0)
    assert flow_at(path, 0.3) is not None
    assert flow_at(path, 0.4) is None


def test_pictures_of_two_sizes_have_none() -> None:
    before, after = (av.VideoFrame(side, side, "yuv420p") for side in (32, 48))
    assert optical_flow(before, after, 32, 32) is None


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_still_has_none(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(pictures(1, 0, 0)[0]).save(tmp_path / f"a.{suffix}")
    soundfile.write(tmp_path / "a.wav", np.zeros(48_000), 16_000)
    join_still(tmp_path / f"a.{suffix}", tmp_path / "a.wav", 0.0, None, tmp_path / "a.mkv")
    assert flow_at(tmp_path / "a.mkv", 1.0) is None


def test_a_video_in_which_nothing_moves_has_zeros(film: Callable[..., Path]) -> None:
    """That was measured: a camera looked and saw nothing move."""
    flow = flow_at(film("a.mp4", 5, 0, 0), 0.2)
    assert np.abs(flow).max() < 0.1


def test_a_damaged_next_picture_is_told(film: Callable[..., Path]) -> None:
    """Without the flow, which needs it, nothing is wrong with the clip's picture."""
    path = film("a.mp4", 12, 3, 1, "-bf", 0, "-g", 4)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        ((begin, size),) = [(p.pos, p.size) for p in packets if float(p.pts * p.time_base) == 0.5]
    content = bytearray(path.read_bytes())
    content[begin + size // 2 : begin + size // 2 + 16] = bytes(16)
    path.write_bytes(content)
    (picture,) = read_clip(path, lambda _: (0.4,), 64, 16_000).pictures
    assert picture is not None
    with pytest.raises(BadMediaError, match=r"the picture at 0\.50 s is damaged"):
        flow_at(path, 0.4)


# --- shards -----------------------------------------------------------------------------------------


def clip_rows(paths: list[Path]) -> tuple[list[LedgerRow], dict[str, CatalogClip]]:
    rows = [
        LedgerRow(f"video{k}_000000", f"video{k}", str(path), "ok", None, None, sha256_of(path), 1.0, 1, "")
        for k, path in enumerate(paths)
    ]
    clips = [CatalogClip(row.clip_id, row.video_id, "folder:///x", 0.0, None, "x", "test") for row in rows]
    return rows, {clip.clip_id: clip for clip in clips}


@pytest.fixture
def paths(film: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """A clip whose picture at 0.2 s has a next one, one where it is the last, and one that is broken."""
    (tmp_path / "broken.mp4").write_bytes(b"x")
    return [film("whole.mp4", 5, 3, 0), film("ends.mp4", 3, 3, 0), tmp_path / "broken.mp4"]


def test_rows_with_and_without_flow(paths: list[Path], tmp_path: Path) -> None:
    rows, catalog = clip_rows(paths)
    counts = write_shard(tmp_path / "s.parquet", rows, catalog, {}, PreprocessOptions(0.2, flow=True))
    assert counts == {"ok": 2, "damaged": 1, "no_flow": 1}
    whole, ends, broken = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert median(decode_flow(whole["flow"]), INSIDE, slice(74, 98)) == pytest.approx([3, 0], abs=0.3)
    assert "no_flow" not in whole["notes"]
    assert ends["flow"] is broken["flow"] is None
    assert ends["frame"] is not None
    assert ends["notes"] == ["no_flow"]
    assert check_shard(tmp_path / "s.parquet")[0] == 3
    write_shard(tmp_path / "p.parquet", rows, catalog, {}, PreprocessOptions(0.2))
    plain = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert plain == [
        {name: value for name, value in row.items() if name != "flow"} | {"notes": other["notes"]}
        for row, other in zip([whole, ends, broken], plain, strict=True)
    ]


def test_any_number_of_workers_writes_the_same_bytes(paths: list[Path], tmp_path: Path) -> None:
    rows, catalog = clip_rows(paths)
    for workers in (1, 2):
        options = PreprocessOptions(0.2, flow=True)
        write_shard(tmp_path / f"{workers}.parquet", rows, catalog, {}, options, workers)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_shards_without_flow_are_those_of_before(tmp_path: Path) -> None:
    """Columns, metadata and digest of a shard as they were before there was the option."""
    row = LedgerRow("abc_000000", "abc", None, "failed", "gone", "404", None, None, 3, "2026-01-01")
    catalog = {"abc_000000": CatalogClip("abc_000000", "abc", "", 0, 1, "dog", "")}
    write_shard(tmp_path / "s.parquet", [row], catalog, {}, PreprocessOptions())
    stored = pq.read_schema(tmp_path / "s.parquet")
    assert stored.remove_metadata().equals(SHARD.columns)
    sums = {key: hashlib.sha256(value).hexdigest()[:16] for key, value in stored.metadata.items()}
    assert sums == {b"avsl": "2a29ff828e06bf2a", b"huggingface": "a6fb1e2412666e9d"}
    _, digest = check_shard(tmp_path / "s.parquet")
    assert digest.startswith("fd5b8514513afe5b")
    assert dataclasses.asdict(PreprocessOptions()) == {**PreprocessOptions().record(), "flow": False}


def test_damage_of_the_flow_is_told(paths: list[Path], tmp_path: Path) -> None:
    rows, catalog = clip_rows(paths)
    path = tmp_path / "s.parquet"
    write_shard(path, rows, catalog, {}, PreprocessOptions(0.2, flow=True))
    flow = pq.read_table(path)["flow"][0].as_py()
    content = path.read_bytes()
    at = content.index(flow) + len(flow) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(DataInputError, match="is damaged"):
        check_shard(path)


def test_a_folder_has_flow_or_has_none(paths: list[Path], tmp_path: Path) -> None:
    rows, catalog = clip_rows(paths)
    folder = tmp_path / "shards"
    write_shard(folder / "0000.parquet", rows[:1], catalog, {}, PreprocessOptions(0.2, flow=True))
    assert all_have_flow([folder / "0000.parquet"])
    _, contents = write_dataset(tmp_path / "hub", folder, [])
    assert contents.clips == 1
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "| `flow` | optical flow" in card
    (file,) = (tmp_path / "hub" / "data").glob("*.parquet")
    (stored,) = pq.read_table(file).to_pylist()
    assert stored["flow"] == next(shard_rows(folder))["flow"]
    write_dataset(tmp_path / "bare", folder, [], metadata_only=True)
    (file,) = (tmp_path / "bare" / "data").glob("*.parquet")
    assert "flow" not in pq.read_schema(file).names
    assert "`flow`" not in (tmp_path / "bare" / "README.md").read_text(encoding="utf-8")
    write_shard(folder / "0001.parquet", rows[1:], catalog, {}, PreprocessOptions(0.2))
    with pytest.raises(
        DataInputError, match=r"0001.parquet has no optical flow and others of its folder have"
    ):
        write_dataset(tmp_path / "hub", folder, [])
    (folder / "0000.parquet").unlink()
    write_dataset(tmp_path / "plain", folder, [])
    assert "`flow`" not in (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")


def test_the_flow_of_a_pair_is_that_of_its_frame(paths: list[Path], tmp_path: Path) -> None:
    rows, catalog = clip_rows(paths)
    folder, annotations, out = tmp_path / "shards", tmp_path / "a.json", tmp_path / "pairs.parquet"
    write_shard(folder / "0000.parquet", rows, catalog, {}, PreprocessOptions(0.2, flow=True))
    whole, ends, broken = (row.clip_id for row in rows)
    pairs = [(whole, ends), (ends, whole), (whole, broken)]
    entries = [ClipBoxes(f"{frame}+{audio}", "", (), "mismatched", frame, audio) for frame, audio in pairs]
    write_annotations(annotations, build_annotations(entries, "mine-extended"))
    write_pairs(folder, annotations, out)
    found = {row["clip_id"]: row for row in pq.read_table(out).to_pylist()}
    assert found[f"{whole}+{ends}"]["flow"] == next(shard_rows(folder))["flow"]
    assert found[f"{ends}+{whole}"]["flow"] is None
    assert "no_flow" in found[f"{ends}+{whole}"]["notes"]
    assert found[f"{whole}+{broken}"]["flow"] is None
    assert check_shard(out)[0] == 3
    write_shard(folder / "0001.parquet", [], {}, {}, PreprocessOptions(0.2))
    with pytest.raises(DataInputError, match=r"0001\.parquet has no optical flow and others"):
        write_pairs(folder, annotations, out)


LOAD = """
import json, sys
import datasets
data = datasets.load_dataset("parquet", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
data = data.cast_column("audio", datasets.Audio(decode=False))
print(json.dumps([type(data.features["frame"]).__name__, str(data.features["flow"].dtype),
                  [None if row["flow"] is None else len(row["flow"]) for row in data]]))
"""


def test_datasets_opens_a_shard_with_flow(paths: list[Path], tmp_path: Path) -> None:
    """The flow comes as the file's bytes: Pillow would make a picture of 8 bits of it."""
    rows, catalog = clip_rows(paths)
    write_shard(tmp_path / "s.parquet", rows, catalog, {}, PreprocessOptions(0.2, flow=True))
    command = [sys.executable, "-c", LOAD, str(tmp_path / "s.parquet"), str(tmp_path / "cache")]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "USE_TORCH": "NO"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=offline)
    flow = pq.read_table(tmp_path / "s.parquet")["flow"][0].as_py()
    assert json.loads(done.stdout) == ["Image", "binary", [len(flow), None, None]]


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def command(paths: list[Path], tmp_path: Path) -> list[str]:
    """The words of a preprocessing of two clips, without options."""
    from avsl_data.catalog import write_catalog

    rows, catalog = clip_rows(paths[:2])
    write_ledger(tmp_path / "l.parquet", rows)
    write_catalog(list(catalog.values()), "folder", 1, tmp_path / "c.parquet")
    files = {"--ledger": "l.parquet", "--catalog": "c.parquet", "--out": "s.parquet"}
    words = [word for flag, name in files.items() for word in (flag, str(tmp_path / name))]
    return ["preprocess", *words, "--frame-time", "0.2"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], False),
        (["--flow"], True),
        (["--preset", "htf"], True),
        (["--preset", "htf", "--no-flow"], False),
        (["--preset", "lvs"], False),
    ],
)
def test_who_gets_flow(
    options: list[str], wanted: bool, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *options]) == 0
    assert ("flow" in pq.read_schema(tmp_path / "s.parquet").names) is wanted
    assert ("no_flow 1" in capsys.readouterr().out) is wanted


def test_without_opencv(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what to install, before any clip is read; without the option nothing needs it."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main([*command, "--flow"]) == 2
    error = capsys.readouterr().err
    assert "optical flow needs OpenCV" in error
    assert "pip install 'avsl-toolkit[flow]'" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "s.parquet").exists()
    assert main(command) == 0
