"""Ground truth: annotation files, and the maps that boxes make.

Formats
-------
- the project's JSON, ``{"schema": "avsl-annotations/1", "truth": "union" | "consensus",
  "clips": [...], ...}``
- ``vggss.json``: a list of ``{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}``
- a folder of Flickr-SoundNet XML files, ``<id>.xml``, corners on a 256-pixel canvas

Conventions
-----------
Boxes are xyxy in [0, 1] of the full frame. On a map of S pixels a corner v lies at ``int(S * clip(v, 0, 1))``
and a box covers the half-open slice [y0:y1, x0:x1]. ``union``: g is 1 inside any box (VGG-SS). ``consensus``:
g is 1/2 per box, at most 1 (Flickr-SoundNet; counted per box, not per annotator, as the published parsers
do).

A box that covers nothing or has a corrupt coordinate cannot be used; it is dropped and listed, its clip
stays.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import check_clip_ids
from avsl_eval.errors import EvalInputError, first_few

Truth = Literal["union", "consensus"]

SCHEMA = "avsl-annotations/1"
FLICKR_CANVAS = 256
UNITS: dict[Truth, int] = {"union": 1, "consensus": 2}
"""How many levels above 0 a truth has: g = level / unit."""

# VGG-SS has coordinates of -2.88e16, a failed conversion; honest ones lie in [0, 1].
CORRUPT_ABOVE = 1e6
PIXELS_ABOVE = 2.0
KNOWN_FORMATS = (
    f"the project's JSON (schema {SCHEMA}), a vggss.json, or a folder of Flickr-SoundNet <id>.xml files"
)


@dataclass(frozen=True)
class AnnotatedClip:
    """Hold what is known about one clip.

    Parameters
    ----------
    clip_id, label
        Its id and class ("" where the format has none).
    boxes : float64 [n, 4]
        Usable boxes, xyxy in [0, 1] (values outside are clipped when drawn).
    n_dropped
        Number of boxes that could not be used.
    """

    clip_id: str
    label: str
    boxes: NDArray[np.float64]
    n_dropped: int = 0


@dataclass(frozen=True)
class DroppedBox:
    """Name a box that could not be used, and why."""

    clip_id: str
    box: tuple[float, ...]
    why: str


@dataclass(frozen=True)
class Annotations:
    """Hold the annotations of a test set; its clips are the denominator of every score.

    Parameters
    ----------
    clips
        Annotated clips, in the file's order.
    truth
        How boxes make a map.
    dropped
        Boxes that could not be used.
    path
        Where they were read, or None.
    """

    clips: tuple[AnnotatedClip, ...]
    truth: Truth
    dropped: tuple[DroppedBox, ...] = ()
    path: Path | None = None

    @property
    def unit(self) -> int:
        """The number of levels of `rasterise`, g = level / unit."""
        return UNITS[self.truth]


def rasterise(boxes: NDArray[np.floating[Any]], size: int, truth: Truth) -> NDArray[np.uint8]:
    """Draw boxes as a ground-truth map.

    Parameters
    ----------
    boxes : float [n, 4]
        xyxy in [0, 1].
    size
        Map size S in pixels.
    truth
        ``union`` or ``consensus``.

    Returns
    -------
    uint8 [S, S]
        Levels: g times 1 (union) or 2 (consensus).

    Examples
    --------
    >>> rasterise(np.array([[0, 0, 0.5, 1], [0, 0, 1, 0.5]]), 2, "consensus").tolist()
    [[2, 1], [1, 0]]
    """
    levels = np.zeros((size, size), np.uint8)
    corners = (size * np.clip(boxes, 0, 1)).astype(np.intp).reshape(-1, 4)
    for x0, y0, x1, y1 in corners:
        region = levels[y0:y1, x0:x1]
        if truth == "union":
            region[...] = 1
        else:
            np.minimum(region + 1, 2, out=region)
    return levels


def read_annotations(source: str | Path | Mapping[str, Any] | Annotations) -> Annotations:
    """Read annotations of any known format.

    Parameters
    ----------
    source
        A file or folder, or a mapping from clip id to boxes [n, 4] xyxy in [0, 1] (drawn as a union), or
        annotations already read.

    Returns
    -------
    Annotations
        With at least one clip.

    Raises
    ------
    EvalInputError
        If the source does not exist, is of no known format, is empty or damaged, or repeats a clip.

    Examples
    --------
    >>> read_annotations({"a_000001": [[0.1, 0.1, 0.6, 0.5], [0.2, 0.2, 0.2, 0.9]]}).dropped[0].why
    'covers nothing'
    """
    if isinstance(source, Annotations):
        return source
    if isinstance(source, Mapping):
        return _build(
            ((clip_id, "", boxes) for clip_id, boxes in source.items()), "union", "annotations", None
        )
    path = Path(source)
    if path.is_dir():
        return _read_flickr_folder(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise EvalInputError(f"cannot read annotations {path}: {error.strerror}") from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvalInputError(
            f"annotations {path} are not JSON ({error or 'nested too deep'}); known formats: {KNOWN_FORMATS}"
        ) from error
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        return _read_ours(content, path)
    if isinstance(content, list) and all(
        isinstance(c, dict) and {"file", "bbox"} <= c.keys() for c in content
    ):
        rows = ((c["file"], c.get("class", ""), c["bbox"]) for c in content)
        return _build(rows, "union", str(path), path)
    raise EvalInputError(f"annotations {path} are JSON, but of no known format; known: {KNOWN_FORMATS}")


def _read_ours(content: dict[str, Any], path: Path) -> Annotations:
    truth, clips = content.get("truth", "union"), content.get("clips")
    if truth not in UNITS:
        raise EvalInputError(f"annotations {path}: truth is {truth!r}; known: {', '.join(UNITS)}")
    if not isinstance(clips, list) or not all(
        isinstance(c, dict) and {"clip_id", "boxes"} <= c.keys() for c in clips
    ):
        raise EvalInputError(
            f"annotations {path}: clips must be a list of objects with clip_id, label and boxes"
        )
    earlier = []
    for row in content.get("dropped", []):
        if not (isinstance(row, dict) and {"clip_id", "box"} <= row.keys()):
            raise EvalInputError(
                f"annotations {path}: dropped must be a list of objects with clip_id, box and why"
            )
        box = row["box"] if isinstance(row["box"], list) else []
        earlier.append(DroppedBox(str(row["clip_id"]), tuple(box), str(row.get("why", ""))))
    rows = ((c["clip_id"], c.get("label", ""), c["boxes"]) for c in clips)
    return _build(rows, truth, str(path), path, earlier)


def _build(
    rows: Iterable[tuple[Any, Any, Any]],
    truth: Truth,
    where: str,
    path: Path | None,
    earlier: Sequence[DroppedBox] = (),
) -> Annotations:
    """Check rows of (clip id, label, boxes) and sort the unusable boxes out."""
    clips: list[AnnotatedClip] = []
    dropped = list(earlier)
    dropped_earlier = Counter(box.clip_id for box in earlier)
    n_boxes = n_pixels = 0
    for clip_id, label, raw in rows:
        if not isinstance(clip_id, str):
            raise EvalInputError(f"{where}: clip id {clip_id!r} is not text")
        boxes = _as_boxes(raw, clip_id, where)
        n_boxes += len(boxes)
        n_pixels += int(
            np.count_nonzero((boxes > PIXELS_ABOVE).any(axis=1) & (np.abs(boxes) < CORRUPT_ABOVE).all(axis=1))
        )
        reasons = [_fault(box) for box in boxes]
        dropped += [
            DroppedBox(clip_id, tuple(box.tolist()), why)
            for box, why in zip(boxes, reasons, strict=True)
            if why
        ]
        usable = boxes[[not why for why in reasons]]
        n_dropped = sum(map(bool, reasons)) + dropped_earlier[clip_id]
        clips.append(AnnotatedClip(clip_id, str(label), usable, n_dropped))
    if n_pixels * 2 > n_boxes:
        raise EvalInputError(
            f"{where}: {n_pixels} of {n_boxes} boxes reach beyond {PIXELS_ABOVE:g}; they look like pixels. "
            "Divide x by the frame's width and y by its height, corners not width and height"
        )
    check_clip_ids((clip.clip_id for clip in clips), where)
    return Annotations(tuple(clips), truth, tuple(dropped), path)


def _as_boxes(raw: Any, clip_id: str, where: str) -> NDArray[np.float64]:
    try:
        boxes = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EvalInputError(f"{where}: boxes of clip {clip_id} are not numbers: {error}") from error
    if boxes.size == 0:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise EvalInputError(
            f"{where}: boxes of clip {clip_id} have shape {boxes.shape}; expected a list of [x0, y0, x1, y1]"
        )
    return boxes


def _fault(box: NDArray[np.float64]) -> str:
    """Say why a box cannot be used, "" if it can."""
    if not all(math.isfinite(v) and abs(v) <= CORRUPT_ABOVE for v in box):
        return "corrupt coordinate"
    x0, y0, x1, y1 = np.clip(box, 0, 1)
    return "" if x1 > x0 and y1 > y0 else "covers nothing"


def _read_flickr_folder(folder: Path) -> Annotations:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".xml")
    if not paths:
        raise EvalInputError(
            f"annotations folder {folder} holds no .xml file; known formats: {KNOWN_FORMATS}"
        )
    return _build(((p.stem, "", _flickr_boxes(p)) for p in paths), "consensus", str(folder), folder)


def _flickr_boxes(path: Path) -> list[list[float]]:
    """Read the boxes of every annotator: children of children of the root with tag ``bbox``."""
    boxes = []
    for annotator in _parse_xml(path):
        for item in annotator:
            if item.tag != "bbox":
                continue
            corners = [element.text or "" for element in item][1:]  # the first element is a name
            try:
                boxes.append([int(corner) / FLICKR_CANVAS for corner in corners])
            except ValueError as error:
                raise EvalInputError(f"{path}: a corner of a bbox is not a whole number: {error}") from error
            if len(corners) != 4:
                raise EvalInputError(
                    f"{path}: a bbox has {len(corners)} corners; expected xmin, ymin, xmax, ymax"
                )
    return boxes


def _parse_xml(path: Path) -> ET.Element:
    """Parse XML, refusing document types: entities that expand into each other fill any memory."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise EvalInputError(
            f"{path} declares a document type or entities, which annotations never need: refused"
        )

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise EvalInputError(f"{path} is not well-formed XML: {error}") from error
    except OSError as error:
        raise EvalInputError(f"cannot read {path}: {error.strerror}") from error
    return builder.close()


def describe_dropped(dropped: Sequence[DroppedBox]) -> str:
    """Summarise unusable boxes in one line.

    Parameters
    ----------
    dropped
        The boxes.

    Returns
    -------
    str
        For a log line.

    Examples
    --------
    >>> describe_dropped([DroppedBox("a_000001", (0.2, 0.2, 0.2, 0.9), "covers nothing")])
    '1 boxes of 1 clips cannot be used (a_000001)'
    """
    clips = list(dict.fromkeys(d.clip_id for d in dropped))
    return f"{len(dropped)} boxes of {len(clips)} clips cannot be used ({first_few(clips)})"
