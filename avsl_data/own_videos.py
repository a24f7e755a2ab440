"""A user's own videos, under any names, and a table of boxes: brought to clip ids and annotations.

Every video of the folder becomes a clip. A file that is named by a clip id keeps it; another one gets an id
made from its name. The videos are not copied: a folder of links under the ids is what later stages read.
"""

from __future__ import annotations

import csv
import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from avsl_data.decode import first_streams, media_url
from avsl_data.errors import DataInputError
from avsl_data.ids import YOUTUBE_ID_LENGTH, hash_of, make_clip_id, normalise

VIDEO_SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ogv", ".flv")
CORNERS: Final = ("x0", "y0", "x1", "y1")
FILE_COLUMNS: Final = ("clip_id", "file")
ID_CHARACTERS: Final = 48
_YOUTUBE_ID = re.compile(rf"[A-Za-z0-9_-]{{{YOUTUBE_ID_LENGTH}}}")
TOLERANCE: Final = 0.01
"""How far a fraction may lie outside [0, 1] by rounding."""


@dataclass(frozen=True)
class OwnClip:
    """One of the user's videos.

    Parameters
    ----------
    clip_id
        Its id from now on.
    path
        Its file.
    """

    clip_id: str
    path: Path


def own_clips(folder: Path) -> list[OwnClip]:
    """Find the videos of a folder and of all folders in it, and give each an id.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    list of OwnClip
        In the order of their paths.

    Raises
    ------
    DataInputError
        If it is no folder, holds no videos, or two of them have the same clip id.
    """
    if not folder.is_dir():
        raise DataInputError(f"{folder} is no folder")
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )
    if not paths:
        raise DataInputError(f"{folder} has no videos ({', '.join(VIDEO_SUFFIXES)})")
    clips: dict[str, OwnClip] = {}
    for path in paths:
        clip_id = own_id(path.relative_to(folder))
        if clip_id in clips:
            raise DataInputError(
                f"{clips[clip_id].path} and {path} are the same clip, {clip_id}: keep or rename one of them"
            )
        clips[clip_id] = OwnClip(clip_id, path.absolute())
    return list(clips.values())


def own_id(path: Path) -> str:
    """Return the clip id of a user's video.

    Parameters
    ----------
    path
        Its path within the folder.

    Returns
    -------
    str
        The name itself if it is a clip id in any spelling. A name of eleven characters may be YouTube's id of
        a video and is kept with the start 0, so that a split sees whether the video is in a test set. Else
        what can be kept of the name, a hash of the path and start 0.

    Examples
    --------
    >>> own_id(Path("1aDnyPubxdY_000118.mp4"))
    '1aDnyPubxdY_000118'
    >>> own_id(Path("1aDnyPubxdY_118000_128000.mp4")), own_id(Path("1aDnyPubxdY.mp4"))
    ('1aDnyPubxdY_000118', '1aDnyPubxdY_000000')
    >>> own_id(Path("cats/my cat.mp4"))
    'my-cat-b6c0b9e4_000000'
    """
    try:
        return normalise(path.stem)
    except DataInputError:
        if _YOUTUBE_ID.fullmatch(path.stem):
            return make_clip_id(path.stem, 0)
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:ID_CHARACTERS].strip("-_") or "clip"
        return f"{readable}-{hash_of(path.as_posix()):016x}"[: len(readable) + 9] + "_000000"


