"""XPL by its definition, and what every switch of its ablation changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avsl_train import losses
from avsl_train.augment import uncrop
from avsl_train.config import ExperimentConfig
from avsl_train.methods import XPL, HardPL, Method
from avsl_train.methods.method import Batch, predicting
from avsl_train.pseudo_labels import sharpen
from avsl_train.selection import ramp_up
from tests.train.conftest import gradient, make_batch, make_clips, make_config, make_method
from tests.train.semi import EPOCH, N, begun, config_of, fill, sweep, xpl


def cross_gradients(method: XPL) -> dict[str, torch.Tensor]:
    """Return the gradient that the cross loss gives each model."""
    term = method.losses(make_batch(method.config), EPOCH)["cross"]
    return {name: gradient(term, method.models[name]) for name in "ab"}


# ---- XPL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "taught_by_b"), [("cross", "a"), ("self", "b")])
def test_a_model_learns_from_the_labels_of_the_right_model(labels: str, taught_by_b: str) -> None:
    method = xpl(labels=labels)
    before = cross_gradients(method)
    fill(method, "b", 3)
    after = cross_gradients(method)
    changed = {name for name in "ab" if not torch.equal(before[name], after[name])}
    assert changed == {taught_by_b}


def test_only_selected_clips_teach() -> None:
    method = xpl()
    method.selected[:] = torch.tensor([True, False, True, False, False])
    before = cross_gradients(method)
    for name in "ab":
        method.stores[name].maps[[1, 3, 4]] = 0.5
    after = cross_gradients(method)
    assert all(torch.equal(before[name], after[name]) for name in "ab")
    method.stores["a"].maps[0] = 0.5
    assert not torch.equal(cross_gradients(method)["b"], before["b"])


def test_a_batch_without_selected_clips_has_a_cross_loss_of_zero() -> None:
    method = xpl()
    method.selected[:] = False
    method.selected[0] = True
    batch = make_batch(method.config)
    keep = torch.tensor([0, 1, 2, 4, 5])  # the labelled ones and two that are not selected
    term = method.losses(Batch(batch.clips[keep], 3), EPOCH)["cross"]
    assert term.item() == 0
    assert all(gradient(term, method.models[name]).abs().max() == 0 for name in "ab")


def test_the_cross_loss_by_its_definition() -> None:
    method = xpl()
    batch = make_batch(method.config)
    views = spy_on_strong_views(method)
    found = method.losses(batch, EPOCH)["cross"]
    wanted = torch.tensor(0.0)
    for student, teacher, view in zip("ab", "ba", views, strict=True):
        p = method.forward(student, view).probability[3:]  # BatchNorm in training mode: the same batch again
        label = method.stores[teacher].view(torch.arange(N), view.geometry[3:], p.shape[-1])
        wanted = wanted - (label * p.log() + (1 - label) * (1 - p).log()).mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def spy_on_strong_views(method: Method) -> list[Any]:
    """Return the list that the method's strong views will be added to."""
    views: list[Any] = []
    make = method.viewer.strong

    def strong(*arguments: Any) -> Any:
        views.append(make(*arguments))
        return views[-1]

    method.viewer.strong = strong  # type: ignore[method-assign]
    return views


