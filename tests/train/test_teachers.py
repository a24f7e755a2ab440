"""Mean teacher, FixMatch and DMT: who teaches whom, with which label, and how the teachers follow."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from avsl_train.augment import CROP_DRAWS, Geometry, crop, draw_strong, draw_weak, identity
from avsl_train.config import AugmentConfig, ExperimentConfig
from avsl_train.data import Clips
from avsl_train.errors import TrainInputError
from avsl_train.methods import DMT, FixMatch, MeanTeacher, Method
from avsl_train.methods.mean_teacher import rampup
from avsl_train.methods.method import predicting
from avsl_train.pseudo_labels import confident, intersect, min_max, relative, transfer
from tests.train.conftest import gradient, make_batch, make_clips, make_config, make_method

N = 5
EPOCH = 4
"""The first step after the warm-up of the configurations here."""
TEACHERS = {"mean-teacher": {"teacher": "a"}, "dmt": {"teacher_a": "a", "teacher_b": "b"}}
ASYMMETRIC = torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5], [0.6, 0.7, 1.0]])[None, None]


def method_of(name: str, over: dict[str, Any] | None = None, **own: Any) -> Any:
    """Return a method in training mode whose teachers differ from their students."""
    method = make_method(make_config({"name": name, "warmup": 0.5, **own}, **(over or {})), N)
    method.models.train()
    shake(method)
    return method


def shake(method: Method, seed: int = 0) -> None:
    """Move the parameters of the teachers, so that they differ from their students and from each other."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in sorted(method.averages):
            for parameter in method.models[name].parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))


def sweep(config: ExperimentConfig) -> Callable[[], Iterator[Clips]]:
    """Return what gives the unlabelled clips of `make_batch`."""
    clips = make_clips(N, config.data, 2)
    return lambda: iter([clips])


def spy(method: Any, kind: str) -> list[Any]:
    """Return the list that the method's views of a kind will be added to."""
    views: list[Any] = []
    make = getattr(method.viewer, kind)

    def made(*arguments: Any) -> Any:
        views.append(make(*arguments))
        return views[-1]

    setattr(method.viewer, kind, made)
    return views


# ---- labels in other views ---------------------------------------------------------------------------------


def test_a_map_follows_crop_and_flip_of_both_views() -> None:
    """The right half, mirrored, seen from the whole frame, mirrored or not."""
    half = Geometry(torch.tensor([[0.5, 0.0, 1.0, 1.0]]), torch.tensor([True]))
    seen = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]  # 1 and 3 lie at the right border of the frame
    whole, covered = transfer(seen, half, identity(1), 4)
    assert whole[0, 0, [0, 0, -1, -1], [2, 3, 2, 3]].tolist() == [2, 1, 4, 3]
    assert covered[0, 0].tolist() == [[False, False, True, True]] * 4
    mirrored = Geometry(identity(1).box, torch.tensor([True]))
    turned, covered = transfer(seen, half, mirrored, 4)
    assert torch.equal(turned, whole.flip(-1))
    assert covered[0, 0].tolist() == [[True, True, False, False]] * 4
    same, covered = transfer(seen, half, half, 2)
    assert torch.equal(same, seen)
    assert covered.all()


@given(seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_a_smooth_map_that_is_brought_over_is_what_the_other_view_sees(seed: int) -> None:
    """A plane over the frame is exact under bilinear sampling, wherever the source looked well inside."""
    draw = torch.Generator().manual_seed(seed)
    source = draw_weak(torch.rand(4, CROP_DRAWS, generator=draw), AugmentConfig())
    target = draw_strong(torch.rand(4, CROP_DRAWS, generator=draw), AugmentConfig())
    steps = (torch.arange(200) + 0.5) / 200
    plane = (0.3 * steps[None, :] + 0.6 * steps[:, None])[None, None].repeat(4, 1, 1, 1)
    moved, covered = transfer(crop(plane, source, 64), source, target, 16)
    wanted = crop(plane, target, 16)
    inside = functional.avg_pool2d(covered.float(), 3, 1, 1) == 1
    assert covered.any()
    torch.testing.assert_close(moved[inside], wanted[inside], rtol=0, atol=0.01)
    x, y = target.centres(16)
    left, top, right, bottom = (edge[:, None] for edge in source.box.unbind(1))
    across = ((x >= left) & (x <= right))[:, None, None, :]
    along = ((y >= top) & (y <= bottom))[:, None, :, None]
    assert torch.equal(covered, across & along)


def test_where_a_view_lies_in_itself_is_everywhere() -> None:
    u = torch.rand(50, CROP_DRAWS, generator=torch.Generator().manual_seed(0))
    view = draw_strong(u, AugmentConfig())
    found = relative(view, view)
    torch.testing.assert_close(found.box, identity(50).box)
    assert not found.flip.any()


@pytest.mark.parametrize(
    ("positive", "negative", "label", "sure"),
    [(0.8, 0.2, [0, 0, 0, 1, 1], [1, 1, 0, 1, 1]), (1.0, 0.0, [0, 0, 0, 0, 1], [1, 0, 0, 0, 1])],
)
def test_confidence_by_hand(positive: float, negative: float, label: list[int], sure: list[int]) -> None:
    found = confident(torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]), positive, negative)
    assert [part.int().tolist() for part in found] == [label, sure]


