"""Negative audio: universal thresholds, pIA, AOC and F."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval.ciou import CiouStatistics, metrics
from avsl_eval.negatives import (
    area_over_curve,
    harmonic_mean,
    mask_agreement,
    negative_scores,
    universal_thresholds,
)
from avsl_eval.resizing import resize
from avsl_eval.truth import rasterise


def test_the_published_values(shared: Path) -> None:
    folder = shared / "golden" / "eval"
    expected = json.loads((folder / "expected.json").read_text())["vssl_eval"]
    boxes = json.loads((folder / "vggss_boxes.json").read_text())
    low = np.load(folder / "inputs_lowres.npz")
    positives = resize(low["low7"], 224, "bilinear", False) > 0.3
    negatives = resize(low["sil7"], 224, "bilinear", False) > 0.3
    statistics = CiouStatistics.zeros(64)
    levels = np.array([rasterise(np.array(boxes[i]), 224, "union") for i in low["ids"].tolist()])
    statistics.record(range(64), positives, levels, 1)
    found = metrics(statistics.ciou)
    pia = negatives.mean(axis=(1, 2))
    np.testing.assert_allclose(pia, expected["pia_per_negative"], rtol=0, atol=2e-5)
    scores = negative_scores(["silence"] * 32, pia, found["mean_iou"], found["auc"])
    assert list(scores) == ["silence", "all"]
    for values in scores.values():
        assert 100 * values["pia"] == pytest.approx(expected["mean_pIA_x100"], abs=6e-3)
        assert 100 * values["aoc"] == pytest.approx(expected["AOC_x100"], abs=6e-3)
        assert 100 * values["f"] == pytest.approx(expected["F"], abs=6e-3)
    assert 100 * found["mean_iou"] == pytest.approx(expected["mean_cIoU_x100"], abs=6e-3)
    assert mask_agreement(positives[:1], negatives[:1])[0] == expected["IoU_of_first_pair_of_masks"]
    nothing = np.zeros((1, 224, 224), bool)
    assert mask_agreement(nothing, nothing)[0] == expected["IoU_both_empty"]


def test_thresholds_by_hand() -> None:
    found = universal_thresholds(np.array([4.0, 0.0, 1.0, 3.0, 2.0]))
    assert found == {"max": 4.0, "max_margin": pytest.approx(4.4), "third_quartile": 3.0}
    assert universal_thresholds(np.array([-0.5]))["third_quartile"] == -0.5


def test_scores_by_hand() -> None:
    kinds = ["noise", "silence", "noise", "offscreen", "reversed"]
    scores = negative_scores(kinds, np.array([0.1, 0.0, 0.3, 0.6, 1.0]), mean_iou=0.5, auc=0.25)
    assert list(scores) == ["silence", "noise", "offscreen", "reversed", "all"]
    assert scores["silence"] == {"n": 1, "pia": 0, "aoc": 1, "f": pytest.approx(2 / 3), "f_auc": 0.4}
    assert scores["noise"]["pia"] == pytest.approx(0.2)
    assert scores["noise"]["aoc"] == pytest.approx(0.5 * (0.925 + 0.725))
    # Kinds weigh the same, though noise has two clips.
    assert scores["all"]["n"] == 5
    assert scores["all"]["pia"] == pytest.approx((0 + 0.2 + 0.6 + 1) / 4)
    assert scores["all"]["f"] == pytest.approx(harmonic_mean(0.5, 1 - 0.45))
    assert scores["reversed"]["f"] == 0


def test_no_negative() -> None:
    assert negative_scores([], np.array([]), 0.5, 0.5) == {}
    with pytest.raises(ValueError, match="at least one negative"):
        universal_thresholds(np.array([]))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="percent or pixels"):
        negative_scores(["noise"], np.array([12.0]), 0.5, 0.5)
    with pytest.raises(ValueError, match="got 2 kinds for 1 negatives"):
        negative_scores(["noise", "noise"], np.array([0.1]), 0.5, 0.5)
    with pytest.raises(ValueError, match="name of the mean over kinds"):
        negative_scores(["all"], np.array([0.1]), 0.5, 0.5)
    with pytest.raises(ValueError, match=r"negative 1 .* is not finite"):
        universal_thresholds(np.array([0.0, np.inf]))


@settings(max_examples=100, deadline=None)
@given(pia=st.lists(st.integers(0, 20).map(lambda k: k * 0.05), min_size=1, max_size=12))
def test_area_against_loops(pia: list[float]) -> None:
    curve = [sum(p <= 0.05 * k for p in pia) / len(pia) for k in range(21)]
    expected = sum(0.05 * (curve[k] + curve[k + 1]) / 2 for k in range(20))
    assert area_over_curve(np.array(pia)) == pytest.approx(expected)
    assert area_over_curve(np.array(pia)) >= 0.025 - 1e-12
    assert area_over_curve(np.array(pia) / 2) >= area_over_curve(np.array(pia))


@settings(max_examples=100, deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_harmonic_mean(a: float, b: float) -> None:
    assert harmonic_mean(a, b) == pytest.approx(harmonic_mean(b, a))
    assert min(a, b) - 1e-12 <= harmonic_mean(a, b) <= max(a, b) + 1e-12


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-2, 2), min_size=1, max_size=40))
def test_a_quarter_of_the_negatives_is_above_the_third_quartile(values: list[float]) -> None:
    maxima = np.array(values)
    found = universal_thresholds(maxima)
    assert not (maxima > found["max"]).any()
    assert (maxima > found["third_quartile"]).sum() <= np.ceil(len(values) / 4)
