"""Log spectrograms: the one of EZ-VSL and most others, and the demo's.

Shape letters: B clips, n samples, F frequencies or mel bands, T time steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EZVSL_FRAME = 512
EZVSL_HOP = 238
EZVSL_FLOOR = 1e-7
LOGMEL_FRAME = 512
LOGMEL_LOW_HZ = 60.0
LOGMEL_FLOOR = 1e-4


def tukey_window(length: int, alpha: float = 0.25) -> Tensor:
    """Return a periodic Tukey window: a cosine taper over ``alpha`` of its length.

    Examples
    --------
    >>> tukey_window(8, alpha=0.5).round(decimals=3).tolist()
    [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    steps = torch.arange(length, dtype=torch.float64)
    edge = torch.minimum(steps, length - steps) / (alpha * length / 2)
    return torch.where(edge < 1, 0.5 - 0.5 * torch.cos(torch.pi * edge), 1.0)


class EZVSLSpectrogram(nn.Module):
    """The log spectrogram of EZ-VSL, SLAVC, FNAC, LVS, Alignment (hop 159) and HTF (at 22050 Hz).

    ln(P + 1e-7) / 12 with P the one-sided power density: 512-sample frames without padding, the mean of each
    frame removed, periodic Tukey(0.25) window, |FFT|^2 / (rate * sum of squared window), doubled except for
    the constant and the Nyquist frequency.

    Source: EZ-VSL's published data loader.
    """

    window: Tensor
    density: Tensor

    def __init__(self, sample_rate: int, hop: int = EZVSL_HOP) -> None:
        super().__init__()
        self.hop = hop
        window = tukey_window(EZVSL_FRAME)
        density = torch.full((EZVSL_FRAME // 2 + 1,), 2 / float(sample_rate * (window**2).sum()))
        density[[0, -1]] /= 2  # of one side
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("density", density, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, 1, 257, T] of waveforms [B, n] in [-1, 1]; T = (n - 512) // hop + 1."""
        frames = wave.unfold(-1, EZVSL_FRAME, self.hop)  # [B, T, 512]
        frames = (frames - frames.mean(-1, keepdim=True)).mul_(self.window)
        power = power_of(torch.fft.rfft(frames)).mul_(self.density)
        return power.add_(EZVSL_FLOOR).log_().div_(12).transpose(1, 2)[:, None]


class LogMel(nn.Module):
    """Log mel spectrogram, small: the demo's front end [ours]."""

    window: Tensor
    bank: Tensor

    def __init__(self, sample_rate: int, mels: int, hop: int) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        self.hop = hop
        bank = melscale_fbanks(LOGMEL_FRAME // 2 + 1, LOGMEL_LOW_HZ, sample_rate / 2, mels, sample_rate)
        self.register_buffer("window", torch.hann_window(LOGMEL_FRAME), persistent=False)
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, 1, mels, T] of waveforms [B, n] in [-1, 1], scaled to about [-1, 1]."""
        frames = wave.unfold(-1, LOGMEL_FRAME, self.hop) * self.window  # [B, T, 512]
        power = power_of(torch.fft.rfft(frames))
        mel = power @ self.bank  # [B, T, mels]
        return mel.add_(LOGMEL_FLOOR).log_().add_(2).div_(6).transpose(1, 2)[:, None]


def power_of(spectrum: Tensor) -> Tensor:
    """Return |x|^2 of complex numbers, whose memory is used for it.

    On a CPU the square of their abs() takes four times as long, and squaring real and imaginary parts apart,
    which do not lie side by side, half as long again.
    """
    squares = torch.view_as_real(spectrum).square_()
    return squares[..., 0] + squares[..., 1]
