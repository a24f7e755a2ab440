"""Stage 4: splits, pure functions of the catalog, a seed and a few numbers.

A *recipe* puts every clip into one subset. Two rules hold for all of them:

- **Sides are video-disjoint and stable.** Which of train, val and test a video belongs to comes from the
  source's official split or from the annotated set's own videos. Clips of further catalogs move none of them.
- **Budgets are nested.** Clips are ordered once per seed, by a hash and evenly over the classes; a label
  budget is the beginning of that order. A smaller budget is part of a larger one, and adding a clip
  replaces at most one labelled clip.

What is removed (a training clip whose video is in val or test, a clip that two catalogs name) is counted and
listed by id in the split's metadata.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from avsl_data.errors import DataInputError, unknown_name
from avsl_data.ids import hash_of
from avsl_data.sources.source import CatalogClip

LABELED: Final = "labeled"
UNLABELED: Final = "unlabeled"
VAL: Final = "val"
TEST: Final = "test"
HEARD: Final = "heard"
UNHEARD: Final = "unheard"

TRAIN_SUBSETS: Final = (LABELED, UNLABELED)
LEAKAGE_RULES: Final = ("exclude", "error", "allow")

Budget = int | float
"""A number of clips, or a fraction in (0, 1] of the recipe's training clips."""


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
    """

    seed: int = 0
    labels: Budget | None = None
    leakage: str = "exclude"


@dataclass(frozen=True)
class Split:
    """A finished split.

    Parameters
    ----------
    subsets
        Subset of each clip id, sorted by id.
    about
        ``recipe``, ``params``, ``seed``, ``counts`` and ``removed`` (reason to clip ids).
    """

    subsets: Mapping[str, str]
    about: Mapping[str, Any]


Assignment = dict[str, str]
"""Subset of each clip id, before leaks are removed."""


@dataclass(frozen=True)
class Recipe:
    """A named way to split.

    Parameters
    ----------
    summary
        One line for ``--help``.
    assign
        From the catalogs (the annotated one first), the request and the parameters to a subset of each clip.
    labels
        Budget where the request has none.
    params
        The recipe's numbers.
    """

    summary: str
    assign: Callable[[Sequence[Sequence[CatalogClip]], SplitRequest, Budget, Mapping[str, int]], Assignment]
    labels: Budget = 1.0
    params: Mapping[str, int] = field(default_factory=dict)


def parse_budget(text: str) -> Budget:
    """Read a label budget.

    Parameters
    ----------
    text
        Digits only for a number of clips; with a point or a percent sign, a fraction.

    Returns
    -------
    int or float
        Clips, or a fraction in (0, 1].

    Raises
    ------
    DataInputError
        If it is neither, or out of range.

    Examples
    --------
    >>> parse_budget("0.03"), parse_budget("3%"), parse_budget("256")
    (0.03, 0.03, 256)
    """
    if text.isdigit():
        if int(text) > 0:
            return int(text)
    else:
        try:
            fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            fraction = 0.0
        if 0 < fraction <= 1:
            return fraction
    raise DataInputError(
        f"--labels {text} is no budget: give a number of clips from 1 (256) or a fraction up "
        "to 1.0 (0.03 or 3%)"
    )


def stratified_order(
    clips: Sequence[CatalogClip], seed: int, salt: str, unit: Callable[[CatalogClip], str]
) -> list[list[CatalogClip]]:
    """Order units of clips by a hash, evenly over the classes.

    Parameters
    ----------
    clips
        The clips, in any order.
    seed, salt
        Of the hash.
    unit
        Key of the unit that a clip belongs to: its id, or its video's to keep videos whole.

    Returns
    -------
    list of list of CatalogClip
        The units. Every beginning of the list holds each class in nearly its share of the whole: the unit of
        rank r among n of its class stands at (r + 1/2) / n, and classes that tie are ordered by their hash. A
        unit's class is that of its first clip by id.
    """
    units: defaultdict[str, list[CatalogClip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        units[unit(clip)].append(clip)
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for key, members in units.items():
        by_class[members[0].label].append(key)
    places = []
    for label, keys in by_class.items():
        keys.sort(key=lambda key: (hash_of(salt, seed, key), key))
        tie = hash_of(salt, seed, "class", label)
        places += [((rank + 0.5) / len(keys), tie, label, key) for rank, key in enumerate(keys)]
    return [units[key] for *_, key in sorted(places)]


def make_split(recipe_name: str, catalogs: Sequence[Sequence[CatalogClip]], request: SplitRequest) -> Split:
    """Split catalogs by a recipe.

    Parameters
    ----------
    recipe_name
        A key of `RECIPES`.
    catalogs
        The catalog of the annotated source first, then further ones, whose clips are unlabelled.
    request
        Seed, label budget and leakage rule.

    Returns
    -------
    Split
        Subsets and metadata.

    Raises
    ------
    DataInputError
        If the recipe or the leakage rule is unknown, a budget cannot be met, or ``leakage="error"`` finds a
        leak.
    """
    if recipe_name not in RECIPES:
        raise unknown_name("recipe", recipe_name, RECIPES)
    if request.leakage not in LEAKAGE_RULES:
        raise unknown_name("leakage rule", request.leakage, LEAKAGE_RULES)
    recipe = RECIPES[recipe_name]
    labels = recipe.labels if request.labels is None else request.labels
    merged, duplicates = _without_duplicates(catalogs)
    assignment = recipe.assign(merged, request, labels, recipe.params)
    videos = {clip.clip_id: clip.video_id for clips in merged for clip in clips}
    leaks = _leaks(assignment, videos)
    if leaks and request.leakage == "error":
        raise DataInputError(
            f"{len(leaks)} training clips are of videos in val or test, first {leaks[0]}: "
            "leave --leakage out to exclude them"
        )
    removed = {"leak": leaks if request.leakage == "exclude" else [], "duplicate": duplicates}
    excluded = set(removed["leak"])
    subsets = {clip_id: assignment[clip_id] for clip_id in sorted(assignment) if clip_id not in excluded}
    about = {
        "recipe": recipe_name,
        "params": {**recipe.params, "labels": labels, "leakage": request.leakage},
        "seed": request.seed,
        "counts": dict(sorted(Counter(subsets.values()).items())),
        "removed": removed,
    }
    if request.leakage == "allow":
        about["leaks_allowed"] = leaks
    return Split(subsets, about)


def _without_duplicates(
    catalogs: Sequence[Sequence[CatalogClip]],
) -> tuple[list[list[CatalogClip]], list[str]]:
    """Keep each clip in the first catalog that names it."""
    seen: set[str] = set()
    merged: list[list[CatalogClip]] = []
    duplicates: list[str] = []
    for clips in catalogs:
        merged.append([clip for clip in clips if clip.clip_id not in seen])
        duplicates += [clip.clip_id for clip in clips if clip.clip_id in seen]
        seen.update(clip.clip_id for clip in clips)
    return merged, sorted(duplicates)


def _leaks(assignment: Assignment, videos: Mapping[str, str]) -> list[str]:
    held_out = {videos[clip_id] for clip_id, subset in assignment.items() if subset not in TRAIN_SUBSETS}
    return sorted(
        clip_id
        for clip_id, subset in assignment.items()
        if subset in TRAIN_SUBSETS and videos[clip_id] in held_out
    )


def _assign_budget(pool: Sequence[CatalogClip], seed: int, budget: Budget, assignment: Assignment) -> None:
    """Make the beginning of the pool's order labelled and the rest unlabelled."""
    count = budget if isinstance(budget, int) else max(1, round(budget * len(pool)))
    if count > len(pool):
        raise DataInputError(f"--labels {count} is more than the {len(pool)} training clips that have boxes")
    order = stratified_order(pool, seed, "labels", lambda clip: clip.clip_id)
    for place, (clip,) in enumerate(order):
        assignment[clip.clip_id] = LABELED if place < count else UNLABELED


