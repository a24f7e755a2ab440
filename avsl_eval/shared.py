"""What several sets of maps that are scored by the same rules share: the reference, and worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from avsl_eval.protocol import Protocol
from avsl_eval.reference import Reference
from avsl_eval.scorer import Scorer
from avsl_eval.truth import Annotations

if TYPE_CHECKING:
    from avsl_eval.workers import Workers


class Shared:
    """Keep references and workers from one set of maps to the next; a context manager.

    Parameters
    ----------
    truth
        The test set.
    n_sets
        How many sets of maps there are.
    workers
        How many processes score; 1 for none but this one.
    """

    def __init__(self, truth: Annotations, n_sets: int, workers: int) -> None:
        self._truth, self._several, self._n_workers = truth, n_sets > 1, workers
        self._references: dict[tuple[Protocol, ...], Reference] = {}
        self._workers: Workers | None = None
        self._rules: tuple[Protocol, ...] = ()
        self._open = ExitStack()

    def __enter__(self) -> Shared:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def reference(self, protocols: Sequence[Protocol]) -> Reference:
        """Return what maps are scored against under some rules."""
        rules = tuple(protocols)
        if rules not in self._references:
            self._references[rules] = Reference(self._truth, rules, self._several)
        return self._references[rules]

    def workers(self, scorer: Scorer) -> Workers | None:
        """Return the workers for a scorer's rules, started with it unless they are at work; None for none."""
        if self._n_workers > 1 and (self._workers is None or scorer.protocols != self._rules):
            from avsl_eval.workers import Workers  # here, because most evaluations need none

            self._open.close()
            self._workers = self._open.enter_context(Workers(self._n_workers - 1, scorer))
            self._rules = scorer.protocols
        return self._workers
