"""A user's own folder of clips, with or without boxes.

**Size.** As many clips as the folder holds.

**How made.** By the user: files named ``<video id>_<start, six digits>.mp4`` (also ``.mkv`` and ``.webm``),
and perhaps boxes in VGG-SS's JSON format or in this project's own. Nothing is downloaded, cut or copied:
``avsl-data download --from-folder`` decodes each file where it lies and writes the ledger.

**Known faults.** Whatever the files have. A clip that is annotated but has no file stays in the catalog,
fails as ``missing`` and keeps its place in the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from avsl_data.errors import DataInputError
from avsl_data.ids import normalise, start_of, video_id_of
from avsl_data.remotes import Remote
from avsl_data.sources.published import read_annotations
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs

NAME: Final = "folder"
BIBTEX: Final = ""
LICENSE: Final = "The user's own."
REMOTES: Final[Mapping[str, Remote]] = {}
INPUTS: Final = frozenset({"clips", "annotations"})
TRUTH: Final = "union"

CLIP_SUFFIXES: Final = (".mp4", ".mkv", ".webm")


def clip_files(folder: Path) -> dict[str, Path]:
    """Find the clips of a folder.

    Parameters
    ----------
    folder
        The folder; its subfolders are not searched.

    Returns
    -------
    dict of str to Path
        The file of each clip id, in the order of the ids.

    Raises
    ------
    DataInputError
        If a video file is not named by a clip id in any spelling, or two files have the same one.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in CLIP_SUFFIXES:
            continue
        try:
            clip_id = normalise(path.stem)
        except DataInputError as error:
            raise DataInputError(
                f"{path}: {error}. Rename it, or move it elsewhere; a start of 000000 will do"
            ) from error
        if clip_id in files:
            raise DataInputError(f"{files[clip_id]} and {path} are the same clip: keep one of them")
        files[clip_id] = path
    return files


def catalog(inputs: Inputs) -> list[CatalogClip]:
    """List the clips that have a file, a box or both.

    Parameters
    ----------
    inputs
        Uses ``clips`` and, if given, ``annotations``.

    Returns
    -------
    list of CatalogClip
        In the order of the ids, all of the official split ``test``; their length is not known yet.

    Raises
    ------
    DataInputError
        If there is no folder, or it has no clips.
    """
    folder = inputs.folder("clips", NAME)
    labels = {clip.clip_id: clip.label for clip in boxes(inputs)} if inputs.annotations else {}
    files = clip_files(folder)
    if not files:
        raise DataInputError(
            f"{folder} has no clips: expected files such as 1aDnyPubxdY_000118.mp4 "
            f"({', '.join(CLIP_SUFFIXES)})"
        )
    return [
        CatalogClip(
            clip_id=clip_id,
            video_id=video_id_of(clip_id),
            url=f"folder:///{files[clip_id].name if clip_id in files else clip_id}",
            start_s=float(start_of(clip_id)),
            end_s=None,
            label=labels.get(clip_id, ""),
            official_split="test",
        )
        for clip_id in sorted({*files, *labels})
    ]


def boxes(inputs: Inputs) -> list[ClipBoxes]:
    """Read the user's boxes.

    Parameters
    ----------
    inputs
        Uses ``annotations``.

    Returns
    -------
    list of ClipBoxes
        In file order.

    Raises
    ------
    DataInputError
        If no annotations were given or they are of neither format.
    """
    if inputs.annotations is None:
        raise DataInputError("the source 'folder' has the boxes that you give: add --annotations FILE.json")
    return read_annotations(inputs.annotations)
