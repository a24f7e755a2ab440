"""Which clips a step sees, and the named random streams behind it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.fit import Schedule
from avsl_train.seeding import load_rng_state, rng_state, stream

sizes = st.integers(1, 30)


@given(seed=st.integers(0, 99), n=sizes, batch=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_an_unlabelled_clip_is_seen_at_most_once_per_epoch(seed: int, n: int, batch: int) -> None:
    batch = min(batch, n)
    schedule = Schedule(seed, 3, n, 2, batch)
    steps = schedule.steps_per_epoch
    assert steps == n // batch
    for epoch in range(3):
        seen = torch.cat([schedule.unlabeled(step) for step in range(epoch * steps, (epoch + 1) * steps)])
        assert len(seen) == steps * batch
        assert len(seen.unique()) == len(seen)
        assert seen.max() < n


@given(seed=st.integers(0, 99), n=sizes, batch=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_labelled_clips_come_in_whole_passes(seed: int, n: int, batch: int) -> None:
    schedule = Schedule(seed, n, 5, batch, 2)
    steps = -(-3 * n // batch)
    seen = torch.cat([schedule.labeled(step) for step in range(steps)])
    assert len(seen) == steps * batch
    for start in range(0, 3 * n, n):
        assert sorted(seen[start : start + n].tolist()) == list(range(n))


def test_a_step_depends_on_the_seed_and_itself_only() -> None:
    forwards = [Schedule(0, 7, 9, 3, 2).labeled(step).tolist() for step in range(10)]
    again = Schedule(0, 7, 9, 3, 2)
    assert [again.labeled(step).tolist() for step in reversed(range(10))] == forwards[::-1]
    assert Schedule(0, 7, 9, 3, 2).unlabeled(17).tolist() == again.unlabeled(17).tolist()
    assert [Schedule(1, 7, 9, 3, 2).labeled(step).tolist() for step in range(10)] != forwards


def test_epochs_have_different_orders() -> None:
    schedule = Schedule(0, 4, 20, 2, 20)
    assert schedule.unlabeled(0).tolist() != schedule.unlabeled(1).tolist()


def test_no_unlabelled_clips_is_a_schedule_too() -> None:
    schedule = Schedule(0, 4, 0, 2, 1)
    assert schedule.steps_per_epoch == 1
    assert len(schedule.unlabeled(3)) == 0


def test_streams_differ_by_seed_and_by_every_part_of_their_name() -> None:
    names = [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a"), (0, "a", "1")]
    drawn = [torch.rand(3, generator=stream(*name)) for name in names]
    assert len({tuple(values.tolist()) for values in drawn}) == len(names)
    assert torch.equal(drawn[0], torch.rand(3, generator=stream(0, "a", 1)))


def test_the_global_generators_go_on_where_they_were() -> None:
    state = rng_state()
    first = torch.rand(3)
    load_rng_state(state)
    assert torch.equal(torch.rand(3), first)
