"""Reliability of clips and the curriculum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.augment import CROP_DRAWS, draw_weak, uncrop
from avsl_train.config import AugmentConfig
from avsl_train.selection import keep_most_reliable, ramp_up, reliability

ALL = torch.ones(1, 1, 2, 2, dtype=torch.bool)


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.3, 0.7, 1.0]))
@settings(max_examples=30, deadline=None)
def test_reliability_is_the_correlation_of_the_covered_pixels(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.uniform(size=(2, 3, 1, 5, 5))
    b = 0.5 * a + b
    covered = draw.uniform(size=a.shape) < share
    covered[:, 0, 0, :3] = True
    found = reliability(*(torch.from_numpy(array) for array in (a, b, covered)))
    for clip in range(3):
        wanted = np.corrcoef(a[clip][covered[clip]], b[clip][covered[clip]])[0, 1]
        assert found[clip].item() == pytest.approx(wanted, abs=1e-6)


def test_equal_maps_agree_fully_and_opposite_ones_not_at_all() -> None:
    p = torch.tensor([[0.1, 0.2], [0.3, 0.9]])[None, None]
    assert reliability(p, 0.5 * p + 0.1, ALL).item() == pytest.approx(1)
    assert reliability(p, 1 - p, ALL).item() == pytest.approx(-1)


def test_a_constant_map_and_an_empty_overlap_are_not_reliable() -> None:
    p = torch.tensor([[0.1, 0.2], [0.3, 0.9]])[None, None]
    assert reliability(p, torch.full_like(p, 0.3), ALL).item() == 0
    assert reliability(torch.full_like(p, 0.3), torch.full_like(p, 0.3), ALL).item() == 0
    assert reliability(p, p, ~ALL).item() == 0


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("size", [7, 8])
def test_the_rounding_of_resampling_is_no_agreement(size: int, value: float) -> None:
    draw = torch.Generator().manual_seed(0)
    geometry = draw_weak(torch.rand(256, CROP_DRAWS, generator=draw), AugmentConfig())
    maps, covered = uncrop(torch.full((256, 1, size, size), value), geometry, size)
    other = torch.rand(256, 1, size, size, generator=draw)
    assert reliability(maps, other, covered).abs().max() == 0


def test_the_ramp_by_hand() -> None:
    def rho(step: int) -> float:
        return ramp_up(step, 200, warmup=0.1, ramp=0.5, start=0.1)

    assert [rho(step) for step in (0, 19)] == [0, 0]
    assert rho(20) == pytest.approx(0.1)
    assert rho(65) == pytest.approx(0.55)  # half of the 90 steps that it takes
    assert rho(110) == 1
    assert rho(199) == 1


@given(warmup=st.floats(0, 0.9), ramp=st.floats(0.01, 1), start=st.floats(0, 1), steps=st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_the_ramp_never_falls_and_stays_a_share(warmup: float, ramp: float, start: float, steps: int) -> None:
    values = [ramp_up(step, steps, warmup, ramp, start) for step in range(steps)]
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values)


def test_a_warm_up_of_everything_never_ends() -> None:
    assert {ramp_up(step, 10, warmup=1.0, ramp=0.5, start=0.1) for step in range(10)} == {0}


@given(scores=st.lists(st.sampled_from([-0.5, 0.0, 0.2, 0.2001, 0.9]), max_size=12), share=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_the_best_are_kept_and_exactly_as_many_as_asked(scores: list[float], share: float) -> None:
    kept = keep_most_reliable(torch.tensor(scores), share).tolist()
    count = round(share * len(scores))
    ranked = sorted(range(len(scores)), key=lambda clip: (-scores[clip], clip))  # ties: the lower index
    assert [clip for clip, keep in enumerate(kept) if keep] == sorted(ranked[:count])
