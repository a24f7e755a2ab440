"""How fast the scorer is beside the loops of published evaluators, rewritten here from their formulas.

Three comparisons, after the forward pass (maps in memory):

- ``lvs``: LVS's loop per map (OpenCV resize, full sort, masks and products in float64) and ours, 14 x 14 maps
- ``slavc``: SLAVC's loop per clip (three maps: audio-visual, object and mixed; bicubic upsampling, the mean
  of the 12544 largest values, cIoU; AP, F1 and sizes) and ours
- ``all``: the suite ``all`` on boxes (every protocol that needs no masks and no negative audio) in one pass,
  and one protocol alone: ``lvs``, the fastest, and the mean over all protocols of the suite, each by itself

Published and ours are timed in turn, round after round, and the fastest run of each counts: other work on the
machine slows both. Beside the wall's seconds stand those of processors, of all processes together, which
other work changes less. The published loops are single loops, as their authors run them; ours is timed in one
process and in as many as ``--workers`` says, which here is the number of cores. Ours does more: intervals,
context, breakdowns, ties and warnings are part of what is timed. NumPy sorts with AVX-512 or AVX2 where the
processor has them, which the published loops gain most from; NPY_DISABLE_CPU_FEATURES="X86_V4 X86_V3" times
both without.

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
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import avsl_eval
from avsl_eval.evaluate import evaluate_all, evaluate_many
from avsl_eval.run import cores
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


def ours_slavc(annotations: Annotations, av: np.ndarray, objects: np.ndarray, workers: int) -> None:
    """Score the same three maps; at the models' resolution mixing and upsampling commute."""
    ids = [clip.clip_id for clip in annotations.clips]
    rule = avsl_eval.get_protocol("slavc")
    s_av, s_obj = av * np.float32(rule.scale) + np.float32(rule.offset), objects * np.float32(0.4)
    plain = dataclasses.replace(rule, scale=1.0, offset=0.0)
    three = {"av": s_av, "obj": s_obj, "mixed": ALPHA * s_av + (1 - ALPHA) * s_obj}
    predictions = {name: dict(zip(ids, maps, strict=True)) for name, maps in three.items()}
    evaluate_many(predictions, annotations, plain, workers=workers)


def timed_in_turn(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return the least seconds of wall and of processors that each took, in rounds through all of them."""
    best = dict.fromkeys(runs, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, run in runs.items():
            begin, used = time.perf_counter(), processor_seconds()
            run()
            wall, processors = time.perf_counter() - begin, processor_seconds() - used
            best[name] = min(best[name][0], wall), min(best[name][1], processors)
    return best


def processor_seconds() -> float:
    """Return what this process and those that it started and ended have used of processors."""
    used = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def main() -> None:
    """Run the comparisons and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=5158)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=cores(), help="of ours (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("eval_speed.json"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    boxes, maps = make(arguments.clips)
    predictions = dict(zip(boxes, maps, strict=True))
    annotations = read_annotations(boxes)

    expected = published_lvs(boxes, maps)
    logging.disable(logging.WARNING)
    scores = avsl_eval.evaluate(predictions, annotations, "lvs").metrics
    assert np.allclose(expected, (scores["ciou@0.5"], scores["auc"]), rtol=0, atol=1e-3), (expected, scores)

    cosine, objects = ((maps - 0.4) / TAU).astype(np.float32), maps + np.float32(0.5)
    every = list(evaluate_all(predictions, annotations, "all"))

    def ours(protocols: Any, workers: int) -> None:
        evaluate_all(predictions, annotations, protocols, workers=workers)

    runs: dict[str, Callable[[], Any]] = {
        "lvs published": lambda: published_lvs(boxes, maps),
        "slavc published": lambda: published_slavc(boxes, cosine, objects),
    }
    counts = sorted({1, arguments.workers})
    for n in counts:
        runs[f"lvs ours x{n}"] = partial(ours, "lvs", n)
        runs[f"slavc ours x{n}"] = partial(ours_slavc, annotations, cosine, objects, n)
        runs[f"all ours x{n}"] = partial(ours, "all", n)
    runs |= {f"{name} alone x1": partial(ours, name, 1) for name in every}
    seconds = timed_in_turn(runs, arguments.rounds)

    def ratio(above: str, below: str) -> list[float]:
        return [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]

    ratios = {
        f"{rule} x{n}": ratio(f"{rule} published", f"{rule} ours x{n}")
        for rule in ("lvs", "slavc")
        for n in counts
    }
    ratios |= {f"all over lvs x{n}": ratio(f"all ours x{n}", f"lvs ours x{n}") for n in counts}
    alone = np.mean([seconds[f"{name} alone x1"] for name in every], axis=0)
    ratios["all over the mean of one x1"] = (np.array(seconds["all ours x1"]) / alone).tolist()
    print(f"{'':<28} {'wall':>8} {'processors':>11}")
    for name, (wall, used) in seconds.items():
        per_clip = 1000 / arguments.clips
        print(f"{name:<28} {per_clip * wall:8.3f} {per_clip * used:11.3f} ms per clip")
    for name, (wall, used) in ratios.items():
        print(f"{name:<28} {wall:8.1f} {used:11.1f} times")
    content = {
        "clips": arguments.clips,
        "rounds": arguments.rounds,
        "protocols": every,
        "columns": ["wall", "processors"],
        "seconds": seconds,
        "ratios": ratios,
        "machine": {
            "cores": cores(),
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