def link_clips(clips: Sequence[OwnClip], folder: Path) -> None:
    """Make a folder of links to the videos, named by their ids, and remove links that it had before.

    Parameters
    ----------
    clips
        The videos.
    folder
        The folder; made if absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {f"{clip.clip_id}.mp4": clip.path for clip in clips}
    for link in folder.iterdir():
        if link.is_symlink() and (link.name not in wanted or link.readlink() != wanted[link.name]):
            link.unlink()
    for name, path in wanted.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(path)


def read_boxes_table(
    path: Path, clips: Sequence[OwnClip], folder: Path, pixels: bool = False
) -> list[dict[str, Any]]:
    """Read a table of boxes.

    Parameters
    ----------
    path
        CSV file with a header: ``clip_id`` or ``file``, ``x0``, ``y0``, ``x1``, ``y1`` and perhaps ``label``,
        in any order; one row per box. A row with empty corners annotates a clip without a visible source.
    clips
        The videos.
    folder
        Where they are, for file names with folders.
    pixels
        Whether corners are pixels of the upright picture instead of fractions.

    Returns
    -------
    list of dict
        ``file``, ``class`` and ``bbox`` of each clip, as VGG-SS publishes them.

    Raises
    ------
    DataInputError
        If a column is missing, a row names no video, or a box or label cannot be right.
    """
    names = _names(clips, folder)
    sizes: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    boxes: dict[str, list[list[float]]] = {}
    for where, row in _rows(path):
        given = (row.get("clip_id") or row.get("file") or "").strip()
        clip = names.get(given)
        if clip is None:
            near = difflib.get_close_matches(given, names, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise DataInputError(f"{where}: no video of {folder} is called {given!r}{hint}")
        label = (row.get("label") or "").strip()
        if labels.setdefault(clip.clip_id, label) != label:
            raise DataInputError(
                f"{where}: {given} has the label {label!r} here and {labels[clip.clip_id]!r} before: "
                "a clip has one label"
            )
        found = boxes.setdefault(clip.clip_id, [])
        if pixels and clip.clip_id not in sizes:
            sizes[clip.clip_id] = _upright_size(clip.path, where)
        box = _box(row, sizes.get(clip.clip_id, (1, 1)), where, pixels)
        if box is not None:
            found.append(box)
    return [
        {"file": clip_id, "class": labels[clip_id], "bbox": found} for clip_id, found in sorted(boxes.items())
    ]


def _names(clips: Sequence[OwnClip], folder: Path) -> dict[str, OwnClip]:
    """Return every way to name a video: id, path, file name, its stem; ambiguous ones are left out."""
    names: dict[str, OwnClip | None] = {}
    for clip in clips:
        inside = Path(os.path.relpath(clip.path, folder.absolute()))
        for name in {
            clip.clip_id,
            inside.as_posix(),
            inside.with_suffix("").as_posix(),
            inside.name,
            inside.stem,
        }:
            names[name] = None if name in names else clip
    return {name: clip for name, clip in names.items() if clip is not None}


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """Yield the place and the cells of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            missing = [name for name in CORNERS if name not in header]
            if missing or not set(FILE_COLUMNS) & set(header):
                need = ", ".join(missing or ["clip_id or file"])
                raise DataInputError(
                    f"{path} lacks the column {need}: its header is {', '.join(header) or 'empty'}; expected "
                    "clip_id or file, x0, y0, x1, y1 and perhaps label"
                )
            for row in reader:
                yield f"{path}, line {reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataInputError(f"{path} is no readable CSV file: {error}") from error


def _box(
    row: Mapping[str, str | None], size: tuple[int, int], where: str, pixels: bool
) -> list[float] | None:
    """Return a row's box as fractions; None if its corners are empty."""
    cells = [(row[name] or "").strip() for name in CORNERS]
    if not any(cells):
        return None
    try:
        values = [float(cell) for cell in cells]
    except ValueError as error:
        raise DataInputError(f"{where}: x0, y0, x1, y1 are {cells}: four numbers or all empty") from error
    width, height = size
    box = [value / side for value, side in zip(values, (width, height, width, height), strict=True)]
    if not all(math.isfinite(value) and -TOLERANCE <= value <= 1 + TOLERANCE for value in box):
        if pixels:
            raise DataInputError(
                f"{where}: the box {values} is not inside the picture of {width}x{height} pixels"
            )
        hint = "are these pixels? Then add --pixels" if max(values) > 2 else "corners are fractions in [0, 1]"
        raise DataInputError(f"{where}: the box {values} is not inside the picture: {hint}")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise DataInputError(
            f"{where}: the box {values} has no area: x1 and y1 are the right and lower border, no width and "
            "height"
        )
    return [min(max(value, 0.0), 1.0) for value in box]


def _upright_size(path: Path, where: str) -> tuple[int, int]:
    """Return width and height of a video's picture as a viewer turns it; its pixels are not made square."""
    import av

    try:
        with av.open(media_url(path)) as container:
            video, _ = first_streams(container)
            frame = None if video is None else next(container.decode(video), None)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise DataInputError(
            f"{where}: {path} cannot be opened, so its pixels are not known: {error}"
        ) from error
    if frame is None:
        raise DataInputError(f"{where}: {path} has no picture, so its pixels are not known")
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
