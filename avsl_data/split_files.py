"""Reading and writing split files."""

from __future__ import annotations

from pathlib import Path

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
    rows = [{"clip_id": clip_id, "subset": subset} for clip_id, subset in split.rows]
    schema.write_rows(path, schema.SPLIT, rows, split.about)


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
    rows = list(zip(table["clip_id"].to_pylist(), table["subset"].to_pylist(), strict=True))
    known = {subset for _, subset in rows}
    wanted = set(names.split(","))
    for name in sorted(wanted - known):
        raise unknown_name("subset", name, known)
    return {clip_id for clip_id, subset in rows if subset in wanted}