def test_the_intersection_by_hand() -> None:
    """Masks of 3 and 4 cells with 3 in common, IoU 3/4; thresholds and ties count as passed."""
    p_a = torch.tensor([[0.1, 0.5, 0.5], [0.1, 0.64, 0.64], [0.1, 1.0, 0.1]])[None, None]
    p_b = 0.4 * torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.6, 0.7], [0.0, 0.9, 1.0]])[None, None] + 0.2
    # minmax(p_a): 0, 4/9, 4/9 / 0, .6, .6 / 0, 1, 0
    label, accepted, iou = intersect(p_a, p_b, delta=0.6 - 1e-6, tau=0.75)
    assert iou.item() == 0.75
    assert accepted.item()
    assert label[0, 0].tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert not intersect(p_a, p_b, delta=0.6 - 1e-6, tau=0.76)[1].item()
    wide = intersect(p_a, p_b, delta=0.4, tau=0.5)
    assert wide[2].item() == pytest.approx(3 / 6)  # p_a has 5 cells now
    assert wide[1].item()


def test_a_constant_map_marks_nothing_and_is_rejected() -> None:
    flat = torch.full((1, 1, 3, 3), 0.9)
    assert min_max(flat).abs().max() == 0
    label, accepted, iou = intersect(flat, flat, delta=0.6, tau=0.1)
    assert (label.sum().item(), accepted.item(), iou.item()) == (0, False, 0)


