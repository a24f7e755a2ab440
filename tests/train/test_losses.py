"""Loss terms against hand-computed values, the original code's vectors and slow oracles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train import losses

LOGIT_OF_3_4 = math.log(3)
"""P = 3/4."""


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    """Inputs and results of the original EZ-VSL loss."""
    folder = shared / "golden/models"
    stored = np.load(folder / "losses.npz")
    arrays = {
        name: torch.from_numpy(stored[name]) for name in stored if name.startswith(("ezvsl.", "feats7."))
    }
    return {**arrays, "ezvsl.loss": json.loads((folder / "losses.json").read_text())["ezvsl"]["loss"]}


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> bool:
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max())


def test_ezvsl_equals_the_original(golden: dict[str, Any]) -> None:
    image = golden["feats7.img"].clone().requires_grad_()
    audio = golden["feats7.aud"].clone().requires_grad_()
    loss = losses.ezvsl(image, audio)
    loss.backward()
    assert loss.item() == pytest.approx(golden["ezvsl.loss"], rel=2e-4)
    assert close(image.grad, golden["ezvsl.grad_img"], 5e-4)
    assert close(audio.grad, golden["ezvsl.grad_aud"], 5e-4)


def test_the_own_map_equals_the_original(golden: dict[str, Any]) -> None:
    own = torch.einsum("bchw,bc->bhw", golden["feats7.img"], golden["feats7.aud"]) / losses.TAU
    assert close(own, golden["ezvsl.Savl"], 2e-4)


def test_ezvsl_by_hand() -> None:
    # one position, two clips, features along the axes: L = [[1, 0], [0, 1]] / tau
    features = torch.eye(2)
    loss = losses.ezvsl(features[:, :, None, None], features, tau=1.0)
    assert loss.item() == pytest.approx(2 * math.log(1 + math.exp(-1)))  # a sum of both directions


def test_ezvsl_of_one_clip_is_zero() -> None:
    assert losses.ezvsl(torch.rand(1, 4, 3, 3), torch.rand(1, 4)).item() == 0


@given(seed=st.integers(0, 1000), clips=st.integers(2, 4), side=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_ezvsl_equals_a_slow_oracle(seed: int, clips: int, side: int) -> None:
    draw = np.random.default_rng(seed)
    visual = draw.normal(size=(clips, 5, side, side))
    audio = draw.normal(size=(clips, 5))
    visual /= np.linalg.norm(visual, axis=1, keepdims=True)
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    table = [
        [max(v[:, y, x] @ a for y in range(side) for x in range(side)) / 0.03 for a in audio] for v in visual
    ]

    def cross_entropy(rows: list[list[float]]) -> float:
        return sum(
            -row[i] + max(row) + math.log(sum(math.exp(value - max(row)) for value in row))
            for i, row in enumerate(rows)
        ) / len(rows)

    wanted = cross_entropy(table) + cross_entropy([list(column) for column in zip(*table, strict=True)])
    found = losses.ezvsl(torch.from_numpy(visual), torch.from_numpy(audio))
    assert found.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_cross_entropy_by_hand() -> None:
    logit = torch.full((2, 1, 1, 2), LOGIT_OF_3_4)
    target = torch.tensor([[1.0, 0.0], [0.5, 0.25]]).view(2, 1, 1, 2)
    yes, no = -math.log(3 / 4), -math.log(1 / 4)
    first = (yes + no) / 2
    second = (0.5 * yes + 0.5 * no + 0.25 * yes + 0.75 * no) / 2

    def loss(*chosen: bool) -> float:
        return losses.masked_cross_entropy(logit, target, torch.tensor(chosen)).item()

    assert loss(True, False) == pytest.approx(first)
    assert loss(False, True) == pytest.approx(second)
    assert loss(True, True) == pytest.approx((first + second) / 2)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_cross_entropy_equals_a_slow_oracle(seed: int) -> None:
    draw = np.random.default_rng(seed)
    logit, target = draw.normal(0, 4, (3, 1, 2, 2)), draw.uniform(size=(3, 1, 2, 2))
    chosen = draw.uniform(size=3) < 0.6
    terms = []
    for clip in range(3):
        for value, label in zip(logit[clip].ravel(), target[clip].ravel(), strict=True):
            p = 1 / (1 + math.exp(-value))
            if chosen[clip]:
                terms.append(-label * math.log(p) - (1 - label) * math.log(1 - p))
    found = losses.masked_cross_entropy(*(torch.from_numpy(array) for array in (logit, target, chosen)))
    assert found.item() == pytest.approx(sum(terms) / max(len(terms), 1))


def test_nothing_chosen_is_zero_with_zero_gradient() -> None:
    logit = torch.randn(3, 1, 2, 2, requires_grad=True)
    loss = losses.masked_cross_entropy(logit, torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logit.grad is not None
    assert logit.grad.abs().max() == 0


def test_an_empty_batch_is_zero() -> None:
    empty = torch.zeros(0, 1, 2, 2)
    assert losses.masked_cross_entropy(empty, empty, torch.zeros(0, dtype=torch.bool)).item() == 0


def test_no_gradient_flows_into_the_label() -> None:
    logit, target = torch.randn(1, 1, 2, 2, requires_grad=True), torch.rand(1, 1, 2, 2, requires_grad=True)
    losses.masked_cross_entropy(logit, target, torch.tensor([True])).backward()
    assert target.grad is None
    assert logit.grad is not None


@pytest.mark.parametrize("loss_at", ["map", "image"])
def test_only_labelled_clips_count(loss_at: str) -> None:
    logit, truth = torch.randn(4, 1, 2, 2, requires_grad=True), torch.ones(4, 1, 8, 8)
    labeled = torch.tensor([True, True, False, False])
    loss = losses.supervised(logit, truth, labeled, loss_at)
    changed = truth.clone()
    changed[2:] = 0
    assert losses.supervised(logit, changed, labeled, loss_at).item() == loss.item()
    assert losses.supervised(logit[:2], truth[:2], labeled[:2], loss_at).item() == pytest.approx(loss.item())
    loss.backward()
    assert logit.grad is not None
    assert (logit.grad.flatten(1).abs().sum(1) > 0).tolist() == labeled.tolist()


def test_the_loss_at_the_map_averages_the_truth_over_each_cell() -> None:
    logit = torch.full((1, 1, 1, 1), LOGIT_OF_3_4)
    truth = torch.zeros(1, 1, 2, 2)
    truth[..., 0, 0] = 1  # a quarter of the cell
    wanted = -0.25 * math.log(3 / 4) - 0.75 * math.log(1 / 4)
    assert losses.supervised(logit, truth, torch.tensor([True])).item() == pytest.approx(wanted)


def test_the_loss_at_the_image_enlarges_the_logit() -> None:
    logit, truth = torch.tensor([[0.0, 4.0]]).view(1, 1, 1, 2), torch.zeros(1, 1, 4, 4)
    truth[..., 2:] = 1
    at = [0.0, 1.0, 3.0, 4.0]  # bilinear, half-pixel centres
    wanted = sum(math.log1p(math.exp(value)) - value * (column >= 2) for column, value in enumerate(at)) / 4
    assert losses.supervised(logit, truth, torch.tensor([True]), "image").item() == pytest.approx(wanted)
