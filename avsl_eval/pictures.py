"""Grey pictures, of heatmaps and of masks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError, brief
from avsl_eval.extras import need
from avsl_eval.masks import LARGEST_SIDE

SUFFIXES = (".png", ".jpg", ".jpeg")

_FORMATS = ("PNG", "JPEG")
_WHITE = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535}
"""Value of white in each grey mode of Pillow."""


def read_grey(path: Path, what: str) -> tuple[NDArray[Any], int]:
    """Read a PNG or JPEG of one grey channel, 1, 8 or 16 bits deep.

    Parameters
    ----------
    path
        The picture.
    what
        What it should show, for the message, for example ``"heatmap of clip a_000001"``.

    Returns
    -------
    pixels : bool, uint8 or uint16 [h, w]
        As stored.
    white : int
        The value of white, 1, 255 or 65535.

    Raises
    ------
    EvalInputError
        If it is damaged, coloured or larger than `avsl_eval.masks.LARGEST_SIDE`, or Pillow is missing.
    """
    image = need("PIL.Image", "images", f"the picture {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; sizes are checked here
            with image.open(path, formats=_FORMATS) as picture:
                size, mode = picture.size, picture.mode
                # Only what passed is decoded: a small file may say that it is a huge picture.
                plausible = all(0 < side <= LARGEST_SIDE for side in size) and mode in _WHITE
                pixels = np.asarray(picture) if plausible else None
    # Damage surfaces as many types: OSError, SyntaxError, struct.error, EOFError, MemoryError and others.
    except Exception as error:
        raise EvalInputError(f"{what}, {path}, is no readable PNG or JPEG: {brief(error)}") from error
    if pixels is not None:
        return pixels, _WHITE[mode]
    if mode not in _WHITE:
        raise EvalInputError(
            f"{what}, {path}, is a picture of mode {mode}, not of one grey channel; colours (an overlay, a "
            "colour map) cannot be turned back into values: write the map itself"
        )
    raise EvalInputError(
        f"{what}, {path}, says it is {size[0]} x {size[1]}; at most {LARGEST_SIDE} pixels a side"
    )
