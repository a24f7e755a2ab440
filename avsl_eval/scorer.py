"""What scores a chunk of maps against the truth: in this process, or in a worker process."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import DrawnTruths
from avsl_eval.engine import Engine
from avsl_eval.protocol import Protocol
from avsl_eval.reference import Reference
from avsl_eval.sections import Segmentation

Task = tuple[NDArray[np.float32], Sequence[int], Collection[str]]
"""Maps float32 [n, h, w], their rows, and names of rules that are left out."""


_LARGE_ARRAYS = 16 * 1024**2
"""Bytes below which freed memory is to be kept for the next array."""


def keep_freed_memory() -> None:
    """Have the memory of freed arrays used again, not given back to the system and asked for anew.

    The allocator of glibc takes larger blocks from the system one by one, and as long as it does, every
    array of a chunk begins with as many page faults as it has pages, which cost more than what is computed.
    It stops doing so for sizes of which one has been freed. Elsewhere this does nothing.
    """
    np.empty(_LARGE_ARRAYS, np.uint8)  # freed at once, and never touched


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
        n = len(reference.truth.clips)
        self.engine = Engine(protocols, n)
        self.engine.truth = reference.sizes
        self._reference = reference
        self.segmentation = Segmentation(protocols, n)
        self._left_out: set[str] = set()

    def score(self, task: Task) -> dict[int, DrawnTruths]:
        """Score a chunk of maps under every rule that is not left out; return the truth of its clips."""
        heatmaps, rows, left_out = task
        for name in set(left_out) - self._left_out:
            self.engine.leave_out(name)
            self._left_out.add(name)
        drawn = self._reference.draw(rows)
        self.engine.score(heatmaps, rows, drawn)
        self.segmentation.score(heatmaps, rows, drawn)
        return drawn

    def part(self, rows: Sequence[int]) -> Any:
        """Return what was found of some clips, for `put` of another scorer of the same set and rules."""
        return self.engine.part(rows), self.segmentation.part(rows)

    def put(self, rows: Sequence[int], part: Any) -> None:
        """Take over what another scorer found of some clips."""
        self.engine.put(rows, part[0])
        self.segmentation.put(rows, part[1])
