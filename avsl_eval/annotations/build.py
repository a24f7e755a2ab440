"""What all readers of annotations share: checking clips, and sorting unusable boxes out."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import check_clip_ids
from avsl_eval.errors import EvalInputError, brief
from avsl_eval.masks import Mask
from avsl_eval.truth import AnnotatedClip, Annotations, DroppedBox, Source, Truth

# VGG-SS has coordinates of -2.88e16, a failed conversion; honest ones lie in [0, 1].
CORRUPT_ABOVE = 1e6
PIXELS_ABOVE = 2.0
MOST_BOXES_OF_A_CLIP = 10_000
LARGEST_FILE = 512 * 1024**2
"""Bytes of an annotation file; the largest published one has 2 MB."""


@dataclass(frozen=True)
class Row:
    """Hold one clip as a file has it, boxes unchecked; fields as in `AnnotatedClip`."""

    clip_id: Any
    label: Any = ""
    boxes: Any = ()
    mask: Mask | None = None
    group: str = ""
    sources: tuple[tuple[str, Any, Mask | None], ...] = ()
    silence: str = ""


def build(
    rows: Iterable[Row],
    truth: Truth,
    path: Path | None,
    *,
    name: str = "",
    earlier: Sequence[DroppedBox] = (),
) -> Annotations:
    """Check rows and sort the unusable boxes out.

    Parameters
    ----------
    rows
        Clips as read.
    truth, path, name
        As in `Annotations`. A path of None means data from memory, where NaN is a corrupt coordinate; in
        a file it is an error.
    earlier
        Boxes that the program which wrote the file has dropped itself.

    Returns
    -------
    Annotations
        With at least one clip.

    Raises
    ------
    EvalInputError
        If ids or boxes are malformed, or most boxes look like something else (pixels, xywh).
    """
    where = str(path) if path else "annotations"
    clips: list[AnnotatedClip] = []
    dropped = list(earlier)
    dropped_earlier = Counter(box.clip_id for box in earlier)
    n_boxes = n_pixels = n_empty = 0
    for row in rows:
        if not isinstance(row.clip_id, str):
            raise EvalInputError(f"{where}: clip id {row.clip_id!r:.80} is not text")
        boxes = as_boxes(row.boxes, row.clip_id, where, finite=path is not None)
        n_boxes += len(boxes)
        n_pixels += int(
            np.count_nonzero((boxes > PIXELS_ABOVE).any(axis=1) & (np.abs(boxes) < CORRUPT_ABOVE).all(axis=1))
        )
        reasons = [_fault(box) for box in boxes]
        n_empty += reasons.count(_EMPTY) - int(np.count_nonzero((boxes == 0).all(axis=1)))
        dropped += [
            DroppedBox(row.clip_id, tuple(box.tolist()), why)
            for box, why in zip(boxes, reasons, strict=True)
            if why
        ]
        clips.append(
            AnnotatedClip(
                row.clip_id,
                str(row.label),
                boxes[[not why for why in reasons]],
                sum(map(bool, reasons)) + dropped_earlier[row.clip_id],
                row.mask,
                row.group,
                tuple(_source(source, row.clip_id, where) for source in row.sources),
                row.silence,
            )
        )
    if n_pixels * 2 > n_boxes:
        raise EvalInputError(
            f"{where}: {n_pixels} of {n_boxes} boxes reach beyond {PIXELS_ABOVE:g}; they look like pixels. "
            "Divide x by the frame's width and y by its height, corners not width and height"
        )
    if path and n_empty * 2 > n_boxes:
        raise EvalInputError(
            f"{where}: {n_empty} of {n_boxes} boxes end before they begin (x1 <= x0 or y1 <= y0); are they "
            "[x, y, width, height]? Expected are corners, [x0, y0, x1, y1]"
        )
    check_clip_ids((clip.clip_id for clip in clips), where)
    return Annotations(tuple(clips), truth, tuple(dropped), path, name)


def as_boxes(raw: Any, clip_id: str, where: str, *, finite: bool) -> NDArray[np.float64]:
    """Convert boxes as read to numbers.

    Parameters
    ----------
    raw
        What should be a list of [x0, y0, x1, y1].
    clip_id, where
        For the message.
    finite
        Whether NaN and infinity are errors.

    Returns
    -------
    float64 [n, 4]
        The boxes.

    Raises
    ------
    EvalInputError
        If they are not that.
    """
    try:
        boxes = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EvalInputError(f"{where}: boxes of clip {clip_id} are not numbers: {brief(error)}") from error
    if boxes.size == 0:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise EvalInputError(
            f"{where}: boxes of clip {clip_id} have shape {boxes.shape}; expected a list of [x0, y0, x1, y1]"
        )
    if len(boxes) > MOST_BOXES_OF_A_CLIP:
        raise EvalInputError(
            f"{where}: clip {clip_id} has {len(boxes)} boxes; at most {MOST_BOXES_OF_A_CLIP}"
        )
    if finite and not np.isfinite(boxes).all():
        raise EvalInputError(
            f"{where}: a box of clip {clip_id} holds NaN, infinity or null, which are no coordinates (nor "
            "JSON numbers); leave such a box out"
        )
    return boxes


_EMPTY = "covers nothing"


def _fault(box: NDArray[np.float64]) -> str:
    """Say why a box cannot be used, "" if it can."""
    if not all(math.isfinite(v) and abs(v) <= CORRUPT_ABOVE for v in box):
        return "corrupt coordinate"
    x0, y0, x1, y1 = np.clip(box, 0, 1)
    return "" if x1 > x0 and y1 > y0 else _EMPTY


def _source(source: tuple[str, Any, Mask | None], clip_id: str, where: str) -> Source:
    label, raw, mask = source
    boxes = as_boxes(raw, clip_id, where, finite=True)
    return Source(label, boxes[[not _fault(box) for box in boxes]], mask)


def read_json_file(path: Path) -> Any:
    """Read a JSON file of annotations.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    object
        Its content.

    Raises
    ------
    EvalInputError
        If it cannot be read, is no JSON, or is larger than `LARGEST_FILE`.
    """
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise EvalInputError(f"annotations {path} have {size} bytes; at most {LARGEST_FILE}")
        text = path.read_bytes()
    except OSError as error:
        raise EvalInputError(f"cannot read annotations {path}: {error.strerror}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        from avsl_eval.annotations import KNOWN_FORMATS

        hint = (
            "; a list of clips changes a test set: --only or --extended"
            if path.suffix in {".csv", ".txt"}
            else ""
        )
        raise EvalInputError(
            f"annotations {path} are not JSON ({brief(error)}); known formats: {KNOWN_FORMATS}{hint}"
        ) from error
