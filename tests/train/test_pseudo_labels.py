"""Sharpening, averaging over the epochs and storage of pseudo-labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.augment import CROP_DRAWS, Geometry, draw_weak, identity, uncrop
from avsl_train.config import AugmentConfig
from avsl_train.pseudo_labels import LabelStore, harden, sharpen

EVERYWHERE = torch.ones(1, 1, 2, 2, dtype=torch.bool)
ONE = torch.tensor([0])


def label(value: float, clips: int = 1) -> torch.Tensor:
    return torch.full((clips, 1, 2, 2), value)


@pytest.mark.parametrize(
    ("p", "temperature", "q"),
    [
        (0.8, 0.5, 0.64 / 0.68),
        (0.2, 0.5, 0.04 / 0.68),
        (0.9, 0.25, 0.6561 / 0.6562),
        (0.6, 1.0, 0.6),
        (0.8, 2.0, 2 / 3),  # above 1 it flattens: sqrt(.8) / (sqrt(.8) + sqrt(.2))
    ],
)
def test_sharpening_by_hand(p: float, temperature: float, q: float) -> None:
    assert sharpen(torch.tensor(p, dtype=torch.float64), temperature).item() == pytest.approx(q)


@given(p=st.floats(1e-6, 1 - 1e-6), temperature=st.floats(0.1, 1))
@settings(max_examples=50, deadline=None)
def test_sharpening_equals_its_formula_and_is_symmetric(p: float, temperature: float) -> None:
    positive, negative = p ** (1 / temperature), (1 - p) ** (1 / temperature)
    q = sharpen(torch.tensor([p, 1 - p], dtype=torch.float64), temperature)
    assert q[0].item() == pytest.approx(positive / (positive + negative), rel=1e-6, abs=1e-12)
    assert q.sum().item() == pytest.approx(1)
    assert (q[0] - 0.5) * (p - 0.5) >= 0
    assert abs(q[0] - 0.5) >= abs(p - 0.5) - 1e-12


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_sharpening_keeps_a_half_and_the_order(temperature: float) -> None:
    p = torch.linspace(0, 1, 1001, dtype=torch.float64)
    q = sharpen(p, temperature)
    assert q[500] == 0.5
    assert (q.diff() >= 0).all()


def test_sharpening_is_exact_at_and_near_the_ends() -> None:
    ends = sharpen(torch.tensor([0.0, 1.0]), 0.5)
    assert ends.tolist() == [0, 1]
    tiny = sharpen(torch.tensor([1e-30]), 0.5)
    assert 0 <= tiny.item() < 1e-37
    assert sharpen(torch.tensor([1 - 2**-24]), 0.5).item() == 1


@pytest.mark.parametrize("size", [7, 8, 14, 28])
def test_a_saturated_map_stays_finite_through_resampling(size: int) -> None:
    u = torch.rand(512, CROP_DRAWS, generator=torch.Generator().manual_seed(0))
    geometry = draw_weak(u, AugmentConfig())
    resampled, _ = uncrop(torch.ones(512, 1, size, size), geometry, size)  # may exceed 1 by rounding
    assert sharpen(resampled, 0.5).isfinite().all()


def test_hardening_includes_the_threshold() -> None:
    assert harden(torch.tensor([0.49, 0.5, 0.51]), 0.5).tolist() == [0, 1, 1]


def test_the_average_by_hand() -> None:
    store = LabelStore(1, 2, beta=0.9)
    store.update(ONE, label(1.0), EVERYWHERE)
    assert store.maps.unique().tolist() == [1.0]  # Y_0 = q_0
    store.update(ONE, label(0.0), EVERYWHERE)
    assert store.maps.float().unique().item() == pytest.approx(0.9, abs=5e-4)
    store.update(ONE, label(0.5), EVERYWHERE)
    assert store.maps.float().unique().item() == pytest.approx(0.9 * 0.9 + 0.1 * 0.5, abs=1e-3)


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=8), beta=st.sampled_from([0.0, 0.3, 0.5, 0.9]))
@settings(max_examples=30, deadline=None)
def test_the_average_has_its_closed_form(values: list[float], beta: float) -> None:
    store = LabelStore(1, 2, beta)
    for value in values:
        store.update(ONE, label(value), EVERYWHERE)
    k = len(values) - 1
    wanted = beta**k * values[0] + sum((1 - beta) * beta ** (k - i) * values[i] for i in range(1, k + 1))
    assert store.maps.float().unique().tolist() == pytest.approx([wanted], abs=5e-3)  # float16


def test_where_the_view_did_not_look_the_older_label_stays() -> None:
    store = LabelStore(1, 2, beta=0.5)
    left = torch.tensor([[True, False], [True, False]])[None, None]
    store.update(ONE, label(0.25), left)  # the first label is taken everywhere, as far as it reaches
    assert store.maps.unique().tolist() == [0.25]
    store.update(ONE, label(0.75), left)
    assert store.maps[0, 0].tolist() == [[0.5, 0.25], [0.5, 0.25]]


def test_clips_are_kept_apart() -> None:
    store = LabelStore(4, 2, beta=0.5)
    store.update(torch.tensor([2, 0]), torch.cat([label(0.25), label(0.75)]), EVERYWHERE.expand(2, 1, 2, 2))
    assert store.maps[:, 0, 0, 0].tolist() == [0.75, 0, 0.25, 0]
    assert store.seen.tolist() == [True, False, True, False]


def test_a_stored_label_carries_no_gradient() -> None:
    store = LabelStore(1, 2, beta=0.5)
    store.update(ONE, label(0.25).requires_grad_().detach(), EVERYWHERE)
    assert not store.view(ONE, identity(1), 2).requires_grad


def test_a_view_of_a_label_follows_crop_and_flip() -> None:
    store = LabelStore(1, 2, beta=0.0)
    store.update(ONE, torch.tensor([[0.0, 0.25], [0.5, 1.0]])[None, None], EVERYWHERE)
    flipped = store.view(ONE, Geometry(identity(1).box, torch.tensor([True])), 2)
    assert flipped[0, 0].tolist() == [[0.25, 0.0], [1.0, 0.5]]
    corner = store.view(ONE, Geometry(torch.tensor([[0.5, 0.5, 1.0, 1.0]]), torch.tensor([False])), 1)
    assert corner.item() == pytest.approx(1.0)


def test_a_state_is_taken_over() -> None:
    store, other = LabelStore(2, 2, beta=0.5), LabelStore(2, 2, beta=0.5)
    store.update(ONE, label(0.25), EVERYWHERE)
    other.load(store.state())
    store.update(ONE, label(0.75), EVERYWHERE)
    assert other.maps[0].unique().tolist() == [0.25]  # a copy
    assert other.seen.tolist() == [True, False]
