"""The exponential moving average: its closed form, what is copied, and that lent weights always return."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avsl_train.ema import EMA, update_average


class Small(nn.Module):
    """A linear layer, a BatchNorm and a constant that is not saved."""

    constant: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("constant", torch.tensor(7.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.linear(x))
        return found


def small(seed: int = 0) -> Small:
    """Return a model with random parameters and running statistics."""
    draw = torch.Generator().manual_seed(seed)
    model = Small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    model.train()(torch.randn(8, 3, generator=draw))
    return model


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Say whether two states are equal bit by bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def train_a_step(model: nn.Module, seed: int) -> None:
    """Change parameters and running statistics."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()(torch.randn(8, 3, generator=draw)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@given(steps=st.integers(0, 6), decay=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_the_closed_form(steps: int, decay: float) -> None:
    model = small()
    ema, teacher = EMA(model, decay), copy.deepcopy(model)
    seen = [snapshot(model)]
    for step in range(steps):
        train_a_step(model, step)
        ema.update(model)
        update_average(teacher, model, decay)
        seen.append(snapshot(model))
    for name in dict(model.named_parameters()):
        wanted = decay**steps * seen[0][name].double()
        for i in range(1, steps + 1):
            wanted += (1 - decay) * decay ** (steps - i) * seen[i][name].double()
        torch.testing.assert_close(ema.state_dict()[name].double(), wanted, rtol=1e-5, atol=1e-5)
    assert same(ema.state_dict(), snapshot(teacher))


def test_buffers_are_copied() -> None:
    model = small()
    ema, teacher = EMA(model, 0.9), copy.deepcopy(model)
    for step in range(3):
        train_a_step(model, step)
    ema.update(model)
    update_average(teacher, model, 0.9)
    for average in (ema.state_dict(), teacher.state_dict()):
        for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
            assert torch.equal(average[name], model.state_dict()[name])
        assert not torch.equal(average["linear.weight"], model.state_dict()["linear.weight"])


def test_momentum_encoders_can_keep_their_own_statistics() -> None:
    average, online = small(0), small(1)
    before = snapshot(average)
    update_average(average, online, 0.9, buffers=False)
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert torch.equal(average.state_dict()[name], before[name])
    assert not torch.equal(average.linear.weight, before["linear.weight"])


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_the_ends_are_exact(decay: float) -> None:
    average, online = small(0), small(1)
    before = snapshot(average)
    update_average(average, online, decay)
    wanted = snapshot(online) if decay == 0 else before
    for name, parameter in average.named_parameters():
        torch.testing.assert_close(parameter.detach(), wanted[name], rtol=0, atol=1e-6)


def test_a_step_is_made_in_place_without_gradient() -> None:
    average, online = small(0), small(1)
    places = [value.data_ptr() for value in (*average.parameters(), *average.buffers())]
    before = snapshot(online)
    update_average(average, online, 0.5)
    assert [value.data_ptr() for value in (*average.parameters(), *average.buffers())] == places
    assert same(snapshot(online), before)
    average(torch.randn(4, 3)).sum().backward()
    assert all(parameter.is_leaf for parameter in average.parameters())
    assert all(parameter.grad is None for parameter in online.parameters())


def test_the_average_is_no_view_of_the_model() -> None:
    model = small()
    ema = EMA(model, 0.9)
    wanted = {name: value.clone() for name, value in ema.state_dict().items()}
    train_a_step(model, 0)
    assert same(ema.state_dict(), wanted)


def test_the_model_can_load_the_average(tmp_path: Path) -> None:
    model = small()
    ema = EMA(model, 0.9)
    train_a_step(model, 0)
    ema.update(model)
    torch.save(ema.state_dict(), tmp_path / "ema.pt")
    state = torch.load(tmp_path / "ema.pt", weights_only=True)
    fresh = small(5)
    fresh.load_state_dict(state)
    other = EMA(small(6), 0.9)
    other.load_state_dict(state)
    assert same(other.state_dict(), ema.state_dict())
    assert same(snapshot(fresh), ema.state_dict())
    train_a_step(model, 1)
    ema.update(model)
    other.update(model)
    assert same(other.state_dict(), ema.state_dict())


