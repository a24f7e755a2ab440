"""What every contrastive loss has in common: its signature, its symmetries and where its gradient flows."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from avsl_train import losses
from avsl_train.losses import CONTRASTIVE, AlignmentView, Context, Features, contrastive

NAMES = sorted(CONTRASTIVE)
CLIPS, CHANNELS, SIDE = 4, 6, 3
Inputs = tuple[Tensor, Tensor, Context]
TARGETS = {"target.visual", "target.audio", "target_second.visual", "target_second.audio"}
"""What never gets gradient."""


def features(draw: torch.Generator, clips: int = CLIPS, side: int = SIDE) -> Features:
    """Return random unit features in double precision."""
    visual = torch.randn(clips, CHANNELS, side, side, dtype=torch.float64, generator=draw)
    audio = torch.randn(clips, CHANNELS, dtype=torch.float64, generator=draw)
    return Features(functional.normalize(visual, dim=1), functional.normalize(audio, dim=1))


def alignment_view(draw: torch.Generator, clips: int = CLIPS) -> AlignmentView:
    """Return a random further view."""
    return AlignmentView(*features(draw, clips), features(draw, clips).audio, features(draw, clips).audio)


def inputs(seed: int, clips: int = CLIPS, side: int = SIDE) -> Inputs:
    """Return features and a context that has what any loss needs."""
    draw = torch.Generator().manual_seed(seed)
    plain = features(draw, clips, side)
    context = Context(
        second=features(draw, clips, side),
        target=features(draw, clips, side),
        target_second=features(draw, clips, side),
        moved=features(draw, clips, side),
        transform=dataclasses.replace(losses.draw_transform(clips, random.Random(seed)), scale=1.0),
        projected=(features(draw, clips).audio, features(draw, clips).audio),
        augmented=alignment_view(draw, clips),
        neighbours=alignment_view(draw, clips),
    )
    return *plain, context


def changed(given_: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Return inputs with every tensor replaced."""
    visual, audio, context = given_
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(context):
        value = getattr(context, field.name)
        if isinstance(value, Features | AlignmentView):
            fields[field.name] = type(value)(*map(change, value))
        elif isinstance(value, tuple):
            fields[field.name] = tuple(map(change, value))
        elif isinstance(value, losses.Transform):
            fields[field.name] = dataclasses.replace(value, degrees=change(value.degrees))
    return change(visual), change(audio), dataclasses.replace(context, **fields)


