"""Log spectrograms against a slow oracle and tones of a known pitch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avsl_train.config import DataConfig
from avsl_train.frontends import (
    EZVSL_FRAME,
    EZVSLSpectrogram,
    LogMel,
    frequencies,
    make_frontend,
    tukey_window,
)

RATE = 16000


def test_the_spectrogram_equals_a_slow_oracle() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 1200)
    steps = np.arange(512)
    edge = np.minimum(steps, 512 - steps) / 64  # a taper of an eighth of the frame on each side
    window = np.where(edge < 1, 0.5 - 0.5 * np.cos(np.pi * edge), 1)
    columns = []
    for start in range(0, 1200 - 512 + 1, 238):
        frame = wave[start : start + 512]
        power = np.abs(np.fft.rfft((frame - frame.mean()) * window)) ** 2 / (RATE * (window**2).sum())
        power[1:-1] *= 2
        columns.append(np.log(power + 1e-7) / 12)
    found = EZVSLSpectrogram(RATE)(torch.from_numpy(wave).float()[None])[0, 0]
    np.testing.assert_allclose(found.numpy(), np.stack(columns, 1), atol=1e-5)


def test_the_window_is_symmetric_about_its_middle_and_begins_at_zero() -> None:
    window = tukey_window(EZVSL_FRAME)
    assert window[0] == 0
    assert torch.equal(window[1:], window[1:].flip(0))
    assert window[64:449].min() == 1


@pytest.mark.parametrize("name", ["ezvsl", "logmel"])
def test_clips_do_not_mix_and_rows_are_as_announced(name: str) -> None:
    config = DataConfig(frontend=name)  # type: ignore[arg-type]
    frontend = make_frontend(config)
    waves = torch.rand(3, RATE, generator=torch.Generator().manual_seed(0)) - 0.5
    together = frontend(waves)
    assert together.shape[:3] == (3, 1, frequencies(config))
    for clip in range(3):
        torch.testing.assert_close(together[clip], frontend(waves[clip : clip + 1])[0])


def test_silence_is_finite() -> None:
    silence = torch.zeros(1, RATE)
    assert EZVSLSpectrogram(RATE)(silence).unique().tolist() == pytest.approx([np.log(1e-7) / 12])
    assert LogMel(RATE, 16, 320)(silence).unique().tolist() == pytest.approx([(np.log(1e-4) + 2) / 6])


def test_a_higher_tone_lies_in_a_higher_band() -> None:
    steps = torch.arange(RATE) / RATE
    tones = torch.stack([0.5 * torch.sin(2 * torch.pi * hertz * steps) for hertz in (200, 800, 3000)])
    peaks = LogMel(RATE, 40, 320)(tones).mean(-1)[:, 0].argmax(1)
    assert peaks[0] < peaks[1] < peaks[2]
