"""Pairs: the frame of one clip and the sound of another, from real shards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from avsl_data.__main__ import main
from avsl_data.annotations import build_annotations, write_annotations
from avsl_data.errors import DataInputError
from avsl_data.pairs import write_pairs
from avsl_data.shards import check_shard
from avsl_data.sources.source import ClipBoxes

A, B, C = "aaaaaaaaaaa_000000", "bbbbbbbbbbb_000000", "ccccccccccc_000000"


def _negative(frame_of: str, audio_of: str, silent: str = "mismatched") -> ClipBoxes:
    return ClipBoxes(f"{frame_of}+{audio_of}", "", (), silent, frame_of, audio_of)


@pytest.fixture
def shards(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """Shards of two good clips and one whose file is no video."""
    clips, folder = tmp_path / "clips", tmp_path / "shards"
    clips.mkdir()
    make_video(clips / f"{A}.mp4", 1, tone=0.4)
    make_video(clips / f"{B}.mp4", 1, tone=0.1)
    (clips / f"{C}.mp4").write_bytes(b"no video")
    catalog, ledger = tmp_path / "c.parquet", tmp_path / "l.parquet"
    assert main(["catalog", "folder", "--clips", str(clips), "--buckets", "1", "--out", str(catalog)]) == 0
    given = [
        "--catalog",
        str(catalog),
        "--bucket",
        "0",
        "--from-folder",
        str(clips),
        "--clips",
        str(tmp_path),
    ]
    assert main(["download", *given, "--ledger", str(ledger)]) == 0
    given = ["--catalog", str(catalog), "--ledger", str(ledger), "--out", str(folder / "0000.parquet")]
    assert main(["preprocess", *given, "--frame-time", "0.4", "--short-side", "64"]) == 0
    return folder


def test_pairs(shards: Path, tmp_path: Path) -> None:
    entries = [
        ClipBoxes(A, "dog", ((0.1, 0.1, 0.5, 0.5),)),
        _negative(A, B),
        _negative(B, B, "silent"),
        _negative(A, C),
        _negative(B, "ddddddddddd_000000"),
    ]
    annotations, out = tmp_path / "a.json", tmp_path / "pairs" / "0000.parquet"
    write_annotations(annotations, build_annotations(entries, "mine-extended"))
    given = ["--shards", str(shards), "--annotations", str(annotations), "--out", str(out)]
    assert main(["pair", *given]) == 0
    rows = {row["clip_id"]: row for row in pq.read_table(out).to_pylist()}
    assert set(rows) == {entry.clip_id for entry in entries}
    clips = {row["clip_id"]: row for row in pq.read_table(shards).to_pylist()}
    assert rows[A] == clips[A]
    pair = rows[f"{A}+{B}"]
    assert (pair["frame"], pair["audio"], pair["rms_db"]) == (
        clips[A]["frame"],
        clips[B]["audio"],
        clips[B]["rms_db"],
    )
    assert clips[A]["rms_db"] > clips[B]["rms_db"] + 3
    assert (pair["status"], pair["boxes"], pair["video_id"]) == ("ok", [], A[:-7])
    assert rows[f"{B}+{B}"]["audio"] == clips[B]["audio"]
    broken = rows[f"{A}+{C}"]
    assert (broken["status"], broken["frame"], broken["audio"]) == ("failed", None, None)
    assert broken["reason"] == clips[C]["reason"]
    assert rows[f"{B}+ddddddddddd_000000"]["reason"] == "missing"
    assert check_shard(out)[0] == 5
    first = out.read_bytes()
    assert main(["pair", *given]) == 0
    assert out.read_bytes() == first
    said = json.loads(annotations.read_text())["clips"]
    assert [clip.get("silent") for clip in said] == [None, "mismatched", "mismatched", "silent", "mismatched"]


def test_what_cannot_be_paired(shards: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "a.json"
    write_annotations(annotations, build_annotations([ClipBoxes(A, "dog", ())], "mine"))
    with pytest.raises(DataInputError, match="has no pairs"):
        write_pairs(shards, annotations, tmp_path / "out.parquet")
    with pytest.raises(DataInputError, match="lies among the shards"):
        write_pairs(shards, annotations, shards / "0001.parquet")
    assert [path.name for path in shards.iterdir()] == ["0000.parquet"]
