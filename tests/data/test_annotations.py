"""Annotations keep every clip, drop faulty boxes and say which."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsl_data.annotations import build_annotations, clean_box, read_clean_boxes, write_annotations
from avsl_data.errors import DataInputError
from avsl_data.sources.source import ClipBoxes

GOOD = (0.1, 0.2, 0.5, 0.9)


@given(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 4))
def test_a_box_is_usable_or_has_a_reason(box: tuple[float, float, float, float]) -> None:
    cleaned, why = clean_box(box)
    assert (cleaned is None) == (why is not None)
    if cleaned is not None:
        x0, y0, x1, y1 = cleaned
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert all(math.isclose(a, b, abs_tol=0.011) for a, b in zip(cleaned, box, strict=True))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True))
def test_good_boxes_stay_as_they_are(values: list[float]) -> None:
    x0, x1 = sorted(values[:2])
    y0, y1 = sorted(values[2:])
    assert clean_box((x0, y0, x1, y1)) == ((x0, y0, x1, y1), None)


def test_clips_without_boxes_stay(tmp_path: Path) -> None:
    clips = [
        ClipBoxes("b_000000", "dog", (GOOD, (0.3, 0.3, 0.3, 0.9))),
        ClipBoxes("a_000000", "cat", ((0.1, 0.2, -2.88e16, 0.4),)),
    ]
    annotations = build_annotations(clips, "mine")
    assert annotations == {
        "schema": "avsl-annotations/1",
        "dataset": "mine",
        "subset": None,
        "truth": "union",
        "clips": [
            {"clip_id": "a_000000", "label": "cat", "boxes": []},
            {"clip_id": "b_000000", "label": "dog", "boxes": [list(GOOD)]},
        ],
        "dropped": [
            {"clip_id": "a_000000", "box": [0.1, 0.2, -2.88e16, 0.4], "why": "a coordinate is not in [0, 1]"},
            {"clip_id": "b_000000", "box": [0.3, 0.3, 0.3, 0.9], "why": "no area"},
        ],
    }
    write_annotations(tmp_path / "a.json", annotations)
    assert json.loads((tmp_path / "a.json").read_text()) == annotations
    assert read_clean_boxes(tmp_path / "a.json") == {"a_000000": [], "b_000000": [GOOD]}


def test_a_part() -> None:
    clips = [
        ClipBoxes("a_000000", "dog", (GOOD, (0, 0, 0, 0))),
        ClipBoxes("b_000000", "dog", ((0, 0, 0, 0),)),
    ]
    annotations = build_annotations(clips, "mine", "heard", {"a_000000"})
    assert annotations["subset"] == "heard"
    assert [clip["clip_id"] for clip in annotations["clips"]] == ["a_000000"]
    assert [item["clip_id"] for item in annotations["dropped"]] == ["a_000000"]
    with pytest.raises(
        DataInputError, match="1 of the 2 clips of subset 'heard' have no annotations in 'mine', first c"
    ):
        build_annotations(clips, "mine", "heard", {"a_000000", "c_000000"})
