"""Flickr-SoundNet: a folder of ``<id>.xml``, one file per clip, corners on a 256-pixel canvas.

The root holds annotators, an annotator ``bbox`` elements, a ``bbox`` its name and four whole numbers, xmin,
ymin, xmax, ymax. Any other grandchild is passed over (the published parsers stop at it).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from avsl_eval.annotations.build import Row, build
from avsl_eval.errors import EvalInputError, brief
from avsl_eval.truth import Annotations

CANVAS = 256
LARGEST_XML = 16 * 1024**2
"""Bytes; a real file has about 1,500."""


def read_flickr(folder: Path, paths: list[Path]) -> Annotations:
    """Read a folder of XML files.

    Parameters
    ----------
    folder, paths
        The folder and its XML files.

    Returns
    -------
    Annotations
        Named ``flickr``, truth ``consensus``.

    Raises
    ------
    EvalInputError
        If a file is not well-formed, declares a document type, or has malformed boxes.
    """
    return build([Row(p.stem, "", _boxes(p)) for p in paths], "consensus", folder, name="flickr")


def _boxes(path: Path) -> list[list[float]]:
    """Read the boxes of every annotator: children of children of the root with tag ``bbox``."""
    boxes = []
    for annotator in _parse(path):
        for item in annotator:
            if item.tag != "bbox":
                continue
            corners = [element.text or "" for element in item][1:]  # the first element is a name
            try:
                boxes.append([int(corner) / CANVAS for corner in corners])
            except (ValueError, OverflowError) as error:
                raise EvalInputError(
                    f"{path}: a corner of a bbox is not a whole number: {brief(error)}"
                ) from error
            if len(corners) != 4:
                raise EvalInputError(
                    f"{path}: a bbox has {len(corners)} corners; expected xmin, ymin, xmax, ymax"
                )
    return boxes


def _parse(path: Path) -> ET.Element:
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
        if path.stat().st_size > LARGEST_XML:
            raise EvalInputError(f"{path} has more than {LARGEST_XML} bytes; is it an annotation?")
        parser.Parse(path.read_bytes(), True)
    # Unknown or multi-byte encodings come as LookupError and ValueError.
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, EvalInputError):
            raise
        raise EvalInputError(f"{path} is not well-formed XML: {brief(error)}") from error
    except OSError as error:
        raise EvalInputError(f"cannot read {path}: {error.strerror}") from error
    return builder.close()
