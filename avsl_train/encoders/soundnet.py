"""SoundNet: eight one-dimensional convolutions from the waveform to what objects a clip may show.

Sources: SoundNet's published training (layers, initialisation, input in [-256, 256] at 22050 Hz). Names are
those of the port keunhong/pytorch-soundnet, read from its code; the names of smallflyingpig/SoundNet_Pytorch
are understood as well. Neither file could be tried.

Shape letters: B clips, n samples, T steps of the last layer.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import torch
from torch import Tensor, nn

from avsl_train.encoders.encoder import Encoder
from avsl_train.weights import State, load_state, locate, read_state, renamed

logger = logging.getLogger(__name__)

LAYERS: Final = (
    (16, 64, 8),
    (32, 32, 8),
    (64, 16, 1),
    (128, 8, 1),
    (256, 4, 4),
    (512, 4, 1),
    (1024, 4, 1),
)
"""Channels, kernel and pooling of the layers before the head; all have stride 2."""
OBJECTS: Final = 1000
HEAD_KERNEL: Final = 8
_OTHER_NAMES: Final = (
    (re.compile(r"^conv([1-7])\.0\."), r"conv\1."),
    (re.compile(r"^conv([1-7])\.1\."), r"batchnorm\1."),
    (re.compile(r"^conv8\.0\."), "conv8_objs."),
    (re.compile(r"^conv8_2\.0\."), "conv8_scns."),
)


class SoundNet(nn.Module):
    """The network with its object head: waveforms [B, 1, n] to scores [B, 1000, T].

    Parameters
    ----------
    weights
        A file or address of a port's weights, or None for random ones.
    where
        The configuration's key, for messages.
    """

    def __init__(self, weights: str | None = None, where: str = "model.audio_weights") -> None:
        super().__init__()
        inputs = 1
        for number, (channels, kernel, _) in enumerate(LAYERS, start=1):
            self.add_module(f"conv{number}", nn.Conv1d(inputs, channels, kernel, 2, kernel // 2))
            self.add_module(f"batchnorm{number}", nn.BatchNorm1d(channels))
            inputs = channels
        self.conv8_objs = nn.Conv1d(inputs, OBJECTS, HEAD_KERNEL, 2)
        if weights is None:
            self._initialise()
            return
        path = locate(weights, where)
        state = community_names(read_state(path, where))
        what = "file of SoundNet (keunhong/pytorch-soundnet's soundnet8_final.pth)"
        load_state(self, state, f"{where}: {path}", what, unused=("conv8_scns.",))
        if bool((self.batchnorm1.running_mean == 0).all()):  # type: ignore[union-attr]
            logger.warning(
                "%s: %s has BatchNorm statistics as before any training: the port's first converter left "
                "them out, and such a network hears little",
                where,
                path,
            )

    def forward(self, wave: Tensor) -> Tensor:
        """Return the scores of 1000 objects, before any softmax, at each step of the head."""
        x = wave
        for number, (_, _, pool) in enumerate(LAYERS, start=1):
            conv, norm = self.get_submodule(f"conv{number}"), self.get_submodule(f"batchnorm{number}")
            x = torch.relu(norm(conv(x)))
            if pool > 1:
                x = nn.functional.max_pool1d(x, pool)
        if x.shape[-1] < HEAD_KERNEL:
            raise ValueError(
                f"SoundNet's head sees {HEAD_KERNEL} steps, a sound of {wave.shape[-1]} samples has "
                f"{x.shape[-1]}: use data.frontend: waveform, which repeats a short sound"
            )
        scores: Tensor = self.conv8_objs(x)
        return scores

    def _initialise(self) -> None:
        """Draw convolutions from N(0, 0.01) and BatchNorm from N(1, 0.02), as the published training."""
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                nn.init.normal_(part.weight, 0.0, 0.01)
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]
            elif isinstance(part, nn.BatchNorm1d):
                nn.init.normal_(part.weight, 1.0, 0.02)


class SoundNetAudio(Encoder):
    """SoundNet, its scores averaged over the steps [ours], ReLU, FC 1000 and ReLU: [B, 1, 1, n] to [B, 1000].

    The second FC of the head is the localizer's projection. Source: Attention10k's network, whose input are
    stored scores; DMT's paper names the same two layers.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.trunk = SoundNet(weights)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(OBJECTS, OBJECTS), nn.ReLU(inplace=True))
        self.channels = OBJECTS

    def forward(self, wave: Tensor) -> Tensor:
        """Return one vector per clip of the front end ``waveform``."""
        vector: Tensor = self.head(self.trunk(wave[:, 0]).mean(-1))
        return vector


def community_names(state: State) -> State:
    """Return a port's weights under the names and in the shapes of `SoundNet`.

    The ports convolve over images one pixel wide: their kernels have a last axis of one.
    """

    def rename(name: str) -> str:
        for pattern, ours in _OTHER_NAMES:
            name = pattern.sub(ours, name)
        return name

    flat = {name: value.squeeze(-1) if value.ndim == 4 else value for name, value in state.items()}
    return renamed(flat, rename)
