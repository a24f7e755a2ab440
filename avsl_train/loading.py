"""Batches that processes beside the training decode ahead of it, in the order in which they are asked for.

Processes start at the first batch and stay for the next pass. Each decodes whole batches with one thread: the
number of processes is the number of cores that loading may use.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from avsl_train.errors import TrainInputError

AHEAD: Final = 4
"""Batches that a process makes ahead."""
THREADS: Final = 1
"""Threads of a process."""

Request = TypeVar("Request")
Made = TypeVar("Made")


class _Making(Dataset[Made], Generic[Request, Made]):
    """What a process makes: one batch per request."""

    def __init__(self, make: Callable[[Request], Made]) -> None:
        self.make = make

    def __getitem__(self, request: Request) -> Made:
        return self.make(request)


class _Requests(Generic[Request]):
    """The requests of the present pass; torch takes the object once and walks it for every pass."""

    def __init__(self) -> None:
        self.now: Sequence[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


class Workers(Generic[Request, Made]):
    """Processes that make batches.

    Parameters
    ----------
    make
        Makes one batch of a request; runs in the processes.
    processes
        How many there are.
    pin
        Put batches into page-locked memory, from which they are copied to a GPU while it computes.
    """

    def __init__(self, make: Callable[[Request], Made], processes: int, pin: bool) -> None:
        self._requests: _Requests[Request] = _Requests()
        self._loader: DataLoader[Made] = DataLoader(
            _Making(make),
            batch_size=None,
            sampler=self._requests,
            num_workers=processes,
            prefetch_factor=AHEAD,
            persistent_workers=True,
            pin_memory=pin,
            worker_init_fn=_begin,
        )

    def make(self, requests: Sequence[Request]) -> Iterator[Made]:
        """Yield what is made of each request, in order.

        Raises
        ------
        TrainInputError
            What a process raised, or that one was killed.
        """
        self._requests.now = requests
        try:
            yield from self._start()
        except TrainInputError as error:  # a worker's traceback stands before its message
            message = str(error).rpartition("TrainInputError: ")[2].strip()
            # the frames of the traceback would keep the workers alive until they time out
            raise TrainInputError(message) from error.with_traceback(None)
        except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: killed while it hands over
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise TrainInputError(
                "a process that decodes clips was killed, perhaps for want of memory: lower data.workers or "
                f"the batch, or give the container more shared memory ({reason})"
            ) from error.with_traceback(None)

    def _start(self) -> Iterator[Made]:
        """Return the iterator of a pass, without the handler that torch sets when it starts processes.

        At the death of one that handler raises wherever the training happens to be; without it the death is
        found where the next batch is waited for.
        """
        handler = signal.getsignal(signal.SIGCHLD)
        batches: Iterator[Made] = iter(self._loader)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        return batches

    def close(self) -> None:
        """End the processes."""
        iterator = (
            self._loader._iterator
        )  # torch offers no other way, and ends them only when it is collected
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._loader._iterator = None


def _begin(number: int) -> None:  # noqa: ARG001 - the signature that torch calls
    torch.set_num_threads(THREADS)
