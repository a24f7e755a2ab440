"""The boxes of Flickr-SoundNet: one XML file per video, three annotators in each.

The children of the root are annotators (and a few facts, which are ignored), their children of the name
``bbox`` hold a name and then four whole numbers: xmin, ymin, xmax, ymax on 256 x 256 pixels. Published
readers take them by position, and so does this one. A document type is refused: entities that expand into
each other fill any memory.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final
from xml.parsers import expat

from avsl_data.errors import DataInputError
from avsl_data.ids import check_clip_id, shown
from avsl_data.sources.source import Box, ClipBoxes

CANVAS: Final = 256
MAX_BYTES: Final = 1 << 20
CORNERS: Final = 4


def read_folder(folder: Path) -> list[ClipBoxes]:
    """Read a folder of ``<id>.xml`` files.

    Parameters
    ----------
    folder
        The archive's ``Annotations``.

    Returns
    -------
    list of ClipBoxes
        One per file, sorted by id; boxes of all annotators in file order.

    Raises
    ------
    DataInputError
        If there is no such folder or file, a name is no id, or a file is malformed.
    """
    if not folder.is_dir():
        raise DataInputError(f"--annotations {folder} is no folder of <id>.xml files")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".xml")
    if not paths:
        raise DataInputError(f"{folder} holds no .xml file: is it the archive's folder Annotations?")
    clips = []
    for path in paths:
        try:
            check_clip_id(path.stem)
        except DataInputError as error:
            raise DataInputError(f"{path}: {error}") from error
        clips.append(ClipBoxes(path.stem, "", tuple(read_boxes(path))))
    return clips


def read_boxes(path: Path) -> list[Box]:
    """Read the boxes of one file.

    Parameters
    ----------
    path
        The XML file.

    Returns
    -------
    list of Box
        xyxy, fractions of the canvas.

    Raises
    ------
    DataInputError
        If the file is no XML, has a document type, is larger than a megabyte, or a box has other parts.
    """
    boxes: list[Box] = []
    for annotator in _parse(path):
        for item in annotator:
            if item.tag != "bbox":
                continue
            corners = [(element.text or "").strip() for element in item][1:]
            if len(corners) != CORNERS or not all(_is_whole(corner) for corner in corners):
                raise DataInputError(
                    f"{path}: a bbox is {shown(' '.join(corners))}; expected a name and then four whole "
                    "numbers, xmin, ymin, xmax, ymax"
                )
            x0, y0, x1, y1 = (int(corner) / CANVAS for corner in corners)
            boxes.append((x0, y0, x1, y1))
    return boxes


def _is_whole(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= CORNERS


def _parse(path: Path) -> ET.Element:
    if path.stat().st_size > MAX_BYTES:
        raise DataInputError(f"{path} has more than {MAX_BYTES} bytes, which no annotation needs: refused")
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise DataInputError(f"{path} declares a document type, which annotations never need: refused")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DataInputError(f"{path} is not well-formed XML ({error})") from error
    return builder.close()
