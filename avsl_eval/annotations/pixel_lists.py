"""The published lists of IS3, VPO-SS, VPO-MS, MS3 and S4: ``{"image", "audio", "gt_box"}`` per clip.

They come with Sound Source Localization is All about Cross-Modal Alignment (Senocak et al. 2023).

========================== ====== ==========================================================================
file                       clips  name
========================== ====== ==========================================================================
``synthetic3240_*.json``   6,480  ``is3``: 3,240 images, each with two sounds (`AnnotatedClip.group`)
``vpo_ss_*.json``            890  ``vpo-ss``
``vpo_ms_*.json``          2,157  ``vpo-ms``: 1,432 images with one to five sounds (`AnnotatedClip.group`)
``ms3_*.json``               320  ``ms3``, AVSBench with several sources
``s4_*.json``              3,700  ``s4``, AVSBench with a single source
========================== ====== ==========================================================================

``*_box.json`` and ``*_bbox.json``: ``gt_box`` is [x0, y0, x1, y1] in pixels of a 224-pixel canvas, half-open.
[0, 0, 0, 0] (29 clips of MS3, 6 of S4, 2 of VPO-MS) says that the frame shows nothing: such a clip stays in
the denominator, as it does upstream, with a box that covers nothing.

``*_seg.json``: ``gt_box`` is the path of a mask picture on somebody's machine. Its last folders are looked
for below the folder that `avsl_eval.truth.read_annotations` is given as ``masks``.

The clip id is the stem of ``image``; in MS3 without its inner ``.mp4``, so that it is the stem of the mask
and the id of AVSBench's own lists too.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from avsl_eval.annotations.build import Row, build
from avsl_eval.annotations.mask_folder import read_mask
from avsl_eval.errors import EvalInputError
from avsl_eval.masks import Mask
from avsl_eval.truth import Annotations

CANVAS = 224

# The folder that gives each list away, in the paths of its images.
_FOLDERS = {
    "synthetic3241": "is3",
    "COCO_AV": "vpo-ss",
    "COCO_AV_MS": "vpo-ms",
    "Multi-sources": "ms3",
    "Single-source": "s4",
}
_SHARED_IMAGES = {"is3", "vpo-ms"}
_DEEPEST = 4
"""How many of a mask's last folders may count: ``helicopter/0d9u2CymIxc/0d9u2CymIxc_1.png`` has 3 parts."""


def is_pixel_list(content: object) -> TypeGuard[list[dict[str, Any]]]:
    """Tell whether JSON looks like one of these lists."""
    return (
        isinstance(content, list)
        and len(content) > 0
        and all(isinstance(row, dict) and {"image", "audio", "gt_box"} <= row.keys() for row in content)
    )


def read_pixel_list(content: list[dict[str, Any]], path: Path, masks: Path | None) -> Annotations:
    """Read one of the lists.

    Parameters
    ----------
    content, path
        The file.
    masks
        Folder of mask pictures, for a list of masks.

    Returns
    -------
    Annotations
        Truth ``union`` for boxes, ``mask`` for masks.

    Raises
    ------
    EvalInputError
        If a box is malformed, a mask is not there, or ``masks`` does not fit the list.
    """
    name = _name(content)
    has_masks = isinstance(content[0]["gt_box"], str)
    if has_masks and masks is None:
        first = Path(content[0]["gt_box"]).name[:80]
        raise EvalInputError(
            f"annotations {path} name the picture of a mask per clip (first {first!r}); "
            "say where these pictures are by --masks FOLDER, or use the list of boxes"
        )
    if masks is not None and not has_masks:
        raise EvalInputError(f"annotations {path} hold boxes, which need no folder of masks")
    rows = [_row(row, path, name, masks) for row in content]
    return build(rows, "mask" if has_masks else "union", path, name=name)


def pixel_fraction(pixel: int, canvas: int = CANVAS) -> float:
    """Convert a corner in whole pixels to a fraction that is drawn at this very pixel again.

    Parameters
    ----------
    pixel, canvas
        The corner and the size of its canvas.

    Returns
    -------
    float
        ``pixel / canvas``, or the next larger number where ``int(canvas * (pixel / canvas))`` falls short:
        of 0 to 224 on a 224-pixel canvas these are 61, 115 and 122.

    Examples
    --------
    >>> int(224 * (61 / 224)), int(224 * pixel_fraction(61))
    (60, 61)
    """
    fraction = pixel / canvas
    return fraction if int(canvas * fraction) == pixel else math.nextafter(fraction, math.inf)


def _name(content: list[dict[str, Any]]) -> str:
    image = content[0]["image"]
    parts = PurePosixPath(image).parts if isinstance(image, str) else ()
    return next((name for folder, name in _FOLDERS.items() if folder in parts), "")


def _row(row: dict[str, Any], path: Path, name: str, masks: Path | None) -> Row:
    image, truth = row["image"], row["gt_box"]
    if not isinstance(image, str):
        raise EvalInputError(f"annotations {path}: image {image!r:.80} is not text")
    clip_id = PurePosixPath(image).stem.replace(".mp4_", "_")
    group = clip_id.rpartition("_")[0] if name in _SHARED_IMAGES else ""
    label = _label(image, clip_id, name)
    if masks is not None:
        return Row(clip_id, label, mask=_mask(truth, clip_id, masks, path), group=group)
    if not (isinstance(truth, list) and len(truth) == 4 and all(isinstance(v, int | float) for v in truth)):
        raise EvalInputError(
            f"annotations {path}: gt_box of clip {clip_id} is {truth!r:.80}; expected 4 numbers"
        )
    if not all(0 <= v <= CANVAS for v in truth):
        raise EvalInputError(
            f"annotations {path}: gt_box of clip {clip_id} is {truth}; expected pixels in [0, {CANVAS}]"
        )
    return Row(clip_id, label, [[pixel_fraction(int(v)) for v in truth]], group=group)


def _label(image: str, clip_id: str, name: str) -> str:
    """Return the class, which IS3 writes at the end of a name and S4 as a folder."""
    if name == "is3":
        return clip_id.rpartition("_")[2]
    parts = PurePosixPath(image).parts
    return parts[-3] if name == "s4" and len(parts) > 2 else ""


def _mask(truth: object, clip_id: str, folder: Path, path: Path) -> Mask:
    if not isinstance(truth, str):
        raise EvalInputError(
            f"annotations {path}: gt_box of clip {clip_id} is {truth!r:.80}; expected a path"
        )
    parts = PurePosixPath(truth).parts
    if ".." in parts or "\0" in truth or not parts:
        raise EvalInputError(
            f"annotations {path}: the mask of clip {clip_id} has the path {truth!r:.80}: refused"
        )
    tails = [folder.joinpath(*parts[-depth:]) for depth in range(1, _DEEPEST + 1) if depth < len(parts)]
    found = next((tail for tail in tails if tail.is_file()), None)
    if found is None:
        raise EvalInputError(
            f"annotations {path}: the mask of clip {clip_id} is not in {folder}: neither {parts[-1]} nor "
            f"{'/'.join(parts[-2:])}"
        )
    return read_mask(found, clip_id)
