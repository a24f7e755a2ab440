"""Clip ids: three spellings, split by position, safe as file names."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsl_data.errors import DataInputError
from avsl_data.ids import bucket_of, check_clip_id, make_clip_id, normalise, start_of, video_id_of

YOUTUBE_IDS = st.text("abcXYZ019-_", min_size=11, max_size=11)
STARTS = st.integers(0, 999_999)


@given(YOUTUBE_IDS, STARTS)
def test_all_spellings_agree(video_id: str, start_s: int) -> None:
    expected = f"{video_id}_{start_s:06d}"
    assert make_clip_id(video_id, start_s) == expected
    assert normalise(expected) == expected
    assert normalise(f"{expected}.mp4\r\n") == expected
    assert normalise(f"{video_id}_{start_s * 1000}_{start_s * 1000 + 10000}") == expected
    assert normalise(f"{video_id},{start_s}") == expected


@given(YOUTUBE_IDS, STARTS)
def test_parts_come_back(video_id: str, start_s: int) -> None:
    clip_id = make_clip_id(video_id, start_s)
    assert (video_id_of(clip_id), start_of(clip_id)) == (video_id, start_s)


def test_six_digit_milliseconds_are_not_taken_for_seconds() -> None:
    assert normalise("n88E2blrCiU_100000_110000") == "n88E2blrCiU_000100"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "../../etc/pw_000001",
        "a/b_000001",
        "x;rm -rf_000001",
        "$(id)_000001",
        "ab_00001",
        "a\n_000001",
        "ü_000001",
    ],
)
def test_what_is_no_clip_id_is_refused(text: str) -> None:
    with pytest.raises(DataInputError, match="no clip id"):
        check_clip_id(text)


def test_half_seconds_are_refused() -> None:
    with pytest.raises(DataInputError, match="no whole second"):
        normalise("n88E2blrCiU_30500_40500")


def test_unsafe_video_ids_are_refused() -> None:
    with pytest.raises(DataInputError, match="is the column right"):
        make_clip_id("../x", 1)
    with pytest.raises(DataInputError, match="milliseconds"):
        make_clip_id("n88E2blrCiU", 1_000_000)


@given(YOUTUBE_IDS, st.integers(1, 4096))
def test_bucket_is_the_documented_hash(video_id: str, n_buckets: int) -> None:
    digest = hashlib.sha256(video_id.encode()).digest()
    assert bucket_of(video_id, n_buckets) == int.from_bytes(digest[:8], "big") % n_buckets
