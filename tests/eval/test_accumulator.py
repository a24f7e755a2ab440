"""Scores inside a training loop equal those of a predictions file, however clips are dealt and merged."""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval import evaluate_all
from avsl_eval.accumulator import Accumulator
from avsl_eval.errors import EvalInputError

RULES = ["lvs", "ezvsl", "slavc", "sspl", "rethinking", "strict", "adaptive"]


def clips(n: int, seed: int = 0) -> tuple[list[str], np.ndarray, list[list[list[float]]]]:
    """Draw n clips; the third has two boxes, the fourth none."""
    rng = np.random.default_rng(seed)
    boxes = []
    for k in range(n):
        count = {2: 2, 3: 0}.get(k, 1)
        x0, y0 = rng.uniform(0, 0.5, (2, count))
        boxes.append(np.column_stack([x0, y0, x0 + rng.uniform(0.1, 0.5, count), y0 + 0.4]).tolist())
    return [f"clip_{k:06d}" for k in range(n)], rng.random((n, 7, 7), np.float32), boxes


def expected(ids: list[str], maps: np.ndarray, boxes: list[Any]) -> dict[str, float]:
    found = evaluate_all(dict(zip(ids, maps, strict=True)), dict(zip(ids, boxes, strict=True)), RULES)
    return {f"{rule}/{name}": v for rule, scores in found.items() for name, v in scores.metrics.items()}


@given(cuts=st.lists(st.integers(0, 12), max_size=4), seed=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_any_batches_in_any_processes_give_what_evaluate_gives(cuts: list[int], seed: int) -> None:
    ids, maps, boxes = clips(12, seed)
    ends = [0, *sorted(cuts), 12]
    processes = [Accumulator(RULES), Accumulator(RULES)]
    for turn, (start, end) in enumerate(itertools.pairwise(ends)):
        processes[turn % 2].update(maps[start:end], boxes[start:end], ids[start:end])
    whole = Accumulator(RULES)
    whole.merge(processes[0])
    whole.load_state(processes[1].state())
    assert whole.compute() == pytest.approx(expected(ids, maps, boxes), abs=1e-12)
    assert len(whole) == 12


def test_a_clip_that_a_sampler_repeats_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    ids, maps, boxes = clips(6)
    accumulator = Accumulator(RULES)
    accumulator.update(maps, boxes, ids)
    accumulator.update(maps[:2], boxes[:2], ids[:2])
    assert accumulator.compute() == pytest.approx(expected(ids, maps, boxes), abs=1e-12)
    assert "came twice" not in caplog.text
    accumulator.update(maps[3:5][::-1], boxes[:2], ids[:2])
    with caplog.at_level(logging.WARNING):
        assert accumulator.compute() == pytest.approx(expected(ids, maps, boxes), abs=1e-12)
    assert "2 clips came twice with different maps" in caplog.text


def test_without_ids_every_map_counts() -> None:
    _, maps, boxes = clips(2)
    once, twice = Accumulator("ezvsl"), Accumulator("ezvsl")
    once.update(maps, boxes)
    twice.update(np.concatenate([maps, maps[:1]]), [*boxes, boxes[0]])
    weights = np.array([2, 1]) / 3
    single = [Accumulator("ezvsl") for _ in range(2)]
    for k, one in enumerate(single):
        one.update(maps[k : k + 1], boxes[k : k + 1])
    mean = sum(w * s.compute()["ezvsl/mean_iou"] for w, s in zip(weights, single, strict=True))
    assert twice.compute()["ezvsl/mean_iou"] == pytest.approx(mean)
    assert len(once) == 2


def test_consensus_and_empty_batches() -> None:
    both = [[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.25, 1.0]]
    left = np.zeros((1, 1, 8, 8))
    left[..., :2] = 1.0
    accumulator = Accumulator("fixed", truth="consensus")
    accumulator.update(np.empty((0, 8, 8)), [])
    accumulator.update(left, [both])
    # Bilinear upsampling puts the 0.5 crossing at a quarter of the width: g = 1 there, 1/2 in the next.
    assert accumulator.compute()["fixed/mean_iou"] == pytest.approx(1 / 1.5)
    accumulator.reset()
    with pytest.raises(EvalInputError, match="of the 0 maps that came none has a box"):
        accumulator.compute()


def test_stacked_boxes_may_be_filled_up_with_nan() -> None:
    ids, maps, _ = clips(2)
    padded = np.full((2, 3, 4), np.nan)
    padded[:, 0] = [0.1, 0.2, 0.6, 0.9]
    one, other = Accumulator("ezvsl"), Accumulator("ezvsl")
    one.update(maps, padded, ids)
    other.update(maps, [[[0.1, 0.2, 0.6, 0.9]]] * 2, ids)
    assert one.compute() == other.compute()


@pytest.mark.parametrize(
    ("maps", "boxes", "ids", "message"),
    [
        (np.zeros((2, 3, 8, 8)), [[], []], None, r"maps have shape \(2, 3, 8, 8\)"),
        (np.zeros((2, 8, 8)), [[]], None, "2 maps, boxes of 1 clips and 2 clip ids"),
        (np.zeros((2, 8, 8)), [[], []], ["a"], "boxes of 2 clips and 1 clip ids"),
        (np.full((1, 8, 8), np.nan), [[]], ["a"], "clip a has 64 values that are NaN"),
        (np.full((1, 8, 8), -0.5), [[]], None, "number 0 of the batch lies in.*cosine"),
        (np.zeros((1, 8, 8)), [[[10.0, 10.0, 60.0, 80.0]]], None, "look like pixels"),
        (np.zeros((1, 8, 8)), [[[0.1, 0.2, 0.3]]], None, r"have shape \(1, 3\)"),
    ],
)
def test_a_bad_batch_adds_nothing(maps: np.ndarray, boxes: Any, ids: Any, message: str) -> None:
    accumulator = Accumulator("fixed")
    with pytest.raises(EvalInputError, match=message):
        accumulator.update(maps, boxes, ids)
    assert len(accumulator) == 0


def test_bad_rules_and_strangers() -> None:
    for rule in ("acl", "vssl-eval"):
        with pytest.raises(EvalInputError, match="needs more than maps and boxes"):
            Accumulator(rule)
    with pytest.raises(EvalInputError, match=r"unknown protocol 'ezvls'.*ezvsl"):
        Accumulator("ezvls")
    with pytest.raises(EvalInputError, match="truth is 'mask'"):
        Accumulator("ezvsl", truth="mask")
    with pytest.raises(EvalInputError, match="cannot be merged"):
        Accumulator("ezvsl").merge(Accumulator("lvs"))
    with pytest.raises(EvalInputError, match="lacks 'sounding'"):
        Accumulator("ezvsl").load_state({"clip_id": []})
    with pytest.raises(EvalInputError, match="state that of other protocols"):
        Accumulator("ezvsl").load_state(Accumulator("strict").state())


def test_tensors_are_taken_without_importing_torch() -> None:
    torch = pytest.importorskip("torch")
    ids, maps, boxes = clips(5)
    ours, theirs = Accumulator(RULES), Accumulator(RULES)
    ours.update(maps, boxes, ids)
    tensor = torch.from_numpy(maps).requires_grad_()
    theirs.update(tensor[:, None], [torch.tensor(b, dtype=torch.float64).reshape(-1, 4) for b in boxes], ids)
    assert theirs.compute() == pytest.approx(ours.compute(), abs=1e-12)
    theirs.update(tensor.detach().bfloat16(), boxes)  # numpy has no such type
    code = "import sys, avsl_eval; sys.exit('torch' in sys.modules or 'torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_torchmetrics_gives_the_same() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchmetrics")
    from avsl_eval.torchmetrics import LocalizationScore

    ids, maps, boxes = clips(9)
    metric = LocalizationScore(RULES)
    for start in range(0, 9, 4):
        end = start + 4
        metric.update(torch.from_numpy(maps[start:end]), boxes[start:end], ids[start:end])
    metric.update(torch.from_numpy(maps[:1]), boxes[:1], ids[:1])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(expected(ids, maps, boxes), abs=1e-6)
    metric.reset()
    with (
        pytest.warns(UserWarning, match="was called before the"),  # torchmetrics' own
        pytest.raises(EvalInputError, match="call update before compute"),
    ):
        metric.compute()


