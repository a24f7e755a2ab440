"""COCO's JSON of instances: ``images``, ``annotations``, ``categories``.

- the clip id is the stem of an image's ``file_name``; every image is a clip, without annotation a silent one
- ``bbox`` is [x, y, width, height] in pixels; ``width`` and ``height`` of the image are needed
- ``segmentation``, where present, is polygons or run lengths; polygons become masks by pycocotools. If any
  annotation has one, the truth is ``mask``, and an annotation without is the rectangle of its box
- the categories of a clip are its sources; its label joins their names, sorted
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from avsl_eval.annotations.build import Row, build, read_json_file
from avsl_eval.errors import EvalInputError
from avsl_eval.masks import LARGEST_SIDE, Mask, checked_size
from avsl_eval.truth import Annotations

MOST_POINTS = 100_000
"""Corners of one polygon."""


@dataclass(frozen=True)
class CocoImage:
    """Hold what COCO results need to know of an image: its id and size in pixels."""

    image_id: int | str
    width: int
    height: int


def is_coco(content: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether JSON looks like COCO's instances."""
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def coco_images(path: Path) -> dict[str, CocoImage]:
    """Read the images of a COCO file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        Clip id to image; empty if the file is JSON of another format.

    Raises
    ------
    EvalInputError
        If it cannot be read, or an image is malformed.
    """
    if path.is_dir():
        return {}
    content = read_json_file(path)
    return dict(_images(content, path)) if is_coco(content) else {}


def read_coco(content: Mapping[str, Any], path: Path) -> Annotations:
    """Read COCO instances.

    Parameters
    ----------
    content, path
        The file.

    Returns
    -------
    Annotations
        Truth ``mask`` if there is a segmentation, else ``union``.

    Raises
    ------
    EvalInputError
        If images, annotations, boxes or segmentations are malformed.
    """
    images = _images(content, path)
    names = _categories(content.get("categories", []), path)
    of_image: dict[int | str, list[dict[str, Any]]] = defaultdict(list)
    known = {image.image_id for _, image in images}
    for row in _objects(content["annotations"], "annotations", {"image_id"}, path):
        image_id = row["image_id"]
        if not isinstance(image_id, int | str) or image_id not in known:
            raise EvalInputError(
                f"annotations {path}: an annotation names image {image_id!r:.80}, which is not listed"
            )
        of_image[image_id].append(row)
    rows = [_row(clip_id, image, of_image[image.image_id], names, path) for clip_id, image in images]
    return build(rows, "mask" if any(row.mask for row in rows) else "union", path)


def _objects(listed: object, what: str, keys: set[str], path: Path) -> list[dict[str, Any]]:
    if not isinstance(listed, list) or not all(
        isinstance(row, dict) and keys <= row.keys() for row in listed
    ):
        raise EvalInputError(
            f"annotations {path}: {what} must be a list of objects with {', '.join(sorted(keys))}"
        )
    return listed


def _images(content: Mapping[str, Any], path: Path) -> list[tuple[str, CocoImage]]:
    images = []
    for row in _objects(content["images"], "images", {"id", "file_name", "width", "height"}, path):
        where = f"annotations {path}: image {row['file_name']!r:.80}"
        if not isinstance(row["file_name"], str) or not isinstance(row["id"], int | str):
            raise EvalInputError(f"{where}: file_name must be text, id a number or text")
        height, width = checked_size([row["height"], row["width"]], where)
        images.append((PurePosixPath(row["file_name"]).stem, CocoImage(row["id"], width, height)))
    if len({image.image_id for _, image in images}) < len(images):
        raise EvalInputError(f"annotations {path}: two images have one id")
    return images


def _categories(listed: object, path: Path) -> dict[object, str]:
    rows = _objects(listed, "categories", {"id", "name"}, path)
    return {row["id"]: str(row["name"]) for row in rows if isinstance(row["id"], int | str)}


