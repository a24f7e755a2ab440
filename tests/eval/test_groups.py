"""Interactive metrics: groups, IIoU and IAUC."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval.ciou import metrics
from avsl_eval.groups import find_groups, group_ciou, group_metrics, group_name, incomplete_groups


def test_the_published_values(shared: Path) -> None:
    expected = json.loads((shared / "golden" / "eval" / "expected.json").read_text())["sslalignment"]
    groups = find_groups(expected["group_names"])
    assert (len(groups.names), groups.expected_size) == (32, 2)
    assert not incomplete_groups(groups)
    for rule, suffix in (("median", ""), ("adaptive", "_adap")):
        ciou = np.array(expected[f"per_sample_{rule}"], dtype=float)
        assert group_metrics(groups, ciou) == pytest.approx(
            {"iiou@0.5": expected[f"IIoU{suffix}"], "iauc": expected[f"IAUC{suffix}"]}, abs=1e-12
        )


def test_names() -> None:
    assert [group_name(i) for i in ("a_b_c", "abc", "_c", "a_")] == ["a_b", "abc", "_c", "a"]


def test_incomplete_groups_are_named() -> None:
    clips = ["a_1", "b_1", "a_2", "b_2", "c_1", "d_1", "d_2", "d_3"]
    missing = np.array([False, True] + [False] * 6)
    groups = find_groups(clips)
    assert groups.expected_size == 2
    assert incomplete_groups(groups, missing) == [
        {"name": "b", "n": 2, "expected": 2, "missing": 1},
        {"name": "c", "n": 1, "expected": 2, "missing": 0},
        {"name": "d", "n": 3, "expected": 2, "missing": 0},
    ]
    assert [g["name"] for g in incomplete_groups(find_groups(clips, expected_size=3))] == ["a", "b", "c"]


def test_the_larger_of_two_equally_common_sizes_is_expected() -> None:
    assert find_groups(["a_1", "b_1", "b_2"]).expected_size == 2


def test_given_groups() -> None:
    groups = find_groups(["x", "y", "z"], ["left", "right", "left"])
    assert groups.names == ("left", "right")
    assert groups.sizes.tolist() == [2, 1]
    assert group_ciou(groups, np.array([0.9, np.nan, 0.2])).tolist() == pytest.approx(
        [0.2, np.nan], nan_ok=True
    )
    with pytest.raises(ValueError, match="got 1 groups for 3 clips"):
        find_groups(["x", "y", "z"], ["left"])


def test_undefined_members_fail_everywhere() -> None:
    groups = find_groups(["a_1", "a_2"])
    assert group_metrics(groups, np.array([1.0, np.nan])) == {"iiou@0.5": 0.0, "iauc": 0.0}


clips = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20)), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(clips=clips, undefined=st.sets(st.integers(0, 29)))
def test_against_loops(clips: list[tuple[str, int]], undefined: set[int]) -> None:
    ids = [f"{name}_{k}" for k, (name, _) in enumerate(clips)]
    ciou = np.array([math.nan if k in undefined else 0.05 * v for k, (_, v) in enumerate(clips)])
    found = group_metrics(find_groups(ids), ciou)
    names = sorted({name for name, _ in clips})

    def share(x: float) -> float:
        return sum(
            all(c >= x for c, (of, _) in zip(ciou, clips, strict=True) if of == name) for name in names
        ) / len(names)

    curve = [share(0.05 * k) for k in range(21)]
    assert found["iiou@0.5"] == pytest.approx(share(0.5))
    assert found["iauc"] == pytest.approx(sum(0.05 * (a + b) / 2 for a, b in itertools.pairwise(curve)))


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_groups_of_one_are_clips(values: list[float]) -> None:
    ciou = np.array(values)
    groups = find_groups([f"{k}_x" for k in range(len(values))])
    assert set(groups.sizes.tolist()) == {1}
    assert group_metrics(groups, ciou) == {
        "iiou@0.5": metrics(ciou)["ciou@0.5"],
        "iauc": metrics(ciou)["auc"],
    }
    one = find_groups([f"x_{k}" for k in range(len(values))])
    assert (
        group_metrics(one, ciou)["iauc"] <= metrics(ciou)["auc"] + 1e-12
    )  # a chain is as strong as its weakest
