"""How the process gets its memory."""

from __future__ import annotations

import numpy as np

LARGE = 16 * 1024**2
"""Bytes below which freed memory is to be kept for the next array."""


def keep_freed_memory(n_bytes: int = LARGE) -> None:
    """Have the memory of freed arrays used again, not given back to the system and asked for anew.

    The allocator of glibc takes larger blocks from the system one by one, and as long as it does, every
    array of a chunk begins with as many page faults as it has pages, which cost more than what is computed.
    It stops doing so for sizes of which one has been freed, up to 32 MiB. Elsewhere this does nothing.

    Parameters
    ----------
    n_bytes
        Of the largest arrays that this is for.
    """
    np.empty(n_bytes, np.uint8)  # freed at once, and never touched