def _row(
    clip_id: str, image: CocoImage, rows: Sequence[dict[str, Any]], names: Mapping[object, str], path: Path
) -> Row:
    where = f"annotations {path}: image {clip_id!r:.80}"
    any_mask = any(row.get("segmentation") for row in rows)
    boxes: dict[str, list[list[float]]] = defaultdict(list)
    pixels: dict[str, NDArray[np.bool_]] = {}
    for row in rows:
        category = row.get("category_id")
        label = names.get(category, "") if isinstance(category, int | str) else ""
        if "bbox" in row:
            boxes[label].append(_corners(row["bbox"], image, where))
        if any_mask:
            drawn = _drawn(row, image, where)
            pixels[label] = pixels[label] | drawn if label in pixels else drawn
    masks = {label: Mask.from_array(drawn) for label, drawn in pixels.items()}
    labels = sorted({*boxes, *masks})
    return Row(
        clip_id,
        ", ".join(label for label in labels if label),
        [box for listed in boxes.values() for box in listed],
        Mask.from_array(np.any(list(pixels.values()), axis=0)) if pixels else None,
        sources=tuple((label, boxes.get(label, []), masks.get(label)) for label in labels),
    )


def _corners(bbox: object, image: CocoImage, where: str) -> list[float]:
    if not (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(v, int | float) and math.isfinite(v) and abs(v) < 1e9 for v in bbox)
    ):
        raise EvalInputError(f"{where}: bbox must be [x, y, width, height] in pixels; found {bbox!r:.80}")
    x, y, width, height = bbox
    if width < 0 or height < 0:
        raise EvalInputError(
            f"{where}: bbox {bbox} has a negative size; it is [x, y, width, height], not corners"
        )
    if x + width > 2 * image.width or y + height > 2 * image.height:
        raise EvalInputError(
            f"{where}: bbox {bbox} reaches far beyond the image of {image.width} x {image.height} pixels; "
            "are width and height the image's own?"
        )
    return [x / image.width, y / image.height, (x + width) / image.width, (y + height) / image.height]


def _drawn(row: Mapping[str, Any], image: CocoImage, where: str) -> NDArray[np.bool_]:
    """Draw one annotation at the image's size."""
    shape = row.get("segmentation")
    if not shape:
        if "bbox" not in row:
            raise EvalInputError(f"{where}: an annotation has neither segmentation nor bbox")
        drawn = np.zeros((image.height, image.width), bool)
        x0, y0, x1, y1 = np.clip(_corners(row["bbox"], image, where), 0, 1)
        drawn[
            int(y0 * image.height) : int(y1 * image.height), int(x0 * image.width) : int(x1 * image.width)
        ] = 1
        return drawn
    if isinstance(shape, dict):
        mask = Mask.from_rle(shape, where)
        if (mask.height, mask.width) != (image.height, image.width):
            raise EvalInputError(
                f"{where}: a mask is {mask.height} x {mask.width}, the image {image.height} x {image.width}"
            )
        return mask.to_array().astype(bool)
    from pycocotools import mask as coco

    polygons = _checked_polygons(shape, where)
    merged = coco.merge(coco.frPyObjects(polygons, image.height, image.width))
    return Mask(image.height, image.width, merged["counts"]).to_array().astype(bool)


def _checked_polygons(shape: object, where: str) -> list[list[float]]:
    """Check polygons: the library that fills them walks along every edge, however long it is."""
    if not isinstance(shape, list) or not all(
        isinstance(polygon, list) and 6 <= len(polygon) <= 2 * MOST_POINTS and len(polygon) % 2 == 0
        for polygon in shape
    ):
        raise EvalInputError(
            f"{where}: segmentation must be run lengths or a list of polygons [x, y, x, y, ...]"
        )
    for polygon in shape:
        # Written so that NaN fails too; a polygon may begin outside, but not far.
        if not all(isinstance(v, int | float) and -LARGEST_SIDE <= v <= 2 * LARGEST_SIDE for v in polygon):
            raise EvalInputError(
                f"{where}: a polygon has a corner that is no number or far outside the image"
            )
    return shape
