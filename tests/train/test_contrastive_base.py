"""The contrastive base of a semi-supervised method: what each loss adds, trains and must leave alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from avsl_train import losses
from avsl_train.contrastive_base import draw_transform
from avsl_train.ema import update_average
from avsl_train.losses.ssltie import MAX_DEGREES
from avsl_train.methods import XPL, Method
from avsl_train.methods.semi_method import SemiMethod
from tests.train.conftest import gradient, make_batch, make_config, make_method

LOSSES = sorted(losses.CONTRASTIVE)
METHODS = ("supervised", "hard-pl", "mean-teacher", "fixmatch", "dmt", "xpl")
STUDENTS = {name: ("ab" if name in ("dmt", "xpl") else "a") for name in METHODS}


def method_of(name: str, contrastive: str, **own: Any) -> SemiMethod:
    """Return a method in training mode whose contrastive loss counts once."""
    values = {"name": name, "contrastive": contrastive, "lambda_con": 1.0, **own}
    method = make_method(make_config(values))
    assert isinstance(method, SemiMethod)
    method.models.train()
    return method


def step(method: Method, number: int = 0) -> torch.Tensor:
    """Return the contrastive term of a step."""
    return method.losses(make_batch(method.config), number)["con"]


@pytest.mark.parametrize("contrastive", LOSSES)
@pytest.mark.parametrize("name", METHODS)
def test_every_loss_trains_every_student_and_no_average(name: str, contrastive: str) -> None:
    method = method_of(name, contrastive)
    term = step(method)
    assert term.isfinite()
    for student in STUDENTS[name]:
        for part in ("visual", "audio", "visual_projection", "audio_projection"):
            found = gradient(term, getattr(method.models[student], part))
            assert found.isfinite().all()
            assert found.abs().max() > 0, part
    term.backward()  # type: ignore[no-untyped-call]
    for average in method.averages:
        assert all(parameter.grad is None for parameter in method.models[average].parameters())
    added = {key for key in method.models if key.endswith("_extra")} - method.averages
    assert added == (
        {f"{s}_extra" for s in STUDENTS[name]} if contrastive in ("slavc", "alignment") else set()
    )
    for key in added:
        assert all(parameter.grad.abs().max() > 0 for parameter in method.models[key].parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_optimiser_gets_students_and_their_heads_and_no_average(name: str) -> None:
    method = method_of(name, "slavc")
    wanted = {f"{student}{end}" for student in STUDENTS[name] for end in ("", "_extra")}
    assert set(method.models) - method.averages == wanted
    inside = {id(parameter) for key in wanted for parameter in method.models[key].parameters()}
    assert {id(parameter) for parameter in method.students()} == inside
    assert {id(p) for group in method.parameter_groups() for p in group["params"]} == inside


def test_a_loss_without_weight_adds_nothing() -> None:
    assert set(method_of("supervised", "slavc", lambda_con=0.0).models) == {"a"}
    assert set(method_of("xpl", "alignment", lambda_con=0.0).models) == {"a", "b"}


def test_slavc_makes_a_momentum_copy_or_takes_the_teacher() -> None:
    assert set(method_of("xpl", "slavc").averages) == {
        "momentum_a", "momentum_b", "momentum_a_extra", "momentum_b_extra",
    }  # fmt: skip
    assert set(method_of("dmt", "slavc").averages) == {
        "teacher_a", "teacher_b", "teacher_a_extra", "teacher_b_extra",
    }  # fmt: skip


def test_the_students_are_initialised_as_without_the_loss() -> None:
    plain, base = method_of("xpl", "ezvsl"), method_of("xpl", "slavc")
    for name in "ab":
        for key, value in plain.models[name].state_dict().items():
            assert torch.equal(value, base.models[name].state_dict()[key])
            assert torch.equal(value, base.models[f"momentum_{name}"].state_dict()[key])
    heads = [base.models[f"{name}_extra"].visual.weight for name in "ab"]
    assert not torch.equal(*heads)
    assert torch.equal(heads[0], base.models["momentum_a_extra"].visual.weight)


@pytest.mark.parametrize("name", ["xpl", "dmt"])
def test_slavc_by_its_definition(name: str) -> None:
    """Targets come from the copy: in training mode for momentum copies, in evaluation mode for teachers."""
    method = method_of(name, "slavc", momentum=0.5)
    target = {"xpl": "momentum_a", "dmt": "teacher_a"}[name]
    with torch.no_grad():  # so that online and target differ
        for parameter in method.models["a"].parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    batch = make_batch(method.config)
    view = method.viewer.strong(batch.clips, method.config.augment, method.draws("strong", "a", 0))
    output = method.forward("a", view)
    found = method.base.loss("a", method.models, method._target, batch.clips, view, output, 0)
    model = copy.deepcopy(method.models[target]).train(name == "xpl")
    theirs = model(view.image, view.spectrogram)
    heads = method.models["a_extra"](output), method.models[f"{target}_extra"](theirs)
    wanted = losses.slavc(
        losses.Features(output.visual, output.audio),
        heads[0],
        losses.Features(theirs.visual, theirs.audio),
        heads[1],
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_momentum_copy_steps_and_keeps_its_own_statistics() -> None:
    method = method_of("hard-pl", "slavc", momentum=0.75)
    before = copy.deepcopy(method.models["momentum_a"])
    heads = copy.deepcopy(method.models["momentum_a_extra"])
    optimizer = torch.optim.SGD(method.students(), lr=0.1)
    step(method).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    statistics = {k: v.clone() for k, v in method.models["momentum_a"].named_buffers()}
    method.after_step(0)
    update_average(before, method.models["a"], 0.75, buffers=False)
    update_average(heads, method.models["a_extra"], 0.75, buffers=False)
    pairs = [(before, method.models["momentum_a"]), (heads, method.models["momentum_a_extra"])]
    for wanted, found in pairs:
        for ours, theirs in zip(wanted.parameters(), found.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    now = dict(method.models["momentum_a"].named_buffers())
    assert all(torch.equal(statistics[key], now[key]) for key in statistics)
    assert statistics["visual.stem.1.num_batches_tracked"] == 1  # its own forward pass


def test_fnac_warms_up() -> None:
    method = method_of("supervised", "fnac", fnac_warmup=0.5)  # 8 steps
    terms = [step(method, number).item() for number in (3, 4)]
    plain = [step(method_of("supervised", "ezvsl"), number).item() for number in (3, 4)]
    assert terms[0] == pytest.approx(plain[0], rel=1e-5)
    assert terms[1] > plain[1] + 0.1


def test_ssltie_moves_the_view_that_was_seen() -> None:
    method = method_of("supervised", "ssltie")
    batch = make_batch(method.config)
    view = method.viewer.strong(batch.clips, method.config.augment, method.draws("strong", "a", 0))
    output = method.forward("a", view)
    numbers = [n for n in range(20) if draw_transform(0, "a", n, batch.clips.key).scale == 0.5][:1]
    numbers += [n for n in range(20) if draw_transform(0, "a", n, batch.clips.key).scale == 1.0][:1]
    for number in numbers:
        model = method.models["a"]
        found = method.base.loss("a", method.models, method.forward, batch.clips, view, output, number)
        transform = draw_transform(0, "a", number, batch.clips.key)
        moved = functional.normalize(model.visual_projection(model.visual(
            (transform(view.image) - model.mean) / model.std)), dim=1)  # fmt: skip
        wanted = losses.ssltie(
            losses.Features(output.visual, output.audio), losses.Features(moved, output.audio), transform
        )
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_moved_map_of_another_size_is_brought_to_that_of_t() -> None:
    config = make_config({"name": "supervised", "lambda_con": 1.0, "contrastive": "ssltie"},
                         model={"visual": "resnet18"}, data={"frame_size": 96, "image_size": 96})  # fmt: skip
    method = make_method(config)
    method.models.train()
    for number in range(4):  # both scales: 3x3 maps, and of a halved image 2x2 where T gives 1x1
        assert method.losses(make_batch(config), number)["con"].isfinite()


def test_t_belongs_to_step_and_clip() -> None:
    keys = torch.arange(2000)
    found = draw_transform(3, "a", 7, keys)
    part = draw_transform(3, "a", 7, keys[1500:])
    assert (part.scale, part.flip) == (found.scale, found.flip)
    assert torch.equal(part.degrees, found.degrees[1500:])
    assert set(found.degrees.tolist()) == set(range(-MAX_DEGREES, MAX_DEGREES + 1))
    several = [draw_transform(3, "a", number, keys[:1]) for number in range(200)]
    assert 60 < sum(t.scale == 0.5 for t in several) < 140
    assert 60 < sum(t.flip for t in several) < 140


@pytest.mark.parametrize("contrastive", LOSSES)
def test_the_loss_falls_on_one_batch(contrastive: str) -> None:
    method = method_of("supervised", contrastive, fnac_warmup=0.0)
    batch = make_batch(method.config)
    optimizer = torch.optim.Adam(method.students(), lr=0.01)
    found = []
    for _ in range(25):
        terms = method.losses(batch, 1)
        optimizer.zero_grad()
        terms["con"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        method.after_step(1)
        found.append(terms["con"].item())
    assert min(found[-3:]) < 0.8 * found[0]


def test_a_checkpoint_holds_what_the_loss_adds() -> None:
    method = method_of("xpl", "slavc")
    fresh = method_of("xpl", "slavc")
    optimizer = torch.optim.SGD(method.students(), lr=0.1)
    step(method).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    method.after_step(0)
    fresh.models.load_state_dict(method.models.state_dict())
    assert step(fresh, 1).item() == step(method, 1).item()
    assert isinstance(fresh, XPL)
    assert any(isinstance(module, nn.Linear) for module in fresh.models["momentum_b_extra"].modules())
