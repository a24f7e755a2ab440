"""Random streams that depend on their name only, so that a resumed training draws what it would have."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import torch


def stream(seed: int, *name: str | int) -> torch.Generator:
    """Return a CPU generator for a named purpose.

    Parameters
    ----------
    seed
        Seed of the training.
    *name
        What is drawn, for example ``"strong", "a", step``. Different names give independent streams.

    Examples
    --------
    >>> a, b = stream(0, "order", 3), stream(0, "order", 3)
    >>> bool(torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b)))
    True
    """
    return torch.Generator().manual_seed(purpose_key(seed, *name) >> 1)


def purpose_key(seed: int, *name: str | int) -> int:
    """Return the 64 bits that stand for a named purpose of a training: a hash of its seed and the name."""
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def seed_everything(seed: int, threads: int | None) -> None:
    """Seed the global generators, ask for deterministic kernels and fix the number of CPU threads.

    The number of threads is part of what makes a result reproducible to the bit: sums are split over them.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that draw from the global state
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    if threads is not None:
        torch.set_num_threads(threads)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's global generators for one step of one process.

    What draws from them, such as dropout, then depends on nothing that a checkpoint would have to remember.
    """
    torch.manual_seed(stream(seed, "step", step, rank).initial_seed())
