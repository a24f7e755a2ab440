"""Recipes: named ways to put every clip into one subset.

A recipe sees the annotated catalog and the further ones, sorted by clip id, and gives each clip a subset or
leaves it out with a reason. Removing what leaks is not its business; `avsl_data.splits` does that for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avsl_data.clip_table import hashes_of
from avsl_data.errors import DataInputError
from avsl_data.split_order import Budget, budget_count, stratified_order, video_units

LABELED: Final = "labeled"
UNLABELED: Final = "unlabeled"
VAL: Final = "val"
TEST: Final = "test"
HEARD: Final = "heard"
UNHEARD: Final = "unheard"

SUBSETS: Final = (LABELED, UNLABELED, VAL, TEST, HEARD, UNHEARD)
TRAIN_SUBSETS: Final = (LABELED, UNLABELED)
OUT: Final = -1
"""Code of a clip that a recipe leaves out; other codes are positions in `SUBSETS`."""

Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Task:
    """What a recipe is given.

    Parameters
    ----------
    annotated, further
        Columns ``clip_id``, ``video_id``, ``label`` and ``official_split`` of the catalogs, sorted by id.
    seed
        Of every hash.
    labels
        Label budget; 0 for recipes that have none.
    params
        The recipe's numbers.
    lists
        Clip ids of the lists that the recipe names in its ``lists``.
    own : pyarrow.Table, optional
        Columns ``clip_id`` and ``subset`` of the user's file.
    """

    annotated: pa.Table
    further: pa.Table
    seed: int
    labels: Budget
    params: Mapping[str, int]
    lists: Mapping[str, pa.Array] = field(default_factory=dict)
    own: pa.Table | None = None


@dataclass(frozen=True)
class Assignment:
    """What a recipe decides.

    Parameters
    ----------
    annotated, further : int8 [n]
        Position in `SUBSETS` of each clip, or `OUT`.
    why_out
        Why clips are left out, as it stands in the split file.
    """

    annotated: Codes
    further: Codes
    why_out: str = "left_out"


@dataclass(frozen=True)
class Recipe:
    """A named way to split.

    Parameters
    ----------
    summary
        One line for the documentation.
    assign
        The decision.
    labels
        Budget where the request has none; None if the recipe has no labelled clips.
    params
        The recipe's numbers.
    lists
        Published lists that it needs, by name.
    """

    summary: str
    assign: Callable[[Task], Assignment]
    labels: Budget | None = 1.0
    params: Mapping[str, int] = field(default_factory=dict)
    lists: tuple[str, ...] = ()


def _all(table: pa.Table, subset: str) -> Codes:
    return np.full(table.num_rows, SUBSETS.index(subset), np.int8)


def _truth(mask: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(mask.to_numpy(), bool)


def _label_pool(codes: Codes, pool: NDArray[np.int64], task: Task) -> None:
    """Make the beginning of the pool's order labelled and the rest unlabelled."""
    count = budget_count(task.labels, len(pool))
    rows = task.annotated if len(pool) == len(codes) else task.annotated.take(pa.array(pool))
    order = stratified_order(rows["clip_id"], rows["label"], task.seed, "labels")
    codes[pool] = SUBSETS.index(UNLABELED)
    codes[pool[order[:count]]] = SUBSETS.index(LABELED)


def _take_units(
    codes: Codes, rows: NDArray[np.int64], sizes: Mapping[str, int], task: Task
) -> NDArray[np.int64]:
    """Fill subsets of exact sizes with whole videos, each class in its share; return the rows left."""
    part = task.annotated.take(pa.array(rows))
    unit, first, names = video_units(part["video_id"])
    labels = part["label"].take(pa.array(first))
    order = stratified_order(names, labels, task.seed, "sides")
    n_clips = np.bincount(unit, minlength=len(names))
    side = np.full(len(names), OUT, np.int8)
    for subset, size in sizes.items():
        free = size
        for video in order:
            if side[video] == OUT and n_clips[video] <= free:
                side[video] = SUBSETS.index(subset)
                free -= n_clips[video]
    codes[rows] = side[unit]
    left: NDArray[np.int64] = rows[side[unit] == OUT]
    return left


