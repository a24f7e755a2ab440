"""One training step of every published network: loss, gradients and BatchNorm statistics of the originals."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.train.published_rules import (
    cross_entropy,
    ezvsl_loss,
    fnac_losses,
    image,
    local_logits,
    lvs_loss,
    slavc_loss,
    spectrogram,
    with_recipe,
)

BATCH, FRAMES = 4, 128


def ezvsl_step(network: Any, _: dict[str, Any]) -> Tensor:
    return ezvsl_loss(network(image(BATCH), spectrogram(FRAMES, BATCH)))


def fnac_step(network: Any, known: dict[str, Any]) -> Tensor:
    losses = fnac_losses(network(image(BATCH), spectrogram(FRAMES, BATCH)))
    assert losses.tolist() == pytest.approx(known["losses"], rel=3e-4)
    return losses[0] + 100 * losses[1:].sum()


def slavc_step(network: Any, known: dict[str, Any]) -> Tensor:
    inputs = image(BATCH), spectrogram(FRAMES, BATCH)
    online = network(*inputs)
    network.update_momentum(0.999)
    parameters = dict(network.named_parameters())
    for name, length in known["param_l2_after_forward"].items():
        assert parameters[name].double().norm().item() == pytest.approx(length, rel=1e-6), name
    return slavc_loss(online, network.momentum(*inputs))


def lvs_step(network: Any, _: dict[str, Any]) -> Tensor:
    return lvs_loss(network(image(BATCH), spectrogram(FRAMES, BATCH)))


def htf_step(network: Any, _: dict[str, Any]) -> Tensor:
    network.imgnet.requires_grad_(False)
    flow = np.random.default_rng(1003).random((BATCH, 2, 224, 224)).astype(np.float32)
    return lvs_loss(network(image(BATCH), spectrogram(FRAMES, BATCH), torch.from_numpy(flow)))


def ssltie_step(network: Any, known: dict[str, Any]) -> Tensor:
    random.seed(known["python_random_seed"])
    scale = 1.0 if random.random() > 0.5 else 0.5
    angles = [random.randint(-30, 30) for _ in range(BATCH)]
    flip = random.random() > 0.5
    assert (scale, angles, flip) == (known["scale"], known["angles_deg"], known["hflip"])
    sounds = spectrogram(FRAMES, BATCH)
    first = network(image(BATCH), sounds)
    second = network(moved(image(BATCH), scale, angles, flip), sounds)  # the sounds again, as the original
    alike = ((second.own - moved(first.own, scale, angles, flip)) ** 2).mean()
    losses = [lvs_loss(first), lvs_loss(second), alike]
    assert [loss.item() for loss in losses] == pytest.approx(
        [known["loss_cl"], known["loss_cl_ts"], known["loss_ts"]], rel=3e-4
    )
    return 0.5 * (losses[0] + losses[1]) + losses[2]


def alignment_step(network: Any, _: dict[str, Any]) -> Tensor:
    frames, sounds = image(BATCH), spectrogram(FRAMES, BATCH)
    views = [
        network.projected(frames, sounds),
        network.projected(frames.flip(3), sounds.flip(3)),
        network.projected(0.5 * frames + 0.5 * frames.roll(1, 0), sounds.flip(2)),
    ]
    terms = []
    for seen in views:
        for heard in views:
            terms.append(cross_entropy(local_logits(type(seen.local)(seen.local.visual, heard.local.audio))))
            terms.append(cross_entropy(seen.image @ heard.audio.T / 0.07))
    return torch.stack(terms).sum()


def moved(maps: Tensor, scale: float, angles: list[int], flip: bool) -> Tensor:
    """Return images or maps [B, C, n, n] rotated, shrunk and mirrored as SSL-TIE does it."""
    size = maps.shape[-1]
    big = maps if size == 224 else functional.interpolate(maps, size=(224, 224), mode="bilinear")
    ys, xs = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    grids = []
    for angle in angles:
        al, be = (scale * f(math.radians(angle)) for f in (math.cos, math.sin))
        forth = torch.tensor(
            [[al, be, (1 - al) * 112 - be * 112], [-be, al, be * 112 + (1 - al) * 112], [0, 0, 1]]
        )
        back = torch.linalg.inv(forth)
        source = torch.stack([xs, ys, torch.ones_like(xs)], -1) @ back.T
        grids.append(source[..., :2] * 2 / 223 - 1)
    warped = functional.grid_sample(big, torch.stack(grids), align_corners=True)
    side = int(scale * size)
    small = functional.interpolate(warped, size=(side, side), mode="bilinear", align_corners=False)
    return small.flip(3) if flip else small


STEPS: dict[str, Callable[[Any, dict[str, Any]], Tensor]] = {
    "ezvsl": ezvsl_step,
    "slavc": slavc_step,
    "fnac": fnac_step,
    "lvs": lvs_step,
    "ssltie": ssltie_step,
    "alignment": alignment_step,
    "htf": htf_step,
}


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    """Return what is known of the originals."""
    found: dict[str, Any] = json.loads((shared / "golden/models/models.json").read_text())
    return found


def test_every_stored_step_is_made(facts: dict[str, Any]) -> None:
    assert set(STEPS) == {n for n, fact in facts.items() if isinstance(fact, dict) and "train_step" in fact}


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_equals_the_original(facts: dict[str, Any], name: str) -> None:
    known = facts[name]["train_step"]
    network: nn.Module = with_recipe(name, facts).train()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    loss = STEPS[name](network, known)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(known["loss"], rel=3e-4)
    gradients = {key: value.grad for key, value in network.named_parameters()}
    assert sorted(key for key, value in gradients.items() if value is None) == sorted(known["no_grad"])
    total = math.sqrt(sum(length**2 for length in known["grad_l2"].values() if length is not None))
    for key, length in known["grad_l2"].items():
        gradient = gradients[key]
        if gradient is not None:
            assert gradient.norm().item() == pytest.approx(length, rel=2e-2, abs=1e-5 * total), key
    buffers = dict(network.named_buffers())
    for key, length in known["running_stats_l2_after"].items():
        if name == "ssltie" and key.startswith("norm3."):
            continue  # the original runs this layer and drops what it gives
        assert buffers[key].norm().item() == pytest.approx(length, rel=3e-4), key
