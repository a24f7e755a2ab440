"""Stage 4: splits, pure functions of the catalog, a seed and a few numbers.

A *recipe* puts every clip into one subset. Two rules hold for all of them:

- **Sides are video-disjoint and stable.** Which of train, val and test a video belongs to comes from the
  source's official split or from the annotated set's own videos. Clips of further catalogs move none of them.
- **Budgets are nested.** Clips are ordered once per seed, by a hash and evenly over the classes; a label
  budget is the beginning of that order. A smaller budget is part of a larger one, and adding a clip
  replaces at most one labelled clip.

What is removed (a training clip whose video is in val or test, a training clip that comes twice) is counted
and listed by id in the split's metadata.
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
    rows
        (clip id, subset), sorted. A clip has one row, except that with ``leakage="allow"`` a leaked clip has
        one in training and one in the subset that it leaks from.
    about
        ``recipe``, ``params``, ``seed``, ``counts`` and ``removed`` (reason to clip ids).
    """

    rows: Sequence[tuple[str, str]]
    about: Mapping[str, Any]


Assignment = dict[str, str]
"""Subset of each clip of the annotated catalog, before leaks are removed."""


@dataclass(frozen=True)
class Recipe:
    """A named way to split.

    Parameters
    ----------
    summary
        One line for the documentation.
    assign
        From the annotated catalog, the seed, the label budget and the parameters to a subset of each clip.
    labels
        Budget where the request has none; None if the recipe has no labelled clips.
    further
        Subset of the clips of further catalogs.
    params
        The recipe's numbers.
    """

    summary: str
    assign: Callable[[Sequence[CatalogClip], int, Budget, Mapping[str, int]], Assignment]
    labels: Budget | None = 1.0
    further: str = UNLABELED
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
        The catalog of the annotated source first, then further ones.
    request
        Seed, label budget and leakage rule.

    Returns
    -------
    Split
        Rows and metadata.

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
    if recipe.labels is None and request.labels is not None:
        raise DataInputError(f"the recipe '{recipe_name}' has no labelled clips: leave --labels out")
    labels = recipe.labels if request.labels is None else request.labels
    annotated, further = catalogs[0], [clip for clips in catalogs[1:] for clip in clips]
    assignment = recipe.assign(annotated, request.seed, labels or 0, recipe.params)
    rows = [(clip, assignment[clip.clip_id]) for clip in annotated]
    rows += [(clip, recipe.further) for clip in further]
    return _without_leaks(
        rows, request, {"recipe": recipe_name, "params": {**recipe.params, "labels": labels}}
    )


def _without_leaks(
    rows: Sequence[tuple[CatalogClip, str]], request: SplitRequest, about: dict[str, Any]
) -> Split:
    """Remove training clips of held-out videos and repeated ones, and say which."""
    held_out = {clip.video_id for clip, subset in rows if subset not in TRAIN_SUBSETS}
    kept: dict[tuple[str, str], None] = {}
    training: set[str] = set()
    leaks: list[str] = []
    duplicates: list[str] = []
    for clip, subset in rows:
        if subset not in TRAIN_SUBSETS:
            kept[clip.clip_id, subset] = None
            continue
        leak = clip.video_id in held_out
        if clip.clip_id in training:
            duplicates.append(clip.clip_id)
            continue
        training.add(clip.clip_id)
        if leak:
            leaks.append(clip.clip_id)
        if not leak or request.leakage == "allow":
            kept[clip.clip_id, subset] = None
    leaks.sort()
    if leaks and request.leakage == "error":
        raise DataInputError(
            f"{len(leaks)} training clips are of videos in val or test, first {leaks[0]}: "
            "leave --leakage out to exclude them"
        )
    about["params"]["leakage"] = request.leakage
    about["seed"] = request.seed
    about["counts"] = dict(sorted(Counter(subset for _, subset in kept).items()))
    allowed = request.leakage == "allow"
    about["removed"] = {"leak": [] if allowed else leaks, "duplicate": sorted(duplicates)}
    if allowed:
        about["leaks_allowed"] = leaks
    return Split(sorted(kept), about)


def _assign_budget(pool: Sequence[CatalogClip], seed: int, budget: Budget, assignment: Assignment) -> None:
    """Make the beginning of the pool's order labelled and the rest unlabelled."""
    count = budget if isinstance(budget, int) else max(1, round(budget * len(pool)))
    if count > len(pool):
        raise DataInputError(f"--labels {count} is more than the {len(pool)} training clips that have boxes")
    order = stratified_order(pool, seed, "labels", lambda clip: clip.clip_id)
    for place, (clip,) in enumerate(order):
        assignment[clip.clip_id] = LABELED if place < count else UNLABELED


def _assign_official(
    clips: Sequence[CatalogClip], seed: int, labels: Budget, params: Mapping[str, int]
) -> Assignment:
    """Follow the official split; test clips are heard if a training clip has their class."""
    del params
    strange = sorted({clip.official_split for clip in clips} - {"train", VAL, TEST})
    if strange:
        raise DataInputError(
            f"the catalog has the official split {strange[0]!r}; this recipe knows train, val, test"
        )
    train = [clip for clip in clips if clip.official_split == "train"]
    if not train:
        raise DataInputError("the catalog has no clip of the official split 'train': take another recipe")
    heard = {clip.label for clip in train}
    assignment: Assignment = {}
    _assign_budget(train, seed, labels, assignment)
    for clip in clips:
        if clip.official_split == VAL:
            assignment[clip.clip_id] = VAL
        elif clip.official_split == TEST:
            assignment[clip.clip_id] = HEARD if clip.label in heard else UNHEARD
    return assignment


def _assign_pool(
    clips: Sequence[CatalogClip], seed: int, labels: Budget, params: Mapping[str, int]
) -> Assignment:
    """Cut the annotated clips into test, val and a pool, videos whole, each class in its share."""
    if len(clips) != sum(params.values()):
        raise DataInputError(
            f"this recipe cuts {sum(params.values())} annotated clips ({dict(params)}), the "
            "first catalog has "
            f"{len(clips)}: give the catalog of source 'vggss' first"
        )
    assignment: Assignment = {}
    order = stratified_order(clips, seed, "sides", lambda clip: clip.video_id)
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
    _assign_budget([clip for unit in order for clip in unit], seed, labels, assignment)
    return assignment


def _assign_test(
    clips: Sequence[CatalogClip], seed: int, labels: Budget, params: Mapping[str, int]
) -> Assignment:
    """Put every clip into test."""
    del seed, labels, params
    return {clip.clip_id: TEST for clip in clips}


RECIPES: Final[Mapping[str, Recipe]] = {
    "demo-semi": Recipe(
        "the official split; 3 % of the training clips labelled; test clips as heard and unheard",
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
    "all-test": Recipe(
        "every clip in test, for clips that are only scored", _assign_test, labels=None, further=TEST
    ),
}
"""Every recipe by name."""
