"""Cases computed by hand, and properties."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import avsl_eval
from avsl_eval import PROTOCOLS, Protocol, evaluate, get_protocol
from avsl_eval.bootstrap import mean_intervals
from avsl_eval.ciou import METRICS, CiouStatistics, metrics
from avsl_eval.context import center_prior_map, context_ciou
from avsl_eval.errors import EvalInputError
from avsl_eval.maps import binarise, tie_free_area, to_probability
from avsl_eval.resizing import interpolation_matrix
from avsl_eval.truth import rasterise, read_annotations

SIMPLE = ("lvs", "ezvsl", "fixed", "adaptive")
MODULES = [m.name for m in pkgutil.iter_modules(avsl_eval.__path__) if m.name != "__main__"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"avsl_eval.{name}"))
    assert result.failed == 0


def test_there_are_modules_to_test() -> None:
    assert {"ciou", "maps", "truth", "protocol", "evaluate"} <= set(MODULES)


def test_metrics_by_hand() -> None:
    # cIoU 0.15 fails at the third threshold, which is the float 0.15000000000000002: 3 of 21 are reached.
    found = metrics(np.array([0.5, 0.15, 0.0, np.nan]))
    assert found["ciou@0.5"] == 0.25
    # Trapezoids: n reached thresholds from 0 on make 0.05 n - 0.025.
    assert found["auc"] == pytest.approx(((0.05 * 11 - 0.025) + (0.05 * 3 - 0.025) + 0.025 + 0) / 4)
    assert found["mean_iou"] == pytest.approx(0.65 / 4)
    assert metrics(np.ones(3)) == pytest.approx({"ciou@0.5": 1, "auc": 1, "mean_iou": 1})


def test_a_pixel_of_one_annotator_is_no_false_positive() -> None:
    statistics = CiouStatistics.zeros(2)
    levels = np.array([[[2, 1], [0, 0]], [[0, 0], [0, 0]]], np.uint8)
    masks = np.array([[[True, True], [True, False]], [[False, False], [False, False]]])
    statistics.record([0, 1], masks, levels, unit=2)
    assert statistics.ciou[0] == 1.5 / (1.5 + 1)
    assert np.isnan(statistics.ciou[1])


def test_masks_by_hand() -> None:
    x = np.array([[[0.1, 0.4], [0.6, 0.8]]], np.float32)
    found = {
        name: binarise(to_probability(x, small(name, 2)), small(name, 2), [3])[0].ravel().tolist()
        for name in SIMPLE
    }
    assert found == {
        "lvs": [False, False, False, True],
        "ezvsl": [False, False, True, True],
        "fixed": [False, False, True, True],
        "adaptive": [False, False, True, True],
    }


def small(name: str, size: int) -> Protocol:
    return dataclasses.replace(PROTOCOLS[name], map_size=size)


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", SIMPLE)
@given(
    x=hnp.arrays(np.float32, (1, 8, 8), elements=st.floats(0, 1, width=16), unique=True), k=st.integers(0, 64)
)
def test_a_map_without_ties_has_the_area_of_its_rule(name: str, x: np.ndarray, k: int) -> None:
    rule = small(name, 8)
    p = to_probability(x, rule)
    if np.unique(p).size == p.size:
        area = tie_free_area(rule, k)
        assert area is None or binarise(p, rule, [k]).sum() == area


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", ["lvs", "ezvsl", "adaptive"])
@given(x=hnp.arrays(np.float32, (8, 8), elements=st.integers(0, 64)), shift=st.integers(-8, 8))
def test_ranking_rules_ignore_scale_and_shift(name: str, x: np.ndarray, shift: int) -> None:
    if np.ptp(x) == 0:
        return
    boxes = {"a": [[0.25, 0.0, 0.75, 0.5]]}
    one, two = (evaluate({"a": m}, boxes, small(name, 8)) for m in (x, x * 4 + shift))
    assert one.metrics == two.metrics


@pytest.mark.parametrize("name", SIMPLE)
def test_nothing_beats_the_ceiling(name: str) -> None:
    rng = np.random.default_rng(2)
    boxes = {f"c{k}": [np.sort(rng.random((2, 2)), axis=0).ravel().tolist()] for k in range(30)}
    maps = {
        i: rng.random((16, 16), dtype=np.float32) + 3 * (rasterise(np.array(b), 16, "union"))
        for i, b in boxes.items()
    }
    maps = {i: m / 4 for i, m in maps.items()}
    scores = evaluate(maps, boxes, small(name, 16))
    ceiling = context_ciou(read_annotations(boxes), small(name, 16))["ceiling"]
    found = scores.per_clip["ciou"].to_numpy()
    assert (np.nan_to_num(found) <= np.nan_to_num(ceiling) + 1e-12).all()
    # The maps rank every true pixel above every other one, so the ceiling is reached.
    np.testing.assert_allclose(found, ceiling)


def test_the_centre_prior_is_half_on_the_circle_of_half_the_image() -> None:
    prior = center_prior_map(224)
    assert abs(int((prior >= 0.5).sum()) - 25088) <= 16
    assert prior.min() >= 0
    assert prior.max() <= 1
    assert (np.diff(prior[112, 112:]) < 0).all()
    np.testing.assert_array_equal(prior, prior[::-1])
    np.testing.assert_array_equal(prior, prior.T)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_weights_of_a_resize_sum_to_one(interpolation: Any, align_corners: bool, size: int) -> None:
    matrix = interpolation_matrix(size, 20, interpolation, align_corners)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], rtol=0, atol=5e-6)  # positions are float32


def test_bad_boxes_are_listed_and_their_clips_stay() -> None:
    nan, far = float("nan"), -2.88e16
    annotations = read_annotations(
        {"a": [[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.9], [0.1, 0.1, far, 0.5]], "b": [[nan, 0, 1, 1]]}
    )
    assert [(box.clip_id, box.why) for box in annotations.dropped] == [
        ("a", "covers nothing"),
        ("a", "corrupt coordinate"),
        ("b", "corrupt coordinate"),
    ]
    assert [(len(clip.boxes), clip.n_dropped) for clip in annotations.clips] == [(1, 2), (0, 1)]
    scores = evaluate({"a": np.eye(4), "b": np.zeros((4, 4))}, annotations, "fixed")
    assert '"box": ["nan"' in scores.to_json().replace("\n", "").replace(" ", "").replace('":[', '": [')
    assert scores.per_clip["status"].to_dict() == {"a": "scored", "b": "undefined"}


@pytest.mark.parametrize(
    ("value", "full"),
    [(-0.3, {"ezvsl"}), (0.0, {"lvs", "ezvsl"}), (0.3, {"lvs", "ezvsl"}), (0.7, {"lvs", "ezvsl", "fixed"})],
)
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (9, 14), (224, 224)])
def test_constant_maps(value: float, full: set[str], shape: tuple[int, int]) -> None:
    for name in SIMPLE:
        if value < 0 and name == "fixed":
            with pytest.raises(EvalInputError, match="cosine"):
                evaluate({"a": np.full(shape, value)}, {"a": [[0, 0, 0.5, 0.5]]}, name)
            continue
        found = evaluate({"a": np.full(shape, value)}, {"a": [[0, 0, 0.5, 0.5]]}, name).metrics["mean_iou"]
        assert found == (0.25 if name in full else 0.0), name


def test_intervals_hold_the_mean_and_shrink() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((400, 1))
    few, many = mean_intervals(values[:40])[0], mean_intervals(values)[0]
    assert few[0] < values[:40].mean() < few[1]
    assert np.ptp(many) < np.ptp(few)
    # The normal approximation of the same interval.
    np.testing.assert_allclose(np.ptp(many), 2 * 1.96 * values.std() / 20, rtol=0.1)
    np.testing.assert_array_equal(mean_intervals(values), mean_intervals(values))


def test_coverage_of_intervals() -> None:
    rng = np.random.default_rng(4)
    hits = [
        low <= 0.3 <= high
        for low, high in (
            mean_intervals(rng.random((100, 1)) < 0.3, resamples=300, seed=k)[0] for k in range(200)
        )
    ]
    assert 0.9 <= np.mean(hits) <= 0.99


def test_a_protocol_is_whole() -> None:
    assert set(SIMPLE) < set(PROTOCOLS)
    for name, rule in PROTOCOLS.items():
        assert rule.name == name
        assert get_protocol(name) is rule
        assert Protocol.from_dict(rule.to_dict()) == rule
    with pytest.raises(ValueError, match="threshold_value"):
        dataclasses.replace(PROTOCOLS["lvs"], threshold_value=0.5)
    with pytest.raises(EvalInputError, match="did you mean 'adaptive'"):
        get_protocol("adaptve")
    assert METRICS == ("ciou@0.5", "auc", "mean_iou")
