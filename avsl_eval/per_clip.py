"""Tables of annotated clips, ``per_clip.csv``, as `avsl_eval.result` writes them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError


@dataclass(frozen=True)
class PerClip:
    """Hold the columns of a per_clip.csv that results need.

    Parameters
    ----------
    clip_id, label, status
        Text, N each.
    ciou : float64 [N]
        NaN where undefined.
    """

    clip_id: tuple[str, ...]
    label: tuple[str, ...]
    status: tuple[str, ...]
    ciou: NDArray[np.float64]


def read_per_clip(path: Path, protocol: str | None = None) -> PerClip:
    """Read a per_clip.csv.

    Parameters
    ----------
    path
        The file.
    protocol
        Name of the protocol whose rows are read; None where the file has rows of one only.

    Returns
    -------
    PerClip
        Its columns; clips in which nothing sounds are left out.

    Raises
    ------
    EvalInputError
        If it cannot be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("status") != "silent"]
    except OSError as error:
        raise EvalInputError(
            f"cannot read {path}: {error.strerror}; write it by avsl-eval score --per-clip {path}"
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise EvalInputError(
            f"{path} is not a table: {error}; write it again by avsl-eval score --per-clip"
        ) from error
    if protocol is not None:
        rows = [row for row in rows if row.get("protocol") == protocol]
    needed = ("clip_id", "label", "status", "ciou")
    try:
        clip_id, label, status = (tuple(row[key] for row in rows) for key in needed[:3])
        ciou = np.array([float(row["ciou"] or "nan") for row in rows])
    except (KeyError, ValueError) as error:
        raise EvalInputError(
            f"{path} needs the columns {', '.join(needed)}: {error}; write it by avsl-eval score --per-clip"
        ) from error
    if not rows:
        what = f"row of protocol {protocol}" if protocol else "row"
        raise EvalInputError(f"{path} has no {what}; write it again by avsl-eval score --per-clip")
    return PerClip(clip_id, label, status, ciou)
