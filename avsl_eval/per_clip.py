"""Tables of annotated clips, ``per_clip.csv``, as `avsl_eval.result` writes them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError

NEEDED = ("protocol", "clip_id", "label", "status", "reason", "ciou", "gt_area", "pointing")


@dataclass(frozen=True)
class PerClip:
    """Hold the columns of a per_clip.csv that results need, of one protocol.

    Parameters
    ----------
    clip_id, label, status, reason
        Text, N each.
    ciou : float64 [N]
        NaN where undefined.
    gt_area : float64 [N]
        sum(g) as a fraction of the image.
    pointing : float64 [N]
        Share of the map's largest pixels on g > 0.
    """

    clip_id: tuple[str, ...]
    label: tuple[str, ...]
    status: tuple[str, ...]
    reason: tuple[str, ...]
    ciou: NDArray[np.float64]
    gt_area: NDArray[np.float64]
    pointing: NDArray[np.float64]

    @property
    def sounding(self) -> NDArray[np.bool_]:
        """Which clips have something that sounds, bool [N]: metrics are means over these."""
        return np.array([status != "silent" for status in self.status], dtype=bool)


def read_per_clip(path: Path, protocol: str | None = None) -> PerClip:
    """Read the rows of one protocol.

    Parameters
    ----------
    path
        A per_clip.csv.
    protocol
        Name of the rule; None where the file has one only.

    Returns
    -------
    PerClip
        Its columns, in the file's order.

    Raises
    ------
    EvalInputError
        If the file cannot be read, lacks a column, or has no such row.
    """
    tables = read_tables(path)
    if protocol is None and len(tables) > 1:
        raise EvalInputError(f"{path} has rows of several protocols ({', '.join(tables)}); choose one")
    return table_of(tables, protocol or next(iter(tables)), path)


def table_of(tables: Mapping[str, PerClip], protocol: str, path: Path) -> PerClip:
    """Pick the rows of one protocol.

    Parameters
    ----------
    tables
        What `read_tables` returned.
    protocol
        Name of the rule.
    path
        Where they were read, for the message.

    Returns
    -------
    PerClip
        Its rows.

    Raises
    ------
    EvalInputError
        If there are none.
    """
    if protocol not in tables:
        raise EvalInputError(
            f"{path} has no row of protocol {protocol}; write it again by avsl-eval score --per-clip {path}"
        )
    return tables[protocol]


def read_tables(path: Path) -> dict[str, PerClip]:
    """Read a per_clip.csv.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        Protocol to its rows, in the file's order.

    Raises
    ------
    EvalInputError
        If it cannot be read or lacks a column.
    """
    again = f"write it by avsl-eval score --per-clip {path}"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except OSError as error:
        raise EvalInputError(f"cannot read {path}: {error.strerror}; {again}") from error
    except (csv.Error, ValueError) as error:  # ValueError: no line at all, or no text
        raise EvalInputError(f"{path} is not a table: {error}; {again}") from error
    if lacking := [name for name in NEEDED if name not in header]:
        raise EvalInputError(
            f"{path} needs the columns {', '.join(NEEDED)}, lacks {', '.join(lacking)}; {again}"
        )
    if not rows:
        raise EvalInputError(f"{path} has no row; {again}")
    places = [header.index(name) for name in NEEDED]
    by_protocol: dict[str, list[list[str]]] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise EvalInputError(
                f"{path}, line {number}: {len(row)} cells under {len(header)} names; {again}"
            )
        by_protocol.setdefault(row[places[0]], []).append([row[k] for k in places[1:]])
    try:
        return {protocol: _table(chosen) for protocol, chosen in by_protocol.items()}
    except ValueError as error:
        raise EvalInputError(f"{path}: {error}; {again}") from error


def _table(rows: Sequence[Sequence[str]]) -> PerClip:
    clip_id, label, status, reason, *numbers = (tuple(column) for column in zip(*rows, strict=True))
    ciou, gt_area, pointing = (
        np.array([float(cell or "nan") for cell in column], dtype=np.float64) for column in numbers
    )
    return PerClip(clip_id, label, status, reason, ciou, gt_area, pointing)
