"""What a split is made from: catalogs, published lists, the study's other test sets, a file of one's own.

Everything that the split depends on goes into it with its SHA-256, so that a split file says how to make it
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from avsl_data import schema
from avsl_data.catalog import read_columns
from avsl_data.errors import DataInputError, unknown_name
from avsl_data.files import sha256_of
from avsl_data.id_lists import read_list
from avsl_data.published_lists import ALIASES, LISTS, TEST_SOURCES, load
from avsl_data.recipes import RECIPES, SUBSETS
from avsl_data.sources import SOURCES
from avsl_data.splits import COLUMNS, HeldOut, Split, SplitRequest, make_split


def split_files(
    recipe: str,
    catalogs: Sequence[Path],
    request: SplitRequest,
    *,
    held_out: Sequence[str] = (),
    assign: Path | None = None,
    mirror: Path | None = None,
) -> Split:
    """Split catalogs that lie in files.

    Parameters
    ----------
    recipe
        A recipe, or the name of a published list.
    catalogs
        The annotated one first.
    request
        Seed, budget and leakage rule.
    held_out
        Further test sets of the study: published names, lists or catalogs.
    assign
        The user's file for the recipe ``own``: clip id and subset per line, or a split of this project.
    mirror
        Folder of copies of published lists; None fetches them.

    Returns
    -------
    Split
        Its ``about`` has the digests of all of them under ``sources``.

    Raises
    ------
    DataInputError
        As `avsl_data.splits.make_split`, and if a file cannot be read.
    """
    wanted = (
        RECIPES[recipe].lists if recipe in RECIPES else tuple(name for name in (recipe,) if name in LISTS)
    )
    lists = {name: pc.unique(load(name, mirror).table["clip_id"]) for name in wanted}
    tests = [load(name, mirror) for name in held_out]
    request = replace(
        request,
        held_out=tuple(HeldOut(test.name, pc.unique(test.table["video_id"])) for test in tests),
        lists=lists,
        own=None if assign is None else read_own(assign),
    )
    tables = [read_columns(path, COLUMNS) for path in catalogs]
    sources: list[dict[str, Any]] = [
        {
            "catalog": schema.about_table(table).get("source", ""),
            "clips": table.num_rows,
            "sha256": sha256_of(path),
        }
        for table, path in zip(tables, catalogs, strict=True)
    ]
    sources += [{"list": name, "sha256": LISTS[name].sha256} for name in wanted]
    sources += [
        {"held_out": test.name, "videos": len(held.videos), "sha256": _digest(name)}
        for test, held, name in zip(tests, request.held_out, held_out, strict=True)
    ]
    if assign is not None:
        sources.append({"assign": assign.name, "sha256": sha256_of(assign)})
    split = make_split(recipe, tables, request)
    return Split(split.table, {**split.about, "sources": sources})


def _digest(name: str) -> str | dict[str, str]:
    """Return the SHA-256 of a held-out set; of each published file if it is made of several."""
    listed = LISTS.get(ALIASES.get(name, name))
    if listed is not None:
        return listed.sha256
    if name in TEST_SOURCES:
        files = {key: remote.sha256 for key, remote in SOURCES[name].REMOTES.items()}
        return files if len(files) > 1 else next(iter(files.values()))
    return sha256_of(Path(name))


def read_own(path: Path) -> pa.Table:
    """Read a division that somebody else made.

    Parameters
    ----------
    path
        Clip id and subset per line, or a split of this project.

    Returns
    -------
    pyarrow.Table
        Columns ``clip_id`` and ``subset``.

    Raises
    ------
    DataInputError
        If the file cannot be read, a subset has another name than `avsl_data.recipes.SUBSETS`, or a clip
        comes twice.
    """
    if path.is_file() and path.suffix == ".parquet":
        own = schema.read_table(path, schema.SPLIT).combine_chunks()
    else:
        found = read_list(path)
        own = pa.table([found.ids, found.labels], ["clip_id", "subset"])
    for name in pc.unique(own["subset"]).to_pylist():
        if name not in SUBSETS:
            raise DataInputError(f"{path}: {unknown_name('subset', name, SUBSETS)}")
    counts = pc.value_counts(own["clip_id"].combine_chunks())
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataInputError(f"{path} assigns {len(twice)} clips more than once, first {twice[0].as_py()}")
    return own.select(["clip_id", "subset"]).cast(
        pa.schema([("clip_id", pa.string()), ("subset", pa.string())])
    )
