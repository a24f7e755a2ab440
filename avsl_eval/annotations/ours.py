"""The project's JSON, schema ``avsl-annotations/1``.

::

    {"schema": "avsl-annotations/1", "testset": "kitchen", "truth": "union",
     "clips": [{"clip_id": "a_000001", "label": "kettle", "boxes": [[0.1, 0.2, 0.5, 0.9]]},
               {"clip_id": "b_000002", "label": "", "silent": "mismatched"}],
     "dropped": [{"clip_id": "a_000001", "box": [0.3, 0.3, 0.3, 0.4], "why": "covers nothing"}]}

=========== ================================================================================================
of the file
=========== ================================================================================================
truth       ``union`` (the default), ``consensus`` or ``mask``
testset     name of the test set; optional. Without it ``dataset`` and ``subset`` name it
dropped     boxes that the writer has left out; they count as boxes that could not be used
=========== ================================================================================================

=========== ================================================================================================
of a clip
=========== ================================================================================================
clip_id     required
label       its class
boxes       list of [x0, y0, x1, y1] in [0, 1]; may be left out where there are sources, a mask or ``silent``
mask        COCO run lengths, ``{"size": [h, w], "counts": ...}``
group       what it shares with other clips, text
sources     list of ``{"label", "boxes", "mask"}``, the sounding things one by one; their boxes are the
            clip's, unless it has ``boxes`` of its own
silent      true, or a word that says why (``mismatched``, ``silent``, ``noise``): such a clip has no box
=========== ================================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avsl_eval.annotations.build import Row, build
from avsl_eval.errors import EvalInputError
from avsl_eval.masks import Mask
from avsl_eval.truth import UNITS, Annotations, DroppedBox

SCHEMA = "avsl-annotations/1"
_SHAPES = ("boxes", "sources", "mask", "silent")


def read_ours(content: dict[str, Any], path: Path) -> Annotations:
    """Read annotations of schema `SCHEMA`.

    Parameters
    ----------
    content, path
        The file.

    Returns
    -------
    Annotations
        As the file says.

    Raises
    ------
    EvalInputError
        If a part is malformed.
    """
    truth, clips = content.get("truth", "union"), content.get("clips")
    if not isinstance(truth, str) or truth not in UNITS:
        raise EvalInputError(f"annotations {path}: truth is {truth!r:.80}; known: {', '.join(UNITS)}")
    if not isinstance(clips, list) or not all(
        isinstance(c, dict) and "clip_id" in c and any(key in c for key in _SHAPES) for c in clips
    ):
        raise EvalInputError(
            f"annotations {path}: clips must be a list of objects with clip_id, label and boxes"
        )
    return build(
        [_row(clip, path) for clip in clips],
        truth,
        path,
        name=_name(content),
        earlier=_dropped(content, path),
    )


def _name(content: dict[str, Any]) -> str:
    if isinstance(name := content.get("testset"), str):
        return name
    return "-".join(part for key in ("dataset", "subset") if isinstance(part := content.get(key), str))


def _dropped(content: dict[str, Any], path: Path) -> list[DroppedBox]:
    dropped = []
    rows = content.get("dropped", [])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"clip_id", "box"} <= row.keys() for row in rows
    ):
        raise EvalInputError(
            f"annotations {path}: dropped must be a list of objects with clip_id, box and why"
        )
    for row in rows:
        box = row["box"] if isinstance(row["box"], list) else []
        dropped.append(DroppedBox(str(row["clip_id"]), tuple(box), str(row.get("why", ""))))
    return dropped


def _row(clip: dict[str, Any], path: Path) -> Row:
    where = f"annotations {path}: clip {clip['clip_id']!r:.80}"
    listed = clip.get("sources", [])
    if not isinstance(listed, list) or not all(isinstance(s, dict) for s in listed):
        raise EvalInputError(f"{where}: sources must be a list of objects with label and boxes or mask")
    sources = tuple((str(s.get("label", "")), s.get("boxes", []), _mask(s, where)) for s in listed)
    if not all(isinstance(boxes, list) for _, boxes, _ in sources):
        raise EvalInputError(f"{where}: boxes of a source must be a list of [x0, y0, x1, y1]")
    boxes = clip.get("boxes", [box for _, boxes, _ in sources for box in boxes])
    mask = _mask(clip, where)
    silent = clip.get("silent", False)
    if not isinstance(silent, bool | str):
        raise EvalInputError(f"{where}: silent must be true, false or a word; found {silent!r:.80}")
    # An empty word means the same as false.
    if silent and (boxes or mask or sources):
        raise EvalInputError(f"{where} is marked silent but has boxes, a mask or sources; which is it?")
    group = clip.get("group") or ""
    if not isinstance(group, str):
        raise EvalInputError(f"{where}: group must be text; found {group!r:.80}")
    return Row(
        clip["clip_id"],
        clip.get("label", ""),
        boxes,
        mask,
        group,
        sources,
        silent if isinstance(silent, str) else "",
    )


def _mask(holder: dict[str, Any], where: str) -> Mask | None:
    rle = holder.get("mask")
    if rle is None:
        return None
    if not isinstance(rle, dict):
        raise EvalInputError(f"{where}: mask must be COCO run lengths, {{size, counts}}; found {rle!r:.80}")
    return Mask.from_rle(rle, where)
