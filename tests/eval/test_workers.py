"""Worker processes: the same results, the same errors, and none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from avsl_eval.errors import EvalInputError
from avsl_eval.evaluate import evaluate_all
from avsl_eval.scorer import Scorer, Task
from avsl_eval.workers import room

N = 300
IDS = [f"c{k:03}_000001" for k in range(N)]
BOXES: dict[str, Any] = {
    clip_id: [[0.1, 0.2 + 0.01 * j, 0.3 + k / N / 2, 0.9] for j in range(1 + k % 7)]  # also more than a few
    for k, clip_id in enumerate(IDS)
}


def maps(side: int = 7, n: int = N) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(0).random((n, side, side), dtype=np.float32)
    return dict(zip(IDS, drawn, strict=False))


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("rules", [["lvs", "slavc"], ["sslalignment", "adaptive", "strict"]])
@pytest.mark.parametrize("side", [7, 200])
def test_any_number_of_workers_finds_the_same(side: int, rules: list[str]) -> None:
    n = N if side == 7 else 20
    boxes = {i: BOXES[i] for i in IDS[:n]}
    seen: list[tuple[int, int]] = []
    one, *others = (
        evaluate_all(maps(side, n), boxes, rules, workers=w, progress=lambda *p: seen.append(p))
        for w in (1, 2, 3)
    )
    for found in others:
        assert {k: s.to_csv() for k, s in one.items()} == {k: s.to_csv() for k, s in found.items()}
        assert {k: s.to_json() for k, s in one.items()} == {k: s.to_json() for k, s in found.items()}
    assert seen.count((n, n)) == 3


def test_workers_that_are_not_forked_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ["slavc", "strict"]
    one = evaluate_all(maps(), BOXES, rules)
    monkeypatch.setattr("avsl_eval.workers.start_method", lambda: "spawn")
    two = evaluate_all(maps(), BOXES, rules, workers=2)
    assert {k: s.to_json() for k, s in one.items()} == {k: s.to_json() for k, s in two.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="the room of a connection is known on Linux only")
def test_what_fits_a_connection_is_taken_at_once() -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        free = room(ours)
        assert free > 192 * 14 * 14 * 4  # a chunk of the usual maps
        os.set_blocking(ours.fileno(), False)  # sending more than is taken at once would fail
        ours.send_bytes(bytes(free))
        assert theirs.recv_bytes() == bytes(free)


def test_the_first_error_is_the_same() -> None:
    bad = maps()
    bad[IDS[70]] = bad[IDS[70]] + 5
    bad[IDS[90]] = np.full((7, 7), np.nan)
    messages = set()
    for workers in (1, 2, 5):
        with pytest.raises(EvalInputError, match=f"heatmap of clip {IDS[70]} lies in") as caught:
            evaluate_all(bad, BOXES, "strict", workers=workers)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_a_rule_is_left_out_at_the_same_map() -> None:
    bad = maps()
    bad[IDS[70]] = bad[IDS[70]] + 5
    one, two = (evaluate_all(bad, BOXES, "all", workers=w) for w in (1, 2))
    assert "fixed" not in one
    assert {k: s.to_json() for k, s in one.items()} == {k: s.to_json() for k, s in two.items()}


def test_what_fails_in_a_worker_fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Scorer, task: Task) -> None:
        raise FloatingPointError(f"row {task.rows[0]}")

    monkeypatch.setattr(Scorer, "score", failing)
    with pytest.raises(FloatingPointError, match="row"):
        evaluate_all(maps(), BOXES, "lvs", workers=2)


def test_a_killed_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    main, score = os.getpid(), Scorer.score

    def dying(scorer: Scorer, task: Task) -> None:
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        score(scorer, task)

    monkeypatch.setattr(Scorer, "score", dying)
    with pytest.raises(EvalInputError, match=r"ended from outside.*--workers 1"):
        evaluate_all(maps(), BOXES, "lvs", workers=2)


def test_an_interruption_leaves_nothing_behind() -> None:
    def interrupted(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_all(maps(), BOXES, "lvs", workers=2, progress=interrupted)
