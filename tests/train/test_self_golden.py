"""A training step of every self-supervised method, through its class, against the originals' step.

The vectors' images and spectrograms are no clips, so that a step begins with the views here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avsl_train.augment import identity
from avsl_train.config import parse_config
from avsl_train.flow import FlowView
from avsl_train.localizer import IMAGENET_MEAN, IMAGENET_STD
from avsl_train.losses import SSPLHead, Transform
from avsl_train.methods import METHODS
from avsl_train.methods.attention10k import Attention10k, ContrastedView
from avsl_train.methods.self_supervised import SelfSupervised
from avsl_train.methods.ssltie import MovedView
from avsl_train.methods.sspl import SSPL
from avsl_train.views import View, Viewer
from tests.train.conftest import CPU
from tests.train.published_rules import by_recipe, image, spectrogram

BATCH, FRAMES = 4, 128
NAMES = ("ezvsl", "slavc", "fnac", "lvs", "ssltie", "alignment", "htf")
SETTINGS: dict[str, dict[str, Any]] = {"fnac": {"warmup_epochs": 0}}
DIAGONAL = ("lvs", "ssltie", "htf")
"""Methods whose vectors have the own pair multiplied by -99."""


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "golden/models/models.json").read_text())
    return found


def method_with_recipe(name: str, facts: dict[str, Any], **settings: Any) -> SelfSupervised[Any]:
    """Return a method whose published network has the vectors' weights and no dropout."""
    section = {"name": name, **SETTINGS.get(name, {}), **settings}
    config = parse_config({"method": section, "device": "cpu"}, "a test")
    method = METHODS[name](config, Viewer(config.data, CPU), seed=0, n_unlabeled=8)
    assert isinstance(method, SelfSupervised)
    network = method.models["a"]
    assert [[key, list(value.shape)] for key, value in network.state_dict().items()] == [
        [key, shape] for key, shape in facts[name]["state_dict"].items()
    ]
    network.load_state_dict({key: by_recipe(key, value.shape) for key, value in network.state_dict().items()})
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return method


def view_of(method: SelfSupervised[Any], normalised: Tensor, heard: Tensor) -> View:
    """Return a view whose image is the given one once the method has normalised it."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    frontend = method.config.model.hears(method.config.data)
    return View(normalised * std + mean, heard, identity(len(heard)), frontend)


def views_of(name: str, method: SelfSupervised[Any], known: dict[str, Any]) -> tuple[View, ...]:
    """Return what the original's step saw."""
    frames, sounds = image(BATCH), spectrogram(FRAMES, BATCH)
    view = view_of(method, frames, sounds)
    if name == "ssltie":
        moved = Transform(known["scale"], torch.tensor(known["angles_deg"]), known["hflip"])
        return (MovedView(**vars(view), transform=moved),)
    if name == "htf":
        flow = np.random.default_rng(1003).random((BATCH, 2, 224, 224)).astype(np.float32)
        return (FlowView(**vars(view), flow=torch.from_numpy(flow)),)
    if name == "alignment":
        return (
            view,
            view_of(method, frames.flip(3), sounds.flip(3)),
            view_of(method, 0.5 * frames + 0.5 * frames.roll(1, 0), sounds.flip(2)),
        )
    return (view,)


