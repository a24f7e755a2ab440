"""What depends on the test set and the rules alone, found once however many models' maps are scored.

The test set's digest, the context's answers and the bootstrap's draws, a little at a time, by this process
while workers score; what of the answers needs a clip's truth drawn, by whoever draws it to score a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from avsl_eval.bootstrap import Draws
from avsl_eval.context import Context, ContextPart
from avsl_eval.drawn import Drawer, DrawnTruths
from avsl_eval.engine import TOGETHER
from avsl_eval.protocol import Protocol
from avsl_eval.tiles import tiles_along
from avsl_eval.truth import Annotations

KEPT_BYTES = 48 * 1024**2
"""What the truth that is kept for a second set of maps takes at most: that of 8,000 clips at 224 x 224."""


class Reference:
    """Find what predictions are scored against.

    Parameters
    ----------
    truth
        The test set; a row is the number of a clip in it.
    protocols
        The rules.
    several
        Whether several sets of maps will be scored, so that it pays to keep what was drawn.

    Attributes
    ----------
    sizes : dict
        Map size to sum(g) in pixels, float64 [N]; complete after `finish`, as all below.
    context
        The answers of the context.
    testset
        How the scores file describes the test set.
    draws
        Bootstrap samples of the clips in which something sounds.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> from avsl_eval.truth import read_annotations
    >>> reference = Reference(read_annotations({"a_000001": [[0.0, 0.0, 0.5, 1.0]]}), [PROTOCOLS["lvs"]])
    >>> reference.finish()
    >>> reference.sizes[224].tolist(), reference.testset["n_clips"]
    ([25088.0], 1)
    """

    def __init__(self, truth: Annotations, protocols: Sequence[Protocol], several: bool = False) -> None:
        self.truth = truth
        n = len(truth.clips)
        self.sizes = {size: np.zeros(n) for size in sorted({p.map_size for p in protocols})}
        self.drawer = Drawer(truth.clips, truth.truth, self.sizes)
        self.context = Context(truth, protocols, self.drawer)
        self.testset: dict[str, Any] = {}
        self.draws = Draws(n - truth.n_silent)
        self._blocks: dict[int | None, dict[int, DrawnTruths]] = {}
        words = truth.unit * sum(tiles_along(size) ** 2 for size in self.sizes)  # a mask per level of g
        self._keeps = several and 8 * words * n <= KEPT_BYTES
        self.context.prepare()
        needed = [self.context.needs(self._rows(block)) for block in range(-(-n // TOGETHER))]
        self._known = ~np.array(needed, bool)
        self._steps = iter([self._describe, self.context.count_boxes])

    def draw(self, rows: Sequence[int]) -> dict[int, DrawnTruths]:
        """Draw the truth of some clips at every map size."""
        block = self._block(rows)
        if block in self._blocks:
            return self._blocks[block]
        drawn = {size: self.drawer.draw(rows, size) for size in self.sizes}
        if self._keeps and block is not None:
            self._blocks[block] = drawn
        return drawn

    def is_new(self, rows: Sequence[int]) -> bool:
        """Say whether `record` is to be told of some clips: they are drawn together, and it was not yet."""
        block = self._block(rows)
        return block is not None and not self._known[block]

    def record(self, rows: Sequence[int], drawn: dict[int, DrawnTruths]) -> None:
        """Note what depends on the truth of clips that are drawn together."""
        self.context.record(rows, drawn)
        self._known[rows[0] // TOGETHER] = True

    def part(self, rows: Sequence[int]) -> ContextPart:
        """Return what was noted of some clips, for `put` of another reference of the same set and rules."""
        return self.context.part(rows)

    def put(self, rows: Sequence[int], part: ContextPart) -> None:
        """Take over what another reference noted of clips that are drawn together."""
        self.context.put(rows, part)
        self._known[rows[0] // TOGETHER] = True

    def more(self) -> bool:
        """Do a little of the work that needs nothing drawn; return whether there may be more of it."""
        step = next(self._steps, None)
        if step is not None:
            step()
        return step is not None or self.draws.more()

    def finish(self) -> None:
        """Do what is left of the work."""
        while self.more():
            pass
        for block in np.flatnonzero(~self._known).tolist():
            rows = self._rows(block)
            self.record(rows, self.draw(rows))
        for size, total in self.sizes.items():
            total[:] = self.context.sizes(size)

    def _describe(self) -> None:
        self.testset = testset_of(self.truth)

    def _block(self, rows: Sequence[int]) -> int | None:
        """Return the number of the clips that are drawn together; None of other clips."""
        block = rows[0] // TOGETHER
        return block if np.array_equal(rows, self._rows(block)) else None

    def _rows(self, block: int) -> range:
        return range(block * TOGETHER, min((block + 1) * TOGETHER, len(self.truth.clips)))


def testset_of(truth: Annotations) -> dict[str, Any]:
    """Describe a test set, as the scores file does.

    Parameters
    ----------
    truth
        Its annotations.

    Returns
    -------
    dict
        Keys name, n_clips, n_silent, truth, sha256.
    """
    return {
        "name": truth.name or None,
        "n_clips": len(truth.clips),
        "n_silent": truth.n_silent,
        "truth": truth.truth,
        "sha256": truth.digest(),
    }