def _assign_official(
    catalogs: Sequence[Sequence[CatalogClip]],
    request: SplitRequest,
    labels: Budget,
    params: Mapping[str, int],
) -> Assignment:
    """Follow the official split; test clips are heard if a training clip has their class."""
    del params
    known = {"train", VAL, TEST}
    annotated = catalogs[0]
    strange = sorted({clip.official_split for clip in annotated} - known)
    if strange:
        raise DataInputError(
            f"the catalog has the official split {strange[0]!r}; this recipe knows train, val, test"
        )
    train = [clip for clip in annotated if clip.official_split == "train"]
    if not train:
        raise DataInputError("the catalog has no clip of the official split 'train': take another recipe")
    heard = {clip.label for clip in train}
    assignment: Assignment = {}
    _assign_budget(train, request.seed, labels, assignment)
    for clip in annotated:
        if clip.official_split == VAL:
            assignment[clip.clip_id] = VAL
        elif clip.official_split == TEST:
            assignment[clip.clip_id] = HEARD if clip.label in heard else UNHEARD
    return _add_unlabeled(assignment, catalogs[1:])


def _assign_pool(
    catalogs: Sequence[Sequence[CatalogClip]],
    request: SplitRequest,
    labels: Budget,
    params: Mapping[str, int],
) -> Assignment:
    """Cut the annotated clips into test, val and a pool, videos whole, each class in its share."""
    annotated = catalogs[0]
    wanted = sum(params.values())
    if len(annotated) != wanted:
        raise DataInputError(
            f"this recipe cuts {wanted} annotated clips ({params}), the first catalog has {len(annotated)}: "
            "give the catalog of source 'vggss' first"
        )
    assignment: Assignment = {}
    order = stratified_order(annotated, request.seed, "sides", lambda clip: clip.video_id)
    for subset in (TEST, VAL):
        free = params[subset]
        rest = []
        for unit in order:
            if len(unit) <= free:
                free -= len(unit)
                assignment.update((clip.clip_id, subset) for clip in unit)
            else:
                rest.append(unit)
        order = rest
    _assign_budget([clip for unit in order for clip in unit], request.seed, labels, assignment)
    return _add_unlabeled(assignment, catalogs[1:])


