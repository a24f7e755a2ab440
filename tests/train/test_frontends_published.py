"""Front ends of the published methods against the originals' vectors, slow oracles and known sounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avsl_train.config import DataConfig, FrontendName
from avsl_train.frontends import (
    PUBLISHED,
    MelDecibels,
    VGGishPatches,
    frequencies,
    make_frontend,
    published,
    samples_of,
)
from avsl_train.frontends.frontend import INT16_MAX, tiled
from avsl_train.frontends.mel import stretched

RATE = 16000
TOLERANCE = {"ssltie": 3e-2, "vggish": 1e-5, "sspl": 1e-5}
"""Largest difference; 2e-6 for log spectrograms, which are divided by 12."""
GOLDEN = (
    *("ezvsl.w10", "ezvsl.w2", "lvs.w10", "lvs.w2", "ssltie.w10", "ssltie.w2"),
    *("alignment.w10", "alignment.w2", "htf_test.w10", "htf_train.w2"),
    *("vggish.w10", "vggish.w2", "sspl.w10", "sspl.w2"),
)


@pytest.fixture(scope="module")
def stored(shared: Path) -> dict[str, Any]:
    """Return the arrays of the originals."""
    with np.load(shared / "golden/models/frontends.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    """Return what is known of the originals' arrays."""
    found: dict[str, Any] = json.loads((shared / "golden/models/frontends.json").read_text())
    return found


def heard(name: str, wave: np.ndarray[Any, Any]) -> Tensor:
    """Return the features of one int16 sound."""
    return published({"htf_test": "htf"}.get(name, name))(torch.from_numpy(wave))


def test_every_stored_array_is_compared(stored: dict[str, Any]) -> None:
    assert sorted(key for key in stored if not key.startswith("wave.")) == sorted(GOLDEN)


@pytest.mark.parametrize("key", GOLDEN)
def test_a_front_end_equals_the_original(stored: dict[str, Any], facts: dict[str, Any], key: str) -> None:
    name, wave = key.split(".")
    found = heard(name, stored[f"wave.{wave}"])
    assert found.dtype == torch.float32
    array = found.numpy().reshape(facts[key]["shape"])
    wanted = stored[key]
    kept = array if facts[key]["stored"] == "full" else array[..., ::3]
    assert np.abs(kept - wanted).max() < TOLERANCE.get(name, 2e-6)
    weights = np.random.default_rng(9).standard_normal(array.size)
    scale = TOLERANCE.get(name, 2e-6) * 10
    projection = float((array.ravel() * weights).sum()) / math.sqrt(array.size)
    assert projection == pytest.approx(facts[key]["projection"], abs=scale)
    assert array.mean(dtype=np.float64) == pytest.approx(facts[key]["mean"], abs=scale)


@pytest.mark.parametrize("wave", ["w10", "w2"])
def test_slavc_and_fnac_hear_what_ezvsl_hears(
    stored: dict[str, Any], facts: dict[str, Any], wave: str
) -> None:
    assert facts["slavc_equals_ezvsl"][wave]
    assert facts["fnac_test_equals_ezvsl"][wave]
    for name in ("slavc", "fnac"):
        assert torch.equal(heard(name, stored[f"wave.{wave}"]), heard("ezvsl", stored[f"wave.{wave}"]))


@pytest.mark.parametrize("wave", ["w10", "w2"])
def test_sspl_hears_the_originals_waveform(stored: dict[str, Any], facts: dict[str, Any], wave: str) -> None:
    wanted = facts[f"sspl_wave.{wave}"]
    excerpt = PUBLISHED["sspl"].excerpt
    assert excerpt is not None
    samples = samples_of(torch.from_numpy(stored[f"wave.{wave}"]), PUBLISHED["sspl"].divisor)
    found = stretched(excerpt(samples[None]))[0].double().numpy()
    weights = np.random.default_rng(9).standard_normal(found.size)
    assert [found.size] == wanted["shape"]
    assert found.mean() == pytest.approx(wanted["mean"], abs=1e-6)
    assert found.std() == pytest.approx(wanted["std"], abs=1e-6)
    assert (found * weights).sum() / math.sqrt(found.size) == pytest.approx(wanted["projection"], abs=1e-5)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("seconds", [2.3, 10.0, 12.4])
def test_clips_of_any_length_become_one_shape_and_do_not_mix(name: str, seconds: float) -> None:
    frontend = published(name)
    draw = torch.Generator().manual_seed(0)
    waves = torch.randint(-9000, 9000, (2, int(seconds * RATE)), generator=draw, dtype=torch.int16)
    together = frontend(waves)
    for clip in range(2):
        torch.testing.assert_close(together[clip], frontend(waves[clip]), rtol=1e-5, atol=1e-5)
    if name not in {"vggish", "waveform"}:  # these hear the whole clip
        assert together.shape[1:] == frontend(torch.zeros(10 * RATE, dtype=torch.int16)).shape


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_stored_integers_and_decoded_floats_are_the_same_sound(name: str) -> None:
    draw = torch.Generator().manual_seed(1)
    wave = torch.randint(-32768, 32768, (10 * RATE,), generator=draw, dtype=torch.int32).to(torch.int16)
    frontend = published(name)
    torch.testing.assert_close(frontend(wave), frontend(wave.float() / 32768), rtol=0, atol=2e-5)


