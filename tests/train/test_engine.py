"""The engine around the loop: micro-batches, precision, layout, compilation, frozen trunks, devices."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avsl_train import engine
from avsl_train.checkpoint import Checkpoint, load_checkpoint, weights_digest
from avsl_train.config import ExperimentConfig
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.log import MEASURED
from avsl_train.synced_batchnorm import SyncedBatchNorm, synchronise
from tests.train.conftest import World, make_config

CON = {"name": "supervised", "lambda_con": 1.0}
RESNET = {"visual": "resnet18", "stride": 16}


def train(config: ExperimentConfig, world: World, out: Path) -> Checkpoint:
    return fit(config, read_training_clips(config, [world.shards], world.split), 0, out, threads=1)


def metrics(out: Path, event: str = "step") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["event"] == event]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in kept]


class Linear(nn.Module):
    """A model whose loss is a mean over rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def loss(self, rows: Tensor) -> dict[str, Tensor]:
        return {"square": self.layer(rows).square().mean(), "mean": self.layer(rows).mean()}


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_micro_batches_add_up_to_one_batch(parts: int) -> None:
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    whole, model = Linear(), Linear()
    sum(whole.loss(rows).values()).backward()  # type: ignore[union-attr]
    stepper = engine.Stepper(
        engine.start(make_config(CON)), model, torch.optim.SGD(model.parameters(), lr=0.1), clip_norm=None
    )
    terms = [stepper.backward(lambda m=m: model.loss(rows[m::parts]), m, parts) for m in range(parts)]
    assert torch.stack([part["square"] for part in terms]).mean() == pytest.approx(
        whole.loss(rows)["square"].item()
    )
    norm = stepper.clip()
    wanted = torch.cat([p.grad.flatten() for p in whole.parameters() if p.grad is not None])
    assert norm == pytest.approx(wanted.norm().item(), rel=1e-5)
    stepper.step()
    torch.testing.assert_close(
        model.layer.weight.detach(),
        torch.ones(1, 3) - 0.1 * whole.layer.weight.grad,  # type: ignore[operator]
    )
    assert model.layer.weight.grad is None


def test_the_gradient_is_shortened_to_the_norm_that_is_asked_for() -> None:
    model = Linear()
    stepper = engine.Stepper(
        engine.start(make_config(CON)), model, torch.optim.SGD(model.parameters(), lr=1.0), clip_norm=0.5
    )
    stepper.backward(lambda: model.loss(torch.ones(2, 3)), 0, 1)
    assert stepper.clip() > 1
    assert sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None) == pytest.approx(0.25)


def test_a_step_in_micro_batches_sees_the_same_clips(world: World, tmp_path: Path) -> None:
    """Statistics of BatchNorm are those of a micro-batch, so the weights differ."""
    optim = {"steps": 3, "batch_labeled": 4, "batch_unlabeled": 4}
    name = {"name": "hard-pl", "warmup": 0.0, "lambda_con": 0.0}
    whole = train(make_config(name, optim=optim), world, tmp_path / "1")
    split = train(make_config(name, optim={**optim, "accumulate": 2}), world, tmp_path / "2")
    assert whole.digest != split.digest
    assert [line["step"] for line in metrics(tmp_path / "2")] == [1, 2, 3]
    assert weights_digest(whole) != weights_digest(split)


def test_bf16_trains_on_the_cpu_and_keeps_single_precision_weights(world: World, tmp_path: Path) -> None:
    config = make_config(CON, precision="bf16", optim={"steps": 3})
    checkpoint = train(config, world, tmp_path / "bf16")
    assert {value.dtype for value in checkpoint.models.values()} == {torch.float32, torch.int64}
    single = train(make_config(CON, optim={"steps": 3}), world, tmp_path / "fp32")
    assert weights_digest(single) != weights_digest(checkpoint)
    for one, other in zip(metrics(tmp_path / "fp32"), metrics(tmp_path / "bf16"), strict=True):
        assert other["sup"] == pytest.approx(one["sup"], rel=0.1)


def test_fp16_is_refused_on_the_cpu(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrainInputError, match="precision fp16 needs a CUDA device: use bf16 or fp32"):
        train(make_config(CON, precision="fp16"), world, tmp_path)


def test_the_layout_changes_rounding_only(world: World, tmp_path: Path) -> None:
    optim = {"steps": 2, "optimizer": "sgd", "lr": 0.001}
    first, last = (
        train(make_config(CON, optim=optim, channels_last=layout), world, tmp_path / str(layout))
        for layout in (False, True)
    )
    assert first.digest == last.digest
    for name, value in first.models.items():
        torch.testing.assert_close(last.models[name], value, rtol=1e-4, atol=1e-5)