def _assign_test(
    catalogs: Sequence[Sequence[CatalogClip]],
    request: SplitRequest,
    labels: Budget,
    params: Mapping[str, int],
) -> Assignment:
    """Put every clip into test."""
    del labels, params
    if request.labels is not None:
        raise DataInputError("the recipe 'all-test' has no labelled clips: leave --labels out")
    return {clip.clip_id: TEST for clips in catalogs for clip in clips}


def _add_unlabeled(assignment: Assignment, catalogs: Sequence[Sequence[CatalogClip]]) -> Assignment:
    assignment.update((clip.clip_id, UNLABELED) for clips in catalogs for clip in clips)
    return assignment


RECIPES: Final[Mapping[str, Recipe]] = {
    "demo-semi": Recipe(
        "the demo's official split; 3 % of the training clips labelled; test as heard and unheard",
        _assign_official,
        labels=0.03,
    ),
    "vggss-semi": Recipe(
        "VGG-SS cut into a labelled pool of 2,500, val 258 and test 2,400; further catalogs unlabelled",
        _assign_pool,
        params={"pool": 2500, VAL: 258, TEST: 2400},
    ),
    "vggss-dmt": Recipe(
        "VGG-SS cut into a labelled pool of 4,250, val 250 and test 658; further catalogs unlabelled",
        _assign_pool,
        params={"pool": 4250, VAL: 250, TEST: 658},
    ),
    "all-test": Recipe("every clip in test, for clips that are only scored", _assign_test),
}
"""Every recipe by name."""
