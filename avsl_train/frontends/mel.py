"""Mel front ends: decibels of SSL-TIE, patches of VGGish and SSPL.

Shape letters: B clips, n samples, T time steps, N patches.
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import torch
from torch import Tensor, nn

from avsl_train.frontends.spectrogram import power_of

SSLTIE_FRAME: Final = 512
SSLTIE_HOP: Final = 239
SSLTIE_MELS: Final = 257
SSLTIE_FLOOR: Final = 1e-10

VGGISH_RATE: Final = 16000
VGGISH_FRAME: Final = 400
VGGISH_HOP: Final = 160
VGGISH_FFT: Final = 512
VGGISH_MELS: Final = 64
VGGISH_LOW_HZ: Final = 125.0
VGGISH_HIGH_HZ: Final = 7500.0
VGGISH_FLOOR: Final = 0.01
PATCH: Final = 96
"""Frames of a patch, 0.96 s."""

SSPL_RANGE_FLOOR: Final = 1e-3


class MelDecibels(nn.Module):
    """Mel spectrogram in decibels, not scaled: 10 log10(max(mel, 1e-10)).

    Frames of 512 samples, centred, the edges filled by reflection; periodic Hann window, |FFT|^2 / sum of
    squared window; 257 HTK triangles from 0 to half the rate, linear in Hz. There are as many triangles as
    frequencies, so the lowest ones hold no frequency at all and are -100 dB always, as in the original.

    Source: SSL-TIE's published data loader.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, sample_rate: int = 16000) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        window = torch.hann_window(SSLTIE_FRAME, dtype=torch.float64)
        self.norm = float((window**2).sum())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")
            bank = melscale_fbanks(SSLTIE_FRAME // 2 + 1, 0.0, sample_rate / 2, SSLTIE_MELS, sample_rate)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, 1, 257, T] of waveforms [B, n] in [-1, 1]; T = n // 239 + 1."""
        half = SSLTIE_FRAME // 2
        padded = nn.functional.pad(wave[:, None], (half, half), mode="reflect")[:, 0]
        frames = padded.unfold(-1, SSLTIE_FRAME, SSLTIE_HOP) * self.window  # [B, T, 512]
        mel = (power_of(torch.fft.rfft(frames)) / self.norm) @ self.bank
        return 10 * torch.log10(mel.clamp(min=SSLTIE_FLOOR)).transpose(1, 2)[:, None]


class VGGishPatches(nn.Module):
    """Log mel patches of VGGish: ln(mel + 0.01), 0.96 s each, without overlap; the rest is dropped.

    400-sample frames every 160 samples at 16 kHz, periodic Hann window, magnitude (not power) of a 512-point
    FFT, 64 triangles of 125 to 7500 Hz that are linear in mel (HTK's), none of them on the constant.

    Source: AudioSet's published VGGish.
    """

    window: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(VGGISH_FRAME, dtype=torch.float64)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("bank", _triangles_in_mel().float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, N, 96, 64] (time, mel) of waveforms [B, n] in [-1, 1] at 16 kHz.

        Raises
        ------
        ValueError
            The sound is shorter than one patch.
        """
        shortest = VGGISH_FRAME + (PATCH - 1) * VGGISH_HOP
        if wave.shape[-1] < shortest:
            raise ValueError(
                f"VGGish hears patches of {shortest} samples (0.96 s), the sound has {wave.shape[-1]}: "
                "raise data.audio_s"
            )
        frames = wave.unfold(-1, VGGISH_FRAME, VGGISH_HOP) * self.window  # [B, T, 400]
        magnitude = power_of(torch.fft.rfft(frames, n=VGGISH_FFT)).sqrt()
        log_mel = torch.log(magnitude @ self.bank + VGGISH_FLOOR)  # [B, T, 64]
        patches = log_mel.shape[1] // PATCH
        return log_mel[:, : patches * PATCH].reshape(-1, patches, PATCH, VGGISH_MELS)


class SSPLPatches(nn.Module):
    """VGGish's patches of a sound that is stretched to [-1, 1] first: 2 ((x - min) / (range + 1e-3) - 1/2).

    Source: SSPL's published data loader.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patches = VGGishPatches()

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, N, 96, 64] of waveforms [B, n] at 16 kHz."""
        patches: Tensor = self.patches(stretched(wave))
        return patches


def stretched(wave: Tensor) -> Tensor:
    """Return waveforms [B, n] with their smallest value at -1 and their largest just below 1."""
    from_zero = wave - wave.amin(-1, keepdim=True)
    return 2 * (from_zero / (from_zero.amax(-1, keepdim=True) + SSPL_RANGE_FLOOR) - 0.5)


def _triangles_in_mel() -> Tensor:
    """Return the weights [257, 64] of VGGish's triangles; torchaudio's are linear in Hz instead."""
    hertz = torch.linspace(0, VGGISH_RATE / 2, VGGISH_FFT // 2 + 1, dtype=torch.float64)
    mel = 1127 * torch.log1p(hertz / 700)
    low, high = (1127 * math.log1p(edge / 700) for edge in (VGGISH_LOW_HZ, VGGISH_HIGH_HZ))
    edges = torch.linspace(low, high, VGGISH_MELS + 2, dtype=torch.float64)
    rising = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp(min=0)
    weights[0] = 0
    return weights