def test_the_divisors_differ_by_what_they_should() -> None:
    one = torch.tensor([16384], dtype=torch.int16)
    assert samples_of(one, 32768.0).item() == 0.5
    assert samples_of(one, INT16_MAX).item() == pytest.approx(16384 / 32767, rel=1e-7)


def test_htf_alone_does_not_clip() -> None:
    assert [name for name, row in PUBLISHED.items() if not row.clip] == ["htf", "htf_train"]
    loudest = torch.tensor([-32768], dtype=torch.int16)
    assert samples_of(loudest, INT16_MAX).item() == -1
    assert samples_of(loudest, INT16_MAX, clip=False).item() == pytest.approx(-32768 / 32767, rel=1e-7)


def test_a_short_sound_is_repeated_as_the_originals_do_it() -> None:
    short = torch.arange(4)[None]
    assert tiled(short, 4).shape == (1, 4)
    assert tiled(short, 5).shape == (1, 8)
    assert tiled(short, 8).shape == (1, 12)  # int(8 / 4) + 1 times, one more than needed
    with pytest.raises(ValueError, match="without samples"):
        tiled(short[:, :0], 5)


def test_decibels_equal_a_slow_oracle() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 2000)
    padded = np.concatenate([wave[256:0:-1], wave, wave[-2:-258:-1]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    hertz = np.arange(257) * RATE / 512
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 259) / 2595) - 1)
    columns = []
    for middle in range(0, 2001, 239):
        power = np.abs(np.fft.rfft(padded[middle : middle + 512] * window)) ** 2 / (window**2).sum()
        mel = [
            sum(
                max(0.0, min((f - low) / (peak - low), (high - f) / (high - peak))) * p
                for f, p in zip(hertz, power, strict=True)
            )
            for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        columns.append(10 * np.log10(np.maximum(mel, 1e-10)))
    found = MelDecibels()(torch.from_numpy(wave).float()[None])[0, 0].numpy()
    assert found.shape == (257, len(columns))
    np.testing.assert_allclose(found, np.stack(columns, 1), atol=0.03)


def test_a_tone_lies_in_vggishs_band_of_its_frequency() -> None:
    edges = 700 * (np.exp(np.linspace(*(1127 * np.log1p(f / 700) for f in (125, 7500)), 66) / 1127) - 1)
    steps = torch.arange(RATE) / RATE
    for band in (5, 20, 50):
        tone = 0.5 * torch.sin(2 * torch.pi * float(edges[band + 1]) * steps)
        patches = VGGishPatches()(tone[None])
        assert patches.shape == (1, 1, 96, 64)
        assert abs(int(patches.mean((0, 1, 2)).argmax()) - band) <= 1


def test_too_short_a_sound_for_a_patch_is_told() -> None:
    with pytest.raises(ValueError, match=r"15600 samples .* the sound has 15599: raise data\.audio_s"):
        VGGishPatches()(torch.zeros(1, 15599))


def test_a_waveform_is_resampled_scaled_and_long_enough() -> None:
    steps = torch.arange(3 * RATE) / RATE
    tone = 0.5 * torch.sin(2 * torch.pi * 441 * steps)
    found = make_frontend(DataConfig(frontend="waveform"))(tone[None])
    assert found.shape == (1, 1, 1, 220500)
    assert found.abs().max().item() == pytest.approx(128, rel=0.02)
    spectrum = torch.fft.rfft(found[0, 0, 0, :22050]).abs()
    assert int(spectrum.argmax()) == 441


def test_htf_hears_stored_sound_at_its_own_rate() -> None:
    """Its loader reads files of 22050 Hz: a tone is in the row of its frequency there, not of 16 kHz."""
    steps = torch.arange(3 * RATE) / RATE
    tone = 0.5 * torch.sin(2 * torch.pi * 4000 * steps)
    rows = make_frontend(DataConfig(frontend="htf"))(tone[None])[0, 0].mean(1)
    assert abs(int(rows.argmax()) - 4000 * 512 / 22050) < 1


@pytest.mark.parametrize(
    "name", ["lvs", "alignment", "ssltie", "htf", "vggish", "sspl", "waveform", "ezvsl", "logmel"]
)
def test_a_training_can_name_each(name: FrontendName) -> None:
    config = DataConfig(frontend=name)
    waves = torch.rand(2, RATE, generator=torch.Generator().manual_seed(0)) - 0.5
    found = make_frontend(config)(waves)
    assert found.shape[0] == 2
    assert found.shape[2] == frequencies(config)
    assert found.isfinite().all()
