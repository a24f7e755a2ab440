"""The fast way against the plain definition, bit by bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval import PROTOCOLS, Protocol
from avsl_eval.drawn import DrawnTruths
from avsl_eval.engine import Engine, smallest_taken
from avsl_eval.maps import at_threshold, binarise, rescale, tie_order, to_probability
from avsl_eval.resizing import resize
from avsl_eval.truth import rasterise

SIZE = 8
ODD = (
    Protocol(
        name="rescued-adaptive",
        version=1,
        summary="",
        source="",
        align_corners=False,
        normalisation="lvs_minmax",
        threshold="adaptive",
        comparison=">=",
        rescue_saturated=True,
    ),
    Protocol(
        name="exact-sigmoid",
        version=1,
        summary="",
        source="",
        align_corners=True,
        sigmoid=True,
        normalisation="minmax",
        constant="zero",
        threshold="median",
        comparison=">",
        exact_area=True,
    ),
    Protocol(
        name="floored-logits",
        version=1,
        summary="",
        source="",
        align_corners=True,
        scale=3.0,
        offset=-1.0,
        sigmoid=True,
        normalisation="none",
        threshold="fixed",
        threshold_value=0.0,
        floor_at_median=True,
        comparison=">",
    ),
)
RULES = [
    dataclasses.replace(
        rule, map_size=SIZE, **({"threshold_value": 0.25} if rule.threshold == "universal" else {})
    )
    for rule in (*PROTOCOLS.values(), *ODD)
]


def plain(
    rule: Protocol, heatmap: np.ndarray, levels: np.ndarray, unit: int
) -> tuple[list[float], list[float]]:
    """Return intersections and false positives by the definition: process, binarise, count."""
    p = to_probability(heatmap[None], rule)
    k = int((levels > 0).sum())
    values = rule.thresholds or ((rule.threshold_value,) if rule.threshold == "universal" else ())
    singles = [at_threshold(rule, v) for v in values] or [rule]
    masks = [binarise(p, single, [k])[0] for single in singles]
    return [float((m * levels).sum() / unit) for m in masks], [
        float((m & (levels == 0)).sum()) for m in masks
    ]


def close_floats() -> st.SearchStrategy[float]:
    """Draw values some of which differ in their last bits only: normalised, they may become equal."""
    anchor = st.sampled_from([0.5, 1.0, -1.0, 0.25, 0.0, 1e-30, -2.5, 30.0])
    step = st.integers(-3, 3)

    def shifted(pair: tuple[float, int]) -> float:
        value = np.float32(pair[0])
        for _ in range(abs(pair[1])):
            value = np.nextafter(value, np.float32(np.inf if pair[1] > 0 else -np.inf))
        return float(value)

    return st.tuples(anchor, step).map(shifted) | st.floats(-4, 4, width=32)


@settings(max_examples=150, deadline=None)
@given(
    heatmaps=hnp.arrays(
        np.float32,
        st.sampled_from([(3, SIZE, SIZE), (2, 5, 7), (1, 1, 1), (2, 1, 3)]),
        elements=close_floats(),
    ),
    seed=st.integers(0, 2**32 - 1),
    unit=st.sampled_from([1, 2]),
)
def test_every_rule_is_its_definition(heatmaps: np.ndarray, seed: int, unit: int) -> None:
    rng = np.random.default_rng(seed)
    n = len(heatmaps)
    levels = [
        rasterise(
            np.sort(rng.random((rng.integers(0, 4), 2, 2)), axis=1).reshape(-1, 4),
            SIZE,
            "union" if unit == 1 else "consensus",
        )
        for _ in range(n)
    ]
    engine = Engine(RULES, n)
    engine.score(heatmaps, range(n), {SIZE: DrawnTruths.of_levels(levels, unit)})
    for rule in RULES:
        found = engine.statistics[rule.name]
        for row in range(n):
            expected = plain(rule, heatmaps[row], levels[row], unit)
            assert (found.intersection[row].tolist(), found.false_positive[row].tolist()) == expected, (
                rule.name
            )


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(2**-10, 100, width=32),
    offset=st.floats(-5, 5, width=32),
    threshold=st.floats(-2, 2, width=32),
    comparison=st.sampled_from([">", ">="]),
    sigmoid=st.booleans(),
)
def test_the_cut_is_the_smallest_value_taken(
    scale: float, offset: float, threshold: float, comparison: Any, sigmoid: bool
) -> None:
    rule = dataclasses.replace(
        PROTOCOLS["fixed"],
        scale=scale,
        offset=offset,
        sigmoid=sigmoid,
        threshold_value=threshold,
        comparison=comparison,
    )
    cut = np.float32(smallest_taken(rule))
    if not np.isfinite(cut):
        return
    below = np.nextafter(cut, np.float32(-np.inf))
    with np.errstate(over="ignore"):
        s = rescale(np.array([[[below, cut]]], np.float32), rule).ravel()
    taken = s > np.float32(threshold) if comparison == ">" else s >= np.float32(threshold)
    assert taken.tolist() == [False, True]


def test_ties_are_broken_without_bias_of_position() -> None:
    ranks = tie_order(224 * 224).astype(np.float64).reshape(224, 224)
    assert sorted(ranks.ravel().tolist()) == list(range(224 * 224))
    first = ranks < ranks.size / 2
    # A quarter of 12544 pixels has 6272 of the first half, give or take 56 (one standard deviation).
    for rows in (slice(0, 112), slice(112, 224)):
        for columns in (slice(0, 112), slice(112, 224)):
            assert abs(int(first[rows, columns].sum()) - 6272) < 4 * 56
    y, x = np.indices(ranks.shape)
    assert abs(np.corrcoef(ranks.ravel(), y.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(ranks.ravel(), x.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(ranks[:, :-1].ravel(), ranks[:, 1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("k", [1, 25, 63, 64])
def test_a_strict_mask_has_exactly_its_area(k: int) -> None:
    rng = np.random.default_rng(k)
    for rule, area in ((RULES_BY_NAME["strict-adaptive"], k), (RULES_BY_NAME["strict-median"], 32)):
        for x in (
            np.zeros((1, SIZE, SIZE), np.float32),
            rng.integers(0, 3, (1, SIZE, SIZE)).astype(np.float32),
        ):
            assert binarise(to_probability(x, rule), rule, [k]).sum() == area


RULES_BY_NAME = {rule.name: rule for rule in RULES}


@settings(max_examples=60, deadline=None)
@given(
    heatmaps=hnp.arrays(np.float32, st.sampled_from([(3, SIZE, SIZE), (1, 1, 1)]), elements=close_floats()),
)
def test_the_top_quarter_is_that_of_the_sorted_values(heatmaps: np.ndarray) -> None:
    rules = [dataclasses.replace(PROTOCOLS[name], map_size=SIZE) for name in ("slavc", "fixed")]
    n = len(heatmaps)
    engine = Engine(rules, n)
    empty = np.zeros((SIZE, SIZE), np.uint8)
    engine.score(heatmaps, range(n), {SIZE: DrawnTruths.of_levels([empty] * n, 1)})
    s = rescale(resize(heatmaps, SIZE, "bicubic", True), rules[0]).reshape(n, -1)
    expected = np.sort(s, axis=1)[:, -SIZE * SIZE // 4 :].mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(engine.statistics["slavc"].confidence, expected, rtol=1e-12, atol=1e-12)
