"""Stage 4: splits, pure functions of the catalogs' clips, a seed and a few numbers.

A *recipe* (`avsl_data.recipes`) puts every clip into one subset. Three rules hold for all of them:

- **Sides are video-disjoint and stable.** Which of train, val and test a video belongs to comes from the
  source's official split, from the annotated set's own videos or from the video's hash. Clips of further
  catalogs move none of them.
- **Budgets are nested.** Clips are ordered once per seed, by a hash and evenly over the classes; a label
  budget is the beginning of that order. A smaller budget is part of a larger one, and adding a clip
  replaces at most one labelled clip.
- **Nothing leaks.** A training clip whose video is in val or test, of this split or of any other test set
  that the study names, leaves.

What is removed (a leak, a training clip that comes twice, a clip that the recipe leaves out) is counted and
listed by id in the split's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avsl_data.clip_table import ClipTable, codes_of
from avsl_data.errors import DataInputError, unknown_name
from avsl_data.recipes import (
    LABELED,
    OUT,
    RECIPES,
    SUBSETS,
    TRAIN_SUBSETS,
    Recipe,
    Task,
    list_recipe,
)
from avsl_data.sources.source import CatalogClip
from avsl_data.split_order import Budget

LEAKAGE_RULES: Final = ("exclude", "error", "allow")
COLUMNS: Final = ["clip_id", "video_id", "label", "official_split"]
"""The columns of a catalog that a split depends on."""

_SCHEMA: Final = pa.schema([(name, pa.string()) for name in COLUMNS])

Catalog: TypeAlias = "pa.Table | Sequence[CatalogClip]"
"""Clips as columns (at least `COLUMNS`) or as objects."""


@dataclass(frozen=True)
class HeldOut:
    """A test set beside the split's own, whose videos leave training too.

    Parameters
    ----------
    name
        As it stands in the split file.
    videos : pyarrow.Array of string
        Its video ids.
    """

    name: str
    videos: pa.Array


@dataclass(frozen=True)
class SplitRequest:
    """What a recipe is asked for.

    Parameters
    ----------
    seed
        Seed of every hash.
    labels
        Budget of labelled clips; None is the recipe's own.
    leakage
        One of `LEAKAGE_RULES`: what happens to a training clip whose video is in val or test.
    held_out
        The study's other test sets.
    lists
        Clip ids of published lists by name, for the recipes that need some.
    own : pyarrow.Table, optional
        Columns ``clip_id`` and ``subset`` of the user's file, for the recipe ``own``.
    """

    seed: int = 0
    labels: Budget | None = None
    leakage: str = "exclude"
    held_out: tuple[HeldOut, ...] = ()
    lists: Mapping[str, pa.Array] | None = None
    own: pa.Table | None = None


@dataclass(frozen=True)
class Split:
    """A finished split.

    Parameters
    ----------
    table : pyarrow.Table
        Columns ``clip_id`` and ``subset``, sorted. A clip has one row, except that with ``leakage="allow"``
        a leaked clip has one in training and one in the subset that it leaks from.
    about
        ``recipe``, ``params``, ``seed``, ``counts``, ``removed`` (reason to clip ids) and ``leaks_by`` (test
        set to number of training clips that leaked from it).
    """

    table: pa.Table
    about: Mapping[str, Any]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Return (clip id, subset) of every row."""
        return list(zip(self.table["clip_id"].to_pylist(), self.table["subset"].to_pylist(), strict=True))


