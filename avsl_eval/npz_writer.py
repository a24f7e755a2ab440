"""Write predictions as an ``.npz``, map by map: the file appears when it is complete."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError
from avsl_eval.io import cannot_write


def write_npz(
    path: Path,
    clip_ids: Sequence[str],
    shape: tuple[int, int],
    maps: Iterable[NDArray[np.floating[Any]]],
    meta: Mapping[str, Any],
) -> None:
    """Write heatmaps as they come.

    Parameters
    ----------
    path
        The file; its folder is made where it is missing. Maps are not compressed.
    clip_ids
        N ids.
    shape
        [h, w] of every map.
    maps
        N maps, in the order of the ids; stored as float32.
    meta
        What the writing program says about them; plain JSON values.

    Raises
    ------
    EvalInputError
        If it cannot be written. Nothing is left behind then, whatever the error.
    ValueError
        If a map has another shape, or there are more or fewer maps than ids.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.is_dir():
            raise EvalInputError(f"cannot write {path}: it is a folder; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            _write_array(archive, "clip_id", np.array(clip_ids, dtype=np.str_))
            _write_array(archive, "meta", np.array(json.dumps(meta)))
            _write_maps(archive, (len(clip_ids), *shape), maps)
        part.replace(path)
    except OSError as error:
        raise cannot_write(error, {path: part}) from error
    finally:
        if os.path.lexists(part):  # also where its parent is a file and it cannot be removed
            part.unlink()


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _write_maps(
    archive: zipfile.ZipFile, shape: tuple[int, int, int], maps: Iterable[NDArray[np.floating[Any]]]
) -> None:
    with archive.open("heatmap.npy", "w", force_zip64=True) as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        written = 0
        for heatmap in maps:
            if heatmap.shape != shape[1:]:
                raise ValueError(f"map {written} has shape {heatmap.shape}; expected {shape[1:]}")
            member.write(np.ascontiguousarray(heatmap, dtype="<f4").tobytes())
            written += 1
    if written != shape[0]:
        raise ValueError(f"there are {written} maps for {shape[0]} clips")
