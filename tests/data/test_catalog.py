"""Catalogs in columns: what one object per clip would give, and refusal of unsafe rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsl_data.catalog import clips_of, read_bucket, read_catalog, write_catalog
from avsl_data.clip_table import ClipTable, codes_of, hashes_of
from avsl_data.errors import DataInputError
from avsl_data.ids import bucket_of, hash_of
from avsl_data.sources.source import CatalogClip


def _clip(clip_id: str = "-0BIyqJj9ZU_000030", video: str | None = None) -> CatalogClip:
    video = clip_id[:-7] if video is None else video
    return CatalogClip(clip_id, video, f"https://x.org/{video}", 30.0, None, "dog, barking", "train")


def test_the_file_is_sorted_and_bucketed(tmp_path: Path) -> None:
    clips = [_clip(f"{name}_{start:06d}") for name in ("zz", "-a", "_b", "a_b") for start in (7, 0)]
    path = tmp_path / "c.parquet"
    write_catalog(clips, "mine", 3, path)
    expected = sorted(clips, key=lambda clip: clip.clip_id)
    assert list(read_catalog(path)) == expected
    assert read_catalog(path) == expected
    assert pq.read_table(path)["bucket"].to_pylist() == [bucket_of(clip.video_id, 3) for clip in expected]
    for bucket in range(3):
        assert read_bucket(path, bucket) == [c for c in expected if bucket_of(c.video_id, 3) == bucket]


def test_a_table_is_a_sequence_of_clips() -> None:
    clips = [_clip(f"abc_{start:06d}") for start in range(5)]
    table = ClipTable.of(clips)
    assert ClipTable.of(table) is table
    assert table[-1] == clips[-1]
    assert list(table[1:4:2]) == clips[1:4:2]
    assert table != clips[:4]
    assert table != 3
    with pytest.raises(IndexError):
        table[5]


@given(st.lists(st.text("ab-_", max_size=3)), st.lists(st.text("bc", max_size=3)))
def test_codes_and_hashes(first: list[str], second: list[str]) -> None:
    chunked = pa.chunked_array([first[:2], first[2:]], pa.string())
    (one, two), values = codes_of(chunked, pa.array(second, pa.string()))
    assert [values[int(code)].as_py() for code in one] == first
    assert [values[int(code)].as_py() for code in two] == second
    assert len(set(values.to_pylist())) == len(values)
    assert hashes_of(chunked, "salt", 3).tolist() == [hash_of("salt", 3, text) for text in first]
    assert hashes_of(values).dtype == np.uint64


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clip_id", "../x_000030", "is no clip id"),
        ("clip_id", " a_000030", "is no clip id"),
        ("clip_id", "+a_000030", "is no clip id"),
        ("clip_id", "-0BIyqJj9ZU_000030\n", "is no clip id"),
        ("clip_id", "", "is no clip id"),
        ("clip_id", None, "column clip_id has rows without a value"),
        ("video_id", "abc", "does not belong to video 'abc'"),
        ("video_id", "../etc", "does not belong to video"),
        ("url", "file:///etc/passwd", "expected one of http://"),
        ("url", "--exec=x", "expected one of http://"),
        ("url", "https://x.org/a b", "without spaces"),
        ("url", "https://x.org/\n--exec", "without spaces"),
    ],
)
def test_unsafe_rows_are_refused(field: str, value: str | None, message: str, tmp_path: Path) -> None:
    row = dataclasses.asdict(_clip()) | {field: value}
    table = pa.Table.from_pylist([dataclasses.asdict(_clip("abcdefghijk_000001")), row])
    with pytest.raises(DataInputError, match=rf"c\.parquet: .*{message}"):
        clips_of(table, Path("c.parquet"))
    with pytest.raises(DataInputError, match=message):
        write_catalog(ClipTable(table), "x", 1, tmp_path / "c.parquet")
    assert not list(tmp_path.iterdir())


def test_ids_of_pictures_need_not_hold_their_video() -> None:
    clips = [_clip("10000130166", "10000130166"), _clip("drum_female_104_drum", "drum_female_104")]
    table = ClipTable.of(clips).table
    assert clips_of(table, Path("x")) == clips
