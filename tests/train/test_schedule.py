"""Which clips a step and a process see, the named random streams behind it, and the learning rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.config import OptimConfig
from avsl_train.errors import TrainInputError
from avsl_train.optimizer import Optimizer, rate_factor
from avsl_train.seeding import seed_step, stream
from avsl_train.training_clips import Passes, Share

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


def test_the_global_generators_depend_on_seed_step_and_process_only() -> None:
    drawn = []
    for seed, step, rank in [(0, 3, 0), (1, 3, 0), (0, 4, 0), (0, 3, 1), (0, 3, 0)]:
        torch.rand(7)  # whatever was drawn before
        seed_step(seed, step, rank)
        drawn.append(tuple(torch.rand(3).tolist()))
    assert drawn[0] == drawn[4]
    assert len(set(drawn)) == 4


def sets(labeled: int, unlabeled: int) -> Any:
    return SimpleNamespace(labeled=range(labeled), unlabeled=range(unlabeled))


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_micro_batches_share_out_the_same_step(ranks: int, parts: int) -> None:
    labeled, unlabeled = Passes("labeled", 0, 9, 4), Passes("unlabeled", 0, 30, 8)
    steps = range(3, 6)
    for passes in (labeled, unlabeled):
        shares = [Share(sets(9, 30), labeled, unlabeled, r, ranks, parts) for r in range(ranks)]
        places = [share.places(passes, steps) for share in shares]
        assert all(len(part) == passes.batch // ranks // parts for own in places for part in own)
        for number, step in enumerate(steps):
            seen = torch.cat([own[number * parts + part] for own in places for part in range(parts)])
            assert seen.sort().values.tolist() == passes.at(step).sort().values.tolist()
        first = torch.stack([own[0] for own in places], 1).flatten()  # rank r has the rows r, r + W, ...
        assert first.tolist() == passes.at(3)[::parts].tolist()


@pytest.mark.parametrize(
    ("ranks", "parts", "message"),
    [
        (
            3,
            1,
            r"a step has 4 labeled clips, which 3 processes cannot divide: set optim\.batch_labeled to a ",
        ),
        (1, 3, r"which 3 micro-batches cannot divide: .*a multiple of 3, such as 3, or use fewer"),
        (
            2,
            4,
            r"4 labeled clips, which 2 processes times 4 micro-batches cannot .* multiple of 8, such as 8",
        ),
    ],
)
def test_a_step_that_cannot_be_divided_is_refused(ranks: int, parts: int, message: str) -> None:
    with pytest.raises(TrainInputError, match=message):
        Share(sets(9, 30), Passes("labeled", 0, 9, 4), Passes("unlabeled", 0, 30, 24), 0, ranks, parts)


def test_a_set_that_is_smaller_than_the_batch_is_named() -> None:
    with pytest.raises(TrainInputError, match=r"a step has 9 unlabeled clips \(the split has 9\), which 2"):
        Share(sets(8, 9), Passes("labeled", 0, 8, 4), Passes("unlabeled", 0, 9, 24), 0, 2, 1)


def test_an_epoch_is_a_pass_over_the_unlabelled_clips_if_they_are_used() -> None:
    labeled, unlabeled = Passes("labeled", 0, 9, 4), Passes("unlabeled", 0, 30, 8)  # 2 and 3 steps
    both, one = (Share(sets(9, 30), labeled, second, 0, 1, 1) for second in (unlabeled, None))
    assert [both.epoch(step) for step in range(7)] == [0, None, None, 1, None, None, 2]
    assert [one.epoch(step) for step in range(5)] == [0, None, 1, None, 2]
    assert [both.epochs_begun(step) for step in range(4)] == [0, 0, 0, 1]
    assert (both.per_step, one.per_step) == (12, 4)


def optim(**keys: Any) -> OptimConfig:
    return OptimConfig(steps=100, lr=0.2, **keys)


def test_the_learning_rate_falls_as_half_a_cosine() -> None:
    config = optim(schedule="cosine")
    assert rate_factor(config, 0) == 1
    assert rate_factor(config, 50) == pytest.approx(0.5)
    assert 0 < rate_factor(config, 99) < 0.001


def test_the_learning_rate_rises_linearly_before() -> None:
    config = optim(schedule="cosine", warmup_steps=20)
    assert [rate_factor(config, step) for step in (0, 9, 19, 20)] == [0.05, 0.5, 1, 1]
    assert rate_factor(config, 60) == pytest.approx(0.5)
    assert rate_factor(optim(schedule="constant", warmup_steps=4), 1) == 0.5
    assert rate_factor(optim(schedule="constant", warmup_steps=200), 99) == 0.5


def test_the_learning_rate_falls_in_steps() -> None:
    config = optim(schedule="step", decay_every=30, decay=0.5)
    assert [rate_factor(config, step) for step in (0, 29, 30, 59, 60, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    assert rate_factor(optim(schedule="constant"), 99) == 1


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_groups_keep_their_own_rates_under_the_schedule(name: str, kind: type) -> None:
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [{"params": [first]}, {"params": [second], "lr": 0.4, "weight_decay": 0.0}]
    optimizer = Optimizer(optim(schedule="cosine", optimizer=name, momentum=0.7), groups)
    assert type(optimizer.torch) is kind
    optimizer.set_rates(50)
    optimizer.set_rates(50)  # a rate is that of its step, whatever was set before
    assert optimizer.rates_now == pytest.approx([0.1, 0.2])
    assert [group["weight_decay"] for group in optimizer.torch.param_groups] == [1e-4, 0]
    assert optimizer.torch.defaults.get("momentum", 0.7) == 0.7
