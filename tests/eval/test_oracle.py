"""An independent, slow evaluator: plain loops, written from the rules, against drawn maps."""

from __future__ import annotations

import dataclasses
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
from avsl_eval.evaluate import evaluate_all
from avsl_eval.predictions import Predictions, open_predictions
from avsl_eval.resizing import resize

SIZE = 12
UNIVERSAL = 0.3
F = np.float32
EVERY = list(PROTOCOLS)


def shrunk(name: str) -> Protocol:
    rule = dataclasses.replace(PROTOCOLS[name], map_size=SIZE)
    return dataclasses.replace(rule, threshold_value=UNIVERSAL) if name == "vssl-eval" else rule


UPSAMPLING = {
    "lvs": ("bilinear", False),
    "ezvsl": ("bilinear", True),
    "ezvsl-val": ("bicubic", False),
    "slavc": ("bicubic", True),
    "slavc-absolute": ("bicubic", True),
    "htf": ("bicubic", False),
    "sspl": ("bilinear", False),
    "ssltie": ("bilinear", False),
    "sslalignment": ("bilinear", True),
    "adaptive": ("bilinear", True),
    "acl": ("bicubic", False),
    "rethinking": ("bilinear", False),
    "vssl-eval": ("bilinear", False),
    "avsbench": ("bilinear", False),
    "fixed": ("bilinear", False),
    "strict-median": ("bilinear", False),
    "strict-adaptive": ("bilinear", False),
}


def test_the_oracle_knows_every_protocol() -> None:
    assert UPSAMPLING.keys() == PROTOCOLS.keys()


def keys(d: float) -> float:
    """Evaluate cubic convolution (Keys 1981) with a = -3/4."""
    a, d = -0.75, abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def slow_resize(x: np.ndarray, size: int, interpolation: str, align_corners: bool) -> list[list[float]]:
    def taps(k: int, n: int) -> list[tuple[int, float]]:
        position = k * (n - 1) / (size - 1) if align_corners else (k + 0.5) * n / size - 0.5
        if interpolation == "bicubic":
            base = math.floor(position)
            around = range(base - 1, base + 3)
            return [(max(0, min(n - 1, i)), keys(position - i)) for i in around]
        position = max(0.0, min(n - 1.0, position))
        low = min(math.floor(position), n - 1)
        return [(low, 1 - position + low), (min(low + 1, n - 1), position - low)]

    h, w = x.shape
    return [
        [sum(a * b * float(x[r, c]) for r, a in taps(i, h) for c, b in taps(j, w)) for j in range(size)]
        for i in range(size)
    ]


def slow_minmax(values: list[Any], constant: Any = None) -> list[Any]:
    low, high = min(values), max(values)
    if low == high:
        return list(values) if constant is None else [constant] * len(values)
    return [F(F(v - low) / F(high - low)) for v in values]


def slow_sigmoid(v: Any) -> Any:
    return F(1 / (1 + math.exp(-float(v))))


def slow_order(n: int) -> list[int]:
    """Return the pixels in the order of SplitMix64's output for their numbers."""
    wide = (1 << 64) - 1

    def mixed(index: int) -> int:
        z = (index + 1) * 0x9E3779B97F4A7C15 & wide
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & wide
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & wide
        return z ^ (z >> 31)

    return sorted(range(n), key=mixed)


