"""Optical flow as shards store it: a PNG of 16 bits in KITTI's format.

A displacement of d pixels of the decoded picture is 64 d + 2^15; red is to the right, green down. Resizing
resamples the field and leaves its values alone, as the published loader does. Of ``avsl-data preprocess``,
which makes these files, `avsl_data.flow.decode_flow` reads the same by OpenCV.

Shape letters: H x W pixels of the stored frame, F side of the square frame.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

STEPS_PER_PIXEL: Final = 64
ZERO: Final = 2**15


def decoded(content: bytes) -> Tensor:
    """Return the flow [2, H, W] in pixels, x before y, as float32.

    Raises
    ------
    RuntimeError
        The content is no such PNG.
    """
    from torchvision.io import decode_png

    stored = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    if stored.dtype != torch.uint16 or len(stored) != 3:
        raise RuntimeError("its optical flow is no PNG of three channels of 16 bits")
    flow: Tensor = (stored[:2].float() - ZERO) / STEPS_PER_PIXEL
    return flow


def resized(flow: Tensor, size: int) -> Tensor:
    """Return a flow [2, H, W] resampled to a square [2, size, size]; its values stay."""
    return functional.interpolate(flow[None], (size, size), mode="bilinear", antialias=True).squeeze(0)
