"""Audio front ends: sound to what an audio encoder hears, in batches, on the device of the sound.

A front end is an *excerpt* (which samples of a clip are heard, how a short clip is filled up) followed by
*features* (a spectrogram, patches of one, or the waveform itself). `published` holds those of the published
methods with the excerpts of their test loaders; `make_frontend` gives the features alone, because a training
chooses its own part of each clip.

=============  ========================================  =====================  ==========================
name           features                                  of                     shape of a clip
=============  ========================================  =====================  ==========================
``ezvsl``      log power density, hop 238                middle 3 s             1 x 257 x 200
``lvs``        the same                                  first 10 s             1 x 257 x 671
``alignment``  log power density, hop 159                3 s from 3.5 s         1 x 257 x 299
``ssltie``     mel spectrogram in decibels               first 10 s             1 x 257 x 670
``htf``        as ``ezvsl`` at 22050 Hz                  middle 3 s             1 x 257 x 276
``vggish``     log mel patches                           whole clip             N x 96 x 64
``sspl``       the same of a sound stretched to [-1, 1]  middle 3 s             3 x 96 x 64
``waveform``   22050 Hz, in [-256, 256]                  at least 10 s          1 x 1 x n
``logmel``     log mel spectrogram [ours]                whole excerpt          1 x ``mels`` x T
=============  ========================================  =====================  ==========================

SLAVC and FNAC hear what EZ-VSL hears. Shape letters: B clips, n samples, F frequencies or mel bands, T time
steps, N patches.
"""

from __future__ import annotations

from typing import Final

from torch import nn

from avsl_train.config import DataConfig, FrontendName
from avsl_train.frontends.frontend import INT16_MAX, Frontend, at_rate, samples_of
from avsl_train.frontends.mel import MelDecibels, SSPLPatches, VGGishPatches
from avsl_train.frontends.published import PUBLISHED, published
from avsl_train.frontends.spectrogram import EZVSL_FRAME, EZVSLSpectrogram, LogMel, tukey_window
from avsl_train.frontends.waveform import SoundNetWaveform

__all__ = [
    "EZVSL_FRAME",
    "PUBLISHED",
    "EZVSLSpectrogram",
    "Frontend",
    "LogMel",
    "MelDecibels",
    "SSPLPatches",
    "SoundNetWaveform",
    "VGGishPatches",
    "at_rate",
    "frequencies",
    "make_frontend",
    "published",
    "samples_of",
    "tukey_window",
]

VGGISH_ROWS: Final = 96


def make_frontend(config: DataConfig, name: FrontendName | None = None) -> Frontend:
    """Return the features of a front end, of whatever part of a clip it is given.

    The module takes sound at ``config.sample_rate`` and resamples it where the features need another rate; it
    has no trained parameters.

    Parameters
    ----------
    config
        Section ``data`` of the training configuration.
    name
        Which front end; None: ``config.frontend``.

    Examples
    --------
    >>> import torch
    >>> make_frontend(DataConfig(frontend="vggish"))(torch.zeros(2, 48000)).shape
    torch.Size([2, 3, 96, 64])
    """
    given, name = config.sample_rate, name or config.frontend
    if name == "ezvsl":  # at any rate, as its original
        return Frontend(EZVSLSpectrogram(given), INT16_MAX)
    if name == "logmel":
        return Frontend(LogMel(given, config.mels, config.hop))
    row = PUBLISHED[name]
    features = row.features()
    if row.rate != given:
        features = nn.Sequential(at_rate(given, row.rate), features)
    return Frontend(features, row.divisor, clip=row.clip)


def frequencies(config: DataConfig, name: FrontendName | None = None) -> int:
    """Return the number of rows of a front end's spectrogram; None: that of ``config.frontend``."""
    rows = {"logmel": config.mels, "vggish": VGGISH_ROWS, "sspl": VGGISH_ROWS, "waveform": 1}
    return rows.get(name or config.frontend, EZVSL_FRAME // 2 + 1)
