"""Confidence-aware detection: the published evaluator's numbers, hand-made cases, a slow oracle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval import PROTOCOLS, Protocol, evaluate
from avsl_eval.detection import (
    SUBSETS,
    DetectionCounts,
    average_precision,
    count_detections,
    detection_scores,
    exact_average_precision,
    exact_curve,
    f1_list,
    subset_rows,
)
from avsl_eval.resizing import resize
from avsl_eval.truth import rasterise

TAU = 0.03
PUBLISHED = {"Precision": "precision", "F1": "f1_list", "AP": "ap", "AUC": "auc"}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "golden" / "eval"


@pytest.fixture(scope="module")
def golden(folder: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return expected


def arrays(case: dict[str, Any]) -> tuple[np.ndarray, ...]:
    ciou, confidence, area, boxes = (
        np.array(case[key], dtype=float) for key in ("per_sample_cIoU", "confidence", "gt_area", "n_boxes")
    )
    return boxes > 0, ciou, confidence, area


def test_every_number_of_the_published_evaluator(golden: dict[str, Any]) -> None:
    compared = 0
    for name, models in golden["slavc"].items():
        if name == "rule":
            continue
        assert set(models) == {"av", "obj", "av_obj"}
        for case in models.values():
            scores = detection_scores(*arrays(case))
            for key, value in case["metrics"].items():
                metric, where = key.split("-")
                subset, percent = where.split("@")
                ours = PUBLISHED[metric] + ("" if metric == "AUC" else f"@{int(percent) / 100:g}")
                if value is None:
                    assert scores[subset][ours] is None
                    continue
                wanted = [float(v) / 100 for v in value.split()] if metric == "F1" else value
                assert scores[subset][ours] == pytest.approx(wanted, abs=1e-9), (name, key)
                compared += 1
            for key, value in case["max-F1(x100, max over the printed list)"].items():
                subset, percent = key.removeprefix("F1-").split("@")
                assert scores[subset][f"max_f1@{int(percent) / 100:g}"] == pytest.approx(value / 100)
            assert scores["all"]["accuracy_strict@0.5"] == case["precision_at_50(strict >0.5)"]
            assert scores["all"]["f1@0.5"] == pytest.approx(case["f1_at_50(conf_thr=0.5)"], abs=1e-12)
            assert scores["all"]["ap@0.5"] == pytest.approx(case["ap_at_50"], abs=1e-9)
    assert compared == 840


def confidence_of(maps: np.ndarray, rule: str | Protocol) -> list[float]:
    named = {f"clip{k:04}": heatmap for k, heatmap in enumerate(maps)}
    scores = evaluate(named, {name: [[0, 0, 1, 1]] for name in named}, rule)
    return list(scores.columns["confidence"])


def test_the_published_confidence(golden: dict[str, Any], folder: Path) -> None:
    low = np.load(folder / "inputs_lowres.npz")
    flickr = np.load(folder / "inputs_flickr_lowres.npz")["fl7"]
    full = np.load(folder / "inputs_full224.npz")["full224"]
    for name, maps in {
        "vggss_plus_silent_low7_relative_alpha0.9": np.concatenate([low["low7"], low["sil7"]]),
        "flickr_low7_relative_alpha0.4": flickr,
        "vggss_full224_relative_alpha0.9": full,
    }.items():
        expected = golden["slavc"][name]["av"]["confidence"]
        np.testing.assert_allclose(confidence_of(maps / TAU, "slavc"), expected, rtol=0, atol=1e-6)


def test_ap_and_f1_as_acl_takes_them(golden: dict[str, Any], folder: Path) -> None:
    low = np.load(folder / "inputs_lowres.npz")
    boxes = json.loads((folder / "vggss_boxes.json").read_text())
    maps = np.concatenate([low["low7"], low["sil7"]])
    p = np.clip(resize(maps, 224, "bilinear", True) + 0.5, 0, 1)
    truth = [rasterise(np.array(boxes[i]), 224, "union") > 0 for i in low["ids"].tolist()]
    truth += [np.zeros((224, 224), bool)] * len(low["sil7"])
    ciou = np.array([(m & g).sum() / ((m | g).sum() + 1e-12) for m, g in zip(p >= 0.5, truth, strict=True)])
    sounding = np.arange(len(p)) < len(low["low7"])
    confidence = p.max(axis=(1, 2))
    expected = golden["acl_extended"]
    assert 100 * average_precision(sounding, ciou, confidence) == pytest.approx(expected["AP_x100"], abs=1e-9)
    assert 100 * max(f1_list(sounding, ciou, confidence)) == pytest.approx(expected["Max-F1_x100"])


def test_a_case_by_hand() -> None:
    sounding = np.array([True, True, False, True])
    ciou = np.array([0.8, 0.3, 0.9, np.nan])
    confidence = np.array([0.9, 0.7, 0.8, 0.1])
    counts = count_detections(sounding, ciou, confidence, np.array([0.85, 0.8, 0.7, 0.0, 1.0]))
    assert counts.true_positive.tolist() == [1, 1, 1, 1, 0]
    assert counts.false_positive.tolist() == [0, 1, 2, 3, 0]
    assert counts.false_negative.tolist() == [2, 2, 1, 0, 3]
    assert counts.precision.tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1]
    assert counts.recall.tolist() == [1 / 3, 1 / 3, 1 / 2, 1, 0]
    # Published: thresholds .8, .7, .1. Exact: .9 too, and steps at their right, lower precision.
    assert average_precision(sounding, ciou, confidence) == pytest.approx(1 / 2 * 1 / 6 + 1 / 3 * 1 / 2)
    exact = 1 * 1 / 3 + 0 + 1 / 3 * 1 / 6 + 1 / 4 * 1 / 2
    assert exact_average_precision(sounding, ciou, confidence) == pytest.approx(exact)
    assert f1_list(sounding, ciou, confidence) == [0.4, 0.4, 0.4, 0.5]


def test_thinning() -> None:
    rng = np.random.default_rng(0)
    n = 1000
    sounding, ciou, confidence = rng.random(n) < 0.7, rng.random(n), rng.random(n)
    ranked = sorted(confidence)
    p, r = [], []
    for position in range(n - 2, -1, -5):
        counts = count_detections(sounding, ciou, confidence, np.array([ranked[position]]))
        p.append(float(counts.precision[0]))
        r.append(float(counts.recall[0]))
    expected = sum(max(p[i:]) * (r[i + 1] - r[i]) for i in range(len(p) - 1))
    assert len(p) == 200
    assert average_precision(sounding, ciou, confidence) == pytest.approx(expected, abs=1e-12)
    assert len(f1_list(sounding, ciou, confidence)) == 10


def test_sizes() -> None:
    area = np.array([0, 1023, 1024, 9215, 9216, 20735, 20736, 50176, 5000])
    sounding = np.arange(9) < 8
    rows = subset_rows(sounding, area)
    found = {name: np.flatnonzero(flags).tolist() for name, flags in rows.items()}
    assert found == {
        "all": list(range(9)),
        "visible": list(range(8)),
        "small": [0, 1],
        "medium": [2, 3],
        "large": [4, 5],
        "huge": [6, 7],
    }


def test_without_sounding_clips() -> None:
    none = np.zeros(3, bool)
    scores = detection_scores(none, np.full(3, np.nan), np.array([0.2, 0.9, 0.5]), np.zeros(3))
    assert scores["all"] == {
        "n": 3,
        "n_sounding": 0,
        "auc": None,
        **{
            f"{name}@{u}": value
            for u in ("0.5", "0.75")
            for name, value in {
                "precision": 0.0,
                "ap": 0.0,
                "max_f1": 0.0,
                "f1_list": [0.0, 0.0, 0.0],
                "f1": 0.0,
                "accuracy_strict": None,
                "ap_exact": None,
                "max_f1_exact": 0.0,
            }.items()
        },
    }
    assert scores["visible"]["n"] == 0
    assert scores["visible"]["ap@0.5"] is None


def test_equal_confidences() -> None:
    sounding, ciou = np.array([True, True, True, False]), np.array([0.6, 0.7, 0.1, 0.0])
    same = np.full(4, 0.3)
    assert average_precision(sounding, ciou, same) == 0  # all thresholds are one: recall never moves
    assert exact_average_precision(sounding, ciou, same) == 0.5


def test_perfect_detection() -> None:
    sounding = np.arange(40) < 25
    ciou, confidence = np.where(sounding, 0.9, 0.0), np.linspace(1, 0, 40)
    assert exact_average_precision(sounding, ciou, confidence, 0.75) == 1
    assert detection_scores(sounding, ciou, confidence, np.full(40, 99.0))["all"]["max_f1_exact@0.75"] == 1


@pytest.mark.parametrize("side", [1, 2])
def test_confidence_of_tiny_maps(side: int) -> None:
    maps = np.arange(side * side, dtype=np.float32).reshape(1, side, side)
    rule = dataclasses.replace(PROTOCOLS["slavc"], map_size=side, scale=1.0, offset=0.0)
    assert confidence_of(maps, rule) == [float(maps.max())]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="got 2, 3 and 2"):
        average_precision(np.ones(2, bool), np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"confidence of clip 1 .* is NaN"):
        detection_scores(np.ones(2, bool), np.zeros(2), np.array([0.1, np.nan]), np.zeros(2))


def slow_counts(sounding: Any, ciou: Any, confidence: Any, c: float, u: float) -> tuple[int, int, int]:
    tp = fp = fn = 0
    for sounds, overlap, certainty in zip(sounding, ciou, confidence, strict=True):
        if certainty >= c:
            if sounds and overlap >= u:
                tp += 1
            else:
                fp += 1
        elif sounds:
            fn += 1
    return tp, fp, fn


@st.composite
def clips(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 30))
    sounding = draw(hnp.arrays(bool, n))
    # Few values, so that many confidences are equal and many cIoU lie on a threshold.
    ciou = draw(hnp.arrays(float, n, elements=st.sampled_from([0, 0.25, 0.5, 0.7, 0.75, 1, np.nan])))
    confidence = draw(hnp.arrays(np.float32, n, elements=st.integers(-4, 12).map(lambda v: v / 8)))
    return sounding, ciou, confidence


@settings(max_examples=150, deadline=None)
@given(clips=clips(), u=st.sampled_from([0.3, 0.5, 0.75]), c=st.lists(st.integers(-5, 13), max_size=5))
def test_counts_against_loops(clips: Any, u: float, c: list[int]) -> None:
    thresholds = np.array(c, dtype=float) / 8
    counts = count_detections(*clips, thresholds, u)
    expected = [slow_counts(*clips, threshold, u) for threshold in thresholds]
    found = zip(counts.true_positive, counts.false_positive, counts.false_negative, strict=True)
    assert [tuple(map(int, row)) for row in found] == expected


@settings(max_examples=150, deadline=None)
@given(clips=clips(), u=st.sampled_from([0.5, 0.75]))
def test_average_precision_against_loops(clips: Any, u: float) -> None:
    def area(thresholds: list[float], start: list[float]) -> float:
        p, r = [1.0] * len(start), list(start)
        for c in thresholds:
            tp, fp, fn = slow_counts(*clips, c, u)
            p.append(tp / (tp + fp) if tp + fp else 1.0)
            r.append(tp / (tp + fn) if tp + fn else 1.0)
        shift = len(start)
        return sum(max(p[i + shift :]) * (r[i + 1] - r[i]) for i in range(len(p) - 1))

    published = area(sorted(clips[2].tolist())[:-1][::-1], [])
    assert average_precision(*clips, u) == pytest.approx(published, abs=1e-12)
    exact = exact_average_precision(*clips, u)
    if clips[0].any():
        assert exact == pytest.approx(area(sorted(set(clips[2].tolist()), reverse=True), [0.0]), abs=1e-12)
    else:
        assert exact is None


def same(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> None:
    for name, values in expected.items():
        assert found[name] == {k: v if v is None else pytest.approx(v) for k, v in values.items()}


@settings(max_examples=100, deadline=None)
@given(clips=clips(), data=st.data())
def test_properties(clips: Any, data: st.DataObject) -> None:
    sounding, ciou, confidence = clips
    area = np.full(len(ciou), 5000.0)
    scores = detection_scores(sounding, ciou, confidence, area)
    assert tuple(scores) == SUBSETS
    for values in scores.values():
        for name, value in values.items():
            if value is not None and not name.startswith(("n", "f1_list")):
                assert 0 <= value <= 1 + 1e-12, name
    counts = exact_curve(*clips)[1]
    assert (np.diff(counts.recall, prepend=0) >= 0).all()  # recall grows as the threshold falls
    assert scores["all"]["max_f1_exact@0.5"] >= scores["all"]["max_f1@0.5"] - 0.0005  # a rounded list
    easier = detection_scores(sounding, np.nan_to_num(ciou) * 0 + 1, confidence, area)["all"]
    assert easier["precision@0.5"] >= scores["all"]["precision@0.5"]
    order = np.array(data.draw(st.permutations(range(len(ciou)))))
    shuffled = detection_scores(sounding[order], ciou[order], confidence[order], area)
    same(shuffled, scores)
    affine = detection_scores(sounding, ciou, 4 * confidence - 1, area, confidence_threshold=1.0)
    same(affine, scores)  # of the confidence only the order matters


@settings(max_examples=50, deadline=None)
@given(clips=clips(), cut=st.integers(0, 30))
def test_counts_add_up(clips: Any, cut: int) -> None:
    thresholds = np.array([-1, 0, 0.5, 2])
    parts = [
        count_detections(*(a[part] for a in clips), thresholds) for part in (slice(cut), slice(cut, None))
    ]
    total = DetectionCounts.zeros(4) + parts[0] + parts[1]
    whole = count_detections(*clips, thresholds)
    for name in ("true_positive", "false_positive", "false_negative"):
        assert (getattr(total, name) == getattr(whole, name)).all()
