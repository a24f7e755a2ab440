"""What depends on the test set and the rules alone, found once however many models' maps are scored.

The truth and its size, the context's answers, the test set's digest and the bootstrap's draws: a little at a
time, so that this process can do it while workers score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from avsl_eval.bootstrap import Draws
from avsl_eval.context import Context
from avsl_eval.drawn import Drawer, DrawnTruths
from avsl_eval.engine import TOGETHER
from avsl_eval.protocol import Protocol
from avsl_eval.truth import Annotations

KEPT_BYTES = 48 * 1024**2
"""What the truth that is kept for a second set of maps takes at most: that of 7,700 clips at 224 x 224."""


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
        self._blocks: dict[int, dict[int, DrawnTruths]] = {}
        words = sum(-((-size // 8) ** 2) for size in self.sizes) * drawn_layers(truth)
        self._keeps = several and 8 * words * n <= KEPT_BYTES
        self._known = np.zeros(-(-n // TOGETHER), bool)
        self._steps = self._work()

    def draw(self, rows: Sequence[int]) -> dict[int, DrawnTruths]:
        """Draw the truth of some clips at every map size."""
        block, rest = divmod(rows[0], TOGETHER)
        if rest or not np.array_equal(rows, self._rows(block)):
            return {size: self.drawer.draw(rows, size) for size in self.sizes}
        if block in self._blocks:
            return self._blocks[block]
        drawn = {size: self.drawer.draw(rows, size) for size in self.sizes}
        if self._keeps:
            self._blocks[block] = drawn
        return drawn

    def record(self, rows: Sequence[int], drawn: dict[int, DrawnTruths]) -> None:
        """Note what depends on the truth of some clips, if they are those that are drawn together."""
        block = rows[0] // TOGETHER
        if self._known[block] or not np.array_equal(rows, self._rows(block)):
            return
        self._known[block] = True
        for size, truth in drawn.items():
            self.sizes[size][np.asarray(rows)] = truth.total
        self.context.record(rows, drawn)

    def more(self) -> bool:
        """Do a little of the work; return whether there may be more of it."""
        return next(self._steps, False)

    def finish(self) -> None:
        """Do what is left of the work."""
        while self.more():
            pass

    def _rows(self, block: int) -> range:
        return range(block * TOGETHER, min((block + 1) * TOGETHER, len(self.truth.clips)))

    def _work(self) -> Iterator[bool]:
        for block in range(len(self._known)):
            if not self._known[block]:
                rows = self._rows(block)
                self.record(rows, self.draw(rows))
                yield True
        self.testset = testset_of(self.truth)
        yield True
        while self.draws.more():
            yield True


def drawn_layers(truth: Annotations) -> int:
    """Return how many masks a clip's truth is drawn as."""
    return 2 if truth.unit > 1 else 1


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