def test_the_average_is_lent_and_the_own_weights_return() -> None:
    model = small()
    ema = EMA(model, 0.9)
    train_a_step(model, 0)
    ema.update(model)
    own, average = snapshot(model), {name: value.clone() for name, value in ema.state_dict().items()}
    places = [parameter.data_ptr() for parameter in model.parameters()]
    with ema.applied_to(model):
        assert same(snapshot(model), average)
        with ema.applied_to(model):
            assert same(snapshot(model), average)
        with pytest.raises(RuntimeError, match="average the average with itself"):
            ema.update(model)
        assert same(snapshot(model), average)
        train_a_step(model, 1)  # what happens inside is lost
    assert same(snapshot(model), own)
    assert same(ema.state_dict(), average)
    assert [parameter.data_ptr() for parameter in model.parameters()] == places


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_the_own_weights_return_after_a_fault(fault: type[BaseException]) -> None:
    model = small()
    ema = EMA(model, 0.9)
    train_a_step(model, 0)
    own = snapshot(model)

    def fail_in_the_block() -> None:
        with ema.applied_to(model):
            assert not same(snapshot(model), own)
            raise fault

    with pytest.raises(fault):
        fail_in_the_block()
    assert same(snapshot(model), own)
    ema.update(model)


def test_no_step_is_made_with_the_average_itself() -> None:
    model = small()
    ema = EMA(model, 0.9)
    with ema.applied_to(model), pytest.raises(RuntimeError, match="average the average with itself"):
        ema.update(model)


def test_an_optimizer_goes_on_after_the_average_was_lent() -> None:
    one, two = small(), small()
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.1) for model in (one, two)]
    ema = EMA(one, 0.5)
    for step in range(3):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        for model, optimizer in zip((one, two), optimizers, strict=True):
            optimizer.zero_grad()
            model.train()(x).square().mean().backward()
            optimizer.step()
        ema.update(one)
        with ema.applied_to(one), torch.no_grad():
            one(x)
    assert same(snapshot(one), snapshot(two))


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_decays_outside_0_to_1_are_told(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay is .*: it must lie in \[0, 1\]"):
        EMA(small(), decay)
    with pytest.raises(ValueError, match="decay is"):
        update_average(small(), small(), decay)


def test_models_of_other_structure_are_told_and_left_alone() -> None:
    model, wrapped = small(), nn.ModuleDict({"module": small()})
    ema = EMA(model, 0.9)
    before = snapshot(wrapped)
    with pytest.raises(
        ValueError, match=r"differ in linear.bias, linear.weight, module.linear.bias and \d+ more"
    ):
        ema.update(wrapped)
    with pytest.raises(ValueError, match="was the model changed or wrapped"), ema.applied_to(wrapped):
        pass
    with pytest.raises(ValueError, match="differ in weight"):
        update_average(nn.Linear(2, 3), nn.Linear(4, 3), 0.9)
    plain, tracking = nn.BatchNorm1d(2, track_running_stats=False), nn.BatchNorm1d(2)
    nn.init.constant_(tracking.weight, 5.0)
    with pytest.raises(ValueError, match="differ in num_batches_tracked, running_mean, running_var"):
        update_average(plain, tracking, 0.9)
    assert plain.weight.tolist() == [1, 1]
    with pytest.raises(ValueError, match="differ in"):
        ema.load_state_dict(nn.Linear(2, 3).state_dict())
    assert same(snapshot(wrapped), before)
    ema.update(model)


def test_a_model_without_parameters_has_an_average() -> None:
    ema = EMA(nn.BatchNorm1d(2, affine=False), 0.9)
    ema.update(nn.BatchNorm1d(2, affine=False))
    assert set(ema.state_dict()) == {"running_mean", "running_var", "num_batches_tracked"}
    update_average(nn.ReLU(), nn.ReLU(), 0.9)
