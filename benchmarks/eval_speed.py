"""How fast the scorer is beside the loops of published evaluators, rewritten here from their formulas.

Three comparisons, each the best of several runs, after the forward pass (maps in memory):

- ``lvs``: LVS's loop per map (OpenCV resize, full sort, masks and products in float64) and ours, 14 x 14 maps
- ``slavc``: SLAVC's loop per clip (three maps: audio-visual, object and mixed; bicubic upsampling, the mean
  of the 12544 largest values, cIoU; AP, F1 and sizes) and ours
- ``all``: the suite ``all`` on boxes (every protocol that needs no masks and no negative audio) in one pass,
  and the protocol lvs alone

Ours does more: intervals, context, breakdowns, ties and warnings are part of what is timed. Both run in one
thread. NumPy sorts with AVX-512 or AVX2 where the processor has them, which the published loops gain most
from; NPY_DISABLE_CPU_FEATURES="X86_V4 X86_V3" times both without.

Usage: OMP_NUM_THREADS=1 python benchmarks/eval_speed.py [--clips 5158] [--out eval_speed.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import avsl_eval
from avsl_eval.evaluate import evaluate_all
from avsl_eval.truth import Annotations, read_annotations

SIZE, TAU, ALPHA = 224, 0.03, 0.9


def make(n: int, seed: int = 0) -> tuple[dict[str, list[list[float]]], np.ndarray]:
    """Draw boxes like VGG-SS's (one to three, a third of the image) and smooth maps about them, 14 x 14."""
    rng = np.random.default_rng(seed)
    boxes = {}
    grid = (np.arange(14) + 0.5) / 14
    maps = np.empty((n, 14, 14), np.float32)
    for k in range(n):
        m = int(rng.choice([1, 1, 1, 2, 3]))
        centre, half = rng.uniform(0.3, 0.7, (m, 2)), rng.uniform(0.1, 0.35, (m, 2))
        corners = np.clip(np.concatenate([centre - half, centre + half], axis=1), 0, 1)
        boxes[f"clip{k:06}"] = corners.tolist()
        y, x = centre[0, 1] + rng.normal(0, 0.1), centre[0, 0] + rng.normal(0, 0.1)
        bump = np.exp(-6 * ((grid[:, None] - y) ** 2 + (grid[None] - x) ** 2))
        maps[k] = (bump + 0.1 * rng.random((14, 14))) / 1.1
    return boxes, maps


def draw(boxes: list[list[float]]) -> np.ndarray:
    """Draw a clip's truth as the published loops do: a map per box, their sum, set to 1 where covered."""
    g = np.zeros((SIZE, SIZE))
    for box in boxes:
        x0, y0, x1, y1 = [int(SIZE * max(v, 0)) for v in box]
        one = np.zeros((SIZE, SIZE))
        one[y0:y1, x0:x1] = 1
        g += one
    g[g > 0] = 1
    return g


def area_under_curve(ciou: list[float]) -> float:
    """Compute the AUC over 21 thresholds."""
    x = [0.05 * k for k in range(21)]
    y = [float(np.sum(np.array(ciou) >= t) / len(ciou)) for t in x]
    return float(np.trapezoid(y, x))


def published_ciou(mask: np.ndarray, g: np.ndarray) -> float:
    """Compute cIoU on float64 masks, and both of its terms once more, as the published code does."""
    inferred = np.zeros((SIZE, SIZE))
    inferred[mask >= 0.5] = 1
    found = np.sum(inferred * g) / (np.sum(g) + np.sum(inferred * (g == 0)))
    _ = np.sum(inferred * g), np.sum(g) + np.sum(inferred * (g == 0))
    return float(found)


