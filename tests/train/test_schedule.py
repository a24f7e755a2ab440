"""Which clips a step sees, and the named random streams behind it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.fit import Passes
from avsl_train.seeding import load_rng_state, rng_state, stream

sizes = st.integers(1, 30)


@given(seed=st.integers(0, 99), n=sizes, wanted=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_clip_is_seen_at_most_once_per_pass(seed: int, n: int, wanted: int) -> None:
    passes = Passes("unlabeled", seed, n, wanted)
    batch = min(wanted, n)
    assert passes.steps == n // batch
    for number in range(3):
        steps = range(number * passes.steps, (number + 1) * passes.steps)
        seen = torch.cat([passes.at(step) for step in steps])
        assert len(seen) == passes.steps * batch
        assert len(seen.unique()) == len(seen)
        assert seen.max() < n


def test_every_clip_is_seen_as_often_as_any_other_in_the_long_run() -> None:
    passes = Passes("labeled", 0, 7, 3)  # one of seven is dropped in each pass, another one each time
    seen = torch.cat([passes.at(step) for step in range(2 * 700)]).bincount(minlength=7)
    assert seen.sum() == 4200
    assert (seen - 600).abs().max() < 40


def test_a_step_depends_on_the_seed_and_itself_only() -> None:
    forwards = [Passes("labeled", 0, 7, 3).at(step).tolist() for step in range(10)]
    again = Passes("labeled", 0, 7, 3)
    assert [again.at(step).tolist() for step in reversed(range(10))] == forwards[::-1]
    assert [Passes("labeled", 1, 7, 3).at(step).tolist() for step in range(10)] != forwards
    assert [Passes("unlabeled", 0, 7, 3).at(step).tolist() for step in range(10)] != forwards


def test_passes_have_different_orders() -> None:
    passes = Passes("unlabeled", 0, 20, 20)
    assert passes.at(0).tolist() != passes.at(1).tolist()


def test_an_empty_set_has_passes_too() -> None:
    passes = Passes("unlabeled", 0, 0, 2)
    assert passes.steps == 1


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
