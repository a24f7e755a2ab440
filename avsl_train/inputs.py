"""A user's frame and sound, in whatever form, to what every model here starts from.

A frame becomes an RGB picture of 8 bits, a sound int16 samples of one channel at the model's rate: what
shards hold, so that a model sees and hears a user's clip as it did those that it was trained on.

Shape letters: H x W frame, n samples, c channels.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avsl_train.errors import TrainInputError

Int16 = NDArray[np.int16]

LOWEST_RATE: Final = 1000
MOST_CHANNELS: Final = 64
LARGEST_SAMPLE: Final = 4.0
"""Lossy decoders overshoot 1 somewhat; beyond 12 dB it is another scale."""
LARGEST_KERNEL: Final = 50_000_000
"""Resampling a to b keeps about a*b/gcd(a, b)^2 numbers: 441 * 160 from 44.1 to 16 kHz."""
INT16_SCALE: Final = 32768


def picture_of(frame: object) -> Image.Image:
    """Return a frame as an RGB picture.

    Parameters
    ----------
    frame
        A PIL image; an array [H, W, 3] or a tensor [3, H, W], uint8, or floats in [0, 1].

    Raises
    ------
    TrainInputError
        It is something else; the message guesses the mistake.

    Examples
    --------
    >>> picture_of(np.full((2, 3, 3), 0.5)).getpixel((0, 0))
    (128, 128, 128)
    """
    if isinstance(frame, Image.Image):
        return _of_pil(frame)
    if isinstance(frame, torch.Tensor):
        _check_rgb(tuple(frame.shape), 0, "a tensor is [3, H, W]", "frame.permute(2, 0, 1)")
        return _of_pixels(frame.detach().cpu().permute(1, 2, 0).numpy())
    if isinstance(frame, np.ndarray):
        _check_rgb(frame.shape, -1, "an array is [H, W, 3]", "frame.transpose(1, 2, 0)")
        return _of_pixels(frame)
    raise TrainInputError(
        f"the frame is {_kind(frame)}: give a PIL image, an array [H, W, 3] or a tensor [3, H, W]"
    )


def samples_of(waveform: object, sample_rate: int, wanted_rate: int) -> Int16:
    """Return a sound as int16 samples of one channel at a rate.

    Channels are averaged; another rate is changed by torchaudio's windowed sinc. int16 samples of one channel
    at the wanted rate stay as they are.

    Parameters
    ----------
    waveform
        Array or tensor [n], [c, n] (as torchaudio gives it) or [n, c] (as soundfile does): the shorter axis
        holds the channels. int16, int32, or floats in [-1, 1].
    sample_rate
        Its samples per second.
    wanted_rate
        Those of the result.

    Raises
    ------
    TrainInputError
        It is something else, or holds no samples; the message guesses the mistake.

    Examples
    --------
    >>> samples_of(np.array([[0.5, -1.0], [0.5, 0.0]]), 16000, 16000).tolist()
    [16384, -16384]
    """
    wave = _channels(waveform)
    rate = _rate(sample_rate, wanted_rate)
    if wave.dtype == np.int16 and len(wave) == 1 and rate == wanted_rate:
        return np.ascontiguousarray(wave[0])
    mono = _floats(wave).mean(0)
    if rate != wanted_rate:
        from torchaudio.functional import resample

        mono = resample(torch.from_numpy(mono), rate, wanted_rate).numpy()
    scaled = np.rint(mono * INT16_SCALE).clip(-INT16_SCALE, INT16_SCALE - 1)
    samples: Int16 = scaled.astype(np.int16)
    return samples


def _of_pil(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        raise TrainInputError(
            f"the frame has mode {image.mode!r}, whose range is not known: scale it to 8 bits and convert it "
            "by .convert('RGB')"
        )
    if 0 in image.size:
        raise TrainInputError(f"the frame has no pixels (size {image.width} x {image.height})")
    return image.convert("RGB")


def _check_rgb(shape: tuple[int, ...], axis: int, wanted: str, mend: str) -> None:
    if len(shape) == 3 and shape[axis] == 3 and 0 not in shape:
        return
    other = 0 if axis else -1
    if len(shape) == 3 and shape[other] == 3:
        hint = f"; did you mean {mend}?"
    elif len(shape) == 4:
        hint = "; is it a batch? Give one frame at a time"
    elif len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[-1])):
        hint = "; is it a grey picture? Repeat it three times"
    elif len(shape) == 3 and 4 in (shape[0], shape[-1]):
        hint = "; has it an alpha channel? Leave that out"
    else:
        hint = ""
    raise TrainInputError(f"the frame has the shape {list(shape)}, {wanted} of RGB{hint}")


def _of_pixels(pixels: NDArray[Any]) -> Image.Image:
    """Return an array [H, W, 3] as a picture."""
    if pixels.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(pixels))
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TrainInputError(f"the frame is of {pixels.dtype}: uint8, or floats in [0, 1]")
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise TrainInputError("the frame holds NaN or infinity")
    if low < 0 or high > 1:
        hint = (
            "is it normalised already? Give it as it was before"
            if low < 0
            else "divide it by 255, or give it as uint8"
        )
        raise TrainInputError(f"the frame has values from {low:g} to {high:g}, floats lie in [0, 1]: {hint}")
    return Image.fromarray((pixels.astype(np.float64) * 255).round().astype(np.uint8))


def _channels(waveform: object) -> NDArray[Any]:
    """Return a sound as [c, n]."""
    if isinstance(waveform, torch.Tensor):
        waveform = waveform.detach().cpu().numpy()
    if not isinstance(waveform, np.ndarray):
        raise TrainInputError(f"the sound is {_kind(waveform)}: give an array or a tensor of samples")
    if waveform.ndim not in (1, 2):
        raise TrainInputError(
            f"the sound has the shape {list(waveform.shape)}: samples are [n], [channels, n] or [n, channels]"
        )
    if waveform.size == 0:
        raise TrainInputError(f"the sound has no samples (shape {list(waveform.shape)})")
    wave = waveform[None] if waveform.ndim == 1 else waveform
    wave = wave if wave.shape[0] <= wave.shape[1] else wave.T
    if len(wave) > MOST_CHANNELS:
        raise TrainInputError(
            f"the sound has the shape {list(waveform.shape)}: is it a spectrogram? Samples are [n], "
            "[channels, n] or [n, channels]"
        )
    return wave


def _rate(rate: int, wanted: int) -> int:
    if isinstance(rate, bool) or int(rate) != rate or rate <= 0:
        raise TrainInputError(f"sample_rate is {rate!r}: a whole number of samples per second, such as 44100")
    if rate < LOWEST_RATE:
        raise TrainInputError(f"sample_rate is {rate}: is it in kHz? It is in samples per second, as 44100")
    common = math.gcd(int(rate), wanted)
    if int(rate) * wanted // common**2 > LARGEST_KERNEL:
        raise TrainInputError(
            f"sample_rate is {rate}, which has too little in common with {wanted} to be resampled: was it "
            "measured? Give the nominal rate, such as 44100"
        )
    return int(rate)


def _floats(wave: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples as float32 in [-1, 1]."""
    if wave.dtype in (np.int16, np.int32):
        return (wave / np.float64(-np.iinfo(wave.dtype).min)).astype(np.float32)
    if not np.issubdtype(wave.dtype, np.floating):
        raise TrainInputError(f"the sound is of {wave.dtype}: int16, int32, or floats in [-1, 1]")
    largest = float(np.abs(wave).max())
    if not math.isfinite(largest):
        raise TrainInputError("the sound holds NaN or infinity")
    if largest > LARGEST_SAMPLE:
        raise TrainInputError(
            f"the sound has values up to {largest:g}, floats lie in [-1, 1]: are they int16 samples? Then "
            "divide them by 32768"
        )
    return wave.astype(np.float32)


def _kind(value: object) -> str:
    return "missing (None)" if value is None else f"of type {type(value).__name__}"