def tensors(name: str, given_: Inputs) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a loss reads, with their names."""
    visual, audio, context = given_
    yield "visual", visual
    yield "audio", audio
    optional = ("augmented", "neighbours") if name == "alignment" else ()
    for field in (*CONTRASTIVE[name].needs, *optional):
        value = getattr(context, field)
        if isinstance(value, Features | AlignmentView):
            yield from ((f"{field}.{part}", tensor) for part, tensor in value._asdict().items())
        elif isinstance(value, tuple):
            yield from ((f"{field}.{number}", tensor) for number, tensor in enumerate(value))


def separated(shift: int) -> Inputs:
    """Return clips whose objects stand at the first position; sounds are shifted by some clips."""
    axes = torch.eye(CLIPS + 1, dtype=torch.float64)
    visual = axes[CLIPS].expand(CLIPS, SIDE, SIDE, -1).clone()
    visual[:, 0, 0] = axes[:CLIPS]
    plain = Features(visual.permute(0, 3, 1, 2), axes[:CLIPS].roll(shift, 0))
    return *plain, Context(
        second=plain,
        target=plain,
        target_second=plain,
        moved=plain,
        transform=losses.Transform(1.0, torch.zeros(CLIPS), flip=False),
        projected=(axes[:CLIPS], plain.audio),
    )


def test_the_methods_are_all_there() -> None:
    assert NAMES == ["alignment", "ezvsl", "fnac", "htf", "lvs", "slavc", "ssltie"]
    assert {name for name in NAMES if not contrastive(name).needs} == {"ezvsl", "lvs", "htf", "fnac"}


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_clips_does_not_matter(name: str, seed: int) -> None:
    here = inputs(seed)
    order = torch.randperm(CLIPS, generator=torch.Generator().manual_seed(seed + 1))
    shuffled = changed(here, lambda x: x[order])
    torch.testing.assert_close(contrastive(name)(*shuffled), contrastive(name)(*here))


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_only_angles_between_features_matter(name: str, seed: int) -> None:
    here = inputs(seed)
    draw = torch.Generator().manual_seed(seed + 1)
    turn, _ = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, dtype=torch.float64, generator=draw))

    def turned(x: Tensor) -> Tensor:
        return x if x.ndim == 1 else torch.einsum("dc,bc...->bd...", turn, x)  # angles of T stay

    torch.testing.assert_close(contrastive(name)(*changed(here, turned)), contrastive(name)(*here))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ssltie"}))  # its T knows where a position is
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_positions_does_not_matter(name: str, seed: int) -> None:
    here = inputs(seed)
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(seed + 1))

    def moved(x: Tensor) -> Tensor:
        return x.flatten(2)[..., order].view_as(x) if x.ndim == 4 else x

    torch.testing.assert_close(contrastive(name)(*changed(here, moved)), contrastive(name)(*here))


@pytest.mark.parametrize("name", NAMES)
def test_the_right_sounds_cost_less_than_the_wrong_ones(name: str) -> None:
    right, wrong = contrastive(name)(*separated(0)), contrastive(name)(*separated(1))
    assert right < 0.9 * wrong


@pytest.mark.parametrize("name", NAMES)
def test_gradient_flows_into_every_input_but_the_targets(name: str) -> None:
    here = changed(inputs(3), lambda x: x.clone().requires_grad_(x.ndim > 1))
    contrastive(name)(*here).backward()
    read = dict(tensors(name, here))
    assert len(read) >= 2
    without = {key for key, x in read.items() if x.grad is None}
    assert without == TARGETS & set(read)
    for key in set(read) - without:
        gradient = read[key].grad
        assert gradient is not None
        assert bool((gradient.flatten(1).abs().sum(1) > 0).all()), key


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    visual, audio, context = inputs(5, clips=3, side=2)

    def loss(image: Tensor, sound: Tensor) -> Tensor:
        return contrastive(name)(image, sound, context)

    # the sigmoids' width of .03 and the diagonal's -99/.07 make second derivatives large
    assert torch.autograd.gradcheck(
        loss, (visual.requires_grad_(), audio.requires_grad_()), eps=1e-7, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("name", NAMES)
def test_single_and_double_precision_agree(name: str) -> None:
    here = inputs(9)
    single = changed(here, lambda x: x.float() if x.ndim > 1 else x)
    found = contrastive(name)(*single)
    assert found.dtype == torch.float32
    assert found.shape == ()
    assert found.item() == pytest.approx(contrastive(name)(*here).item(), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_made_on_the_device_of_the_features(name: str) -> None:
    """A tensor that a loss makes elsewhere cannot be combined with those of the device ``meta``."""
    here = changed(inputs(0), lambda x: x.float().to("meta") if x.ndim > 1 else x)
    loss = contrastive(name)(*here)
    assert loss.device.type == "meta"
    assert loss.shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_features_that_are_all_the_same_give_a_finite_loss_and_gradient(name: str) -> None:
    def same(x: Tensor) -> Tensor:
        return x if x.ndim == 1 else torch.ones_like(x, dtype=torch.float32) / CHANNELS**0.5

    here = changed(inputs(0), same)
    visual, audio = (x.clone().requires_grad_() for x in here[:2])
    loss = contrastive(name)(visual, audio, here[2])
    loss.backward()
    assert loss.isfinite()
    assert visual.grad is not None
    assert audio.grad is not None
    assert visual.grad.isfinite().all()
    assert audio.grad.isfinite().all()


def test_the_signature_changes_nothing() -> None:
    visual, audio, context = inputs(1)
    assert context.moved is not None
    assert context.transform is not None
    assert context.second is not None
    assert context.target is not None
    assert context.target_second is not None
    assert context.projected is not None
    plain = Features(visual, audio)
    wanted = {
        "ezvsl": losses.ezvsl(visual, audio),
        "lvs": losses.lvs(visual, audio),
        "htf": losses.htf(visual, audio),
        "fnac": losses.fnac(visual, audio),
        "slavc": losses.slavc(plain, context.second, context.target, context.target_second),
        "ssltie": losses.ssltie(plain, context.moved, context.transform),
        "alignment": losses.alignment(
            AlignmentView(visual, audio, *context.projected), context.augmented, context.neighbours
        ),
    }
    assert {name: contrastive(name)(visual, audio, context).item() for name in NAMES} == {
        name: loss.item() for name, loss in wanted.items()
    }
    assert wanted["htf"] == wanted["lvs"]  # one formula, of other features
    assert len({loss.item() for loss in wanted.values()}) == len(wanted) - 1


def test_the_context_can_be_left_out_where_nothing_is_needed() -> None:
    visual, audio, _ = inputs(1)
    assert contrastive("fnac")(visual, audio) == losses.fnac(visual, audio)
    assert contrastive("fnac")(visual, audio, Context(warmed_up=False)) == losses.ezvsl(visual, audio)


def test_what_is_missing_is_named() -> None:
    visual, audio, context = inputs(1)
    with pytest.raises(ValueError, match="slavc needs second, target, target_second in its context"):
        contrastive("slavc")(visual, audio)
    with pytest.raises(ValueError, match="ssltie needs transform in its context"):
        contrastive("ssltie")(visual, audio, dataclasses.replace(context, transform=None))


def test_every_need_is_a_field_of_the_context() -> None:
    fields = {field.name for field in dataclasses.fields(Context)}
    assert {need for loss in CONTRASTIVE.values() for need in loss.needs} <= fields


@pytest.mark.parametrize(
    ("name", "hint"), [("ez-vsl", "did you mean ezvsl"), ("qqq", "'qqq': there are ezvsl")]
)
def test_unknown_names_are_told(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        contrastive(name)
