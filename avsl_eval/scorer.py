"""What scores a chunk of maps against the truth: in this process, or in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl_eval.engine import Engine
from avsl_eval.memory import keep_freed_memory
from avsl_eval.protocol import Protocol
from avsl_eval.reference import Reference
from avsl_eval.sections import Segmentation


class Task(NamedTuple):
    """Hold a chunk of maps to be scored.

    Parameters
    ----------
    heatmaps : float32 [n, h, w]
        Maps of one resolution.
    rows
        Of their clips.
    left_out
        Names of rules that are left out.
    new
        Whether nothing has been noted yet of these clips' truth.
    """

    heatmaps: NDArray[np.float32]
    rows: Sequence[int]
    left_out: frozenset[str]
    new: bool


class Scorer:
    """Score chunks of maps, and hold what is found.

    Parameters
    ----------
    reference
        The test set; a row is the number of a clip in it.
    protocols
        The rules.
    """

    def __init__(self, reference: Reference, protocols: Sequence[Protocol]) -> None:
        keep_freed_memory()
        self._n = len(reference.truth.clips)
        self._reference, self.protocols = reference, tuple(protocols)
        self.engine = self._new_engine()
        self.segmentation = Segmentation(protocols, self._n)
        self._left_out: frozenset[str] = frozenset()

    def _new_engine(self) -> Engine:
        engine = Engine(self.protocols, self._n)
        engine.truth = self._reference.sizes
        return engine

    def score(self, task: Task) -> None:
        """Score a chunk of maps under every rule that is not left out, and note what their truth is."""
        if not self._left_out <= task.left_out:  # a worker's next set of maps
            self.engine, self._left_out = self._new_engine(), frozenset()
        for name in task.left_out - self._left_out:
            self.engine.leave_out(name)
        self._left_out = task.left_out
        drawn = self._reference.draw(task.rows)
        self.engine.score(task.heatmaps, task.rows, drawn)
        self.segmentation.score(task.heatmaps, task.rows, drawn)
        if task.new:
            self._reference.record(task.rows, drawn)

    def part(self, task: Task) -> Any:
        """Return what was found of a task, for `put` of another scorer of the same set and rules."""
        truth = self._reference.part(task.rows) if task.new else None
        return self.engine.part(task.rows), self.segmentation.part(task.rows), truth

    def put(self, rows: Sequence[int], part: Any) -> None:
        """Take over what another scorer found of some clips."""
        engine, segmentation, truth = part
        self.engine.put(rows, engine)
        self.segmentation.put(rows, segmentation)
        if truth is not None:
            self._reference.put(rows, truth)
