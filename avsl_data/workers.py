"""Processes that work side by side, any of which may be killed at any time.

The workers of `concurrent.futures.ProcessPoolExecutor` share a queue and its lock. One that is killed while
it holds the lock, or while another one starts, can leave the rest and the parent waiting for ever (Python
3.11). Here each worker has a pipe of its own and nothing is shared: when one dies, its pipe closes, and
whoever waits for it is told at once.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

GRACE_S: Final = 10.0
"""How long jobs that have begun may take to end when the work is given up; then their process is killed."""

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDiedError(RuntimeError):
    """Say that a worker ended in the middle of a job: killed, or out of memory.

    Parameters
    ----------
    job
        The job.
    """

    def __init__(self, job: Any) -> None:
        super().__init__("a worker process ended in the middle of a job")
        self.job = job


class _Worker(Generic[Job, Result]):
    """A process and the pipe to it."""

    def __init__(self, work: Callable[[Job], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        with _interrupts_blocked():
            self._process.start()
        theirs.close()  # theirs alone now: the pipe closes when the process ends, however it ends

    def call(self, job: Job) -> Result:
        """Let the process do a job and return its result, or raise what it raised."""
        try:
            self._pipe.send(job)
            done, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(job) from error
        if not done:
            raise answer
        result: Result = answer
        return result

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let Ctrl-C reach the parent only: a process that starts in this block never sees it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ensure_running()  # or the first process starts it, and it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    """Do one job after the other until the parent is gone."""
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, work(job))
        except Exception as error:  # noqa: BLE001 - raised again by the parent
            error.add_note(traceback.format_exc())
            answer = (False, error)
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


def in_order(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Do jobs in several processes and yield their results in the order of the jobs.

    Parameters
    ----------
    work
        A function of a module, or a partial of one.
    jobs
        What it is called with; taken from as results are.
    workers
        Number of processes.
    ahead
        Number of finished or begun jobs that may wait to be taken.

    Yields
    ------
    Result
        Of each job.

    Raises
    ------
    WorkerDiedError
        If a process ended in the middle of a job.
    """
    crew: list[_Worker[Job, Result]] = []
    idle: SimpleQueue[_Worker[Job, Result]] = SimpleQueue()
    waiting: deque[Future[Result]] = deque()

    def call(job: Job) -> Result:
        worker = idle.get()
        try:
            return worker.call(job)
        finally:
            idle.put(worker)

    # A thread only waits for its process; there are as many of both, so that none waits for an idle one.
    with ThreadPoolExecutor(workers) as threads:
        try:
            for _ in range(workers):
                crew.append(_Worker(work))
                idle.put(crew[-1])
            for job in jobs:
                waiting.append(threads.submit(call, job))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            wait([future for future in waiting if not future.cancelled()], GRACE_S)
            for worker in crew:
                worker.end()