def test_compiled_encoders_leave_the_names_in_a_checkpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []
    own = torch.compile

    def compile_without_code(model: Any, **kwargs: Any) -> Any:
        compiled.append(model)
        return own(model, backend="eager", **kwargs)

    monkeypatch.setattr(torch, "compile", compile_without_code)
    optim = {"steps": 2, "optimizer": "sgd", "lr": 0.001}
    plain, fast = (
        train(make_config(CON, optim=optim, compile=on), world, tmp_path / str(on)) for on in (False, True)
    )
    assert len(compiled) == 2
    assert list(fast.models) == list(plain.models)
    for name, value in plain.models.items():
        torch.testing.assert_close(fast.models[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("freeze", "first"), [(1, 2), (2, 4), (True, None)])
def test_a_trunk_is_frozen_for_the_first_epochs(
    world: World, tmp_path: Path, freeze: bool | int, first: int | None
) -> None:
    """An epoch is two steps: 10 unlabelled clips, 4 in a batch."""
    config = make_config(
        CON, model={**RESNET, "freeze_visual": freeze}, optim={"steps": 6}, checkpoint_every=1
    )
    states = []
    for steps in range(1, 7):
        out = tmp_path / str(steps)
        part = make_config(
            CON,
            model={**RESNET, "freeze_visual": freeze},
            optim={"steps": steps, "schedule": "constant"},
            checkpoint_every=100,
        )
        states.append(train(part, world, out).models["a.visual.trunk.conv1.weight"])
    moved = [not torch.equal(one, other) for one, other in pairwise(states)]
    # after step k + 2 against after step k + 1
    assert moved == [first is not None and step >= first for step in range(1, 6)]
    assert config.digest() != part.digest()


def test_a_trunk_that_thawed_stays_so_when_a_run_goes_on(world: World, tmp_path: Path) -> None:
    config = make_config(CON, model={**RESNET, "freeze_visual": 1}, optim={"steps": 5}, checkpoint_every=3)
    wanted = weights_digest(train(config, world, tmp_path / "whole"))
    out = tmp_path / "again"
    stop_after(3, config, world, out)
    assert load_checkpoint(out / "last.pt").step == 3
    assert weights_digest(train(config, world, out)) == wanted


class StopNowError(Exception):
    """Stands for a kill."""


def stop_after(step: int, config: ExperimentConfig, world: World, out: Path) -> None:
    """Train until a step is done and its checkpoint written, then die."""
    with pytest.MonkeyPatch.context() as patch:
        own = engine.Stepper.step
        done = []

        def count(self: engine.Stepper) -> None:
            if len(done) == step:
                raise StopNowError
            done.append(step)
            own(self)

        patch.setattr(engine.Stepper, "step", count)
        with pytest.raises(StopNowError):
            train(config, world, out)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimiser_trains_and_goes_on(world: World, tmp_path: Path, name: str) -> None:
    optim = {"steps": 4, "optimizer": name, "schedule": "step", "decay_every": 2, "warmup_steps": 1}
    config = make_config(CON, optim=optim, checkpoint_every=2)
    wanted = train(config, world, tmp_path / "whole")
    assert [line["lr"] for line in metrics(tmp_path / "whole")] == pytest.approx(
        [0.005, 0.005, 0.0005, 0.0005]
    )
    assert all(line["grad_norm"] > 0 for line in metrics(tmp_path / "whole"))
    stop_after(3, config, world, tmp_path / "again")
    assert weights_digest(train(config, world, tmp_path / "again")) == weights_digest(wanted)
    assert metrics(tmp_path / "again") == metrics(tmp_path / "whole")


def test_keys_of_the_machine_do_not_stop_a_run_from_going_on(world: World, tmp_path: Path) -> None:
    config = make_config(CON, optim={"steps": 4}, checkpoint_every=2)
    wanted = weights_digest(train(config, world, tmp_path / "whole"))
    stop_after(3, config, world, tmp_path / "again")
    other = make_config(
        CON,
        optim={"steps": 4},
        checkpoint_every=1,
        log_every=3,
        pictures_every=None,
        data={"cache": False, "workers": 1},
    )
    last = train(other, world, tmp_path / "again")
    assert weights_digest(last) == wanted
    assert last.config["log_every"] == 3


def test_one_process_keeps_its_batchnorm() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    synchronise(module, torch.device("cpu"))
    assert type(module[1]) is nn.BatchNorm2d


def test_synchronised_batchnorm_alone_is_batchnorm() -> None:
    own, synced = nn.BatchNorm2d(3), SyncedBatchNorm(3)
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(synced(x), own(x))
    torch.testing.assert_close(synced.running_var, own.running_var)
    with pytest.raises(ValueError, match=r"BatchNorm takes \[B, C, \.\.\.\], got \[3\]"):
        synced(torch.zeros(3))


def test_devices_beyond_those_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TrainInputError, match="devices is 3, but this node has 2 visible CUDA devices"):
        engine.start(make_config(CON, device="cuda", devices=3))
