"""Politeness: turns at a host, pauses that a server asks for, and clocks that jump."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from avsl_data.errors import StopEverythingError
from avsl_data.pace import MAX_DOUBLINGS, Pace, duration_text

HOUR_S = 3600.0


@dataclass
class Clock:
    """A clock that only sleeping and the test move."""

    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(tmp_path: Path, clock: Clock) -> Callable[..., Pace]:
    """Build paces that share a folder and a clock, as processes would."""

    def build(interval_s: float = 10.0, *, wait: bool = False, host: str = "www.youtube.com") -> Pace:
        return Pace(host, (interval_s, interval_s), HOUR_S, wait, tmp_path, clock, clock.sleep)

    return build


def test_the_first_turn_is_free_and_the_others_wait(pace: Callable[..., Pace], clock: Clock) -> None:
    one, other = pace(), pace()
    one.take_turn()
    assert clock.slept == []
    other.take_turn()
    one.take_turn()
    assert clock.slept == [10.0, 10.0]
    clock.now += 100
    one.take_turn()
    assert clock.slept == [10.0, 10.0]


def test_hosts_do_not_wait_for_each_other(pace: Callable[..., Pace], clock: Clock) -> None:
    for host in ("a.org", "b.org", "a.org:81", "a_org", "a/../org"):
        pace(host=host).take_turn()
    assert clock.slept == []


def test_processes_together_keep_the_pace(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from avsl_data.pace import Pace\n"
        "for _ in range(5):\n"
        "    Pace('a.org', (0.1, 0.1), folder=Path(sys.argv[1])).take_turn(); print(time.time())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    taken = sorted(float(line) for process in running for line in process.communicate()[0].splitlines())
    assert len(taken) == 15
    # A turn may be late on a busy machine, never early: k turns later are k intervals later at least.
    assert all(taken[k] - taken[0] >= k * 0.1 - 0.05 for k in range(15))


def test_a_refusal_stops_every_process_until_its_end(pace: Callable[..., Pace], clock: Clock) -> None:
    assert pace().refuse("HTTP Error 429", 120.0) == clock.now + 120
    with pytest.raises(StopEverythingError, match="asked for a pause: HTTP Error 429") as stopped:
        pace().take_turn()
    assert stopped.value.until == clock.now + 120
    clock.now += 121
    pace().take_turn()


def test_a_pause_without_a_length_doubles_until_something_succeeds(
    pace: Callable[..., Pace], clock: Clock
) -> None:
    lengths = [pace().refuse("not a bot") - clock.now for _ in range(MAX_DOUBLINGS + 2)]
    assert lengths == [HOUR_S, 2 * HOUR_S, 4 * HOUR_S, 8 * HOUR_S, 8 * HOUR_S]
    pace().forget_pause()
    pace().take_turn()
    pace().succeeded()
    assert pace().refuse("not a bot") - clock.now == HOUR_S


def test_waiting_sleeps_through_the_pause(pace: Callable[..., Pace], clock: Clock) -> None:
    pace().refuse("429", 120.0)
    pace(wait=True).take_turn()
    assert clock.slept == [120.0]


def test_a_refusal_during_the_wait_for_a_turn_counts(pace: Callable[..., Pace], clock: Clock) -> None:
    waiting = pace()
    waiting.take_turn()

    def sleep(seconds: float) -> None:
        clock.now += seconds
        pace().refuse("429", 120.0)

    with pytest.raises(StopEverythingError, match="429"):
        Pace(waiting.host, (10.0, 10.0), HOUR_S, False, waiting.folder, clock, sleep).take_turn()


def test_a_clock_that_was_set_back_makes_no_pause_longer(pace: Callable[..., Pace], clock: Clock) -> None:
    pace().take_turn()
    pace().refuse("429", 120.0)
    clock.now -= 30 * 24 * HOUR_S
    with pytest.raises(StopEverythingError) as stopped:
        pace().take_turn()
    assert stopped.value.until == pytest.approx(clock.now + 120)
    clock.now += 60  # time that passes on the new clock counts
    with pytest.raises(StopEverythingError) as stopped:
        pace().take_turn()
    assert stopped.value.until == pytest.approx(clock.now + 60)
    clock.now += 61
    pace().take_turn()
    clock.now -= 24 * HOUR_S
    pace().take_turn()
    assert clock.slept == [pytest.approx(10.0)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"written": "soon"}', '{"other": 1}', "\0\0\0"])
def test_a_file_that_a_kill_cut_off_costs_no_more_than_a_pause(
    pace: Callable[..., Pace], clock: Clock, text: str
) -> None:
    pace().take_turn()
    pace().path.write_text(text)
    pace().take_turn()
    assert clock.slept == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3660, "1 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