def recipe_named(name: str, known_lists: Sequence[str] = ()) -> Recipe:
    """Look up a recipe.

    Parameters
    ----------
    name
        A key of `RECIPES`, or the name of a published list.
    known_lists
        The names of published lists.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    DataInputError
        If there is neither.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name in known_lists:
        return list_recipe(name)
    raise unknown_name("recipe", name, RECIPES if "@" not in name else [*RECIPES, *known_lists])


def make_split(recipe_name: str, catalogs: Sequence[Catalog], request: SplitRequest) -> Split:
    """Split catalogs by a recipe.

    Parameters
    ----------
    recipe_name
        A key of `RECIPES`, or the name of a list in ``request.lists``.
    catalogs
        The catalog of the annotated source first, then further ones.
    request
        Seed, label budget, leakage rule and what the recipe needs.

    Returns
    -------
    Split
        Rows and metadata.

    Raises
    ------
    DataInputError
        If the recipe or the leakage rule is unknown, a budget cannot be met, ``leakage="error"`` finds a
        leak, or no labelled clip is left.
    """
    lists = request.lists or {}
    recipe = recipe_named(recipe_name, list(lists))
    if request.leakage not in LEAKAGE_RULES:
        raise unknown_name("leakage rule", request.leakage, LEAKAGE_RULES)
    if recipe.labels is None and request.labels is not None:
        raise DataInputError(f"the recipe '{recipe_name}' has no labelled clips: leave --labels out")
    if request.own is not None and recipe_name != "own":
        raise DataInputError(f"the recipe '{recipe_name}' does not use --assign: it is for the recipe 'own'")
    labels = recipe.labels if request.labels is None else request.labels
    tables = [_columns(catalog) for catalog in catalogs]
    annotated, further = _sorted(tables[:1]), _sorted(tables[1:])
    wanted = {name: lists[name] for name in recipe.lists}
    task = Task(annotated, further, request.seed, labels or 0, recipe.params, wanted, request.own)
    assignment = recipe.assign(task)
    del tables, task
    rows = pa.concat_tables([part.select(["clip_id", "video_id"]) for part in (annotated, further)])
    codes = np.concatenate([assignment.annotated, assignment.further])
    about = {"recipe": recipe_name, "params": {**recipe.params, "labels": labels}}
    return _without_leaks(rows, codes, request, about, assignment.why_out)


def _columns(catalog: Catalog) -> pa.Table:
    table = catalog if isinstance(catalog, pa.Table) else ClipTable.of(catalog).table
    return table.select(COLUMNS).cast(_SCHEMA)


def _sorted(tables: Sequence[pa.Table]) -> pa.Table:
    """Join catalogs and sort them by clip id; a repeated clip stays in the order of the catalogs."""
    table = pa.concat_tables([_SCHEMA.empty_table(), *tables])
    ids = table["clip_id"]
    if pc.any(pc.less(ids.slice(1), ids.slice(0, max(len(ids) - 1, 0)))).as_py():
        table = table.take(pc.sort_indices(ids))
    return table


def _without_leaks(
    rows: pa.Table, codes: NDArray[np.int8], request: SplitRequest, about: dict[str, Any], why_out: str
) -> Split:
    """Remove training clips of held-out videos and repeated ones, and say which."""
    train = np.isin(codes, [SUBSETS.index(name) for name in TRAIN_SUBSETS])
    own_test = ~train & (codes != OUT)
    leak, leaks_by = _leaks(rows["video_id"], train, own_test, request.held_out)
    clips = _clip_numbers(rows)
    duplicate = train & ~_first_of_each(clips, train)
    leak &= ~duplicate
    allowed = request.leakage == "allow"
    leaks = _ids(rows, leak)
    if leaks and request.leakage == "error":
        raise DataInputError(
            f"{len(leaks)} training clips are of videos in val or test, first {leaks[0]}: "
            "leave --leakage out to exclude them"
        )
    keep = (train & ~duplicate & (allowed | ~leak)) | own_test
    labeled = codes == SUBSETS.index(LABELED)
    if labeled.any() and not (labeled & keep).any():
        raise DataInputError(
            f"every labelled clip is of a held-out video ({', '.join(leaks_by)}): a model cannot learn from "
            "boxes that it is tested on; hold out another set, or take labelled clips from another catalog"
        )
    keep &= ~own_test | _first_of_each(clips * len(SUBSETS) + codes, own_test)
    about["params"]["leakage"] = request.leakage
    about["seed"] = request.seed
    totals = np.bincount(codes[keep], minlength=len(SUBSETS)).tolist()
    about["counts"] = {name: n for name, n in sorted(zip(SUBSETS, totals, strict=True)) if n}
    about["removed"] = {"leak": [] if allowed else leaks, "duplicate": _ids(rows, duplicate)}
    if (codes == OUT).any():
        about["removed"][why_out] = _ids(rows, codes == OUT)
    if request.held_out:
        about["leaks_by"] = leaks_by
    if allowed:
        about["leaks_allowed"] = leaks
    elif lost := int((labeled & leak).sum()):
        about["labels_lost"] = lost
    return Split(_table(rows, codes, keep), about)


def _leaks(
    videos: pa.ChunkedArray, train: NDArray[np.bool_], own_test: NDArray[np.bool_], others: Sequence[HeldOut]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which training rows are of a held-out video, and how many by each test set."""
    (numbers, *others_numbers), names = codes_of(videos, *(other.videos for other in others))
    leak = np.zeros(len(train), bool)
    leaks_by = {}
    held_out = [("this split", numbers[own_test])]
    held_out += [(other.name, found) for other, found in zip(others, others_numbers, strict=True)]
    for name, found in held_out:
        held = np.zeros(len(names), bool)
        held[found] = True
        of_this = train & held[numbers]
        leaks_by[name] = int(of_this.sum())
        leak |= of_this
    return leak, leaks_by


def _clip_numbers(rows: pa.Table) -> NDArray[np.int64]:
    """Give every clip a number, the same to the rows of the same clip."""
    ids = rows["clip_id"]
    if pc.all(pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))).as_py() in (True, None):
        return np.arange(len(ids))  # strictly growing, as one sorted catalog is
    return codes_of(ids)[0][0]


def _first_of_each(numbers: NDArray[np.int64], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows are the first of their number, counting only some rows."""
    places = np.flatnonzero(among)
    first = np.zeros(len(numbers), bool)
    first[places[np.unique(numbers[places], return_index=True)[1]]] = True
    return first


def _ids(rows: pa.Table, mask: NDArray[np.bool_]) -> list[str]:
    return sorted(rows["clip_id"].take(pa.array(np.flatnonzero(mask))).to_pylist())


def _table(rows: pa.Table, codes: NDArray[np.int8], keep: NDArray[np.bool_]) -> pa.Table:
    """Return the rows that are kept, sorted by clip id and subset."""
    subset = pa.DictionaryArray.from_arrays(pa.array(codes[keep]), pa.array(SUBSETS)).cast(pa.string())
    table = pa.table([rows["clip_id"].filter(pa.array(keep)), subset], ["clip_id", "subset"])
    ids = table["clip_id"]
    if pc.all(pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))).as_py() in (True, None):
        return table
    return table.take(pc.sort_indices(table, [("clip_id", "ascending"), ("subset", "ascending")]))
