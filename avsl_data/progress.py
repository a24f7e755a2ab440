"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Final, Self

LINE_INTERVAL_S: Final = 15.0


class Progress:
    """Count finished items and show how far the work is, on stderr.

    Parameters
    ----------
    total
        Number of items.
    what
        What is being done, such as ``"download bucket 3"``.

    Examples
    --------
    >>> with Progress(2, "count") as progress:
    ...     progress.step("ok")
    ...     progress.step("gone")
    >>> progress.summary()
    '2 of 2: gone 1, ok 1'
    """

    def __init__(self, total: int, what: str) -> None:
        from tqdm import tqdm

        self._total = total
        self._what = what
        self._kinds: Counter[str] = Counter()
        self._next_line = time.monotonic() + LINE_INTERVAL_S
        interactive = sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=what, unit="", leave=False, disable=not interactive)
        self._lines = not interactive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, kind: str = "ok") -> None:
        """Count one finished item.

        Parameters
        ----------
        kind
            How it ended: ``"ok"`` or a failure class.
        """
        self._kinds[kind] += 1
        self._bar.update()
        if self._lines and time.monotonic() >= self._next_line:
            print(f"{self._what}: {self.summary()}", file=sys.stderr, flush=True)  # noqa: T201
            self._next_line = time.monotonic() + LINE_INTERVAL_S

    def summary(self) -> str:
        """Return the counts so far.

        Returns
        -------
        str
            ``<done> of <total>: <kind> <count>, ...``, kinds in alphabetical order.
        """
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self._kinds.items()))
        return f"{self._kinds.total()} of {self._total}" + (f": {kinds}" if kinds else "")
