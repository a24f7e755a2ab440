"""A pilot: a small part of a set, to try a study on before weeks of downloading.

A number takes the clips whose videos have the smallest hashes, so that a larger pilot holds every clip of a
smaller one and the full set holds them all: what was downloaded for it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avsl_data.errors import DataInputError
from avsl_data.sources.source import CatalogClip


def pilot(clips: Sequence[CatalogClip], only: str) -> Sequence[CatalogClip]:
    """Return a part of a catalog.

    Parameters
    ----------
    clips
        All clips of a source.
    only
        How many, or the path of a file of clip ids in any spelling. A file may name clips of other sets as
        well, so that one file serves several.

    Returns
    -------
    sequence of CatalogClip
        In the order of ``clips``.

    Raises
    ------
    DataInputError
        If the number is 0 or larger than the set, or the file names none of its clips.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from avsl_data.clip_table import ClipTable, hashes_of
    from avsl_data.id_lists import read_list

    table = ClipTable.of(clips).table
    if only.isascii() and only.isdigit():
        if not 1 <= int(only) <= table.num_rows:
            raise DataInputError(f"--only {only} is not in 1..{table.num_rows}, the clips of this set")
        ranked = pa.table({"rank": hashes_of(table["video_id"]), "clip_id": table["clip_id"]})
        order = pc.sort_indices(ranked, [("rank", "ascending"), ("clip_id", "ascending")])
        first = order.slice(0, int(only))
        return ClipTable(table.take(first.take(pc.sort_indices(first))))
    if not Path(only).is_file():
        raise DataInputError(f"--only {only} is neither a number nor a file of clip ids")
    kept = table.filter(pc.is_in(table["clip_id"], read_list(Path(only)).ids))
    if not kept.num_rows:
        raise DataInputError(f"--only {only} names no clip of this set: is it another set's?")
    return ClipTable(kept)
