"""What all front ends share: scale of the samples, part of the clip, sample rate.

int16 samples become floats in two ways. Decoders and half of the published loaders divide by 32768, the
EZ-VSL family and HTF by 32767, which can give -32768 / 32767; all but HTF clip that to -1. Sound is stored as
int16 (FLAC) and read either as int16 or as floats of the first kind; a front end brings both to the scale of
its original.

Shape letters: B clips, n samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

INT16_MIN: Final = 32768.0
"""What decoders, LVS, Alignment, SSL-TIE and VGGish divide by [code]."""
INT16_MAX: Final = 32767.0
"""What EZ-VSL, SLAVC, FNAC and HTF divide by [code]."""


class Frontend(nn.Module):
    """Samples of a clip, or of a batch of clips, to features.

    Parameters
    ----------
    features
        From waveforms [B, n] to features [B, ...].
    divisor
        What the original divides int16 samples by.
    excerpt
        Which samples are heard; None: all that are given.
    clip
        Whether the original clips to [-1, 1].
    """

    def __init__(
        self,
        features: nn.Module,
        divisor: float = INT16_MIN,
        excerpt: Callable[[Tensor], Tensor] | None = None,
        clip: bool = True,
    ) -> None:
        super().__init__()
        self.features = features
        self.divisor = divisor
        self.excerpt = excerpt
        self.clip = clip

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features of int16 samples, or of floats in [-1, 1] as a decoder gives them.

        Parameters
        ----------
        samples : Tensor [n] or [B, n]
            One clip, or several of the same length.

        Returns
        -------
        Tensor [...] or [B, ...] of float32
            In the shape of the features, with the batch's axis first if there was one.
        """
        wave = samples_of(samples, self.divisor, self.clip)
        batch = wave if wave.ndim == 2 else wave[None]
        if self.excerpt is not None:
            batch = self.excerpt(batch)
        features: Tensor = self.features(batch)
        return features if wave.ndim == 2 else features[0]


def samples_of(samples: Tensor, divisor: float, clip: bool = True) -> Tensor:
    """Return samples as float32 in [-1, 1] on the scale of an original.

    Examples
    --------
    >>> loudest = torch.tensor([-32768, 32767], dtype=torch.int16)
    >>> samples_of(loudest, INT16_MAX).tolist()
    [-1.0, 1.0]
    >>> samples_of(loudest / 32768, INT16_MAX).tolist()
    [-1.0, 1.0]
    """
    if samples.dtype == torch.int16:
        wave = samples.float().div_(divisor)
        if divisor == INT16_MIN:  # nothing is beyond -1
            return wave
        return wave.clamp_(-1, 1) if clip else wave
    wave = samples.float()
    if divisor != INT16_MIN:
        wave = wave * INT16_MIN / divisor
    return wave.clamp(-1, 1) if clip else wave


def tiled(wave: Tensor, length: int) -> Tensor:
    """Return a sound repeated as a whole until it has at least ``length`` samples.

    A sound that is long enough stays as it is; a shorter one is repeated int(length / n) + 1 times, the
    rule of all the originals.

    Examples
    --------
    >>> tiled(torch.tensor([[1, 2]]), 4).tolist()
    [[1, 2, 1, 2, 1, 2]]
    """
    n = wave.shape[-1]
    if n == 0:
        raise ValueError("a sound without samples cannot be repeated")
    return wave if n >= length else wave.repeat(1, int(length / n) + 1)


def at_rate(given: int, wanted: int) -> nn.Module:
    """Return a module that resamples waveforms [B, n] (torchaudio's windowed sinc)."""
    from torchaudio.transforms import Resample

    module: nn.Module = Resample(given, wanted)
    return module
