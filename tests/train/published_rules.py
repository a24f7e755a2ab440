"""Inputs, weights and losses of the published networks' vectors.

The losses are written out from the formulas of the originals, so that networks are checked through them
without the losses that this project trains with.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avsl_train.published import SOURCES, Features
from avsl_train.published.two_streams import TwoHeads

TAU = 0.03


def by_recipe(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the weights that the vectors' recipe gives to a name."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_mean") or name.endswith("bias"):
        n = 0.1 * n
    elif name.endswith("running_var"):
        n = 1 + 0.1 * np.abs(n)
    elif n.ndim == 1:
        n = 1 + 0.1 * n
    else:
        n *= math.sqrt(2 / math.prod(shape[1:]))
    return torch.from_numpy(n.astype(np.float32))


def image(batch: int = 2) -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(1001).standard_normal((batch, 3, 224, 224)).astype(np.float32)
    )


def spectrogram(frames: int, batch: int = 2) -> Tensor:
    n = np.random.default_rng(1002).standard_normal((batch, 1, 257, frames))
    return torch.from_numpy((n * 0.3 - 0.6).astype(np.float32))


def with_recipe(name: str, facts: dict[str, Any]) -> Any:
    """Return a published network with the recipe's weights; names, order and shapes are the original's."""
    network = SOURCES[name].network()
    shapes = facts[name]["state_dict"]
    assert [[key, list(value.shape)] for key, value in network.state_dict().items()] == [
        [key, shape] for key, shape in shapes.items()
    ]
    network.load_state_dict({key: by_recipe(key, tuple(shape)) for key, shape in shapes.items()})
    return network.eval()


def cross_entropy(logits: Tensor, column: Tensor | None = None) -> Tensor:
    target = torch.arange(len(logits)) if column is None else column
    return nn.functional.cross_entropy(logits, target)


def lvs_logits(features: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Return LVS's logits [B, B + 2] and its two soft masks."""
    own, every = features.own, features.all
    batch = len(own)
    positive = torch.sigmoid((own - 0.65) / TAU)
    negative = 1 - torch.sigmoid((own - 0.4) / TAU)
    weights = torch.sigmoid((every - 0.65) / TAU)
    mean = [
        (w * s).sum((2, 3)) / w.sum((2, 3)) for w, s in ((positive, own), (weights, every), (negative, own))
    ]
    mean[1] = mean[1] * (1 - 100 * torch.eye(batch))
    return torch.cat(mean, 1) / 0.07, positive, negative


def ezvsl_loss(features: Features) -> Tensor:
    logits = features.all.amax((2, 3)) / TAU
    return cross_entropy(logits) + cross_entropy(logits.T)


def fnac_losses(features: Features) -> Tensor:
    """Return EZ-VSL's loss and the three differences, [4]."""
    visual, audio, own = features.visual, features.audio, features.own[:, 0]
    low, high = own.amin((1, 2), keepdim=True), own.amax((1, 2), keepdim=True)
    foreground = ((own - low) / TAU / ((high - low) / TAU + 1e-5) > 0.6).float()
    f, v = (visual * foreground[:, None]).mean((2, 3)), visual.mean((2, 3))
    A, F, V = (((x @ x.T) / TAU).softmax(1) for x in (audio, f, v))
    Q = (features.all.amax((2, 3)) / TAU).softmax(1)
    differences = [(A - Q).abs().mean(), (A - F).abs().mean(), (V - Q).abs().mean()]
    return torch.stack([ezvsl_loss(features), *differences])


def slavc_loss(online: TwoHeads, momentum: TwoHeads) -> Tensor:
    def direction(images: TwoHeads, sounds: TwoHeads) -> Tensor:
        one, two = (
            Features(image.visual, sound.audio).all.flatten(2) / TAU
            for image, sound in zip(images, sounds, strict=True)
        )
        return torch.log((one.softmax(1) * two.softmax(2)).sum(2))

    return cross_entropy(direction(online, momentum)) + cross_entropy(direction(momentum, online))


def lvs_loss(features: Features) -> Tensor:
    logits, _, _ = lvs_logits(features)
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def local_logits(features: Features) -> Tensor:
    """Return Alignment's local logits, [B, B]."""
    weights = torch.sigmoid((features.all - 0.65) / TAU)
    return (weights * features.all).sum((2, 3)) / weights.sum((2, 3)) / 0.07