PROCESS = """
import json, sys
import numpy as np, torch
import torch.distributed as dist
from avsl_eval.torchmetrics import LocalizationScore
rank, store, data = int(sys.argv[1]), sys.argv[2], np.load(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
mine = [0, 2, 4] if rank == 0 else [1, 3, 0]  # the sampler repeats clip 0 to fill up
metric = LocalizationScore(["lvs", "fixed"])
metric.update(torch.from_numpy(data["maps"][mine]), data["boxes"][mine], data["ids"][mine].tolist())
print(json.dumps({name: float(value) for name, value in metric.compute().items()}))
dist.destroy_process_group()
"""


def test_torchmetrics_gathers_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(1)
    ids, maps = [f"c_{k:06d}" for k in range(5)], rng.random((5, 7, 7), np.float32)
    boxes = np.tile([0.2, 0.1, 0.7, 0.8], (5, 1, 1)) * rng.uniform(0.5, 1, (5, 1, 1))
    np.savez(tmp_path / "data.npz", ids=np.array(ids), maps=maps, boxes=boxes)
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(tmp_path / "data.npz")], stdout=subprocess.PIPE
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert printed[0] == printed[1]
    found = evaluate_all(
        dict(zip(ids, maps, strict=True)), dict(zip(ids, boxes, strict=True)), ["lvs", "fixed"]
    )
    wanted = {f"{rule}/{name}": v for rule, scores in found.items() for name, v in scores.metrics.items()}
    assert json.loads(printed[0]) == pytest.approx(wanted, abs=1e-6)
