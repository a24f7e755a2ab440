"""An independent, slow evaluator: plain loops, written from the rules, against drawn maps."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval import PROTOCOLS, Protocol, evaluate
from avsl_eval.maps import resize
from avsl_eval.predictions import Predictions, open_predictions

SIZE = 12
SIMPLE = ("lvs", "ezvsl", "fixed", "adaptive")


def shrunk(name: str) -> Protocol:
    return dataclasses.replace(PROTOCOLS[name], map_size=SIZE)


def slow_resize(x: np.ndarray, size: int, align_corners: bool) -> list[list[float]]:
    def taps(k: int, n: int) -> tuple[int, int, float]:
        if align_corners:
            position = k * (n - 1) / (size - 1)
        else:
            position = max(0.0, min(n - 1.0, (k + 0.5) * n / size - 0.5))
        low = min(math.floor(position), n - 1)
        return low, min(low + 1, n - 1), position - low

    h, w = x.shape
    out = []
    for i in range(size):
        a, b, f = taps(i, h)
        row = []
        for j in range(size):
            c, d, g = taps(j, w)
            top = x[a, c] * (1 - g) + x[a, d] * g
            bottom = x[b, c] * (1 - g) + x[b, d] * g
            row.append(float(top * (1 - f) + bottom * f))
        out.append(row)
    return out


def slow_minmax(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    return (
        list(values) if low == high else [float(np.float32(v - low) / np.float32(high - low)) for v in values]
    )


def slow_mask(values: list[float], name: str, k: int) -> list[bool]:
    n = len(values)
    if name == "lvs":
        p = [float(np.float32(1 - q)) for q in slow_minmax([-v for v in values])]
        t = sorted(p)[n // 2]
        return [v > t or v >= 1 for v in p]
    if name == "fixed":
        return [v >= 0.5 for v in values]
    p = slow_minmax(values)
    if name == "ezvsl":
        t = sorted(p)[n // 2]
        return [v >= t for v in p]
    t = sorted(p)[n - (k or n // 2)]
    return [v > t for v in p]


def slow_ciou(mask: list[bool], truth: list[float]) -> float:
    intersection = denominator = 0.0
    for m, g in zip(mask, truth, strict=True):
        intersection += g if m else 0
        denominator += g + (1 if m and g == 0 else 0)
    return intersection / denominator if denominator else math.nan


def slow_truth(boxes: list[list[float]], consensus: bool) -> list[float]:
    count = [[0] * SIZE for _ in range(SIZE)]
    for x0, y0, x1, y1 in boxes:
        for i in range(int(SIZE * y0), int(SIZE * y1)):
            for j in range(int(SIZE * x0), int(SIZE * x1)):
                count[i][j] += 1
    return [min(c / 2, 1.0) if consensus else float(c > 0) for row in count for c in row]


corner = st.integers(0, 16).map(lambda v: v / 16)


@st.composite
def box(draw: st.DrawFn) -> list[float]:
    x0, y0, x1, y1 = draw(corner), draw(corner), draw(corner), draw(corner)
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def values() -> st.SearchStrategy[Any]:
    # Sixteenths survive all arithmetic exactly: ties are ties in both evaluators; few values make many ties.
    return st.integers(0, 16).map(lambda v: v / 16)


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", SIMPLE)
@given(
    heatmap=hnp.arrays(np.float32, (SIZE, SIZE), elements=values()),
    boxes=st.lists(box(), min_size=1, max_size=3),
)
def test_maps_of_full_size(name: str, heatmap: np.ndarray, boxes: list[list[float]]) -> None:
    truth = slow_truth(boxes, consensus=False)
    mask = slow_mask([float(v) for v in heatmap.ravel()], name, sum(g > 0 for g in truth))
    scores = evaluate({"a": heatmap}, {"a": boxes}, shrunk(name))
    found, expected = float(scores.per_clip.loc["a", "ciou"]), slow_ciou(mask, truth)
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert scores.per_clip.loc["a", "status"] == ("undefined" if math.isnan(expected) else "scored")


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("align_corners", [False, True])
@given(
    heatmap=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.floats(-8, 8, width=32)
    )
)
def test_resize(heatmap: np.ndarray, align_corners: bool) -> None:
    ours = resize(heatmap[None], SIZE, "bilinear", align_corners)[0]
    np.testing.assert_allclose(
        ours, slow_resize(heatmap.astype(float), SIZE, align_corners), rtol=0, atol=5e-6
    )


@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", SIMPLE)
@given(
    heatmap=hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32), unique=True),
    boxes=st.lists(box(), min_size=1, max_size=2),
)
def test_low_resolution_maps(name: str, heatmap: np.ndarray, boxes: list[list[float]]) -> None:
    rule = shrunk(name)
    truth = slow_truth(boxes, consensus=False)
    p = [v for row in slow_resize(heatmap.astype(float), SIZE, rule.align_corners) for v in row]
    mask = slow_mask(p, name, sum(g > 0 for g in truth))
    found = evaluate({"a": heatmap}, {"a": boxes}, rule).per_clip.loc["a", "ciou"]
    expected = slow_ciou(mask, truth)
    assert math.isnan(expected) == math.isnan(found)
    # Float32 rounding may move pixels that are that close to each other across the threshold.
    ranked = sorted(p)
    near = sum(b - a < 1e-5 for a, b in itertools.pairwise(ranked))
    slack = 2 * near / max(1, sum(g > 0 for g in truth)) if near else 1e-12
    assert math.isnan(expected) or abs(found - expected) <= slack


def test_consensus_truth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 17, (8, 3, 2, 2)) / 16
    boxes = [[[*pair.min(axis=0), *pair.max(axis=0)] for pair in clip] for clip in grid]
    content = {
        "schema": "avsl-annotations/1",
        "truth": "consensus",
        "clips": [{"clip_id": f"c{k}", "boxes": b} for k, b in enumerate(boxes)],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    maps = {f"c{k}": rng.integers(0, 17, (SIZE, SIZE)).astype(np.float32) / 16 for k in range(8)}
    for name in SIMPLE:
        found = evaluate(maps, path, shrunk(name)).per_clip["ciou"]
        for k, b in enumerate(boxes):
            truth = slow_truth(b, consensus=True)
            mask = slow_mask([float(v) for v in maps[f"c{k}"].ravel()], name, sum(g > 0 for g in truth))
            assert found[f"c{k}"] == pytest.approx(slow_ciou(mask, truth), nan_ok=True)


@pytest.mark.parametrize("name", SIMPLE)
def test_a_clip_does_not_depend_on_its_neighbours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    maps = {f"c{k}": rng.random((7, 7) if k % 3 else (9, 14), dtype=np.float32) for k in range(23)}
    boxes = {i: [[0.1, 0.2, 0.6, 0.9]] for i in maps}
    together = evaluate(maps, boxes, name).per_clip["ciou"]
    monkeypatch.setattr(Predictions.chunks, "__defaults__", (1,))
    alone = evaluate(open_predictions(dict(reversed(maps.items()))), boxes, name).per_clip["ciou"]
    assert together.equals(alone)
