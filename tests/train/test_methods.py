"""Methods that learn from labels: what each term trains and what it must not; what they share."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from avsl_train.method_config_self import STRUCTURES
from avsl_train.methods import METHODS, XPL, Method, Supervised
from avsl_train.methods.method import Batch, predicting
from avsl_train.views import Viewer
from tests.train.conftest import CPU, gradient, make_batch, make_clips, make_config, make_method
from tests.train.semi import EPOCH, N, begun, config_of, sweep, xpl

TERMS = {
    "supervised": {"sup", "con"},
    "hard-pl": {"sup", "con", "pl"},
    "mean-teacher": {"sup", "con", "consistency"},
    "fixmatch": {"sup", "con", "confident"},
    "dmt": {"sup", "con", "ipl"},
    "xpl": {"sup", "con", "cross"},
}
TWO = {"dmt", "xpl"}
CASES = [
    (method, term, model)
    for method in TERMS
    for term in sorted(TERMS[method])
    for model in ("ab" if method in TWO else "a")
]


# ---- gradient flow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "term", "model"), CASES)
def test_each_term_alone_trains_each_student(name: str, term: str, model: str) -> None:
    method = begun(config_of(name))
    if isinstance(method, XPL):
        method.selected[:] = True
    terms = method.losses(make_batch(method.config), EPOCH)
    assert set(terms) == TERMS[name]
    found = gradient(terms[term], method.models[model])
    assert found.isfinite().all()
    assert found.abs().max() > 0
    encoders = ("visual", "audio", "visual_projection", "audio_projection")
    for part in encoders:
        assert gradient(terms[term], getattr(method.models[model], part)).abs().max() > 0, part
    calibration = torch.stack([method.models[model].scale, method.models[model].bias])
    assert calibration.requires_grad
    found = torch.autograd.grad(terms[term], [method.models[model].scale], allow_unused=True)[0]
    assert (found is None) == (term == "con")  # the contrastive loss moves S, not the calibration


@pytest.mark.parametrize("name", ["hard-pl", "xpl"])
def test_making_labels_trains_nothing_and_changes_no_model(name: str) -> None:
    config = config_of(name)
    method = make_method(config, N)
    method.models.train()
    before = {key: value.clone() for key, value in method.models.state_dict().items()}
    method.begin_epoch(EPOCH, sweep(config))
    after = method.models.state_dict()  # BatchNorm's statistics included
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(module.training for module in method.models.modules())
    stored = [tensor for part in method.state().values() for tensor in part.values()]
    assert stored
    assert not any(tensor.requires_grad for tensor in stored)


@pytest.mark.parametrize("name", list(TERMS))
def test_only_labelled_clips_are_supervised(name: str) -> None:
    method = begun(config_of(name))
    batch = make_batch(method.config)
    base = method.losses(batch, EPOCH)["sup"].item()
    other = batch.clips.boxes.clone()
    other[batch.n_labeled :] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    unlabeled = replace(batch.clips, boxes=other)
    assert method.losses(Batch(unlabeled, batch.n_labeled), EPOCH)["sup"].item() == base
    other = batch.clips.boxes.clone()
    other[0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    labeled = replace(batch.clips, boxes=other)
    assert method.losses(Batch(labeled, batch.n_labeled), EPOCH)["sup"].item() != base


@pytest.mark.parametrize("name", ["hard-pl", "xpl"])
def test_during_warm_up_there_are_no_labels_and_no_term(name: str) -> None:
    method = begun(config_of(name), step=EPOCH - 1)
    assert set(method.losses(make_batch(method.config), EPOCH - 1)) == {"sup", "con"}
    assert all(not part["seen"].any() for key, part in method.state().items() if "store" in key)


@pytest.mark.parametrize("name", list(TERMS))
def test_weights_scale_their_terms(name: str) -> None:
    key = next(iter(TERMS[name] - {"sup", "con"}), "con")
    weight = {"supervised": "lambda_con", "hard-pl": "lambda_pl", "xpl": "lambda_x"}.get(name, "lambda_u")
    batch = make_batch(make_config(name))
    terms = []
    for value in (1.0, 2.5):
        method = xpl(lambda_x=value) if name == "xpl" else begun(config_of(name, **{weight: value}))
        terms.append(method.losses(batch, EPOCH))
    assert terms[1][key].item() == pytest.approx(2.5 * terms[0][key].item())
    assert terms[1]["sup"].item() == terms[0]["sup"].item()


def test_without_weight_supervised_needs_no_unlabelled_clips() -> None:
    method = make_method(make_config("supervised"))
    assert not method.uses_unlabeled
    assert set(method.losses(make_batch(method.config, n_unlabeled=0), 0)) == {"sup"}
    assert make_method(config_of("supervised")).uses_unlabeled


@pytest.mark.parametrize("name", list(TERMS))
def test_the_loss_falls_on_one_batch(name: str) -> None:
    method = begun(config_of(name))
    batch = make_batch(method.config)
    optimizer = torch.optim.Adam(method.models.parameters(), lr=0.01)
    totals = []
    for _ in range(12):
        loss = torch.stack(list(method.losses(batch, EPOCH).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.8 * totals[0]


@pytest.mark.parametrize("name", ["hard-pl", "xpl"])
def test_no_unlabelled_clips_is_supervised_training(name: str) -> None:
    config = config_of(name)
    method = make_method(config, 0)
    method.models.train()
    notes = method.begin_epoch(EPOCH, lambda: iter(()))
    assert all(map(math.isfinite, notes.values()))
    terms = method.losses(make_batch(config, n_unlabeled=0), EPOCH)
    assert all(term.isfinite() for term in terms.values())
    assert terms.get("pl", torch.tensor(0.0)).item() == 0


# ---- what methods share ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TERMS))
def test_a_state_is_taken_over_by_a_fresh_method(name: str) -> None:
    method = begun(config_of(name))
    fresh = make_method(method.config, N)
    fresh.models.train()
    fresh.models.load_state_dict(method.models.state_dict())
    fresh.load(method.state())
    batch = make_batch(method.config)
    terms, again = method.losses(batch, EPOCH), fresh.losses(batch, EPOCH)
    assert {key: term.item() for key, term in terms.items()} == {k: term.item() for k, term in again.items()}


def test_a_method_that_remembers_nothing_refuses_a_state() -> None:
    class Forgetful(Supervised):
        state, load = Method.state, Method.load

    config = make_config("supervised")
    method = Forgetful(config, Viewer(config.data, CPU), 0, N)
    method.load(method.state())
    with pytest.raises(ValueError, match=r"supervised remembers nothing, the checkpoint holds \['store'\]"):
        method.load({"store": {}})


def test_predicting_restores_every_mode_even_after_an_error() -> None:
    method = make_method(config_of("xpl"))
    method.models.train()
    method.models["b"].visual.eval()  # a frozen part stays frozen
    before = [module.training for module in method.models.modules()]
    inside = []

    def fail() -> None:
        with predicting(method.models):
            inside.append(torch.is_grad_enabled() or any(m.training for m in method.models.modules()))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert inside == [False]
    assert [module.training for module in method.models.modules()] == before
    assert torch.is_grad_enabled()


def test_an_initialisation_depends_on_seed_and_name_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    states = [make_method(config_of("hard-pl"), seed=seed).models.state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), first)
    key = "a.visual_projection.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_before_training_p_is_the_prior_where_nothing_is_similar() -> None:
    method = make_method(config_of("hard-pl"))
    model = method.models["a"]
    assert torch.sigmoid(model.bias).item() == pytest.approx(0.1)
    assert model.scale.item() == 10
    output = method.forward("a", method.viewer.plain(make_clips(2, method.config.data)))
    assert output.visual.norm(dim=1).flatten().tolist() == pytest.approx([1] * 128, abs=1e-5)
    assert output.audio.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    similarity = (output.visual * output.audio[:, :, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(output.probability, torch.sigmoid(10 * similarity + model.bias))


def test_every_method_is_registered_by_the_name_of_its_configuration() -> None:
    for name, method in METHODS.items():
        own = {"network": "localizer"} if name in STRUCTURES else {}
        assert type(make_method(make_config({"name": name, **own}))) is method


def test_bf16_gives_float_outputs_that_train() -> None:
    fine = begun(config_of("xpl", curriculum=False))
    coarse = begun(fine.config.model_copy(update={"precision": "bf16"}))
    batch = make_batch(fine.config)
    terms, wanted = coarse.losses(batch, EPOCH), fine.losses(batch, EPOCH)
    for key, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(wanted[key].item(), rel=0.1)
        assert gradient(term, coarse.models["a"]).isfinite().all()