def _official(task: Task) -> Assignment:
    """Follow the official split; test clips are heard if a training clip has their class."""
    table = task.annotated
    split = table["official_split"]
    strange = sorted(set(pc.unique(split).to_pylist()) - {"train", VAL, TEST})
    if strange:
        raise DataInputError(
            f"the catalog has the official split {strange[0]!r}; this recipe knows train, val, test"
        )
    train = _truth(pc.equal(split, "train"))
    if not train.any():
        raise DataInputError("the catalog has no clip of the official split 'train': take another recipe")
    heard = _truth(pc.is_in(table["label"], pc.unique(table["label"].filter(pa.array(train)))))
    codes = np.where(heard, SUBSETS.index(HEARD), SUBSETS.index(UNHEARD)).astype(np.int8)
    codes[_truth(pc.equal(split, VAL))] = SUBSETS.index(VAL)
    _label_pool(codes, np.flatnonzero(train), task)
    return Assignment(codes, _all(task.further, UNLABELED))


def _expect(task: Task, source: str) -> None:
    n_clips, expected = task.annotated.num_rows, sum(task.params.values())
    if n_clips != expected:
        raise DataInputError(
            f"this recipe cuts {expected} annotated clips ({dict(task.params)}), the first catalog has "
            f"{n_clips}: give the catalog of source '{source}' first"
        )


def _cut(task: Task) -> Assignment:
    """Cut the annotated clips into test, val and a pool, videos whole, each class in its share."""
    _expect(task, "vggss")
    codes = np.full(task.annotated.num_rows, OUT, np.int8)
    sizes = {TEST: task.params[TEST], VAL: task.params[VAL]}
    pool = _take_units(codes, np.arange(len(codes)), sizes, task)
    _label_pool(codes, pool, task)
    return Assignment(codes, _all(task.further, UNLABELED))


def _cut_keeping_test(task: Task) -> Assignment:
    """Keep the published test clips, cut the other annotated ones into val and a pool."""
    _expect(task, "flickr_soundnet")
    test = _truth(pc.equal(task.annotated["official_split"], TEST))
    if test.sum() != task.params[TEST]:
        raise DataInputError(
            f"the first catalog has {test.sum()} clips of the published test, expected {task.params[TEST]}: "
            "make it with `avsl-data catalog flickr_soundnet`"
        )
    codes = _all(task.annotated, TEST)
    pool = _take_units(codes, np.flatnonzero(~test), {VAL: task.params[VAL]}, task)
    _label_pool(codes, pool, task)
    return Assignment(codes, _all(task.further, UNLABELED))


def _open_set(task: Task) -> Assignment:
    """Train on heard classes only; test what is left of them, and every clip of the unheard ones."""
    table = task.annotated
    names = {}
    for side, list_name in zip((HEARD, UNHEARD), task.lists, strict=True):
        listed = pc.is_in(table["clip_id"], task.lists[list_name])
        names[side] = pc.unique(table["label"].filter(listed))
        if not len(names[side]):
            raise DataInputError(
                f"the first catalog has no clip of the list {list_name}: "
                "give the catalog of source 'vggss' first"
            )
    both = set(names[HEARD].to_pylist()) & set(names[UNHEARD].to_pylist())
    if both:
        raise DataInputError(
            f"the class {min(both)!r} is heard and unheard: is a label of the catalog wrong?"
        )
    heard, unheard = (_truth(pc.is_in(table["label"], names[side])) for side in (HEARD, UNHEARD))
    codes = np.full(table.num_rows, OUT, np.int8)
    left = _take_units(codes, np.flatnonzero(heard), {VAL: task.params[VAL], TEST: task.params["pool"]}, task)
    pool = np.flatnonzero(codes == SUBSETS.index(TEST))  # taken under this name, and renamed here
    codes[left] = SUBSETS.index(HEARD)
    codes[unheard] = SUBSETS.index(UNHEARD)
    _label_pool(codes, pool, task)
    further = _all(task.further, UNLABELED)
    further[~_truth(pc.is_in(task.further["label"], names[HEARD]))] = OUT
    return Assignment(codes, further, "not_of_a_heard_class")


def _by_hash(task: Task) -> Assignment:
    """Give every video a side by its own hash alone, so that no other clip can move it."""
    unit, _, videos = video_units(task.annotated["video_id"])
    draw = hashes_of(videos, "sides", task.seed) / 2.0**64 * 100
    test, val = task.params[TEST], task.params[VAL]
    side = np.where(draw < test, SUBSETS.index(TEST), np.where(draw < test + val, SUBSETS.index(VAL), OUT))
    codes = side.astype(np.int8)[unit]
    pool = np.flatnonzero(codes == OUT)
    if len(pool):
        _label_pool(codes, pool, task)
    return Assignment(codes, _all(task.further, UNLABELED))


