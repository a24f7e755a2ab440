"""A folder of ``<clip_id>.png`` (or ``.jpg``), one binary mask each, as AVSBench has them.

A pixel is foreground where it is at least half of white (128 of 255), as in the published code; in a picture
whose largest value is 1, where it is 1. A mask without foreground is a clip in which nothing can be found,
not a silent one.
"""

from __future__ import annotations

from pathlib import Path

from avsl_eval.annotations.build import Row, build
from avsl_eval.errors import EvalInputError
from avsl_eval.masks import Mask
from avsl_eval.pictures import read_grey
from avsl_eval.truth import Annotations


def read_mask_folder(folder: Path, paths: list[Path]) -> Annotations:
    """Read a folder of masks.

    Parameters
    ----------
    folder, paths
        The folder and its pictures.

    Returns
    -------
    Annotations
        Truth ``mask``.

    Raises
    ------
    EvalInputError
        If a picture is damaged or coloured, or two have one stem.
    """
    return build((Row(p.stem, mask=read_mask(p, p.stem)) for p in paths), "mask", folder)


def read_mask(path: Path, clip_id: str) -> Mask:
    """Read the picture of a mask.

    Parameters
    ----------
    path, clip_id
        The picture, and the clip for messages.

    Returns
    -------
    Mask
        Of the picture's size.

    Raises
    ------
    EvalInputError
        If the picture is damaged or coloured.
    """
    pixels, white = read_grey(path, f"the mask of clip {clip_id}")
    most = int(pixels.max())
    if 1 < most < (white + 1) // 2:
        raise EvalInputError(
            f"the mask of clip {clip_id}, {path}, has values up to {most}, below half of white ({white}): "
            "class numbers? Write one binary mask, 0 and 255"
        )
    return Mask.from_array(pixels >= (1 if most == 1 else (white + 1) // 2))