def published_lvs(boxes: dict[str, Any], maps: np.ndarray) -> tuple[float, float]:
    """Score maps as LVS's test loop does."""
    ciou = []
    for corners, heatmap in zip(boxes.values(), maps, strict=True):
        g = draw(corners)
        x = -cv2.resize(heatmap, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        low, high = x.min(), x.max()
        p = 1 - (x - low) / (high - low)
        threshold = np.sort(p.flatten())[int(p.shape[0] * p.shape[1] / 2)]
        p[p > threshold] = 1
        p[p < 1] = 0
        ciou.append(published_ciou(p, g))
    return float(np.mean(np.array(ciou) >= 0.5)), area_under_curve(ciou)


def published_slavc(boxes: dict[str, Any], av: np.ndarray, objects: np.ndarray) -> dict[str, Any]:
    """Score three maps per clip as SLAVC's test loop does, with its statistics."""
    found: dict[str, list[tuple[float, float, float]]] = {"av": [], "obj": [], "mixed": []}
    for corners, heatmap, object_map in zip(boxes.values(), av, objects, strict=True):
        g = draw(corners)
        s_av, s_obj = (
            cv2.resize(m, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for m in (heatmap, object_map)
        )
        s_av, s_obj = (s_av + 1 / TAU) / (2 / TAU), s_obj / 2.5
        for name, s in (("av", s_av), ("obj", s_obj), ("mixed", ALPHA * s_av + (1 - ALPHA) * s_obj)):
            confidence = float(np.sort(s.flatten())[-SIZE * SIZE // 4 :].mean())
            p = (s - s.min()) / (s.max() - s.min())
            threshold = np.sort(p.flatten())[int(SIZE * SIZE / 2)]
            mask = (p >= threshold).astype(np.float64)
            found[name].append((published_ciou(mask, g), confidence, float(g.sum())))
    return {name: _published_statistics(np.array(rows)) for name, rows in found.items()}


def _published_statistics(rows: np.ndarray) -> dict[str, Any]:
    """Compute precision, AP and F1 of all subsets, counting clip by clip at each threshold as published."""
    bounds = {"all": (-1, np.inf), "visible": (-1, np.inf), "small": (0, 32**2), "medium": (32**2, 96**2)}
    bounds |= {"large": (96**2, 144**2), "huge": (144**2, np.inf)}
    out = {}
    for name, (low, high) in bounds.items():
        clips = [(c, f) for c, f, area in rows.tolist() if low <= area < high]
        if not clips:
            continue
        ranked = np.sort([f for _, f in clips])
        for u in (0.5, 0.75):
            curve = [_counted(clips, c, u) for c in ranked[:-1][:: -max(1, len(ranked) // 200)]]
            best = [max(p for p, _ in curve[k:]) for k in range(len(curve))]
            steps = [after[1] - before[1] for before, after in itertools.pairwise(curve)]
            out[f"AP-{name}@{u}"] = sum(b * d for b, d in zip(best, steps, strict=False))
            f1 = [_counted(clips, c, u) for c in ranked[:: max(1, len(ranked) // 10)]]
            out[f"F1-{name}@{u}"] = [2 * p * r / (p + r) if p + r else 0 for p, r in f1]
            out[f"Precision-{name}@{u}"] = _counted(clips, -1000, u)[0]
        out[f"AUC-{name}"] = area_under_curve([c for c, _ in clips])
    return out


def _counted(clips: list[tuple[float, float]], confidence: float, iou: float) -> tuple[float, float]:
    """Return precision and recall, all clips sounding."""
    true_positive = sum([f >= confidence and c >= iou for c, f in clips])
    false_positive = sum([f >= confidence and c < iou for c, f in clips])
    false_negative = sum([f < confidence for _, f in clips])
    found, there = true_positive + false_positive, true_positive + false_negative
    return true_positive / found if found else 1.0, true_positive / there if there else 1.0


def ours_slavc(annotations: Annotations, av: np.ndarray, objects: np.ndarray, threads: int) -> None:
    """Score the same three maps; at the models' resolution mixing and upsampling commute."""
    ids = [clip.clip_id for clip in annotations.clips]
    rule = avsl_eval.get_protocol("slavc")
    s_av, s_obj = av * np.float32(rule.scale) + np.float32(rule.offset), objects * np.float32(0.4)
    plain = dataclasses.replace(rule, scale=1.0, offset=0.0)
    for maps in (s_av, s_obj, ALPHA * s_av + (1 - ALPHA) * s_obj):
        evaluate_all(dict(zip(ids, maps, strict=True)), annotations, plain, threads=threads)


def timed(run: Callable[[], Any], repeat: int) -> float:
    """Return the seconds of the fastest of several runs."""
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return best


def main() -> None:
    """Run the comparisons and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=5158)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of ours (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("eval_speed.json"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    boxes, maps = make(arguments.clips)
    ids = list(boxes)
    predictions = dict(zip(ids, maps, strict=True))
    annotations = read_annotations(boxes)
    n, repeat = arguments.clips, arguments.repeat

    expected = published_lvs(boxes, maps)
    logging.disable(logging.WARNING)
    scores = avsl_eval.evaluate(predictions, annotations, "lvs").metrics
    assert np.allclose(expected, (scores["ciou@0.5"], scores["auc"]), rtol=0, atol=1e-3), (expected, scores)

    def ours(protocols: Any) -> Callable[[], Any]:
        return lambda: evaluate_all(predictions, annotations, protocols, threads=arguments.threads)

    cosine, objects = ((maps - 0.4) / TAU).astype(np.float32), maps + np.float32(0.5)
    seconds = {
        "lvs published": timed(lambda: published_lvs(boxes, maps), repeat),
        "lvs ours": timed(ours("lvs"), repeat),
        "slavc published": timed(lambda: published_slavc(boxes, cosine, objects), 1),
        "slavc ours": timed(lambda: ours_slavc(annotations, cosine, objects, arguments.threads), repeat),
        "all protocols ours": timed(ours("all"), repeat),
    }
    ratios = {
        "lvs": seconds["lvs published"] / seconds["lvs ours"],
        "slavc": seconds["slavc published"] / seconds["slavc ours"],
        "all over one": seconds["all protocols ours"] / seconds["lvs ours"],
    }
    for name, value in seconds.items():
        print(f"{name:<20} {value:7.2f} s  {1000 * value / n:7.3f} ms per clip")
    for name, value in ratios.items():
        print(f"{name:<20} {value:7.1f} times")
    content = {
        "clips": n,
        "protocols": list(evaluate_all(predictions, annotations, "all")),
        "threads": arguments.threads,
        "seconds": seconds,
        "ratios": ratios,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "processor": platform.processor() or platform.machine(),
            "numpy": np.__version__,
            "disabled": os.environ.get("NPY_DISABLE_CPU_FEATURES", ""),
            "load": os.getloadavg()[0],
            "opencv": cv2.__version__,
        },
    }
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