def _all_test(task: Task) -> Assignment:
    """Put every clip into test."""
    return Assignment(_all(task.annotated, TEST), _all(task.further, TEST))


def _listed(task: Task) -> Assignment:
    """Keep the clips of one published list, unlabelled."""
    (ids,) = task.lists.values()
    parts = []
    for table in (task.annotated, task.further):
        codes = _all(table, UNLABELED)
        codes[~_truth(pc.is_in(table["clip_id"], ids))] = OUT
        parts.append(codes)
    return Assignment(parts[0], parts[1], "not_listed")


def _own(task: Task) -> Assignment:
    """Follow the user's file."""
    if task.own is None:
        raise DataInputError("the recipe 'own' follows a file of yours: add --assign FILE")
    names = pa.array(SUBSETS)
    positions = pc.index_in(task.own["subset"], names)
    parts = []
    for table in (task.annotated, task.further):
        rows = pc.index_in(table["clip_id"], task.own["clip_id"])
        found = positions.take(rows)
        parts.append(pc.fill_null(found, OUT).to_numpy().astype(np.int8))
    known = pa.concat_tables([task.annotated.select(["clip_id"]), task.further.select(["clip_id"])])
    strange = pc.invert(pc.is_in(task.own["clip_id"], known["clip_id"]))
    if pc.any(strange).as_py():
        strangers = task.own["clip_id"].filter(strange)
        raise DataInputError(
            f"{len(strangers)} clips of --assign are in no catalog, first {strangers[0].as_py()}: "
            "give the catalogs of all of them"
        )
    return Assignment(parts[0], parts[1], "not_assigned")


_OPEN_PARAMS: Final = {"pool": 1250, VAL: 114}

RECIPES: Final[Mapping[str, Recipe]] = {
    "demo-semi": Recipe(
        "the official split; 3 % of the training clips labelled; test clips as heard and unheard",
        _official,
        labels=0.03,
    ),
    "vggss-semi": Recipe(
        "VGG-SS cut into a labelled pool of 2,500, val 258 and test 2,400; further catalogs unlabelled",
        _cut,
        params={"pool": 2500, VAL: 258, TEST: 2400},
    ),
    "vggss-dmt": Recipe(
        "VGG-SS cut into a labelled pool of 4,250, val 250 and test 658; further catalogs unlabelled",
        _cut,
        params={"pool": 4250, VAL: 250, TEST: 658},
    ),
    "vggss-openset@ezvsl": Recipe(
        "EZ-VSL's 110 heard and 110 unheard classes: pool 1,250, val 114 and training from heard ones only",
        _open_set,
        params=_OPEN_PARAMS,
        lists=("vggss-heard@ezvsl", "vggss-unheard@ezvsl"),
    ),
    "vggss-openset@ssltie": Recipe(
        "the same with SSL-TIE's 110 heard and 110 unheard classes, another division",
        _open_set,
        params=_OPEN_PARAMS,
        lists=("vggss-heard@ssltie", "vggss-unheard@ssltie"),
    ),
    "flickr-semi": Recipe(
        "the 5,000 annotated Flickr videos: pool 4,250, val 500, test the published 250",
        _cut_keeping_test,
        params={"pool": 4250, VAL: 500, TEST: 250},
    ),
    "by-hash": Recipe(
        "any annotated catalog: 20 % of the videos for test and 5 % for val, each by its own hash alone",
        _by_hash,
        params={VAL: 5, TEST: 20},
    ),
    "all-test": Recipe("every clip in test, for clips that are only scored", _all_test, labels=None),
    "own": Recipe("as a file of yours says, one clip id and subset per line", _own, labels=None),
}
"""Every recipe by name; the name of a published list is a recipe, too (`list_recipe`)."""


def list_recipe(name: str) -> Recipe:
    """Return the recipe that keeps the clips of one published list, unlabelled.

    Parameters
    ----------
    name
        Name of the list.

    Returns
    -------
    Recipe
        Without labels.
    """
    return Recipe(f"the clips of the list {name}, unlabelled", _listed, labels=None, lists=(name,))
