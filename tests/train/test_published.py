"""Networks of published checkpoints against the originals' names, maps, losses and initialisation.

Losses come from `published_rules`, not from what this project trains with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avsl_train.published import SLAVC, SOURCES, Alignment, Features, ObjectPrior, SSPLFrame, SSPLSound
from avsl_train.published.features import global_maximum
from avsl_train.published.two_streams import EZVSL, FNAC
from tests.train.published_rules import (
    by_recipe,
    ezvsl_loss,
    fnac_losses,
    image,
    local_logits,
    lvs_logits,
    lvs_loss,
    slavc_loss,
    spectrogram,
    with_recipe,
)


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    """Return what is known of the originals."""
    found: dict[str, Any] = json.loads((shared / "golden/models/models.json").read_text())
    return found


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, Any]:
    """Return the arrays of the originals."""
    with np.load(shared / "golden/models/models.npz") as stored:
        return dict(stored)


class Recording(dict[str, Any]):
    """Arrays that remember which of them were asked for."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        super().__init__(arrays)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)


@pytest.fixture
def stored(arrays: dict[str, Any]) -> Iterator[Recording]:
    """Return the arrays of the originals; a test that compares some of a network has to compare all of it."""
    recording = Recording(arrays)
    yield recording
    networks = {key.split(".")[0] for key in recording.asked}
    assert recording.asked == {key for key in arrays if key.split(".")[0] in networks}


def check(stored: dict[str, Any], key: str, found: Tensor | float, atol: float, rtol: float = 0.0) -> None:
    """Compare with a stored array."""
    array = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    assert array.shape == stored[key].shape
    np.testing.assert_allclose(array, stored[key], rtol=rtol, atol=atol, err_msg=key)


def relative(stored: dict[str, Any], key: str, found: Tensor | float, share: float = 2e-4) -> None:
    """Compare within a share of the largest value."""
    check(stored, key, found, atol=share * float(np.abs(stored[key]).max()))


def test_the_recipe_is_the_one_of_the_vectors(facts: dict[str, Any]) -> None:
    for name, known in facts["recipe_check"].items():
        if name == "image_B2":
            found = image()
        elif name == "spec_T200_B2":
            found = spectrogram(200)
        else:
            found = by_recipe(name, tuple(known["shape"]))
        assert found.flatten()[:5].tolist() == known["first5"]
        assert hashlib.sha256(found.numpy().tobytes()).hexdigest()[:16] == known["sha256_16"]


