"""Scores of parts of a test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval.breakdown import by_boxes, by_label, by_size, by_subset, label_subsets
from avsl_eval.errors import EvalInputError
from avsl_eval.truth import read_annotations


def shown(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    return [(row["name"], row["n"], row["metrics"]["m"]) for row in rows]


def values(*numbers: float) -> dict[str, np.ndarray]:
    return {"m": np.array(numbers)}


def test_labels() -> None:
    rows = by_label(["b", "a", "", "c", "b"], values(1, 0.5, 9, 0.25, 0))
    assert shown(rows) == [("b", 2, 0.5), ("a", 1, 0.5), ("c", 1, 0.25)]


def test_sizes() -> None:
    rows = by_size(np.array([0, 1023, 30000, 9216]), values(0, 1, 0.3, 0.7))
    assert shown(rows) == [("small", 2, 0.5), ("large", 1, 0.7), ("huge", 1, 0.3)]


def test_boxes() -> None:
    rows = by_boxes([1, 12, 0, 5, 1], values(1, 0, 0.5, 1, 0))
    assert shown(rows) == [("0", 1, 0.5), ("1", 2, 0.5), ("5 or more", 2, 0.5)]


def test_subsets_may_overlap() -> None:
    rows = by_subset(["x", "y", "z"], {"first": ["x", "y"], "last": ["z", "y", "w"]}, values(0, 1, 0.5))
    assert shown(rows) == [("first", 2, 0.5), ("last", 2, 0.75)]


@pytest.mark.parametrize(
    ("wanted", "message"), [(["q_1"], "ids like 'q_1', the test set 'x'"), ([], "it is empty")]
)
def test_a_subset_of_another_test_set(wanted: list[str], message: str) -> None:
    with pytest.raises(EvalInputError, match=message):
        by_subset(["x"], {"heard": wanted}, values(1))


def test_no_clip() -> None:
    assert by_label([], values()) == by_size(np.array([]), values()) == by_boxes([], values()) == []


def test_heard_and_unheard_classes_of_vggss(shared: Path) -> None:
    (path,) = (shared / "mirror").glob("*/hche11/Localizing*/*/metadata/vggss.json")
    classes = json.loads((shared / "derived" / "ezvsl_heard_unheard_classes.json").read_text())
    clips = read_annotations(path).clips
    ids, labels = [c.clip_id for c in clips], [c.label for c in clips]
    subsets = label_subsets(ids, labels, {name: classes[name] for name in ("heard", "unheard")})
    rows = by_subset(ids, subsets, {"m": np.ones(len(ids))})
    assert shown(rows) == [("heard", 2564, 1), ("unheard", 2575, 1)]  # "singing choir" is in neither


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1, max_size=20))
def test_parts_make_the_whole(clips: list[tuple[str, float]]) -> None:
    labels, numbers = zip(*clips, strict=True)
    rows = by_label(labels, values(*numbers))
    assert sum(row["n"] for row in rows) == len(clips)
    assert sum(row["n"] * row["metrics"]["m"] for row in rows) == pytest.approx(sum(numbers), abs=1e-9)
    for row in rows:
        own = [value for label, value in clips if label == row["name"]]
        assert row["metrics"]["m"] == pytest.approx(sum(own) / len(own))
    assert [row["n"] for row in rows] == sorted((row["n"] for row in rows), reverse=True)
