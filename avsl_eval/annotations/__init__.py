"""Annotation files: one module per format, told apart by what is in them.

========================================== ===============================
what                                       module
========================================== ===============================
the project's JSON, ``avsl-annotations/1`` `avsl_eval.annotations.ours`
``vggss.json``                             `avsl_eval.annotations.vggss`
folder of Flickr-SoundNet ``<id>.xml``     `avsl_eval.annotations.flickr`
COCO instances                             `avsl_eval.annotations.coco`
lists of IS3, VPO, MS3, S4                 `avsl_eval.annotations.pixel_lists`
folder of mask pictures                    `avsl_eval.annotations.mask_folder`
``*_plus_silent.csv``, lists of ids        `avsl_eval.annotations.id_lists`
========================================== ===============================

Use `avsl_eval.truth.read_annotations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from avsl_eval.annotations.build import Row, build, read_json_file
from avsl_eval.annotations.ours import SCHEMA
from avsl_eval.errors import EvalInputError, kind_of, unknown_name
from avsl_eval.truth import Annotations, Truth

KNOWN_FORMATS = (
    f"the project's JSON (schema {SCHEMA}), a vggss.json, COCO instances, a list of IS3, VPO, MS3 or S4, a "
    "folder of Flickr-SoundNet <id>.xml files, or a folder of <clip_id>.png masks"
)


def read(source: str | Path | Mapping[str, Any], masks: str | Path | None = None) -> Annotations:
    """Read annotations; see `avsl_eval.truth.read_annotations`.

    Parameters
    ----------
    source
        A file, a folder, or a mapping from clip id to boxes.
    masks
        Folder of mask pictures.

    Returns
    -------
    Annotations
        As their format says.

    Raises
    ------
    EvalInputError
        If the source cannot be read.
    """
    if isinstance(source, Mapping):
        return build((Row(clip_id, "", boxes) for clip_id, boxes in source.items()), "union", None)
    if not isinstance(source, str | Path):
        raise EvalInputError(
            f"annotations are {kind_of(source)}, not a path or a mapping from clip id to boxes [n, 4]; for "
            "lists: dict(zip(clip_ids, boxes))"
        )
    path = Path(source)
    folder = Path(masks) if masks is not None else None
    try:
        is_folder, has_masks = path.is_dir(), folder is None or folder.is_dir()
    except OSError as error:  # a folder above may not be entered
        raise EvalInputError(f"cannot read annotations {path}: {error.strerror}") from error
    if not has_masks:
        raise EvalInputError(f"the folder of masks, {folder}, is not there")
    return _read_folder(path, folder) if is_folder else _read_file(path, folder)


def derive(
    annotations: Annotations,
    *,
    truth: str | None = None,
    extended: str | Path | None = None,
    only: str | Path | None = None,
) -> Annotations:
    """Change a test set in the ways of `avsl_eval.truth.read_annotations`.

    Parameters
    ----------
    annotations
        The test set.
    truth, extended, only
        How to draw it, silent pairs to add, and clips to keep; None for no change. A list of clips to keep
        may name pairs.

    Returns
    -------
    Annotations
        The changed set.

    Raises
    ------
    EvalInputError
        If it cannot be changed like this.
    """
    from avsl_eval.annotations.id_lists import extend, restrict

    if truth is not None:
        if truth not in get_args(Truth):
            raise unknown_name("truth", truth, get_args(Truth))
        if truth == "mask" and not any(clip.has_mask for clip in annotations.clips):
            raise EvalInputError(
                f"annotations {annotations.path} hold no mask; their truth is {annotations.truth}"
            )
        if truth != "mask" and not any(len(clip.boxes) for clip in annotations.clips):
            raise EvalInputError(
                f"annotations {annotations.path} hold no box; their truth is {annotations.truth}"
            )
        annotations = annotations.drawn_as(truth)  # type: ignore[arg-type]
    if only is not None:
        annotations = restrict(annotations, Path(only))
    return extend(annotations, Path(extended)) if extended is not None else annotations


def _read_folder(path: Path, masks: Path | None) -> Annotations:
    from avsl_eval.annotations.flickr import read_flickr
    from avsl_eval.annotations.mask_folder import read_mask_folder
    from avsl_eval.pictures import SUFFIXES

    if masks is not None:
        raise EvalInputError(f"annotations {path} are a folder, which needs no folder of masks beside it")
    try:
        files = sorted(path.iterdir())
    except OSError as error:
        raise EvalInputError(f"cannot read annotations folder {path}: {error.strerror}") from error
    if sheets := [p for p in files if p.suffix.lower() == ".xml"]:
        return read_flickr(path, sheets)
    if pictures := [p for p in files if p.suffix.lower() in SUFFIXES]:
        return read_mask_folder(path, pictures)
    raise EvalInputError(
        f"annotations folder {path} holds no .xml file and no picture; known formats: {KNOWN_FORMATS}"
    )


def _read_file(path: Path, masks: Path | None) -> Annotations:
    from avsl_eval.annotations.coco import is_coco, read_coco
    from avsl_eval.annotations.ours import read_ours
    from avsl_eval.annotations.pixel_lists import is_pixel_list, read_pixel_list
    from avsl_eval.annotations.vggss import is_vggss, read_vggss

    content = read_json_file(path)
    if is_pixel_list(content):
        return read_pixel_list(content, path, masks)
    if masks is not None:
        raise EvalInputError(f"annotations {path} name no mask pictures; --masks is for the lists that do")
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        return read_ours(content, path)
    if is_coco(content):
        return read_coco(content, path)
    if is_vggss(content):
        return read_vggss(content, path)
    raise EvalInputError(f"annotations {path} are JSON, but of no known format; known: {KNOWN_FORMATS}")