@given(
    seed=st.integers(0, 1000), delta=st.sampled_from([0.3, 0.6, 0.8]), tau=st.sampled_from([0.2, 0.5, 0.7])
)
@settings(max_examples=25)
def test_the_intersection_equals_loops_over_pixels(seed: int, delta: float, tau: float) -> None:
    maps = torch.rand(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    maps[1] = 0.7 * maps[0] + 0.3 * maps[1]
    label, accepted, iou = intersect(maps[0], maps[1], delta, tau)
    for clip in range(3):
        masks = []
        for values in maps[:, clip].flatten(1).tolist():
            low, high = min(values), max(values)
            masks.append({i for i, value in enumerate(values) if (value - low) / (high - low) >= delta})
        both, either = masks[0] & masks[1], masks[0] | masks[1]
        assert {i for i, value in enumerate(label[clip].flatten().tolist()) if value == 1} == both
        assert iou[clip].item() == pytest.approx(len(both) / len(either))
        assert accepted[clip].item() == (len(both) / len(either) >= tau)


# ---- teachers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TEACHERS))
def test_no_term_reaches_a_teacher(name: str) -> None:
    method = method_of(name, **({"tau": 0.0} if name == "dmt" else {}))
    terms = method.losses(make_batch(method.config), EPOCH)
    assert len(terms) == 3
    torch.stack(list(terms.values())).sum().backward()
    assert set(TEACHERS[name]) == set(method.averages)
    for teacher, student in TEACHERS[name].items():
        assert all(parameter.grad is None for parameter in method.models[teacher].parameters())
        assert not any(parameter.requires_grad for parameter in method.models[teacher].parameters())
        assert all(parameter.grad is not None for parameter in method.models[student].parameters())
        assert method.models[teacher].training  # switched to evaluation while it predicts only


@pytest.mark.parametrize("name", list(TEACHERS))
def test_the_optimiser_gets_the_students_only(name: str) -> None:
    method = method_of(name)
    wanted = {id(p) for student in TEACHERS[name].values() for p in method.models[student].parameters()}
    assert {id(parameter) for parameter in method.students()} == wanted


@pytest.mark.parametrize("name", list(TEACHERS))
def test_a_teacher_is_the_student_in_warm_up_and_its_average_afterwards(name: str) -> None:
    """After k steps: decay^k p_0 + (1 - decay) sum decay^(k-i) p_i, with the student's buffers."""
    decay, k = 0.75, 4
    method = method_of(name, ema=decay)
    optimizer = torch.optim.SGD(method.students(), lr=0.05)
    batch = make_batch(method.config)

    def step(number: int) -> None:
        optimizer.zero_grad()
        method.losses(batch, number)["sup"].backward()
        optimizer.step()
        method.after_step(number)

    step(EPOCH - 1)
    history: dict[str, list[dict[str, torch.Tensor]]] = {}
    for teacher, student in TEACHERS[name].items():
        state = method.models[student].state_dict()
        assert all(
            torch.equal(value, method.models[teacher].state_dict()[key]) for key, value in state.items()
        )
        history[student] = [copy.deepcopy(state)]
    for number in range(EPOCH, EPOCH + k):
        step(number)
        for student, states in history.items():
            states.append(copy.deepcopy(method.models[student].state_dict()))
    for teacher, student in TEACHERS[name].items():
        states = history[student]
        parameters = {key for key, _ in method.models[student].named_parameters()}
        for key, found in method.models[teacher].state_dict().items():
            if key not in parameters:
                assert torch.equal(found, states[-1][key]), key
                continue
            wanted = decay**k * states[0][key] + (1 - decay) * sum(
                decay ** (k - i) * states[i][key] for i in range(1, k + 1)
            )
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
            assert not torch.equal(states[-1][key], states[0][key]), key


@pytest.mark.parametrize("name", list(TEACHERS))
def test_the_teachers_predict(name: str) -> None:
    method = method_of(name)
    view = method.viewer.plain(make_clips(3, method.config.data))
    with predicting(method.models):
        maps = [method.forward(teacher, view).probability for teacher in TEACHERS[name]]
        found = method.localize(view)
    torch.testing.assert_close(found, torch.stack(maps).mean(0))


@pytest.mark.parametrize("which", ["a", "b"])
def test_one_teacher_of_dmt_predicts_on_request(which: str) -> None:
    method = method_of("dmt", inference=which)
    view = method.viewer.plain(make_clips(3, method.config.data))
    with predicting(method.models):
        assert torch.equal(method.localize(view), method.forward(f"teacher_{which}", view).probability)


@pytest.mark.parametrize("name", [*TEACHERS, "fixmatch"])
def test_during_warm_up_nobody_teaches(name: str) -> None:
    method = method_of(name)
    weak = spy(method, "weak")
    assert set(method.losses(make_batch(method.config), EPOCH - 1)) == {"sup", "con"}
    assert not weak


# ---- mean teacher ------------------------------------------------------------------------------------------


def test_the_consistency_by_its_definition() -> None:
    method = method_of("mean-teacher", ramp=0.0, lambda_u=1.0)
    assert isinstance(method, MeanTeacher)
    strong, weak = spy(method, "strong"), spy(method, "weak")
    found = method.losses(make_batch(method.config), EPOCH)["consistency"]
    p = method.forward("a", strong[0]).probability[3:]  # BatchNorm in training mode: the same batch again
    with torch.no_grad():
        taught = method.models["teacher"].eval()(weak[0].image, weak[0].spectrogram).probability
    wanted, covered = transfer(taught, weak[0].geometry, strong[0].geometry[3:], p.shape[-1])
    errors = [(p[i] - wanted[i]).square()[covered[i]].mean() for i in range(N)]
    assert found.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert found.item() > 1e-5


def test_the_weight_of_the_consistency_ramps_up() -> None:
    method = method_of("mean-teacher", ramp=0.5, lambda_u=3.0)  # 4 steps after warm-up, 2 of them ramp
    plain = method_of("mean-teacher", ramp=0.0, lambda_u=1.0)
    batch = make_batch(method.config)
    for number, done in zip((4, 5, 6, 7), (0, 0.5, 1, 1), strict=True):
        found, wanted = (each.losses(batch, number)["consistency"].item() for each in (method, plain))
        assert found == pytest.approx(3 * rampup(done) * wanted, rel=1e-4)


def test_a_student_that_says_the_same_is_not_pulled() -> None:
    method = method_of("mean-teacher", ramp=0.0)
    method.models["teacher"].load_state_dict(method.models["a"].state_dict())
    p = torch.rand(N, 1, 8, 8)
    method.predict = lambda *_: p
    batch = make_batch(method.config)
    geometry = identity(8)
    view = method.viewer.plain(batch.clips)
    method.viewer.weak = lambda *_: method.viewer.plain(batch.clips[torch.arange(3, 8)])
    same = torch.cat([torch.rand(3, 1, 8, 8), p])
    assert torch.equal(geometry.box, view.geometry.box)
    assert method._consistency(batch, view, same, EPOCH).item() == 0
    assert method._consistency(batch, view, 1 - same, EPOCH).item() > 0.05


# ---- FixMatch ----------------------------------------------------------------------------------------------


def test_fixmatch_by_its_definition() -> None:
    method = method_of("fixmatch", positive=0.15, negative=0.1)
    assert isinstance(method, FixMatch)
    model = copy.deepcopy(method.models["a"]).eval()  # before the step moves BatchNorm's statistics
    strong, weak = spy(method, "strong"), spy(method, "weak")
    found = method.losses(make_batch(method.config), EPOCH)["confident"]
    logit = method.forward("a", strong[0]).logit[3:]
    p = model(weak[0].image, weak[0].spectrogram).probability
    p, covered = transfer(p, weak[0].geometry, strong[0].geometry[3:], logit.shape[-1])
    total, kinds = torch.tensor(0.0), set()
    for value, wanted, inside in zip(logit.flatten(), p.flatten(), covered.flatten(), strict=True):
        if not inside or 0.1 < wanted < 0.15:
            continue
        kinds.add(bool(wanted >= 0.15))
        total = total - (functional.logsigmoid(value) if wanted >= 0.15 else functional.logsigmoid(-value))
    assert kinds == {True, False}
    assert found.item() == pytest.approx(total.item() / logit.numel(), rel=1e-4)


def test_pixels_that_nobody_is_sure_of_do_not_teach() -> None:
    method = method_of("fixmatch", positive=1.0, negative=0.0)
    term = method.losses(make_batch(method.config), EPOCH)["confident"]
    assert term.item() == 0
    assert gradient(term, method.models["a"]).abs().max() == 0


def test_thresholds_that_cross_are_told() -> None:
    with pytest.raises(TrainInputError, match=r"negative 0\.6 is not below positive 0\.5: a pixel between"):
        make_config({"name": "fixmatch", "positive": 0.5, "negative": 0.6})


# ---- DMT ---------------------------------------------------------------------------------------------------


def test_dmt_by_its_definition() -> None:
    method = method_of("dmt", delta=0.3, tau=0.2)
    assert isinstance(method, DMT)
    strong, weak = spy(method, "strong"), spy(method, "weak")
    found = method.losses(make_batch(method.config), EPOCH)["ipl"]
    assert len(weak) == 1  # one weak view for both teachers
    with torch.no_grad():
        maps = [
            copy.deepcopy(method.models[teacher]).eval()(weak[0].image, weak[0].spectrogram).probability
            for teacher in ("teacher_a", "teacher_b")
        ]
    label, accepted, _ = intersect(*maps, 0.3, 0.2)
    assert 0 < accepted.sum() < N
    wanted = torch.tensor(0.0)
    for student, view in zip("ab", strong, strict=True):
        logit = method.forward(student, view).logit[3:]
        moved, covered = transfer(label, weak[0].geometry, view.geometry[3:], logit.shape[-1])
        hard = (moved >= 0.5).float()
        losses = functional.binary_cross_entropy_with_logits(logit, hard, reduction="none")
        wanted = wanted + torch.stack([losses[i][covered[i]].mean() for i in range(N) if accepted[i]]).mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_rejected_clips_do_not_teach() -> None:
    method = method_of("dmt", delta=0.6, tau=1.0)
    term = method.losses(make_batch(method.config), EPOCH)["ipl"]
    assert term.item() == 0
    assert all(gradient(term, method.models[name]).abs().max() == 0 for name in "ab")


def test_both_students_learn_from_one_label_under_views_of_their_own() -> None:
    method = method_of("dmt", tau=0.0)
    strong = spy(method, "strong")
    method.losses(make_batch(method.config), EPOCH)
    a, b = strong
    assert not torch.equal(a.geometry.box, b.geometry.box)
    assert not torch.equal(*(method.models[name].visual_projection.weight for name in "ab"))


@pytest.mark.parametrize(
    ("key", "value"), [("delta", 0.2), ("tau", 0.0), ("lambda_u", 2.0), ("ema", 0.5), ("inference", "a")]
)
def test_a_key_of_dmt_changes_what_it_says_and_nothing_else(key: str, value: object) -> None:
    base, other = (
        method_of("dmt", tau=0.2, delta=0.3),
        method_of("dmt", **{"tau": 0.2, "delta": 0.3, key: value}),
    )
    batch = make_batch(base.config)
    terms, found = base.losses(batch, EPOCH), other.losses(batch, EPOCH)
    assert {name for name in terms if terms[name].item() != found[name].item()} == (
        {"ipl"} if key in ("delta", "tau", "lambda_u") else set()
    )
    if key == "lambda_u":
        assert found["ipl"].item() == pytest.approx(2 * terms["ipl"].item())
    moved = []
    for method in (base, other):
        shake(method, 1)
        method.after_step(EPOCH)
        moved.append(method.models["teacher_a"].visual_projection.weight.clone())
    assert torch.equal(*moved) == (key != "ema")
    view = base.viewer.plain(make_clips(2, base.config.data))
    with predicting(base.models), predicting(other.models):
        other.models.load_state_dict(base.models.state_dict())
        assert torch.equal(base.localize(view), other.localize(view)) == (key != "inference")


def test_teachers_with_maps_of_two_sizes_are_compared_at_the_size_of_a() -> None:
    over = {"data": {"frame_size": 64, "image_size": 64}}
    method = method_of("dmt", over, tau=0.0, model_b={"visual": "resnet18"})
    term = method.losses(make_batch(method.config), EPOCH)["ipl"]
    assert all(gradient(term, method.models[name]).abs().max() > 0 for name in "ab")
    with predicting(method.models):
        found = method.localize(method.viewer.plain(make_clips(2, method.config.data)))
    assert found.shape == (2, 1, 16, 16)


# ---- repeatable, resumable ---------------------------------------------------------------------------------


def trained(name: str, stop: int, start: Any = None) -> tuple[Any, Any]:
    """Train some of eight steps, from the start or from a state; return the method and its optimiser."""
    own: dict[str, Any] = {
        "supervised": {"lambda_con": 1.0},
        "fixmatch": {"warmup": 0.25, "positive": 0.15, "negative": 0.1},
        "dmt": {"warmup": 0.25, "tau": 0.0},
    }.get(name, {"warmup": 0.25})
    method = make_method(make_config({"name": name, "contrastive": "slavc", **own}), N)
    optimizer = torch.optim.Adam(method.students(), lr=0.01)
    first = 0
    if start is not None:
        first, models, state, optim = start
        method.models.load_state_dict(models)
        method.load(state)
        optimizer.load_state_dict(optim)
    method.models.train()
    for step in range(first, stop):
        if step % 2 == 0:
            method.begin_epoch(step, sweep(method.config))
        loss = torch.stack(list(method.losses(make_batch(method.config), step).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        method.after_step(step)
    return method, optimizer


def digest(method: Method) -> str:
    """Return a hash of every weight and buffer."""
    values = method.models.state_dict()
    return hashlib.sha256(b"".join(values[key].numpy().tobytes() for key in sorted(values))).hexdigest()


@pytest.mark.parametrize("name", ["supervised", "hard-pl", "mean-teacher", "fixmatch", "dmt", "xpl"])
def test_a_training_is_repeatable_and_can_be_broken_off_anywhere(name: str) -> None:
    whole, _ = trained(name, 6)
    again, _ = trained(name, 6)
    assert digest(whole) == digest(again)
    for stop in (3, 4):  # within a pass, and between two
        part, optimizer = trained(name, stop)
        state = copy.deepcopy((stop, part.models.state_dict(), part.state(), optimizer.state_dict()))
        resumed, _ = trained(name, 6, state)
        assert digest(resumed) == digest(whole)
        sums, wanted = resumed.diary.state(), whole.diary.state()  # the log goes on too
        assert sums.keys() == wanted.keys()
        assert all(torch.equal(sums[key], wanted[key]) for key in sums)
