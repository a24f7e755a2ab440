"""Reading and writing split files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from avsl_data import schema
from avsl_data.errors import unknown_name
from avsl_data.splits import Split


def write_split(path: Path, split: Split) -> None:
    """Write a split atomically.

    Parameters
    ----------
    path
        The Parquet file.
    split
        From `avsl_data.splits.make_split`.
    """
    schema.write_table(path, schema.SPLIT, split.table, split.about)


def read_subset(path: Path, names: str) -> set[str]:
    """Read the clips of one or several subsets.

    Parameters
    ----------
    path
        The split file.
    names
        Subset names, separated by commas.

    Returns
    -------
    set of str
        Clip ids.

    Raises
    ------
    DataInputError
        If the file is no split or has no such subset.
    """
    table = schema.read_table(path, schema.SPLIT)
    known = set(pc.unique(table["subset"]).to_pylist())
    wanted = set(names.split(","))
    for name in sorted(wanted - known):
        raise unknown_name("subset", name, known)
    chosen = pc.is_in(table["subset"], pa.array(sorted(wanted)))
    return set(table["clip_id"].filter(chosen).to_pylist())