def test_every_method_with_a_stored_step_is_tried(facts: dict[str, Any]) -> None:
    assert set(NAMES) == {n for n, fact in facts.items() if isinstance(fact, dict) and "train_step" in fact}


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_the_method_equals_the_originals(facts: dict[str, Any], name: str) -> None:
    known = facts[name]["train_step"]
    settings = {"diagonal": "published"} if name in DIAGONAL else {}
    method = method_with_recipe(name, facts, **settings)
    method.models.train()
    terms, weights = method.terms(views_of(name, method, known), step=0), method.weights()
    loss = torch.stack([weights.get(term, 1.0) * value for term, value in terms.items()]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(known["loss"], rel=3e-4)
    parameters = dict(method.models["a"].named_parameters())
    assert sorted(key for key, value in parameters.items() if value.grad is None) == sorted(known["no_grad"])
    total = math.sqrt(sum(length**2 for length in known["grad_l2"].values() if length is not None))
    for key, length in known["grad_l2"].items():
        gradient = parameters[key].grad
        if gradient is not None:
            assert gradient.norm().item() == pytest.approx(length, rel=2e-2, abs=1e-5 * total), key
    for key, length in known.get("param_l2_after_forward", {}).items():
        assert parameters[key].double().norm().item() == pytest.approx(length, rel=1e-6), key
    buffers = dict(method.models["a"].named_buffers())
    for key, length in known["running_stats_l2_after"].items():
        if name == "ssltie" and key.startswith("norm3."):
            continue  # the original runs this layer and drops what it gives
        assert buffers[key].norm().item() == pytest.approx(length, rel=3e-4), key


@pytest.mark.parametrize("name", ["lvs", "ssltie"])  # htf's features have both signs
def test_leaving_the_own_pair_out_changes_nothing_where_features_are_positive(
    facts: dict[str, Any], name: str
) -> None:
    known = facts[name]["train_step"]
    method = method_with_recipe(name, facts, diagonal="masked")
    method.models.train()
    terms, weights = method.terms(views_of(name, method, known), step=0), method.weights()
    loss = sum(weights.get(term, 1.0) * value.item() for term, value in terms.items())
    assert loss == pytest.approx(known["loss"], rel=3e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_map_of_the_method_is_the_published_one(facts: dict[str, Any], shared: Path, name: str) -> None:
    arrays = np.load(shared / "golden/models/models.npz")
    key = {"slavc": "Savl_online", "lvs": "A", "ssltie": "A", "alignment": "A", "htf": "localization"}
    method = method_with_recipe(name, facts)
    method.models.eval()
    view = view_of(method, image(), spectrogram(facts[name]["spec_T"]))
    if name == "htf":
        flow = np.random.default_rng(1003).random((2, 2, 224, 224)).astype(np.float32)
        view = FlowView(**vars(view), flow=torch.from_numpy(flow))
    with torch.no_grad():
        found = method.localize(view)[:, 0]
    wanted = torch.from_numpy(arrays[f"{name}.{key.get(name, 'Savl')}"]).view(found.shape)
    cosine = method.value_range == "cosine"
    # the stated 2e-5 and what undoing the normalisation for the view costs
    torch.testing.assert_close(found, wanted, atol=4e-5 if cosine else 2e-4, rtol=0)
    if cosine:
        assert wanted.abs().max() <= 1


def test_slavc_may_predict_by_its_momentum_copy(facts: dict[str, Any], shared: Path) -> None:
    arrays = np.load(shared / "golden/models/models.npz")
    method = method_with_recipe("slavc", facts, branch="momentum")
    method.models.eval()
    view = view_of(method, image(), spectrogram(facts["slavc"]["spec_T"]))
    with torch.no_grad():
        found = method.localize(view)[:, 0]
    wanted = torch.from_numpy(arrays["slavc.Savl_mom"]).view(found.shape)
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)
    assert not torch.allclose(
        found, torch.from_numpy(arrays["slavc.Savl_online"]).view(found.shape), atol=1e-2
    )


# ---- Attention10k and SSPL: vectors of what follows their frozen networks


def given(image: Tensor, heard: Tensor, frontend: Any) -> View:
    """Return a view that stands for what the frozen networks make of it."""
    return View(image, heard, identity(len(heard)), frontend)


@pytest.fixture(scope="module")
def losses_of(shared: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    facts = json.loads((shared / "golden/models/losses.json").read_text())
    with np.load(shared / "golden/models/losses.npz") as stored:
        arrays = {
            key: torch.from_numpy(stored[key]) for key in stored.files if key.startswith(("l2l", "sspl"))
        }
    return facts, arrays


def gradients_are(network: nn.Module, known: dict[str, float]) -> None:
    lengths = {
        key: value.grad.norm().item() for key, value in network.named_parameters() if value.grad is not None
    }
    assert set(lengths) == set(known)
    total = math.sqrt(sum(length**2 for length in known.values()))
    for key, length in known.items():
        assert lengths[key] == pytest.approx(length, rel=2e-2, abs=1e-5 * total), key


def test_attention10k_equals_the_original(
    losses_of: tuple[dict[str, Any], dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, arrays = losses_of[0]["l2l"], losses_of[1]
    section = {"name": "attention10k", "lambda_sup": 1.0, "sup_mean": "batch"}
    config = parse_config({"method": section, "device": "cpu"}, "a test")
    method = METHODS["attention10k"](config, Viewer(config.data, CPU), seed=0, n_unlabeled=8)
    assert isinstance(method, Attention10k)
    network: Any = method.models["a"]
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == facts["keys"]
    network.load_state_dict({key: by_recipe(key, value.shape) for key, value in network.state_dict().items()})
    # the vectors begin behind VGG-16 and SoundNet, and bring sounds of other clips
    network.vision_embedding_model = nn.Identity()
    method.models["sound"] = nn.Identity()
    positive, negative = (
        torch.from_numpy((np.random.default_rng(seed).standard_normal((4, 1000)) + 1).astype(np.float32))
        for seed in (81, 82)
    )
    monkeypatch.setattr("avsl_train.methods.attention10k.image_of", lambda view: view.image)
    monkeypatch.setattr(method, "gathered", lambda sound: torch.cat([sound, negative]))
    rows, columns = np.mgrid[:20, :20]
    bump = 30 * np.exp(-((rows - 10) ** 2 + (columns - 8) ** 2) / 18)
    noise = np.random.default_rng(80).standard_normal((4, 512, 20, 20)).astype(np.float32)
    visual = torch.from_numpy(
        (noise + bump * arrays["l2l.vis_dir"].numpy()[:, :, None, None]).astype(np.float32)
    )
    view = ContrastedView(**vars(given(visual, positive, "waveform")), other=torch.arange(4, 8))
    heard, sound = method.attend(view)
    torch.testing.assert_close(heard.attention.flatten(1), arrays["l2l.att_map"], atol=1e-6, rtol=1e-4)
    truth = arrays["l2l.worker_gt"].view(4, 1, 20, 20)
    terms = {
        "unsup_loss": method.triplet(heard, sound, view),
        "sup_loss": method.likelihood(heard.attention, truth, arrays["l2l.weights"][:, 0] > 0),
    }
    for name, term in terms.items():
        assert term.item() == pytest.approx(facts[name], rel=3e-4)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients_are(network, facts["grad_l2"])


def test_sspl_equals_the_original(
    losses_of: tuple[dict[str, Any], dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, arrays = losses_of[0]["sspl"], losses_of[1]
    config = parse_config({"method": {"name": "sspl", "pcm": False}, "device": "cpu"}, "a test")
    method = METHODS["sspl"](config, Viewer(config.data, CPU), seed=0, n_unlabeled=8)
    assert isinstance(method, SSPL)
    network: Any = method.models["a"]
    # the vectors begin behind VGG-16 and VGGish, and have 32 channels
    network.frame = nn.Identity()
    network.ssl_head = SSPLHead(32)
    network.ssl_head.load_state_dict(
        {key: by_recipe(f"head.{key}", value.shape) for key, value in network.ssl_head.state_dict().items()}
    )
    monkeypatch.setattr(network, "hear", lambda patches: (None, patches.mean(1)))
    monkeypatch.setattr("avsl_train.methods.sspl.image_of", lambda view: view.image)
    views = tuple(
        given(arrays[f"sspl.vis_view{number}"], arrays["sspl.aud_patches"], "sspl") for number in (1, 2)
    )
    method.models.train()
    (term,) = method.terms(views, 0).values()
    assert term.item() == pytest.approx(facts["loss"], rel=3e-4, abs=1e-6)
    term.backward()  # type: ignore[no-untyped-call]
    gradients_are(network.ssl_head, facts["head_grad_l2"])
    with torch.no_grad():
        found = method.localize(views[0])[:, 0]
    torch.testing.assert_close(found, arrays["sspl.sim_map_view1"], atol=2e-5, rtol=0)
