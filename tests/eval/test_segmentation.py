"""AVSBench's mIoU and F: published values, hand-made cases, a slow oracle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval.segmentation import (
    THRESHOLDS,
    SegmentationStatistics,
    batched,
    f_curves,
    image_ious,
    official_scores,
    segmentation_statistics,
)


@pytest.fixture(scope="module")
def images(shared: Path) -> tuple[dict[str, Any], list[SegmentationStatistics]]:
    folder = shared / "golden" / "eval"
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    logits = (np.load(folder / "inputs_full224.npz")["full224"][:60] - np.float32(0.3)) / np.float32(0.1)
    p = (1 / (1 + np.exp(-logits.astype(float)))).astype(np.float32)
    truth = np.load(folder / "gt_vggss.npz")["gt"][:60] > 0
    truth[[5, 11]] = False
    return expected, [segmentation_statistics(truth[k : k + 1], p[k : k + 1]) for k in range(60)]


def test_the_published_values_of_all_images(images: Any) -> None:
    expected, statistics = images
    total = sum(statistics, start=SegmentationStatistics.zero())
    assert (total.n, total.n_non_empty) == (60, 56)  # two of the 60 have no usable box
    assert 100 * total.miou == pytest.approx(expected["acl_avsbench"]["mIoU_x100"], abs=1e-4)
    assert 100 * total.f == pytest.approx(expected["acl_avsbench"]["F_x100"], abs=1e-4)


def test_the_published_values_of_batches(images: Any) -> None:
    expected, statistics = images
    by_batch = expected["avsbench_official"]["by_batch"]
    assert len(by_batch) == 3
    for name, values in by_batch.items():
        found = official_scores(batched(statistics, int(name.split("_")[1])))
        assert found["miou_official"] == pytest.approx(values["mIoU"], abs=1e-6), name
        assert found["f_official"] == pytest.approx(values["F"], abs=1e-6), name


def test_thresholds() -> None:
    assert THRESHOLDS.dtype == np.float32
    assert (len(THRESHOLDS), THRESHOLDS[0], THRESHOLDS[-1]) == (255, 0, 1)


def test_by_hand() -> None:
    truth = np.array([[[True, True], [False, False]], [[False, False], [False, False]]])
    p = np.array([[[0.9, 0.5], [0.6, 0.1]], [[0.9, 0.5], [0.6, 0.1]]], np.float32)
    # 0.5 is not above 0.5: the mask holds .9 and .6. Of the empty image half is left alone.
    assert image_ious(truth, p).tolist() == pytest.approx([1 / 3, 0.5], abs=1e-6)
    curve = f_curves(truth, p)[0]
    for t, precision, recall in (
        (0.0, 0.5, 1.0),
        (0.3, 2 / 3, 1.0),
        (0.55, 0.5, 0.5),
        (0.8, 1.0, 0.5),
        (1, 0, 0),
    ):
        f = 1.3 * precision * recall / (0.3 * precision + recall) if recall else 0.0
        assert curve[round(t * 254)] == pytest.approx(f)
    total = segmentation_statistics(truth, p)
    assert (total.n, total.n_non_empty) == (2, 1)
    assert total.f == pytest.approx(1.3 * 0.5 / (0.3 + 0.5))
    assert 0.6 < total.best_threshold < 0.61


def test_degenerate_sets() -> None:
    nothing = SegmentationStatistics.zero()
    assert (nothing.miou, nothing.f, nothing.best_threshold) == (None, None, None)
    assert official_scores([]) == {"miou_official": None, "f_official": None}
    empty = segmentation_statistics(np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3)))
    assert empty.f is None
    assert empty.miou == pytest.approx(1)
    assert official_scores([empty])["f_official"] == 0
    full = segmentation_statistics(np.ones((1, 3, 3), bool), np.ones((1, 3, 3)))
    assert full.f == pytest.approx(1)
    # A batch of empty images alone halves the published F, and does not touch ours.
    assert official_scores([empty, full])["f_official"] == pytest.approx(0.5)
    assert (empty + full).f == pytest.approx(1)


def test_bad_input() -> None:
    truth = np.zeros((1, 2, 2), bool)
    with pytest.raises(ValueError, match="Apply the sigmoid"):
        segmentation_statistics(truth, np.full((1, 2, 2), 3.0))
    with pytest.raises(ValueError, match="Apply the sigmoid"):
        segmentation_statistics(truth, np.full((1, 2, 2), np.nan))
    with pytest.raises(ValueError, match="of one size"):
        segmentation_statistics(truth, np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="expected bool"):
        segmentation_statistics(truth.astype(float), np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        list(batched([SegmentationStatistics.zero()], 0))


def test_every_threshold_and_its_neighbours() -> None:
    below, above = np.nextafter(THRESHOLDS, np.float32(-1)), np.nextafter(THRESHOLDS, np.float32(2))
    values = np.concatenate([below[1:], THRESHOLDS, above[:-1]])
    truth = np.ones((len(values), 1, 1), bool)
    # One true pixel: F is 1 at the thresholds that it reaches, and 0 at the others.
    curves = f_curves(truth, values[:, None, None])
    np.testing.assert_allclose(curves, values[:, None] >= THRESHOLDS, rtol=0, atol=1e-12)


# Values on thresholds, on either side of them, and anywhere.
on_a_threshold = st.integers(0, 254).map(lambda k: float(THRESHOLDS[k]))
beside_one = st.tuples(st.integers(0, 254), st.sampled_from([0.0, 1.0])).map(
    lambda v: float(np.nextafter(THRESHOLDS[v[0]], np.float32(v[1])))
)
value = st.one_of(on_a_threshold, beside_one, st.floats(0, 1, width=32))
stacks = st.integers(1, 3).flatmap(
    lambda n: st.tuples(hnp.arrays(bool, (n, 3, 4)), hnp.arrays(np.float32, (n, 3, 4), elements=value))
)


@settings(max_examples=60, deadline=None)
@given(stack=stacks)
def test_against_comparisons(stack: tuple[np.ndarray, np.ndarray]) -> None:
    truth, p = stack
    curves, ious = [], []
    for g, x in zip(truth, p, strict=True):
        mask = x > 0.5
        if g.any():
            ious.append((mask & g).sum() / ((mask | g).sum() + 1e-7))
            curve = []
            for t in THRESHOLDS:
                chosen = x >= t
                precision = (chosen & g).sum() / (chosen.sum() + 1e-20)
                recall = (chosen & g).sum() / g.sum()
                f = 1.3 * precision * recall
                curve.append(f / (0.3 * precision + recall) if f else 0.0)
            curves.append(curve)
        else:
            ious.append((~mask & ~g).sum() / (g.size + 1e-7))
    np.testing.assert_allclose(image_ious(truth, p), ious, rtol=0, atol=1e-12)
    found = segmentation_statistics(truth, p)
    assert found.miou == pytest.approx(sum(ious) / len(ious), abs=1e-12)
    assert found.n_non_empty == len(curves)
    if curves:
        assert found.f == pytest.approx(max(np.mean(curves, axis=0)), abs=1e-12)
        assert 0 <= found.f <= 1 + 1e-12
    else:
        assert found.f is None


@settings(max_examples=30, deadline=None)
@given(stack=stacks, size=st.integers(1, 4))
def test_only_the_official_scores_depend_on_batches(stack: tuple[np.ndarray, np.ndarray], size: int) -> None:
    truth, p = stack
    single = [segmentation_statistics(truth[k : k + 1], p[k : k + 1]) for k in range(len(p))]
    total = sum(batched(single, size), start=SegmentationStatistics.zero())
    whole = segmentation_statistics(truth, p)
    assert total.miou == pytest.approx(whole.miou)
    assert total.f == (None if whole.f is None else pytest.approx(whole.f))
    official = official_scores([whole])
    assert official["miou_official"] == pytest.approx(whole.miou)
    assert official["f_official"] == pytest.approx(whole.f or 0)
    # The maximum of a mean is at most the mean of maxima.
    if whole.n_non_empty == whole.n and math.remainder(whole.n, size) == 0:
        assert official_scores(batched(single, size))["f_official"] >= whole.f - 1e-12
