"""Several sources at once: pixel average precision, matching, CAP, PIAP."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval.sources import (
    SourceStatistics,
    best_assignment,
    pixel_average_precision,
    score_sample,
)


def slow_average_precision(truth: list[bool], scores: list[float]) -> float:
    """Walk through the definition: precision and recall at every distinct score."""
    total = recall_before = 0.0
    if not any(truth):
        return 0.0
    for t in sorted(set(scores), reverse=True):
        chosen = [g for g, s in zip(truth, scores, strict=True) if s >= t]
        recall = sum(chosen) / sum(truth)
        total += (recall - recall_before) * sum(chosen) / len(chosen)
        recall_before = recall
    return total


ties = st.integers(-3, 4).map(lambda v: v / 4)
labelled = st.integers(1, 40).flatmap(
    lambda n: st.tuples(hnp.arrays(bool, n), hnp.arrays(np.float32, n, elements=ties))
)


@settings(max_examples=150, deadline=None)
@given(case=labelled)
def test_average_precision_against_loops(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case
    found = pixel_average_precision(truth, scores)
    assert found == pytest.approx(slow_average_precision(truth.tolist(), scores.tolist()), abs=1e-12)
    assert 0 <= found <= 1
    assert pixel_average_precision(truth, 8 * scores - 3) == pytest.approx(found)


def test_average_precision_against_scikit_learn() -> None:
    reference = pytest.importorskip(
        "sklearn.metrics", reason="scikit-learn is not installed"
    ).average_precision_score
    rng = np.random.default_rng(0)
    for levels in (2, 5, 1000):
        truth, scores = rng.random((30, 40)) < 0.3, rng.integers(0, levels, (30, 40)) / levels
        expected = reference(truth.ravel(), scores.ravel())
        assert pixel_average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_average_precision_by_hand() -> None:
    truth = np.array([True, False, True, False])
    assert pixel_average_precision(truth, np.array([4, 3, 2, 1])) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert pixel_average_precision(truth, np.array([1, 2, 2, 0])) == pytest.approx(
        1 / 2 * 1 / 2 + 1 / 2 * 2 / 3
    )
    assert pixel_average_precision(truth, np.zeros(4)) == 0.5
    assert pixel_average_precision(np.zeros(4, bool), np.arange(4)) == 0
    with pytest.raises(ValueError, match="they must be equal"):
        pixel_average_precision(truth, np.zeros(3))


gains = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: hnp.arrays(float, shape, elements=st.integers(0, 6).map(lambda v: v / 6))
)


@settings(max_examples=200, deadline=None)
@given(gain=gains)
def test_assignment_against_all_permutations(gain: np.ndarray) -> None:
    n_rows, n_columns = gain.shape
    match = best_assignment(gain)
    used = match[match >= 0]
    assert len(match) == n_rows
    assert len(used) == len(set(used.tolist())) == min(n_rows, n_columns)
    found = sum(gain[row, column] for row, column in enumerate(match) if column >= 0)
    wide = gain if n_rows <= n_columns else gain.T
    best = max(
        sum(wide[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert found == pytest.approx(best)


def strip(*columns: int) -> np.ndarray:
    row = np.zeros((1, 10), bool)
    row[0, list(columns)] = True
    return row


def test_the_best_sum_wins_over_the_best_pair() -> None:
    truth = np.array([strip(0, 1, 2, 3), strip(2, 3, 4, 5)])
    # Prediction 0 fits both (.75 and .4), prediction 1 only the first (.5): greedy in either order loses.
    masks = np.array([strip(1, 2, 3), strip(0, 1)])
    scores = score_sample(truth, masks, masks.astype(float))
    assert scores.match.tolist() == [1, 0]
    assert scores.iou.tolist() == pytest.approx([0.5, 0.4])


def test_too_few_and_too_many_predictions() -> None:
    truth = np.array([strip(0, 1), strip(8, 9)])
    one = np.array([strip(8, 9)])
    scores = score_sample(truth, one, one.astype(float))
    assert scores.match.tolist() == [-1, 0]
    assert (scores.iou.tolist(), scores.ap.tolist()) == ([0, 1], [0, 1])
    three = np.array([strip(4), strip(8, 9), strip(0)])
    total = SourceStatistics.of(scores) + SourceStatistics.of(score_sample(truth, three, three.astype(float)))
    assert (total.n_samples, total.n_sources, total.n_extra, total.n_unanswered) == (2, 4, 1, 0)
    assert total.metrics()["ciou@0.3"] == 0.75


def test_a_sample_without_prediction_counts() -> None:
    truth = np.array([strip(0, 1), strip(8, 9)])
    good = SourceStatistics.of(score_sample(truth, truth, truth.astype(float)))
    nothing = SourceStatistics.of(score_sample(truth, np.zeros((0, 1, 10), bool), np.zeros((0, 1, 10))))
    assert nothing.n_unanswered == 1
    assert good.metrics() == {"ciou@0.3": 1, "auc": pytest.approx(1), "cap": 1, "piap": 1}
    assert nothing.metrics() == {"ciou@0.3": 0, "auc": pytest.approx(0.025), "cap": 0, "piap": 0}
    both = good + nothing + SourceStatistics.zero()
    assert both.metrics() == {"ciou@0.3": 0.5, "auc": pytest.approx(0.5125), "cap": 0.5, "piap": 0.5}


def test_an_iou_on_the_threshold_counts() -> None:
    truth, mask = np.array([strip(*range(10))]), np.array([strip(0, 1, 2)])
    assert SourceStatistics.of(score_sample(truth, mask, mask.astype(float))).metrics()["ciou@0.3"] == 1


def test_empty_sets() -> None:
    assert SourceStatistics.zero().metrics() == {}
    empty = np.zeros((1, 1, 10), bool)
    scores = score_sample(empty, empty, np.zeros((1, 1, 10)))
    assert (scores.iou.tolist(), scores.ap.tolist(), scores.piap) == ([0], [0], 0)


def test_bad_input() -> None:
    good = np.zeros((2, 3, 4), bool)
    with pytest.raises(ValueError, match="expected"):
        score_sample(good, good, np.zeros((1, 3, 4)))
    with pytest.raises(ValueError, match="expected"):
        score_sample(np.zeros((2, 4, 3), bool), good, np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="without a true source"):
        score_sample(good[:0], good, np.zeros((2, 3, 4)))


samples = st.tuples(st.integers(1, 3), st.integers(0, 3)).flatmap(
    lambda n: st.tuples(hnp.arrays(bool, (n[0], 2, 4)), hnp.arrays(np.float32, (n[1], 2, 4), elements=ties))
)


@settings(max_examples=150, deadline=None)
@given(sample=samples, data=st.data())
def test_samples_against_all_permutations(sample: Any, data: st.DataObject) -> None:
    truth, maps = sample
    masks = maps > 0
    scores = score_sample(truth, masks, maps)
    n_true, n_predicted = len(truth), len(maps)

    def overlap(k: int, p: int) -> float:
        union = (truth[k] | masks[p]).sum()
        return float((truth[k] & masks[p]).sum() / union) if union else 0.0

    def precision(k: int, p: int) -> float:
        return slow_average_precision(truth[k].ravel().tolist(), maps[p].ravel().tolist())

    # -1 stands for "no match", as often as it takes.
    candidates = [*range(n_predicted), *[-1] * max(0, n_true - n_predicted)]
    best = max(
        (
            round(sum(overlap(k, p) for k, p in enumerate(chosen) if p >= 0), 9),
            round(sum(precision(k, p) for k, p in enumerate(chosen) if p >= 0), 9),
        )
        for chosen in itertools.permutations(candidates, n_true)
    )
    assert (scores.iou.sum(), scores.ap.sum()) == pytest.approx(best, abs=1e-8)
    union = truth.any(axis=0).ravel().tolist()
    piap = slow_average_precision(union, maps.sum(axis=0).ravel().tolist()) if n_predicted else 0
    assert scores.piap == pytest.approx(piap)
    order = data.draw(st.permutations(range(n_predicted)))
    shuffled = score_sample(truth, masks[order], maps[order])
    assert SourceStatistics.of(shuffled).ap == pytest.approx(SourceStatistics.of(scores).ap)
    assert shuffled.iou.sum() == pytest.approx(scores.iou.sum())
