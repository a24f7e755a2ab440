"""Draws of clips: Philox by its known answers, uniform, independent, functions of clip and purpose only."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.draws import Draws, key_of, philox

CLIPS = torch.tensor([key_of(f"clip{number}") for number in range(20000)])
KNOWN = [
    ([0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]
"""Counter, key and answer of Philox4x32-10, published with Random123."""


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: list[int], key: list[int], answer: str) -> None:
    words = philox(np.array(counter, np.uint64)[:, None], key[0] | key[1] << 32)
    assert " ".join(f"{int(word[0]):08x}" for word in words) == answer


def test_numbers_are_uniform() -> None:
    """Kolmogorov-Smirnov at 20,000 numbers: the distance is below 1.63 / sqrt(n) in 99 % of good draws."""
    numbers = Draws(0, "a test").uniform(CLIPS, 3).double()
    steps = torch.arange(len(CLIPS)) / len(CLIPS)
    for column in numbers.T:
        assert (column.sort().values - steps).abs().max() < 1.63 / len(CLIPS) ** 0.5
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.var().item() == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize(
    "other",
    [
        Draws(0, "strong", "a", 8).uniform(CLIPS, 4),  # the next step
        Draws(0, "strong", "b", 7).uniform(CLIPS, 4),
        Draws(0, "weak", "a", 7).uniform(CLIPS, 4),
        Draws(1, "strong", "a", 7).uniform(CLIPS, 4),
        Draws(0, "strong", "a", 7).uniform(CLIPS, 4).roll(1, 0),  # another clip
        Draws(0, "strong", "a", 7).uniform(CLIPS, 4).roll(1, 1),  # another number of the clip
        Draws(0, "strong", "a", 7).uniform(CLIPS ^ 1, 4),  # keys that differ in one bit
        Draws(0, "strong", "a", 7).uniform(CLIPS ^ (1 << 62), 4),
    ],
)
def test_clips_purposes_steps_and_seeds_are_independent(other: torch.Tensor) -> None:
    """No correlation, and a uniform grid of pairs: chi-squared of 256 cells, 330 is its 99.9 % quantile."""
    numbers = Draws(0, "strong", "a", 7).uniform(CLIPS, 4)
    for mine, theirs in zip(numbers.T, other.T, strict=True):
        assert abs(np.corrcoef(mine, theirs)[0, 1]) < 4 / len(CLIPS) ** 0.5
        counts = np.histogram2d(mine, theirs, bins=16, range=[[0, 1], [0, 1]])[0]
        expected = len(CLIPS) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 330


@given(
    chosen=st.lists(st.integers(0, len(CLIPS) - 1), min_size=1, max_size=9),
    n=st.integers(1, 21),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=30, deadline=None)
def test_a_clip_draws_the_same_in_any_batch_order_and_number(chosen: list[int], n: int, seed: int) -> None:
    draws = Draws(seed, "weak", 3)
    together = draws.uniform(CLIPS[chosen], n)
    assert together.shape == (len(chosen), n)
    assert together.dtype == torch.float32
    for row, clip in enumerate(chosen):
        assert torch.equal(together[row], Draws(seed, "weak", 3).uniform(CLIPS[clip : clip + 1], 24)[0, :n])


def test_no_clips_draw_nothing() -> None:
    assert Draws(0).uniform(CLIPS[:0], 5).shape == (0, 5)


def test_numbers_do_not_change_between_versions() -> None:
    found = Draws(7, "strong", "a", 3).uniform(torch.tensor([key_of("-00y7sw8YIg_000030")]), 3)
    assert found[0].tolist() == pytest.approx([0.56492901, 0.69746429, 0.66583860], abs=1e-7)
    assert key_of("-00y7sw8YIg_000030") == -7097865967199447741


def test_draws_are_cheap() -> None:
    """The bound is ten times what it takes on an idle core."""
    took = []
    for step in range(20):
        began = time.process_time()
        Draws(0, "strong", "a", step).uniform(CLIPS[:128], 18)
        took.append(time.process_time() - began)
    assert min(took) < 1e-3
