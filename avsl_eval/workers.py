"""Worker processes that score chunks of maps.

Maps are read and checked by the main process, in their order, so that the first thing that is wrong is what
is reported. A chunk goes to whichever process is free, the main one among them; what comes back is written to
the rows of its clips, so that the results do not depend on how many workers there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from avsl_eval.errors import EvalInputError
from avsl_eval.scorer import Scorer, Task

_BUFFER = 1024**2
"""Bytes of tasks that a connection is asked to hold; the system decides."""
_BESIDES = 8 * 1024
"""More bytes than the rest of a task takes besides its maps."""


class Workers:
    """Run worker processes; a context manager, at whose end none is left.

    Parameters
    ----------
    n
        How many, besides this process.
    scorer
        What each of them works with, a copy of its own.
    """

    def __init__(self, n: int, scorer: Scorer) -> None:
        # Forked workers share the test set's memory and are ready at once. They compute with NumPy alone,
        # which can be forked, unlike most of what a warning about threads is for.
        forked = start_method() == "fork"
        context: Any = multiprocessing.get_context(start_method())
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
        self._room = min((room(connection) for connection in self._connections), default=0)

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

    def run(self, tasks: Iterable[Task], scorer: Scorer, meanwhile: Callable[[], bool]) -> Iterator[Task]:
        """Have tasks done, by workers and by this process, which else would wait for them.

        Parameters
        ----------
        tasks
            Are taken when a worker is free, or this process is.
        scorer
            Where what is found is put.
        meanwhile
            A little work of another kind for this process; returns whether there is more of it. It comes
            before tasks, which workers can do as well.

        Yields
        ------
        Task
            That is done, not in the order of tasks.

        Raises
        ------
        EvalInputError
            If a worker ends before its work does.
        """
        waiting, more = iter(tasks), True
        given: dict[Connection, deque[Task]] = {connection: deque() for connection in self._connections}
        upcoming = next(waiting, None)
        while upcoming is not None or any(given.values()):
            while upcoming is not None and (free := self._free(given, upcoming)) is not None:
                self._send(free, upcoming)
                given[free].append(upcoming)
                upcoming = next(waiting, None)
            idle = not more and upcoming is None
            for connection in wait([c for c in given if given[c]], timeout=None if idle else 0):
                assert isinstance(connection, Connection)
                task = given[connection].popleft()
                scorer.put(task.rows, self._receive(connection))
                yield task
            if more:
                more = meanwhile()
            elif upcoming is not None:
                scorer.score(upcoming)
                yield upcoming
                upcoming = next(waiting, None)

    def _free(self, given: Mapping[Connection, Sized], task: Task) -> Connection | None:
        """Return the worker that has least to do, None where all have enough.

        A busy one has enough with one task more, if that fits its connection: anything larger would have
        both processes wait where the worker's answer does not fit either.
        """
        least = min(given, key=lambda connection: len(given[connection]))
        fits = task.heatmaps.nbytes + _BESIDES <= self._room
        return least if len(given[least]) <= fits else None

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


def start_method() -> str:
    """Return how workers start: forked where that is the platform's own way and safe."""
    return "fork" if sys.platform == "linux" else "spawn"


def room(connection: Connection) -> int:
    """Return how many bytes a connection takes before its other end reads any; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        return (
            end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        )  # it counts what messages cost besides


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
            answer: Any = scorer.part(task)
        except Exception as error:  # noqa: BLE001  (whatever it is, the main process raises it)
            answer = error
        try:
            connection.send(answer)
        except OSError:
            return
