"""Worker processes that score chunks of maps.

Maps are read and checked by the main process, in their order, so that the first thing that is wrong is what
is reported. A chunk goes to whichever worker is free; what comes back is written to the rows of its clips, so
that the results do not depend on how many workers there are.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from avsl_eval.errors import EvalInputError
from avsl_eval.scorer import Scorer, Task

FITS_A_PIPE = 64 * 1024
"""Bytes of maps that can be sent to a worker which is still busy without waiting for it."""


class Workers:
    """Run worker processes; a context manager, at whose end none is left.

    Parameters
    ----------
    n
        How many.
    scorer
        What each of them works with, a copy of its own.
    """

    def __init__(self, n: int, scorer: Scorer) -> None:
        # Forked workers share the test set's memory and are ready at once. They compute with NumPy alone,
        # which can be forked, unlike most of what a warning about threads is for.
        forked = sys.platform == "linux"
        context: Any = multiprocessing.get_context("fork" if forked else "spawn")
        self._processes = []
        self._connections: list[Connection] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(n):
                ours, theirs = context.Pipe()
                others = [*self._connections, ours] if forked else []
                process = context.Process(target=_serve, args=(theirs, others, scorer), daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            if kind is not None:
                process.terminate()
            process.join()

    def run(self, tasks: Iterable[Task], meanwhile: Callable[[], bool]) -> Iterator[tuple[Any, Any]]:
        """Have tasks done.

        Parameters
        ----------
        tasks
            Are taken when a worker is free.
        meanwhile
            A little work of another kind for this process, called while workers work; returns whether there
            is more of it.

        Yields
        ------
        rows : sequence of int
            Of a task, not in the order of tasks.
        part
            What `Scorer.part` returned.

        Raises
        ------
        EvalInputError
            If a worker ends before its work does.
        """
        waiting, more = iter(tasks), True
        given: dict[Connection, deque[Any]] = {connection: deque() for connection in self._connections}
        upcoming = next(waiting, None)
        while upcoming is not None or any(given.values()):
            while upcoming is not None:
                free = min(given, key=lambda connection: len(given[connection]))
                if len(given[free]) > (upcoming[0].nbytes <= FITS_A_PIPE):
                    break
                self._send(free, upcoming)
                given[free].append(upcoming[1])
                upcoming = next(waiting, None)
            more = more and meanwhile()
            for connection in wait([c for c in given if given[c]], timeout=0 if more else None):
                assert isinstance(connection, Connection)
                yield given[connection].popleft(), self._receive(connection)

    def _send(self, connection: Connection, task: Task) -> None:
        try:
            connection.send(task)
        except OSError as error:
            raise _died() from error

    def _receive(self, connection: Connection) -> Any:
        try:
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise _died() from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _died() -> EvalInputError:
    return EvalInputError(
        "a worker process was ended from outside, perhaps because memory ran out; try again with --workers 1"
    )


def _serve(connection: Connection, others: list[Connection], scorer: Scorer) -> None:
    """Score what comes, until the main process closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops its workers
    for other in others:  # copies of the main process's ends, which would keep connections open
        other.close()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            scorer.score(task)
            answer: Any = scorer.part(task[1])
        except Exception as error:  # noqa: BLE001  (whatever it is, the main process raises it)
            answer = error
        try:
            connection.send(answer)
        except OSError:
            return
