"""Processes side by side: order, errors, and above all an end, whoever is killed and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avsl_data.errors import DataInputError
from avsl_data.workers import WorkerDiedError, in_order

AHEAD = 6
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import this module by its name."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


def square(number: int) -> int:
    """Return a square; the first ones take longest, so that later ones are done before them."""
    time.sleep(0.02 / number)
    return number * number


def refuse_seven(number: int) -> int:
    if number == 7:
        raise DataInputError(f"{number} is refused")
    return number


def die_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep_long(number: int) -> int:
    time.sleep(600)
    return number


def process_ids(number: int) -> int:
    return os.getpid()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    assert list(in_order(square, range(1, 30), workers, AHEAD)) == [k * k for k in range(1, 30)]
    assert list(in_order(square, [], workers, AHEAD)) == []


def test_jobs_are_taken_as_results_are() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(1, 100):
            taken.append(number)
            yield number

    results = in_order(square, jobs(), 2, AHEAD)
    assert next(results) == 1
    assert len(taken) == AHEAD + 1
    results.close()


def test_what_a_job_raises_is_raised_in_its_turn() -> None:
    results = in_order(refuse_seven, range(1, 100), 2, AHEAD)
    assert [next(results) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(DataInputError, match=r"^7 is refused") as raised:
        next(results)
    assert any("in refuse_seven" in note for note in raised.value.__notes__)  # where, in the other process


def test_the_job_of_a_worker_that_dies_is_named() -> None:
    results = in_order(die_at_seven, range(1, 100), 2, AHEAD)
    assert [next(results) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(WorkerDiedError) as raised:
        next(results)
    assert raised.value.job == 7


def test_no_process_outlives_the_work() -> None:
    results = in_order(process_ids, range(50), 3, AHEAD)
    pids = {next(results) for _ in range(40)}
    assert pids
    assert all(is_running(pid) for pid in pids)
    results.close()
    assert not any(is_running(pid) for pid in pids)


def test_a_job_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsl_data.workers.GRACE_S", 0.5)
    results = in_order(sleep_long, range(4), 2, 1)
    killer = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    killer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_a_worker_that_is_killed_while_the_others_start_stops_the_work(after_s: float) -> None:
    """Whenever a worker is killed, the parent says so; it never waits for ever."""
    code = (
        "import itertools\n"
        "from avsl_data.workers import WorkerDiedError, in_order\n"
        "from tests.data.test_workers import square\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        print(sum(in_order(square, itertools.count(1), 3, 18)))\n"
        "    except WorkerDiedError as error:\n"
        "        print('died at', error.job)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while not (workers := _spawned(children)):
            assert running.poll() is None
            time.sleep(0.002)
        time.sleep(after_s)
        os.kill(workers[0], signal.SIGKILL)
        try:
            out, _ = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 0
    assert out.startswith("died at ")


def _spawned(children: Path) -> list[int]:
    """Return the workers among the children of a process."""
    try:
        found = [int(child) for child in children.read_text().split()]
        return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except FileNotFoundError:
        return []


def test_workers_of_a_parent_that_is_killed_end() -> None:
    code = (
        "from avsl_data.workers import in_order\n"
        "from tests.data.test_workers import process_ids\n"
        "if __name__ == '__main__':\n"
        "    for pid in in_order(process_ids, iter(int, 1), 2, 6):\n"
        "        print(pid, flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pids = {int(running.stdout.readline()) for _ in range(20)}
        running.kill()
    until = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < until, "a worker runs on without its parent"
        time.sleep(0.05)
