"""A user's frame and sound: every form they come in, and what is refused with which guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from avsl_train.errors import TrainInputError
from avsl_train.inputs import picture_of, samples_of

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize(
    "frame",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS[:, ::-1][:, ::-1],  # a view with negative strides
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).requires_grad_(),
    ],
)
def test_a_frame_in_any_form_is_the_same_picture(frame: Any) -> None:
    picture = picture_of(frame)
    assert (picture.mode, picture.size) == ("RGB", (7, 5))
    np.testing.assert_array_equal(np.asarray(picture), PIXELS)


def test_pictures_of_pil_in_other_modes_become_rgb() -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    np.testing.assert_array_equal(np.asarray(picture_of(grey)), np.repeat(PIXELS[..., :1], 3, 2))
    assert picture_of(Image.fromarray(PIXELS).convert("RGBA")).mode == "RGB"
    assert picture_of(Image.fromarray(PIXELS).convert("P")).mode == "RGB"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, r"the frame is missing \(None\)"),
        ("frame.jpg", "the frame is of type str: give a PIL image"),
        (
            PIXELS.transpose(2, 0, 1),
            r"shape \[3, 5, 7\], an array is \[H, W, 3\] of RGB; did you mean frame\.tr",
        ),
        (torch.from_numpy(PIXELS), r"a tensor is \[3, H, W\] of RGB; did you mean frame\.permute\(2, 0, 1\)"),
        (PIXELS[None], "is it a batch"),
        (PIXELS[..., 0], "is it a grey picture"),
        (np.zeros((5, 7, 4), np.uint8), "has it an alpha channel"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \[0, 7, 3\]"),
        (PIXELS.astype(np.int64), "of int64: uint8, or floats in"),
        (PIXELS.astype(np.float32), "divide it by 255"),
        ((PIXELS / 255 - 0.5) / 0.2, "is it normalised already"),
        (np.full((5, 7, 3), np.nan), "holds NaN or infinity"),
        (Image.new("I;16", (4, 4)), "mode 'I;16', whose range is not known"),
        (Image.new("RGB", (0, 4)), "no pixels"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Any, message: str) -> None:
    with pytest.raises(TrainInputError, match=message):
        picture_of(frame)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_samples_that_fit_stay_as_they_are(samples: list[int]) -> None:
    given_ = np.array(samples, np.int16)
    for form in (
        given_,
        torch.from_numpy(given_),
        given_[None],
        given_ / 32768,
        given_.astype(np.int32) << 16,
    ):
        np.testing.assert_array_equal(samples_of(form, 16000, 16000), given_)


def test_channels_are_averaged_whichever_axis_they_are_on() -> None:
    stereo = np.array([[0.5, 0.25, -0.5], [0.0, 0.25, -0.5]])
    wanted = [8192, 8192, -16384]
    assert samples_of(stereo, 16000, 16000).tolist() == wanted
    assert samples_of(stereo.T, 16000, 16000).tolist() == wanted
    assert samples_of(torch.from_numpy(stereo), 16000, 16000).tolist() == wanted


def test_another_rate_keeps_the_tone() -> None:
    seconds = np.arange(44100) / 44100
    found = samples_of(0.5 * np.sin(2 * np.pi * 440 * seconds), 44100, 16000)
    assert found.dtype == np.int16
    assert len(found) == 16000
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() == 440
    assert np.abs(found[1000:-1000]).max() == pytest.approx(16384, rel=0.01)


def test_overshooting_floats_are_clipped() -> None:
    assert samples_of(np.array([1.2, -1.2]), 16000, 16000).tolist() == [32767, -32768]


@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (None, 16000, r"the sound is missing \(None\)"),
        ([0.1, 0.2], 16000, "of type list: give an array or a tensor"),
        (np.zeros(0), 16000, r"no samples \(shape \[0\]\)"),
        (np.zeros((2, 0)), 16000, "no samples"),
        (np.zeros((1, 1, 9)), 16000, r"shape \[1, 1, 9\]: samples are \[n\]"),
        (np.zeros((257, 200)), 16000, "is it a spectrogram"),
        (np.zeros(9, np.uint8), 16000, "of uint8: int16, int32, or floats"),
        (np.zeros(9, bool), 16000, "of bool"),
        (np.array([0.0, np.inf]), 16000, "holds NaN or infinity"),
        (np.array([0.0, 12000.0]), 16000, r"up to 12000, floats lie in \[-1, 1\]: are they int16"),
        (np.zeros(9), 0, "sample_rate is 0"),
        (np.zeros(9), 44.1, "sample_rate is 44.1: a whole number"),
        (np.zeros(9), 44, "is it in kHz"),
        (np.zeros(9), 44101, "44101, which has too little in common with 16000"),
    ],
)
def test_what_is_no_sound_is_refused(sound: Any, rate: Any, message: str) -> None:
    with pytest.raises(TrainInputError, match=message):
        samples_of(sound, rate, 16000)
