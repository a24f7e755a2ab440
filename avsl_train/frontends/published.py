"""Front ends of the published methods, with the part of a clip that each one's test loader hears.

Source of every row: the method's published data loader, with vectors of the originals in the tests.

Shape letters: B clips, n samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import Tensor, nn

from avsl_train.frontends.frontend import INT16_MAX, INT16_MIN, Frontend, tiled
from avsl_train.frontends.mel import MelDecibels, SSPLPatches, VGGishPatches
from avsl_train.frontends.spectrogram import EZVSLSpectrogram
from avsl_train.frontends.waveform import SOUNDNET_RATE, SoundNetWaveform

RATE: Final = 16000
HTF_RATE: Final = 22050
CLIP: Final = 10 * RATE
EXCERPT: Final = 3 * RATE
ALIGNMENT_START: Final = 56000
ALIGNMENT_HOP: Final = 159


def first(wave: Tensor, length: int) -> Tensor:
    """Return the first ``length`` samples; a shorter sound is repeated."""
    return tiled(wave, length)[:, :length]


def middle(wave: Tensor, length: int) -> Tensor:
    """Return the middle ``length`` samples; a shorter sound is repeated and begins at its first sample."""
    start = max((wave.shape[-1] - length) // 2, 0)
    return tiled(wave, length)[:, start : start + length]


def middle_of_repeated(wave: Tensor, length: int) -> Tensor:
    """Return the middle of the sound, of which the middle is sought after a short one was repeated (SSPL)."""
    long = tiled(wave, length)
    start = long.shape[-1] // 2 - length // 2
    return long[:, start : start + length]


def between(wave: Tensor, start: int, stop: int) -> Tensor:
    """Return samples ``start`` to ``stop`` of 10 s; a shorter sound is repeated."""
    return tiled(wave, CLIP)[:, start:stop]


def middle_by_seconds(wave: Tensor, length: int) -> Tensor:
    """Return 3 s around half of the whole seconds (HTF); the start of a sound that is shorter [ours]."""
    seconds = wave.shape[-1] // HTF_RATE
    start = max(int((seconds / 2 - 1.5) * HTF_RATE), 0)
    return tiled(wave, length)[:, start : start + length]


@dataclass(frozen=True)
class Published:
    """One row of the table.

    Parameters
    ----------
    features
        Makes the module from waveforms to features.
    excerpt
        The part of a clip that the test loader hears.
    divisor
        What int16 samples are divided by.
    rate
        Samples per second of the files that the loader reads.
    clip
        Whether it clips to [-1, 1].
    """

    features: Callable[[], nn.Module]
    excerpt: Callable[[Tensor], Tensor] | None
    divisor: float
    rate: int = RATE
    clip: bool = True


_EZVSL: Final = Published(partial(EZVSLSpectrogram, RATE), partial(middle, length=EXCERPT), INT16_MAX)


def _htf(excerpt: Callable[[Tensor], Tensor]) -> Published:
    return Published(partial(EZVSLSpectrogram, HTF_RATE), excerpt, INT16_MAX, HTF_RATE, clip=False)


PUBLISHED: Final[dict[str, Published]] = {
    "ezvsl": _EZVSL,
    "slavc": _EZVSL,
    "fnac": _EZVSL,
    "lvs": Published(partial(EZVSLSpectrogram, RATE), partial(first, length=CLIP), INT16_MIN),
    "alignment": Published(
        partial(EZVSLSpectrogram, RATE, ALIGNMENT_HOP),
        partial(between, start=ALIGNMENT_START, stop=ALIGNMENT_START + EXCERPT),
        INT16_MIN,
    ),
    "ssltie": Published(MelDecibels, partial(first, length=CLIP), INT16_MIN),
    "htf": _htf(partial(middle_by_seconds, length=3 * HTF_RATE)),
    "htf_train": _htf(partial(first, length=3 * HTF_RATE)),
    "vggish": Published(VGGishPatches, None, INT16_MIN),
    "sspl": Published(SSPLPatches, partial(middle_of_repeated, length=EXCERPT), INT16_MIN),
    "waveform": Published(SoundNetWaveform, None, INT16_MIN, SOUNDNET_RATE),
}
"""Front ends by name; ``htf`` and ``htf_train`` are of HTF's two loaders, ``waveform`` is SoundNet's."""


def published(name: str) -> Frontend:
    """Return a published method's front end, from whole clips at its rate to features.

    Parameters
    ----------
    name
        A key of `PUBLISHED`.

    Examples
    --------
    >>> import torch
    >>> published("alignment")(torch.zeros(40000, dtype=torch.int16)).shape
    torch.Size([1, 257, 299])
    """
    row = PUBLISHED[name]
    return Frontend(row.features(), row.divisor, row.excerpt, row.clip)
