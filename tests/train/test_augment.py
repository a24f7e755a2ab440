"""Changes of colours and spectrograms."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.augment import (
    COLOUR_DRAWS,
    MASK_DRAWS,
    change_colours,
    mask_patches,
    mask_spectrogram,
    mask_wave,
)
from avsl_train.config import AugmentConfig
from avsl_train.draws import Draws

OFF: dict[str, Any] = {"jitter": 0, "gray": 0, "blur": 0, "freq_mask": 0, "time_mask": 0}
STRONGEST = AugmentConfig(jitter=1, gray=0.5, blur=1, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5)


def draws(seed: int = 0, clips: int = 4, n: int = COLOUR_DRAWS) -> torch.Tensor:
    """Return uniform numbers of some clips."""
    return Draws(seed).uniform(torch.arange(clips), n)


def masks(seed: int = 0, clips: int = 4) -> torch.Tensor:
    return draws(seed, clips, MASK_DRAWS)


def images(n: int = 4, size: int = 24) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(9))


def only(**on: Any) -> AugmentConfig:
    """Return a configuration with nothing but some changes, jitter of zero width included."""
    widths = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    return AugmentConfig(**{**OFF, **widths, **on})


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_colours_stay_in_range(seed: int) -> None:
    changed = change_colours(images(), STRONGEST, draws(seed))
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6


def test_the_numbers_alone_decide() -> None:
    config = AugmentConfig()
    first = change_colours(images(), config, draws(3))
    torch.rand(5)  # the global state has no say
    assert torch.equal(first, change_colours(images(), config, draws(3)))
    assert not torch.equal(first, change_colours(images(), config, draws(4)))
    spectrogram = torch.rand(4, 1, 16, 20)
    assert torch.equal(
        mask_spectrogram(spectrogram, config, masks(3)), mask_spectrogram(spectrogram, config, masks(3))
    )


def test_probability_zero_changes_nothing() -> None:
    torch.testing.assert_close(change_colours(images(), only(), draws()), images(), rtol=0, atol=1e-5)
    spectrogram = torch.rand(4, 1, 16, 20)
    assert torch.equal(mask_spectrogram(spectrogram, only(), masks()), spectrogram)


def test_grey_makes_the_channels_equal_and_keeps_the_luma() -> None:
    grey = change_colours(images(), only(gray=1), draws())
    torch.testing.assert_close(grey[:, 0], grey[:, 1], rtol=0, atol=1e-4)
    torch.testing.assert_close(grey[:, 1], grey[:, 2], rtol=0, atol=1e-4)
    luma = torch.einsum("c,bcij->bij", torch.tensor([0.299, 0.587, 0.114]), images())
    torch.testing.assert_close(grey[:, 0], luma, rtol=0, atol=1e-3)


def test_each_image_has_its_own_draw() -> None:
    same = images(1).expand(8, -1, -1, -1)
    for config in (only(jitter=1, brightness=0.4), only(jitter=1, hue=0.1), only(blur=1, blur_sigma=(5, 20))):
        changed = change_colours(same, config, draws(clips=8))
        assert all(not torch.equal(changed[0], changed[clip]) for clip in range(1, 8))
    some = change_colours(same, only(gray=0.5), draws(clips=8))
    grey = (some[:, 0] - some[:, 1]).abs().amax(dim=(1, 2)) < 1e-4
    assert 0 < grey.sum() < 8


def test_an_image_does_not_see_its_neighbours() -> None:
    config = AugmentConfig(jitter=1, gray=0, blur=1)
    other = images()
    other[1:] = 0.5
    assert torch.equal(
        change_colours(images(), config, draws())[0], change_colours(other, config, draws())[0]
    )


def test_brightness_scales_and_contrast_pulls_towards_the_mean() -> None:
    dark = images() * 0.5
    bright = change_colours(dark, only(jitter=1, brightness=0.4), draws())
    factors = (bright / dark).flatten(1)
    assert ((factors.amax(1) - factors.amin(1)) < 1e-2).all()
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4 + 1e-3
    middle = images() * 0.2 + 0.4
    pulled = change_colours(middle, only(jitter=1, contrast=0.4), draws())
    torch.testing.assert_close(pulled.mean((1, 2, 3)), middle.mean((1, 2, 3)), rtol=0, atol=1e-4)
    assert not torch.allclose(pulled, middle, atol=1e-3)


def test_the_hue_turns_and_the_luma_stays() -> None:
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(64, 3, 2, 2)
    turned = change_colours(red, only(jitter=1, hue=0.1), draws(clips=64))
    luma = torch.einsum("c,bcij->bij", torch.tensor([0.299, 0.587, 0.114]), turned)
    assert luma.unique().tolist() == pytest.approx([0.4598] * len(luma.unique()), abs=1e-3)
    hues = [(colorsys.rgb_to_hsv(*pixel)[0] + 0.5) % 1 - 0.5 for pixel in turned[:, :, 0, 0].tolist()]
    assert -0.16 < min(hues) < -0.03
    assert 0.03 < max(hues) < 0.16


def test_blur_keeps_the_mean_and_smooths() -> None:
    flat = torch.full((2, 3, 16, 16), 0.4)
    torch.testing.assert_close(change_colours(flat, only(blur=1), draws(clips=2)), flat)
    point = torch.zeros(1, 3, 31, 31)
    point[..., 15, 15] = 1
    sigma = 14.0  # 1.94 px at this size
    blurred = change_colours(point, only(blur=1, blur_sigma=(sigma, sigma)), draws(clips=1))
    assert blurred.sum(dim=(2, 3)).flatten().tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert 0.03 < blurred.max() < 0.06  # 1 / (2 pi sigma^2) = .042, the tails cut off
    torch.testing.assert_close(blurred, blurred.transpose(2, 3))
    torch.testing.assert_close(blurred, blurred.flip(3))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_masked_spectrogram_has_one_band_and_one_span_of_its_mean(seed: int) -> None:
    spectrogram = torch.rand(3, 1, 40, 60, generator=torch.Generator().manual_seed(seed))
    masked = mask_spectrogram(spectrogram, AugmentConfig(freq_mask=0.3, time_mask=0.2), masks(seed, 3))
    for clip in range(3):
        changed = masked[clip, 0] != spectrogram[clip, 0]
        rows, columns = changed.all(1), changed.all(0)
        assert torch.equal(changed, rows[:, None] | columns[None, :])
        assert rows.sum() <= 13
        assert columns.sum() <= 13
        for line in (rows, columns):
            assert (line.int().diff().abs().sum()) <= 2  # one run
        if changed.any():
            assert masked[clip, 0][changed].unique().tolist() == pytest.approx(
                [spectrogram[clip].mean().item()]
            )


def test_patches_are_masked_as_the_spectrogram_that_they_are_cut_from() -> None:
    config = AugmentConfig(freq_mask=0.4, time_mask=0.4)
    whole = torch.rand(4, 1, 64, 3 * 96)  # mels x time
    patches = whole.transpose(2, 3).reshape(4, 3, 96, 64)
    masked = mask_patches(patches, config, masks(1))
    wanted = mask_spectrogram(whole, config, masks(1))
    assert torch.equal(masked.reshape(4, 1, 288, 64).transpose(2, 3), wanted)
    assert not torch.equal(masked, patches)


def test_of_a_waveform_one_span_becomes_its_mean() -> None:
    wave = torch.rand(4, 500)
    masked = mask_wave(wave, AugmentConfig(freq_mask=1, time_mask=0.5), masks(1))
    changed = masked != wave
    assert 0 < changed.sum(1).max() <= 251  # the largest share and a rounding
    assert (changed.int().diff(dim=1).abs().sum(1) <= 2).all()
    for clip in range(4):
        assert ((masked[clip] - wave[clip].mean()).abs()[changed[clip]] < 1e-6).all()


def test_a_mask_never_hides_a_whole_waveform() -> None:
    waves = torch.randn(300, 50, generator=torch.Generator().manual_seed(0))
    masked = mask_wave(waves, AugmentConfig(), masks(clips=300))
    assert (masked == waves).float().mean(-1).min() > 0.8
    assert not torch.equal(masked, waves)


def test_colours_equal_a_slow_oracle() -> None:
    """Image by image: hue and saturation in YIQ, brightness, contrast about the mean, clamp, blur."""
    config = AugmentConfig(jitter=0.6, gray=0.3, blur=0.6, blur_sigma=(8.0, 16.0))
    u, before = draws(5, 12).double(), images(12).double()
    found = change_colours(before.float(), config, u.float())
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    for clip, (on, bright, pull, sat, hue, gray, width, blur) in enumerate(u.tolist()):
        jitter = on < 0.6
        factors = [0.6 + 0.8 * value if jitter else 1 for value in (bright, pull, sat)]
        turn = 2 * math.pi * (-0.1 + 0.2 * hue) * jitter
        keep = factors[2] * (gray >= 0.3)
        rotate = keep * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        middle = torch.block_diag(torch.ones(1, 1), rotate).double()
        matrix = torch.linalg.inv(to_yiq.double()) @ middle @ to_yiq.double()
        wanted = factors[0] * torch.tensordot(matrix, before[clip], 1)
        wanted = (wanted.mean() + factors[1] * (wanted - wanted.mean())).clamp(0, 1)
        if blur < 0.6:
            sigma = (8 + 8 * width) * 24 / 224
            reach = math.ceil(2 * 16 * 24 / 224)
            rows = torch.arange(24)
            smooth = torch.zeros(24, 24, dtype=torch.float64)
            for offset in range(-reach, reach + 1):
                smooth[rows, (rows + offset).clamp(0, 23)] += math.exp(-(offset**2) / (2 * sigma**2))
            smooth = smooth / smooth.sum(1, keepdim=True)
            wanted = smooth @ wanted @ smooth.T
        torch.testing.assert_close(found[clip].double(), wanted, rtol=0, atol=2e-6)