def test_ezvsl(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network = with_recipe("ezvsl", facts)
    with torch.no_grad():
        features = network(image(), spectrogram(200))
        check(stored, "ezvsl.Savl", network.localize(image(), spectrogram(200))[:, 0], 2e-4)
    check(stored, "ezvsl.aud", features.audio, 5e-6)
    check(stored, "ezvsl.img_l2norm_slice", features.visual[:, ::16], 5e-6)
    relative(stored, "ezvsl.loss", ezvsl_loss(features))


def test_fnac(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network = with_recipe("fnac", facts)
    with torch.no_grad():
        features = network(image(), spectrogram(200))
        check(stored, "fnac.Savl", network.localize(image(), spectrogram(200))[:, 0], 2e-4)
    check(stored, "fnac.aud", features.audio, 5e-6)
    relative(stored, "fnac.losses", fnac_losses(features))


def test_slavc(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network = with_recipe("slavc", facts)
    inputs = image(), spectrogram(200)
    with torch.no_grad():
        online, momentum = network(*inputs), network.momentum(*inputs)
        check(stored, "slavc.Savl_online", network.localize(*inputs)[:, 0], 2e-4)
        check(stored, "slavc.Savl_mom", network.localize(*inputs, momentum=True)[:, 0], 2e-4)
    for number, (ours, theirs) in enumerate(zip(online, momentum, strict=True), start=1):
        check(stored, f"slavc.aud_{number}", ours.audio, 5e-6)
        check(stored, f"slavc.momentum_aud_{number}", theirs.audio, 5e-6)

    relative(stored, "slavc.loss", slavc_loss(online, momentum))


def compare_lvs(facts: dict[str, Any], stored: dict[str, Any], name: str) -> tuple[Features, Tensor, Tensor]:
    """Compare what LVS and SSL-TIE have in common; return the features and the two soft masks."""
    network = with_recipe(name, facts)
    with torch.no_grad():
        features = network(image(), spectrogram(facts[name]["spec_T"]))
    logits, positive, negative = lvs_logits(features)
    check(stored, f"{name}.A", features.own, 2e-5)
    check(stored, f"{name}.aud", features.audio, 5e-6)
    check(stored, f"{name}.logits", logits, 2e-4, rtol=2e-4)
    relative(stored, f"{name}.loss", lvs_loss(features))
    return features, positive, negative


def test_lvs(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    _, positive, negative = compare_lvs(facts, stored, "lvs")
    check(stored, "lvs.Pos", positive, 2e-4)
    check(stored, "lvs.Neg", negative, 2e-4)


def test_ssltie(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    features, _, _ = compare_lvs(facts, stored, "ssltie")
    check(stored, "ssltie.A0_ref", features.all.amax((2, 3)), 2e-5)


def test_alignment(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network: Alignment = with_recipe("alignment", facts)
    with torch.no_grad():
        local, image_p, audio_p = network.projected(image(), spectrogram(299))
        again = network.localize(image(), spectrogram(299))
    check(stored, "alignment.A", local.own, 2e-5)
    torch.testing.assert_close(again, local.own)
    check(stored, "alignment.aud", local.audio, 5e-6)
    check(stored, "alignment.A0_ref", local.all.amax((2, 3)), 2e-5)
    check(stored, "alignment.img_p", image_p, 5e-6)
    check(stored, "alignment.aud_p", audio_p, 5e-6)
    check(stored, "alignment.logits", local_logits(local), 2e-4, rtol=2e-4)
    check(stored, "alignment.logits_p", image_p @ audio_p.T / 0.07, 2e-4, rtol=2e-4)


def test_htf(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network = with_recipe("htf", facts)
    flow = torch.from_numpy(np.random.default_rng(1003).random((2, 2, 224, 224)).astype(np.float32))
    with torch.no_grad():
        features = network(image(), spectrogram(276), flow)
        check(stored, "htf.localization", network.localize(image(), spectrogram(276), flow)[:, 0], 2e-5)
    check(stored, "htf.aud", features.audio, 5e-6)
    relative(stored, "htf.loss", lvs_loss(features))


def test_object_prior(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network: ObjectPrior = with_recipe("object_prior", facts)
    with torch.no_grad():
        relative(stored, "object_prior.map", network.localize(image()))


def test_sspl_sound(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network: SSPLSound = with_recipe("sspl_sound", facts)
    n = np.random.default_rng(1004).standard_normal((2, 1, 96, 64)) - 2
    patches = torch.from_numpy(n.astype(np.float32))
    with torch.no_grad():
        from avsl_train.encoders.vgg import VGGish

        relative(stored, "sspl_sound.embedding128", VGGish.forward(network, patches))
        relative(stored, "sspl_sound.fc512", network(patches))


def test_sspl_frame(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    network: SSPLFrame = with_recipe("sspl_frame", facts)
    with torch.no_grad():
        features = network(image(1))
    relative(stored, "sspl_frame.feat_slice", features[:, ::16])
    negative = (features < 0).float().mean().item()
    assert negative == pytest.approx(facts["sspl_frame"]["negative_fraction"], abs=1e-3)


def test_every_network_is_compared(arrays: dict[str, Any], facts: dict[str, Any]) -> None:
    networks = {name for name, fact in facts.items() if isinstance(fact, dict) and "state_dict" in fact}
    assert set(SOURCES) == networks == {key.split(".")[0] for key in arrays}
    assert [name for name in networks if f"test_{name}" not in globals()] == []


@pytest.mark.parametrize("name", ["ezvsl", "slavc", "fnac", "lvs", "ssltie", "alignment", "htf"])
def test_a_fresh_network_is_initialised_as_the_original(facts: dict[str, Any], name: str) -> None:
    torch.manual_seed(1)
    fresh = SOURCES[name].network().state_dict()
    for key, (mean, deviation, largest) in facts[name]["init_stats"].items():
        value = fresh[key].double()
        spread = 8 * deviation / math.sqrt(value.numel())  # two draws, each with an error of one
        assert value.mean().item() == pytest.approx(mean, abs=spread + 1e-9), key
        doubt = 8 / math.sqrt(2 * value.numel())
        assert value.std().item() == pytest.approx(deviation, rel=doubt, abs=1e-9), key
        if value.numel() > 2000:  # a uniform draw never exceeds 1.74 deviations, some of a normal one do
            assert (value.abs().max() / value.std() < 1.9) == (largest / deviation < 1.9), key


def test_frozen_parts_are_the_originals(facts: dict[str, Any]) -> None:
    for name in ("ezvsl", "slavc", "htf", "sspl_frame"):
        network = SOURCES[name].network()
        frozen = sorted(key for key, value in network.named_parameters() if not value.requires_grad)
        assert frozen == sorted(facts[name]["requires_grad_false_at_init"])


def test_slavcs_copy_starts_equal_and_follows() -> None:
    torch.manual_seed(0)
    network = SLAVC()
    pairs = [(network.get_submodule(name), network.get_submodule(f"momentum_{name}")) for name in SLAVC.parts]
    both = [pair for a, b in pairs for pair in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(torch.equal(ours, theirs) for ours, theirs in both)
    before = [theirs.clone() for _, theirs in both]
    with torch.no_grad():
        for ours, _ in both:
            ours.add_(1.0)
    network.update_momentum(0.75)
    for old, (_, theirs) in zip(before, both, strict=True):
        torch.testing.assert_close(theirs, old + 0.25, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_only_and_on_fnac_and_slavc_only() -> None:
    small = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), spectrogram(64)
    for network, acts in ((EZVSL(), False), (FNAC(), True), (SLAVC(), True)):
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.0
        network.train()
        maps = [network.localize(*small) for _ in range(2)]
        assert torch.equal(*maps) is not acts
        network.eval()
        assert torch.equal(network.localize(*small), network.localize(*small))


def test_unused_layers_get_no_gradient(facts: dict[str, Any]) -> None:
    """The names without gradient in the originals' training step, here in a step of ours."""
    torch.manual_seed(0)
    for name in ("lvs", "ssltie", "alignment"):
        network = SOURCES[name].network()
        small = torch.randn(2, 3, 64, 64), spectrogram(64)
        out = network.projected(*small) if isinstance(network, Alignment) else network(*small)
        local = out.local if isinstance(network, Alignment) else out
        loss = local.own.sum() + (out.image.sum() + out.audio.sum() if isinstance(network, Alignment) else 0)
        loss.backward()
        dead = sorted(key for key, value in network.named_parameters() if value.grad is None)
        assert dead == sorted(facts[name]["train_step"]["no_grad"])


def test_features_are_what_they_say() -> None:
    draw = torch.Generator().manual_seed(0)
    features = Features(torch.randn(3, 5, 2, 2, generator=draw), torch.randn(3, 5, generator=draw))
    for i in range(3):
        for j in range(3):
            wanted = (features.visual[i] * features.audio[j][:, None, None]).sum(0)
            torch.testing.assert_close(features.all[i, j], wanted)
        torch.testing.assert_close(features.own[i, 0], features.all[i, i])
    assert global_maximum(torch.arange(8.0).view(1, 2, 2, 2)).tolist() == [[3, 7]]