@pytest.mark.parametrize("soft", [True, False])
def test_hard_labels_are_zero_or_one_when_they_are_used(soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    method = xpl(soft=soft)
    targets = []
    masked = losses.masked_cross_entropy

    def spy(logit: torch.Tensor, target: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        targets.append(target)
        return masked(logit, target, chosen)

    monkeypatch.setattr(losses, "masked_cross_entropy", spy)
    method.losses(make_batch(method.config), EPOCH)
    values = torch.cat([target.flatten() for target in targets if len(target) == N])
    assert len(values) == 2 * N * method.size**2
    assert bool(((values == 0) | (values == 1)).all()) == (not soft)


def test_hard_labels_are_thresholded_predictions() -> None:
    base = begun(config_of("xpl", sharpening=False, pl_ema=False))
    threshold = base.stores["a"].maps.float().median().item()
    hard = begun(config_of("xpl", soft=False, threshold=threshold, pl_ema=False))
    for name in "ab":
        wanted = base.stores[name].maps.float() >= threshold
        assert ((hard.stores[name].maps == 1) == wanted).float().mean() > 0.99  # but for float16
    assert 0.2 < hard.stores["a"].maps.float().mean() < 0.8


def test_sharpening_sharpens_what_is_stored() -> None:
    plain, sharp = (begun(config_of("xpl", sharpening=on, temperature=0.25)) for on in (False, True))
    for name in "ab":
        wanted = sharpen(plain.stores[name].maps.float(), 0.25)
        torch.testing.assert_close(sharp.stores[name].maps.float(), wanted, rtol=0.01, atol=2e-3)
        assert not torch.allclose(plain.stores[name].maps.float(), wanted, atol=0.01)


def test_the_average_over_epochs_is_that_of_the_labels_of_each() -> None:
    first, last = {}, {}
    for on in (True, False):
        method = begun(config_of("xpl", pl_ema=on, beta=0.75))
        first[on] = {name: method.stores[name].maps.float() for name in "ab"}
        method.begin_epoch(EPOCH + 1, sweep(method.config))
        last[on] = {name: method.stores[name].maps.float() for name in "ab"}
    for name in "ab":
        assert torch.equal(first[True][name], first[False][name])
        assert not torch.allclose(first[False][name], last[False][name], atol=1e-3)
        wanted = 0.75 * first[False][name] + 0.25 * last[False][name]
        torch.testing.assert_close(last[True][name], wanted, rtol=0, atol=1e-3)


def test_the_curriculum_keeps_the_share_of_its_ramp() -> None:
    counts = {}
    for on in (True, False):
        method = make_method(config_of("xpl", curriculum=on, rho_start=0.2), N)
        assert isinstance(method, XPL)
        notes = []
        for step in (4, 5, 6, 7):
            notes.append(method.begin_epoch(step, sweep(method.config)))
            counts.setdefault(on, []).append(int(method.selected.sum()))
        assert [note["rho"] for note in notes] == [count / N for count in counts[on]]
        assert all(-1 <= note["reliability"] <= 1 for note in notes)
    assert (
        counts[True] == [round(ramp_up(step, 8, 0.5, 0.5, 0.2) * N) for step in (4, 5, 6, 7)] == [1, 3, 5, 5]
    )
    assert counts[False] == [N, N, N, N]


def test_the_labels_of_an_epoch_by_their_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model's own view, put back onto the frame, sharpened; agreement where both views looked."""
    method = make_method(config_of("xpl"), N)
    assert isinstance(method, XPL)
    views, compared = [], []
    make = method.viewer.weak

    def weak(*arguments: Any) -> Any:
        views.append(make(*arguments))
        return views[-1]

    def agree(*maps: torch.Tensor) -> torch.Tensor:
        compared.append(maps)
        return torch.zeros(len(maps[0]))

    monkeypatch.setattr(method.viewer, "weak", weak)
    monkeypatch.setattr("avsl_train.methods.xpl.reliability", agree)
    method.begin_epoch(EPOCH, sweep(method.config))
    assert len(views) == 4  # two batches, A and B each
    parts = (torch.arange(3), torch.arange(3, N))
    for index, of_a, of_b, (p_a, p_b, weight) in zip(parts, views[::2], views[1::2], compared, strict=True):
        assert not torch.equal(of_a.geometry.box, of_b.geometry.box)
        covered = []
        for name, view, p in (("a", of_a, p_a), ("b", of_b, p_b)):
            with predicting(method.models):
                wanted, seen = uncrop(method.forward(name, view).probability, view.geometry, method.size)
            torch.testing.assert_close(p, wanted)
            stored = method.stores[name].maps[index].float()
            torch.testing.assert_close(stored, sharpen(wanted, 0.5), rtol=1e-3, atol=1e-6)
            covered.append(seen)
        assert torch.equal(weight, covered[0] & covered[1])
        assert not torch.equal(covered[0], covered[1])


def test_the_curriculum_prefers_clips_that_the_models_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make_method(config_of("xpl", rho_start=0.4, ramp=1.0), N)
    assert isinstance(method, XPL)
    agreement = torch.tensor([0.1, 0.9, -0.5, 0.8, 0.2])
    parts = iter([agreement[:3], agreement[3:]])
    monkeypatch.setattr("avsl_train.methods.xpl.reliability", lambda *_: next(parts))
    method.begin_epoch(EPOCH, sweep(method.config))
    assert method.selected.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("augmentation", ["separate", "same"])
def test_augmentation_is_separate_or_the_same(augmentation: str) -> None:
    method = xpl(augmentation=augmentation)
    views = spy_on_strong_views(method)
    method.losses(make_batch(method.config), EPOCH)
    a, b = views
    same = augmentation == "same"
    assert torch.equal(a.image, b.image) == same
    assert torch.equal(a.spectrogram, b.spectrogram) == same
    assert torch.equal(a.geometry.box, b.geometry.box) == same
    policies = method.policies
    assert (policies["a"] == policies["b"]) == same
    if not same:  # A colour-heavy, B geometry-heavy
        assert policies["a"].crop_scale[0] > policies["b"].crop_scale[0]
        assert policies["a"].jitter > policies["b"].jitter


def test_the_models_are_distinct_and_a_is_that_of_the_other_methods() -> None:
    method = make_method(config_of("xpl", model_b={"width": 0.5}))
    a, b = method.models["a"], method.models["b"]
    assert [p.shape for p in a.parameters()] != [p.shape for p in b.parameters()]
    same_shape = make_method(config_of("xpl"))
    states = [same_shape.models[name].state_dict() for name in "ab"]
    assert not torch.equal(*(state["visual_projection.weight"] for state in states))
    for name in ("supervised", "hard-pl"):
        other = make_method(config_of(name)).models["a"].state_dict()
        assert all(torch.equal(states[0][key], other[key]) for key in other)


def test_xpl_with_everything_off_is_hard_pseudo_labelling() -> None:
    off = {"labels": "self", "soft": False, "sharpening": False, "pl_ema": False, "curriculum": False}
    threshold = 0.1  # what an untrained model predicts
    ours = begun(config_of("xpl", **off, augmentation="same", threshold=threshold))
    vanilla = begun(config_of("hard-pl", threshold=threshold))
    assert isinstance(vanilla, HardPL)
    assert torch.equal(ours.stores["a"].maps, vanilla.store.maps)
    assert 0 < vanilla.store.maps.float().mean() < 1
    batch = make_batch(ours.config)
    terms, wanted = ours.losses(batch, EPOCH), vanilla.losses(batch, EPOCH)
    for mine, theirs in (("sup", "sup"), ("con", "con"), ("cross", "pl")):
        found = gradient(terms[mine], ours.models["a"])
        torch.testing.assert_close(found, gradient(wanted[theirs], vanilla.models["a"]))


@pytest.mark.parametrize("which", ["mean", "a", "b"])
def test_the_prediction_is_that_of_the_models_that_were_asked(which: str) -> None:
    method = make_method(config_of("xpl", inference=which))
    view = method.viewer.plain(make_clips(3, method.config.data))
    with predicting(method.models):
        a, b = (method.forward(name, view).probability for name in "ab")
        found = method.localize(view)
    assert torch.equal(found, {"mean": (a + b) / 2, "a": a, "b": b}[which])


def test_models_with_different_maps_are_averaged_at_the_size_of_a() -> None:
    config = make_config(
        {"name": "xpl", "warmup": 0.0, "curriculum": False, "model_b": {"visual": "resnet18"}},
        data={"frame_size": 64, "image_size": 64},
    )
    method = begun(config, step=0)
    assert method.size == 16
    term = method.losses(make_batch(config), 0)["cross"]
    assert all(gradient(term, method.models[name]).abs().max() > 0 for name in "ab")
    with predicting(method.models):
        assert method.localize(method.viewer.plain(make_clips(2, config.data))).shape == (2, 1, 16, 16)


# ---- every switch of the ablation --------------------------------------------------------------------------

CHANGES = {
    "labels": ("self", {"cross gradient"}),
    "soft": (False, {"label a", "label b", "cross gradient"}),
    "sharpening": (False, {"label a", "label b", "cross gradient"}),
    "pl_ema": (False, {"label a", "label b", "cross gradient"}),
    "curriculum": (False, {"selected", "cross gradient"}),
    "augmentation": (
        "same",
        {"views", "sup", "con", "reliability", "label b", "cross gradient"},  # A draws weakly as before
    ),
}
"""What each switch changes in the second pass of a training."""


def facts_of(config: ExperimentConfig) -> dict[str, Any]:
    """Return all that a switch could change, in the second pass after warm-up."""
    method = make_method(config, N)
    assert isinstance(method, XPL)
    method.models.train()
    method.begin_epoch(EPOCH, sweep(config))
    with torch.no_grad():  # so that the second pass predicts something else than the first
        for parameter in method.models.parameters():
            parameter.mul_(1.2)
    note = method.begin_epoch(EPOCH + 1, sweep(config))
    views = spy_on_strong_views(method)
    terms = method.losses(make_batch(config), EPOCH + 1)
    return {
        "models": torch.cat([parameter.flatten() for parameter in method.models.parameters()]),
        "label a": method.stores["a"].maps,
        "label b": method.stores["b"].maps,
        "reliability": torch.tensor(note["reliability"]),
        "selected": method.selected,
        "views": torch.stack([view.image for view in views]),
        "sup": terms["sup"],
        "con": terms["con"],
        "cross gradient": torch.cat([gradient(terms["cross"], method.models[name]) for name in "ab"]),
    }


@pytest.mark.parametrize("key", list(CHANGES))
def test_a_switch_changes_what_it_says_and_nothing_else(key: str) -> None:
    value, changes = CHANGES[key]
    own = {"rho_start": 0.4, "threshold": 0.1}
    base, other = facts_of(config_of("xpl", **own)), facts_of(config_of("xpl", **own, **{key: value}))
    changed = {fact for fact in base if not torch.equal(base[fact], other[fact])}
    assert changed - {"selected"} == changes - {"selected"}
    if key != "augmentation":  # other views may reorder the clips, or not
        assert torch.equal(base["selected"], other["selected"]) == ("selected" not in changes)
