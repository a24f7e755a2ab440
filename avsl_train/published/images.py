"""Images as the published test loaders give them to their networks.

==================  ===========================================================  =======================
name                resize                                                       used by
==================  ===========================================================  =======================
``lvs``             short side to 224, bicubic, on pixels; middle square         LVS
``ezvsl``           to 224 x 224 whatever the aspect, bicubic, on pixels         EZ-VSL, SLAVC
``sslalignment``    to 224 x 224, bicubic, on the tensor                         Alignment
==================  ===========================================================  =======================

Alignment's are those of its tables (kaistmm/SSLalignment); its trainer validates with LVS's. SSL-TIE and SSPL
see what LVS sees, FNAC and HTF what EZ-VSL sees.

All divide by 255 and normalise with ImageNet's mean and deviation. A resize of pixels rounds to whole
values and clips, one of tensors does neither.

Source: the published loaders, with vectors of the originals in the tests.
"""

from __future__ import annotations

from typing import Final

import torch
from PIL import Image
from torch import Tensor

SIDE: Final = 224
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


def lvs_pixels(image: Image.Image) -> Image.Image:
    """Return the middle square of an RGB image whose short side was resized to 224 pixels."""
    width, height = image.size
    if width <= height:
        width, height = SIDE, int(SIDE * height / width)
    else:
        width, height = int(SIDE * width / height), SIDE
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + SIDE, top + SIDE))


def ezvsl_pixels(image: Image.Image) -> Image.Image:
    """Return an RGB image squeezed to 224 x 224 pixels."""
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def lvs(image: Image.Image) -> Tensor:
    """Return the network's input [3, 224, 224] of an RGB image, as LVS's test loader."""
    return normalised(scaled(lvs_pixels(image)))


def ezvsl(image: Image.Image) -> Tensor:
    """Return the network's input [3, 224, 224] of an RGB image, as EZ-VSL's and SLAVC's test loaders."""
    return normalised(scaled(ezvsl_pixels(image)))


def sslalignment(image: Image.Image, antialias: bool = True) -> Tensor:
    """Return the network's input [3, 224, 224] of an RGB image, as Alignment's test loader.

    Parameters
    ----------
    image
        RGB.
    antialias
        What the loader's call does with torchvision 0.17 or newer. Older ones did not, and the published
        numbers are of that time; the two differ by up to 1 in the normalised tensor.
    """
    from torchvision.transforms.functional import InterpolationMode, resize

    small: Tensor = resize(scaled(image), [SIDE, SIDE], InterpolationMode.BICUBIC, antialias=antialias)
    return normalised(small)


def scaled(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image as [3, H, W] in [0, 1]."""
    from torchvision.transforms.functional import to_tensor

    tensor: Tensor = to_tensor(image)
    return tensor


def normalised(image: Tensor) -> Tensor:
    """Return (x - mean) / std of an image [3, H, W] in [0, 1]."""
    return (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
