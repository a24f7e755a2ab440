"""The waveform itself, for networks that hear samples.

Shape letters: B clips, n samples.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from avsl_train.frontends.frontend import tiled

SOUNDNET_RATE: Final = 22050
SOUNDNET_SCALE: Final = 256.0
SOUNDNET_SHORTEST_S: Final = 10.0
"""The object head sees eight steps of the layer below, which a shorter sound does not fill."""


class SoundNetWaveform(nn.Module):
    """Samples in [-256, 256] at 22050 Hz, repeated to at least 10 s.

    Source: SoundNet's published feature extraction (scale, rate) and its ports (a short sound is repeated).
    To how many seconds is [ours]: about the fewest that the network takes.
    """

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, 1, 1, n] of waveforms [B, n] in [-1, 1] at 22050 Hz."""
        length = round(SOUNDNET_SHORTEST_S * SOUNDNET_RATE)
        if wave.shape[-1] < length:
            wave = tiled(wave, length)[:, :length]
        return wave[:, None, None] * SOUNDNET_SCALE
