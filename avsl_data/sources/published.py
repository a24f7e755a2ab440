"""Readers of the field's published file formats: id lists, vggsound.csv and vggss.json.

Real copies have CRLF or LF line ends, often no final newline, and three spellings of clip ids.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Final

from avsl_data.errors import DataInputError
from avsl_data.ids import check_clip_id, check_safe_id, normalise
from avsl_data.sources.source import Box, ClipBoxes

ANNOTATIONS_SCHEMA: Final = "avsl-annotations/1"
EXTRA_KEYS: Final = ("silent", "frame_of", "audio_of", "group")
"""Keys of a clip in our annotations that are left out where they are empty."""


def read_id_list(path: Path) -> list[tuple[str, str]]:
    """Read a list of clip ids, one per line, perhaps with a label after a comma.

    Parameters
    ----------
    path
        Any format of `avsl_data.id_lists`.

    Returns
    -------
    list of (str, str)
        Normalised clip id and label; the label is empty where the list has none. File order.

    Raises
    ------
    DataInputError
        If a line holds no clip id.
    """
    from avsl_data.id_lists import read_list

    found = read_list(path)
    return list(zip(found.ids.to_pylist(), found.labels.to_pylist(), strict=True))


def read_vggsound_csv(path: Path) -> list[tuple[str, str, str]]:
    """Read a file in vggsound.csv's format: video id, start seconds, label, split; no header.

    Parameters
    ----------
    path
        The CSV file.

    Returns
    -------
    list of (str, str, str)
        Normalised clip id, label and split, in file order.

    Raises
    ------
    DataInputError
        If a line has not four columns or the start is no whole number.
    """
    from avsl_data.id_lists import read_vggsound_table

    return list(zip(*(column.to_pylist() for column in read_vggsound_table(path).columns), strict=True))


def read_labels(path: Path) -> dict[str, str]:
    """Read a table of clip id and class whose ids are not of VGGSound's form.

    Parameters
    ----------
    path
        CSV file without a header.

    Returns
    -------
    dict of str to str
        Class of each id.

    Raises
    ------
    DataInputError
        If a line has not two columns, or an id could not be a file name.
    """
    labels = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            try:
                clip_id, label = row
                labels[check_safe_id(clip_id)] = label
            except ValueError as error:
                raise DataInputError(f"{path}, line {number}: expected clip id, class: {error}") from error
    return labels


def read_annotations(path: Path) -> list[ClipBoxes]:
    """Read boxes from a ``vggss.json`` or from our annotations JSON, told apart by their content.

    Parameters
    ----------
    path
        The JSON file.

    Returns
    -------
    list of ClipBoxes
        One per clip, in file order, boxes as they stand in the file.

    Raises
    ------
    DataInputError
        If the file is absent, is no JSON, is neither format or names a clip twice.
    """
    if not path.is_file():
        raise DataInputError(f"the annotations {path} do not exist")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataInputError(f"{path} is no JSON ({error})") from error
    entries, keys = _entries(path, content)
    clips = [_clip_boxes(path, entry, keys) for entry in entries]
    seen: set[str] = set()
    for clip in clips:
        if clip.clip_id in seen:
            raise DataInputError(f"{path} names the clip {clip.clip_id} twice")
        seen.add(clip.clip_id)
    return clips


def _entries(path: Path, content: Any) -> tuple[list[Any], tuple[str, str, str]]:
    """Return the entries of either format and their keys for id, label and boxes."""
    if isinstance(content, list):
        return content, ("file", "class", "bbox")
    if isinstance(content, dict) and content.get("schema") == ANNOTATIONS_SCHEMA:
        return list(content.get("clips", [])), ("clip_id", "label", "boxes")
    raise DataInputError(
        f"{path} is neither a list as in vggss.json nor an object with schema '{ANNOTATIONS_SCHEMA}'"
    )


def _clip_boxes(path: Path, entry: Any, keys: tuple[str, str, str]) -> ClipBoxes:
    try:
        clip_id, label, boxes = (entry[key] for key in keys)
        if keys[0] == "clip_id":
            extra = {name: str(entry.get(name, "")) for name in EXTRA_KEYS}
            return ClipBoxes(check_safe_id(clip_id), str(label), tuple(_box(box) for box in boxes), **extra)
        return ClipBoxes(check_clip_id(normalise(clip_id)), str(label), tuple(_box(box) for box in boxes))
    except DataInputError as error:
        raise DataInputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataInputError(
            f"{path}: an entry is not {{{', '.join(keys)}: [[x0, y0, x1, y1], ...]}}: {str(entry)[:120]}"
        ) from error


def _box(values: Any) -> Box:
    x0, y0, x1, y1 = (float(value) for value in values)
    return (x0, y0, x1, y1)
