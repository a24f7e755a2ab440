"""The clips of a training: labelled, unlabelled and validation ones, and which of them a step sees.

Every process knows the clips of the whole step and takes its own rows, so the number of processes changes
neither order nor batch. A step of W processes in k micro-batches: micro-batch m has the rows m, m + k, ... of
the step, and process r the rows r, r + W, ... of that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips, ClipSet, read_split
from avsl_train.errors import TrainInputError
from avsl_train.excerpts import Heard, whole
from avsl_train.method_config_self import uses_labels
from avsl_train.methods.method import Batch
from avsl_train.seeding import stream

LABELED: Final = "labeled"
UNLABELED: Final = "unlabeled"
VAL: Final = "val"


@dataclass(frozen=True)
class TrainingClips:
    """The clips of a training; those for validation are None where it validates nothing."""

    labeled: ClipSet
    unlabeled: ClipSet
    val: ClipSet | None = None

    @property
    def digest(self) -> str:
        """Digest of the ids: a checkpoint goes on only with the clips it began with."""
        text = json.dumps([self.labeled.ids, self.unlabeled.ids])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def excluded(self) -> dict[str, str]:
        """Clips of the split that could not be used, and why."""
        return {**self.labeled.excluded, **self.unlabeled.excluded}

    def names(self, batch: Batch) -> list[str]:
        """Return the ids of a batch's clips."""
        places = batch.clips.index.tolist()
        labeled = [self.labeled.ids[place] for place in places[: batch.n_labeled]]
        return labeled + [self.unlabeled.ids[place] for place in places[batch.n_labeled :]]


def read_training_clips(config: ExperimentConfig, shards: Sequence[Path], split: Path) -> TrainingClips:
    """Read the clips of a split: labelled, unlabelled and, if there are validations, those of ``val``.

    A method that asks for no labels leaves the labelled clips aside, and the split may have none.

    Raises
    ------
    TrainInputError
        The split lacks labelled clips or those for validation, or none of them is usable.
    """
    subsets = read_split(split)
    needs_labels = uses_labels(config.method)
    if needs_labels and LABELED not in subsets:
        raise TrainInputError(f"{split} has no subset {LABELED!r} (it has: {', '.join(subsets)})")
    if config.optim.val_every and VAL not in subsets:
        raise TrainInputError(
            f"optim.val_every asks for validations, but {split} has no subset {VAL!r} (it has: "
            f"{', '.join(subsets)}): make a split with one by `avsl-data split`, or train with "
            "optim.val_every: null and optim.choose: last"
        )
    clips = TrainingClips(
        ClipSet(shards, subsets[LABELED] if needs_labels else [], config.data, need_boxes=True),
        ClipSet(shards, subsets.get(UNLABELED, []), config.data),
        ClipSet(shards, subsets[VAL], config.data, need_boxes=True) if config.optim.val_every else None,
    )
    labeled = clips.labeled if needs_labels else None
    for name, kind, found in ((LABELED, "labelled", labeled), (VAL, "validation", clips.val)):
        if found is not None and not len(found):
            reasons = ", ".join(sorted(set(found.excluded.values())))
            raise TrainInputError(f"none of the {len(subsets[name])} {kind} clips is usable ({reasons})")
    return clips


@dataclass(frozen=True)
class Passes:
    """Which clips of a set a step sees: passes over the set, each in its own order.

    The last incomplete batch of a pass is dropped and a batch is never larger than the set, so that no clip
    stands twice in one batch: the contrastive loss would call it its own negative. A pure function of the
    seed and the step.

    Parameters
    ----------
    name
        Name of the set's random stream.
    seed
        Seed of the training.
    clips
        Size of the set.
    wanted
        Clips per step.
    """

    name: str
    seed: int
    clips: int
    wanted: int

    @property
    def batch(self) -> int:
        """Clips per step: as many as are wanted, or all there are."""
        return min(self.wanted, self.clips)

    @property
    def steps(self) -> int:
        """Steps of one pass."""
        return self.clips // self.batch if self.clips else 1

    def at(self, step: int) -> Tensor:
        """Return the clips of a step, [batch] of int64."""
        number, position = divmod(step, self.steps)
        order = _order(self.seed, self.name, number, self.clips)
        return order[position * self.batch : (position + 1) * self.batch]


