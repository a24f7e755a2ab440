"""From a folder of videos under any names and a table of boxes to a dataset, in one command that resumes."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from avsl_data.__main__ import main
from avsl_data.decode import ffmpeg_executable
from avsl_data.own_videos import own_clips, own_id
from avsl_data.split_files import read_subset

TABLE = """label,y1,x1,y0,x0,file,who
"dog, barking",1.0,0.5,0.5,0.25,My dog (1).mp4,A
"dog, barking",0.5,1,0,0.5,My dog (1).mp4,B
cat,0.75,0.75,0.25,0.25,cats/cat,A
bird,,,,,1aDnyPubxdY_000118,A
"""


@pytest.fixture
def videos(make_video: Callable[..., Path], tmp_path: Path) -> Path:
    """Four videos with sound, one without and one that is no video."""
    folder = tmp_path / "videos"
    for name in ("My dog (1).mp4", "cats/cat.mp4", "1aDnyPubxdY_000118.mp4", "ünnamed.mp4"):
        make_video(folder / name, 1, size=(48, 64))
    command = [ffmpeg_executable(), "-v", "error", "-i", str(folder / "cats/cat.mp4"), "-c", "copy", "-an"]
    subprocess.run([*command, str(folder / "mute.MOV")], check=True)
    (folder / "text.mp4").write_text("no video")
    (folder / "notes.txt").write_text("not asked for")
    (tmp_path / "boxes.csv").write_text(TABLE)
    return folder


def _rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in pq.read_table(out / "hub" / "data").to_pylist()}


def _run(videos: Path, out: Path, *arguments: object) -> int:
    command = ("dataset", videos, "--out", out, "--frame-time", "0.5", *arguments)
    return main([str(argument) for argument in command])


def test_one_command(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert _run(videos, out, "--boxes", tmp_path / "boxes.csv", "--recipe", "by-hash") == 0
    rows = _rows(out)
    dog, cat = own_id(Path("My dog (1).mp4")), own_id(Path("cats/cat.mp4"))
    assert set(rows) == {dog, cat, "1aDnyPubxdY_000118", own_id(Path("ünnamed.mp4"))}
    assert rows[dog]["boxes"] == [[0.25, 0.5, 0.5, 1.0], [0.5, 0.0, 1.0, 0.5]]
    assert rows[cat]["boxes"] == [[0.25, 0.25, 0.75, 0.75]]
    assert rows["1aDnyPubxdY_000118"]["boxes"] == []
    assert rows[own_id(Path("ünnamed.mp4"))]["boxes"] is None
    picture = Image.open(io.BytesIO(rows[dog]["frame"]["bytes"]))
    assert np.asarray(picture).mean() == pytest.approx(40, abs=3)
    excluded = (out / "hub" / "exclusions.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[3] for line in excluded) == ["damaged", "no_audio"]
    features = json.loads(pq.read_schema(next((out / "hub/data").iterdir())).metadata[b"huggingface"])
    assert features["info"]["features"]["label"]["names"] == ["bird", "cat", "dog, barking"]
    said = capsys.readouterr()
    assert said.err == ""
    assert "shard 0000.parquet: damaged 1, no_audio 1, ok 4" in said.out
    assert "# videos" in (out / "hub" / "README.md").read_text()


def test_a_second_run_makes_only_what_changed(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_video: Callable[..., Path]
) -> None:
    out, boxes = tmp_path / "out", tmp_path / "boxes.csv"
    assert _run(videos, out, "--boxes", boxes) == 0
    first = {path: path.read_bytes() for path in (out / "hub").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert _run(videos, out, "--boxes", boxes, "--workers", 2) == 0
    assert "shard 0000.parquet: as before" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (out / "hub").rglob("*") if path.is_file()} == first
    boxes.write_text(TABLE.replace("cat,0.75", "lion,0.75"))
    assert _run(videos, out, "--boxes", boxes) == 0
    assert "as before" not in capsys.readouterr().out
    (videos / "My dog (1).mp4").unlink()
    make_video(videos / "text.mp4", 1)
    boxes.write_text("clip_id,x0,y0,x1,y1\ntext,0,0,1,1\n")
    assert _run(videos, out, "--boxes", boxes) == 0
    rows = _rows(out)
    assert rows[own_id(Path("text.mp4"))]["boxes"] == [[0, 0, 1, 1]]
    assert own_id(Path("My dog (1).mp4")) not in rows
    assert len(rows) == 4


def test_pixels_and_no_boxes(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "pixels.csv").write_text("file,x0,y0,x1,y1\ncat.mp4,16,12,48,36\n")
    assert _run(videos, tmp_path / "a", "--boxes", tmp_path / "pixels.csv", "--pixels") == 0
    cat = own_id(Path("cats/cat.mp4"))
    assert _rows(tmp_path / "a")[cat]["boxes"] == [[0.25, 0.25, 0.75, 0.75]]
    assert _run(videos, tmp_path / "b") == 0
    assert _rows(tmp_path / "b")[cat]["boxes"] is None


def test_pixels_of_a_turned_video_are_those_a_viewer_sees(videos: Path, tmp_path: Path) -> None:
    turned = videos / "turned.mp4"
    command = [
        ffmpeg_executable(),
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        str(videos / "cats/cat.mp4"),
    ]
    subprocess.run([*command, "-i", str(videos / "cats/cat.mp4"), "-c", "copy", str(turned)], check=True)
    (tmp_path / "p.csv").write_text("file,x0,y0,x1,y1\nturned.mp4,0,0,24,64\n")
    assert _run(videos, tmp_path / "a", "--boxes", tmp_path / "p.csv", "--pixels") == 0
    row = _rows(tmp_path / "a")[own_id(Path("turned.mp4"))]
    assert (row["width"], row["height"]) == (48, 64)
    assert row["boxes"] == [[0, 0, 0.5, 1]]


BAD_TABLES = {
    "lacks the column y1: its header is file, x0, y0, x1": "file,x0,y0,x1\n",
    "lacks the column clip_id or file": "x0,y0,x1,y1\n",
    "its header is empty": "",
    "line 2: no video of .* is called 'cat.mp5': did you mean 'cat.mp4'": (
        "file,x0,y0,x1,y1\ncat.mp5,0,0,1,1\n"
    ),
    "line 3: cats/cat.mp4 has the label 'dog' here and 'cat' before": (
        "file,x0,y0,x1,y1,label\ncat,0,0,1,1,cat\ncats/cat.mp4,0,0,1,1,dog\n"
    ),
    "are these pixels\\? Then add --pixels": "file,x0,y0,x1,y1\ncat.mp4,10,10,40,40\n",
    "has no area: x1 and y1 are the right and lower border": "file,x0,y0,x1,y1\ncat.mp4,0.5,0.5,0.2,0.2\n",
    "four numbers or all empty": "file,x0,y0,x1,y1\ncat.mp4,0.5,,0.2,0.2\n",
    "corners are fractions": "file,x0,y0,x1,y1\ncat.mp4,0,nan,1,1\n",
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_a_wrong_table_is_told_by_line(
    message: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    (tmp_path / "bad.csv").write_text(BAD_TABLES[message])
    assert _run(videos, tmp_path / "out", "--boxes", tmp_path / "bad.csv") == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_bad_input(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "wide.csv").write_text("file,x0,y0,x1,y1\ncat.mp4,0,0,65,48\n")
    out = tmp_path / "out"
    cases: dict[str, tuple[object, ...]] = {
        "has no videos": (tmp_path / "none", out),
        "is no folder": (tmp_path / "absent", out),
        "lies in the folder of the videos": (videos, videos / "out"),
        "is no readable CSV file": (videos, out, "--boxes", tmp_path / "absent.csv"),
        "is not inside the picture of 64x48 pixels": (
            *(videos, out, "--boxes", tmp_path / "wide.csv", "--pixels"),
        ),
        "unknown recipe": (videos, out, "--recipe", "by-hsh"),
        "unknown preset": (videos, out, "--preset", "ezvs"),
    }
    for message, (folder, where, *arguments) in cases.items():
        assert _run(Path(str(folder)), Path(str(where)), *arguments) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_two_videos_of_one_id(videos: Path, make_video: Callable[..., Path]) -> None:
    from avsl_data.errors import DataInputError

    make_video(videos / "again" / "1aDnyPubxdY_000118.mp4", 1)
    with pytest.raises(DataInputError, match="are the same clip"):
        own_clips(videos)


def test_a_published_video_is_known_by_any_name(make_video: Callable[..., Path], tmp_path: Path) -> None:
    """Clips in other spellings and whole videos under YouTube's id leave a training that tests on them."""
    folder = tmp_path / "videos"
    folder.mkdir()
    names = ("1aDnyPubxdY_118000_128000", "3JYjNHFJfO4", "-_MP_kQ_-w-,30", "7tMPoaU2oL4_000000", "my dog")
    for name in names:
        make_video(folder / f"{name}.mp4", 2)
    clips = {clip.path.stem: clip.clip_id for clip in own_clips(folder)}
    assert [clips[name] for name in names[:4]] == [
        "1aDnyPubxdY_000118",
        "3JYjNHFJfO4_000000",
        "-_MP_kQ_-w-_000030",
        "7tMPoaU2oL4_000000",
    ]
    assert main(["dataset", str(folder), "--out", str(tmp_path / "mine"), "--frame-time", "0.5"]) == 0
    test = tmp_path / "test.txt"
    test.write_text("1aDnyPubxdY,1\n3JYjNHFJfO4_000200\n-_MP_kQ_-w-_000030\n")
    (tmp_path / "own.csv").write_text("".join(f"{clip_id},unlabeled\n" for clip_id in clips.values()))
    out = tmp_path / "s.parquet"
    split = ["split", "own", "--catalog", str(tmp_path / "mine" / "catalog.parquet"), "--held-out", str(test)]
    assert main([*split, "--assign", str(tmp_path / "own.csv"), "--out", str(out)]) == 0
    left = read_subset(out, "unlabeled")
    assert left == {"7tMPoaU2oL4_000000", clips["my dog"]}