def slow_masks(  # noqa: PLR0911  (one return per rule)
    raw: list[Any], name: str, k: int
) -> list[tuple[list[bool], list[Any], Any]]:
    """Return (mask, p, t) of a rule's only threshold, or of each."""
    x, n = [F(v) for v in raw], len(raw)
    if name in ("lvs", "ssltie"):
        p = [F(F(1) - q) for q in slow_minmax([-v for v in x])]
        t = sorted(p)[n // 2]
        return [([v > t or v >= 1 for v in p], p, t)]
    if name in ("ezvsl", "ezvsl-val", "slavc"):
        s = [F(F(v * F(0.015)) + F(0.5)) for v in x] if name == "slavc" else x
        p = slow_minmax(s)
        t = sorted(p)[n // 2]
        return [([v >= t for v in p], p, t)]
    if name == "slavc-absolute":
        p = [F(F(v * F(0.015)) + F(0.5)) for v in x]
        return [([v >= 0.5 for v in p], p, 0.5)]
    if name == "htf":
        p = slow_minmax(x, constant=math.nan)
        t = math.nan if math.isnan(p[0]) else sorted(p)[n // 2]
        return [([v > t or v >= 1 for v in p], p, t)]
    if name == "sspl":
        p = slow_minmax(x, constant=F(0))
        return [([v >= 0.5 for v in p], p, 0.5)]
    if name in ("sslalignment", "adaptive"):
        p = slow_minmax(x)
        t = sorted(p)[n - (k or n // 2) if name == "adaptive" else n // 2]
        return [([v > t for v in p], p, t)]
    if name == "acl":
        p = [slow_sigmoid(v) for v in x]
        return [([v >= F(j / 20) for v in p], p, j / 20) for j in range(1, 20)]
    if name == "rethinking":
        p = slow_minmax(x, constant=math.nan)
        t = math.nan if math.isnan(p[0]) else sorted(p)[n // 2]
        return [([not (v < t) and v >= 0.5 for v in p], p, 0.5)]
    if name == "vssl-eval":
        return [([v > F(UNIVERSAL) for v in x], x, UNIVERSAL)]
    if name == "avsbench":
        p = [slow_sigmoid(v) for v in x]
        return [([v > 0.5 for v in p], p, 0.5)]
    if name == "fixed":
        return [([v >= 0.5 for v in x], x, 0.5)]
    area = n // 2 if name == "strict-median" else k or n // 2
    chosen = sorted(slow_order(n), key=lambda i: -x[i])[:area]  # a stable sort keeps the order of ties
    return [([i in set(chosen) for i in range(n)], x, x[chosen[-1]])]


def slow_ciou(mask: list[bool], truth: list[float]) -> float:
    intersection = denominator = 0.0
    for m, g in zip(mask, truth, strict=True):
        intersection += g if m else 0
        denominator += g + (1 if m and g == 0 else 0)
    return intersection / denominator if denominator else math.nan


def slow_best(candidates: list[tuple[list[bool], list[Any], Any]], truth: list[float]) -> tuple[float, Any]:
    """Return the cIoU that is reported of one clip, and its candidate: the first that reaches 0.5."""
    scored = [(slow_ciou(candidate[0], truth), candidate) for candidate in candidates]
    return next((s for s in scored if s[0] >= 0.5), scored[0])


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


boxes_of_a_clip = st.lists(box(), min_size=1, max_size=3)


def values(name: str) -> st.SearchStrategy[Any]:
    # Sixteenths: few values make many ties, constant maps among them.
    low = 0 if name == "fixed" else -16
    return st.integers(low, 16).map(lambda v: v / 16)


@st.composite
def map_of_full_size(draw: st.DrawFn, name: str) -> np.ndarray:
    fill = draw(values(name))
    return draw(hnp.arrays(np.float32, (SIZE, SIZE), elements=values(name), fill=st.just(fill)))


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", EVERY)
@given(data=st.data(), boxes=boxes_of_a_clip)
def test_maps_of_full_size(name: str, data: st.DataObject, boxes: list[list[float]]) -> None:
    heatmap = data.draw(map_of_full_size(name))
    truth = slow_truth(boxes, consensus=False)
    candidates = slow_masks(list(heatmap.ravel()), name, sum(g > 0 for g in truth))
    expected, (_, p, t) = slow_best(candidates, truth)
    scores = evaluate({"a": heatmap}, {"a": boxes}, shrunk(name))
    found = float(scores.per_clip.loc["a", "ciou"])
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert scores.per_clip.loc["a", "status"] == ("undefined" if math.isnan(expected) else "scored")
    if PROTOCOLS[name].is_rank_rule:
        assert scores.tied["n"] == (sum(v == t for v in p) > 1)


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align_corners", [False, True])
@given(
    heatmap=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.floats(-8, 8, width=32)
    )
)
def test_resize(heatmap: np.ndarray, interpolation: Any, align_corners: bool) -> None:
    ours = resize(heatmap[None], SIZE, interpolation, align_corners)[0]
    slow = slow_resize(heatmap, SIZE, interpolation, align_corners)
    np.testing.assert_allclose(ours, slow, rtol=0, atol=2e-5)


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", EVERY)
@given(
    heatmap=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(0, 1, width=32),
        unique=True,
    ),
    boxes=boxes_of_a_clip,
)
def test_low_resolution_maps(name: str, heatmap: np.ndarray, boxes: list[list[float]]) -> None:
    truth = slow_truth(boxes, consensus=False)
    upsampled = [v for row in slow_resize(heatmap, SIZE, *UPSAMPLING[name]) for v in row]
    candidates = slow_masks(upsampled, name, sum(g > 0 for g in truth))
    expected, (_, p, t) = slow_best(candidates, truth)
    found = float(evaluate({"a": heatmap}, {"a": boxes}, shrunk(name)).per_clip.loc["a", "ciou"])
    # Float32 rounding of the upsampling may carry values that are this close to a threshold across it.
    thresholds = [c[2] for c in candidates] if name == "acl" else [t, sorted(p)[len(p) // 2]]
    near = max(sum(abs(v - u) < 1e-5 for v in p) for u in thresholds)
    if near <= (PROTOCOLS[name].is_rank_rule or name == "rethinking"):
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    elif name != "acl" and not math.isnan(expected):
        assert abs(found - expected) <= 2 * near / max(1, sum(g > 0 for g in truth))


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
    for name in EVERY:
        found = evaluate(maps, path, shrunk(name))
        for k, b in enumerate(boxes):
            truth = slow_truth(b, consensus=True)
            candidates = slow_masks(list(maps[f"c{k}"].ravel()), name, sum(g > 0 for g in truth))
            chosen = candidates[0]
            if name == "acl":
                chosen = next(c for c in candidates if c[2] == found.sections["sweep"]["chosen"])
            expected = slow_ciou(chosen[0], truth)
            assert found.per_clip["ciou"][f"c{k}"] == pytest.approx(expected, nan_ok=True), name


def test_a_sweep_reports_its_best_threshold() -> None:
    rng = np.random.default_rng(5)
    maps = {f"c{k}": (6 * rng.random((SIZE, SIZE)) - 3).astype(np.float32) for k in range(12)}
    boxes = {i: [np.sort(rng.random((2, 2)), axis=0).ravel().tolist()] for i in maps}
    scores = evaluate(maps, boxes, shrunk("acl"))
    slow = []
    for clip_id, heatmap in maps.items():
        truth = slow_truth([[int(v * SIZE) / SIZE for v in b] for b in boxes[clip_id]], consensus=False)
        slow.append([slow_ciou(c[0], truth) for c in slow_masks(list(heatmap.ravel()), "acl", 0)])
    share = [float(np.mean([clip[k] >= 0.5 for clip in slow])) for k in range(19)]
    rows = scores.sections["sweep"]["rows"]
    assert [row["threshold"] for row in rows] == [k / 20 for k in range(1, 20)]
    assert [row["metrics"]["ciou@0.5"] for row in rows] == share
    assert scores.metrics["ciou@0.5"] == max(share)
    assert scores.sections["sweep"]["chosen"] == (share.index(max(share)) + 1) / 20


def test_a_clip_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    maps = {f"c{k}": rng.random((7, 7) if k % 3 else (9, 14), dtype=np.float32) for k in range(23)}
    boxes = {i: [[0.1, 0.2, 0.6, 0.9]] for i in maps}
    rules = [
        dataclasses.replace(PROTOCOLS[n], threshold_value=0.3) if n == "vssl-eval" else n for n in PROTOCOLS
    ]
    together = evaluate_all(maps, boxes, rules)
    one_by_one = {name: evaluate(maps, boxes, found.protocol) for name, found in together.items()}
    monkeypatch.setattr(Predictions.chunks, "__defaults__", (1,))
    alone = evaluate_all(open_predictions(dict(reversed(maps.items()))), boxes, rules)
    for name, found in together.items():
        assert found.per_clip.equals(alone[name].per_clip), name
        assert (found.metrics, found.intervals, found.context) == (
            one_by_one[name].metrics,
            one_by_one[name].intervals,
            one_by_one[name].context,
        )