@lru_cache(maxsize=2)
def _order(seed: int, name: str, number: int, clips: int) -> Tensor:
    """Return the order of one pass; kept, because every step of the pass asks for it."""
    return torch.randperm(clips, generator=stream(seed, "order", name, number))


@dataclass(frozen=True)
class Share:
    """The clips that one process sees.

    Parameters
    ----------
    clips
        Those of the training.
    labeled, unlabeled
        Passes over its sets; None for a method that has no use for them.
    rank, ranks
        Number of the process and of all of them.
    parts
        Micro-batches per step.
    heard
        The views that a step makes (`Method.heard`).

    Raises
    ------
    TrainInputError
        A step's clips cannot be divided.
    """

    clips: TrainingClips
    labeled: Passes | None
    unlabeled: Passes | None
    rank: int
    ranks: int
    parts: int
    heard: Callable[[int], Heard | None] = whole

    def __post_init__(self) -> None:
        pieces = self.ranks * self.parts
        for passes in self._passes:
            if passes.batch % pieces:
                why = "" if passes.batch == passes.wanted else f" (the split has {passes.clips})"
                into = f"{self.ranks} processes" if self.ranks > 1 else ""
                into += " times " if self.ranks > 1 and self.parts > 1 else ""
                into += f"{self.parts} micro-batches" if self.parts > 1 else ""
                raise TrainInputError(
                    f"a step has {passes.batch} {passes.name} clips{why}, which {into} cannot divide: set "
                    f"optim.batch_{passes.name} to a multiple of {pieces}, such as "
                    f"{max(passes.batch // pieces, 1) * pieces}, or use fewer processes or micro-batches"
                )

    @property
    def _passes(self) -> list[Passes]:
        return [passes for passes in (self.labeled, self.unlabeled) if passes is not None]

    @property
    def per_step(self) -> int:
        """Clips of a step, of all processes."""
        return sum(passes.batch for passes in self._passes)

    def epoch(self, step: int) -> int | None:
        """Return which pass begins at a step, over the unlabelled clips if there are any; None: none."""
        number, position = divmod(step, self._passes[-1].steps)
        return number if position == 0 else None

    def epochs_begun(self, step: int) -> int:
        """Return how many passes are done before a step."""
        return step // self._passes[-1].steps

    def steps(self, start: int, stop: int) -> Iterator[tuple[int, list[Batch]]]:
        """Yield the steps that are left with their micro-batches."""
        batches = self._batches(range(start, stop))
        for step in range(start, stop):
            yield step, [next(batches) for _ in range(self.parts)]

    def sweep(self) -> Iterator[Clips]:
        """Yield the unlabelled clips that this process owns, index % ranks == rank, once and in order."""
        owned = torch.arange(self.rank, len(self.clips.unlabeled), self.ranks)
        size = max(self._passes[-1].wanted // self.ranks, 1)
        return self.clips.unlabeled.batches(chunks(owned, size))

    def _batches(self, steps: range) -> Iterator[Batch]:
        sides = ((self.clips.labeled, self.labeled), (self.clips.unlabeled, self.unlabeled))
        heard = [self.heard(step) for step in steps for _ in range(self.parts)]
        parts = [
            clips.batches(self.places(passes, steps), heard) for clips, passes in sides if passes is not None
        ]
        for found in zip(*parts, strict=True):
            clips = found[0] if len(found) == 1 else Clips.join(found)
            yield Batch(clips, len(found[0]) if self.labeled else 0)

    def places(self, passes: Passes, steps: range) -> list[Tensor]:
        """Return this process's clips of every micro-batch of some steps, in order."""
        return [
            passes.at(step)[part :: self.parts][self.rank :: self.ranks]
            for step in steps
            for part in range(self.parts)
        ]


def chunks(places: Tensor, size: int) -> list[Tensor]:
    """Return places [N] as parts of up to ``size``."""
    return [places[start : start + size] for start in range(0, len(places), size)]
