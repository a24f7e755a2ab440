"""Frames as clips have them: RGB, squeezed to a square."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def squeezed(image: Image.Image, size: int) -> Tensor:
    """Return an RGB picture as uint8 [3, size, size], as `ClipSet` squeezes a frame."""
    return _squeezed(torch.from_numpy(np.array(image)).permute(2, 0, 1), size)


def decoded_frame(data: bytes, size: int) -> Tensor:
    """Return a JPEG as uint8 [3, size, size].

    In half the time of Pillow's decoding and bicubic resize, and at most one level apart. Decoding at a
    reduced size (libjpeg's scaling) is faster still, but up to a hundred levels apart.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    picture = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return _squeezed(picture, size)


def _squeezed(picture: Tensor, size: int) -> Tensor:
    small = torch.nn.functional.interpolate(picture[None], size=(size, size), mode="bicubic", antialias=True)
    return small[0].contiguous()
