"""Stage 4b: annotations, the truth in the scorer's format.

The annotation file is the denominator of every score: a clip without a usable box stays in it, with an empty
list. Faulty boxes are dropped and listed with the reason; nothing else is changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from avsl_data.errors import DataInputError
from avsl_data.files import write_text
from avsl_data.sources.published import ANNOTATIONS_SCHEMA, EXTRA_KEYS, read_annotations
from avsl_data.sources.source import Box, ClipBoxes

TOLERANCE: Final = 0.01
"""How far a coordinate may lie outside [0, 1] by rounding; it is then moved to the border."""


def clean_box(box: Box) -> tuple[Box | None, str | None]:
    """Return a box that can be used, or why it cannot.

    Parameters
    ----------
    box
        xyxy as published, meant to lie in [0, 1].

    Returns
    -------
    box : tuple of float or None
        xyxy in [0, 1] with a positive area.
    why : str or None
        Why there is no box.

    Examples
    --------
    >>> clean_box((0.1, 0.2, 1.004, 0.9))
    ((0.1, 0.2, 1.0, 0.9), None)
    >>> clean_box((0.1, 0.2, 0.7, -2.8823e16))
    (None, 'a coordinate is not in [0, 1]')
    >>> clean_box((0.1, 0.2, 0.1, 0.9))
    (None, 'no area')
    """
    if not all(math.isfinite(value) and -TOLERANCE <= value <= 1 + TOLERANCE for value in box):
        return None, "a coordinate is not in [0, 1]"
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in box)
    if x1 <= x0 or y1 <= y0:
        return None, "no area"
    return (x0, y0, x1, y1), None


def build_annotations(
    clips: Sequence[ClipBoxes],
    dataset: str,
    subset: str | None = None,
    keep: Collection[str] | None = None,
    truth: str = "union",
) -> dict[str, Any]:
    """Build the annotations of a dataset or of a part of it.

    Parameters
    ----------
    clips
        Boxes as published.
    dataset
        Name of the source.
    subset
        Name of the part, or None for all.
    keep
        Clip ids of the part, or None for all.
    truth
        How boxes make a map: ``union`` or ``consensus``.

    Returns
    -------
    dict
        JSON of schema ``avsl-annotations/1``, clips sorted by id.

    Raises
    ------
    DataInputError
        If the part holds clips that the source does not annotate.
    """
    if keep is not None:
        unknown = sorted(set(keep) - {clip.clip_id for clip in clips})
        if unknown:
            raise DataInputError(
                f"{len(unknown)} of the {len(keep)} clips of subset '{subset}' have no "
                f"annotations in '{dataset}', "
                f"first {unknown[0]}: is it the split of another data set, or an unlabelled subset?"
            )
    entries, dropped = [], []
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        if keep is not None and clip.clip_id not in keep:
            continue
        boxes = []
        for box in clip.boxes:
            cleaned, why = clean_box(box)
            if cleaned is None:
                dropped.append({"clip_id": clip.clip_id, "box": list(box), "why": why})
            else:
                boxes.append(list(cleaned))
        extra = {key: value for key in EXTRA_KEYS if (value := getattr(clip, key))}
        entries.append({"clip_id": clip.clip_id, "label": clip.label, "boxes": boxes, **extra})
    return {
        "schema": ANNOTATIONS_SCHEMA,
        "dataset": dataset,
        "subset": subset,
        "truth": truth,
        "clips": entries,
        "dropped": dropped,
    }


def write_annotations(path: Path, annotations: dict[str, Any]) -> None:
    """Write annotations atomically.

    Parameters
    ----------
    path
        The JSON file.
    annotations
        From `build_annotations`.
    """
    write_text(path, json.dumps(annotations, indent=1) + "\n")


def read_clean_boxes(path: Path) -> dict[str, list[Box]]:
    """Read the usable boxes of an annotation file.

    Parameters
    ----------
    path
        Our annotations JSON or a ``vggss.json``.

    Returns
    -------
    dict of str to list of Box
        Boxes of each annotated clip, xyxy in [0, 1]; a clip may have none.
    """
    return {
        clip.clip_id: [cleaned for box in clip.boxes if (cleaned := clean_box(box)[0]) is not None]
        for clip in read_annotations(path)
    }
