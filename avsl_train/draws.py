"""Random numbers of a clip that depend on nothing but seed, purpose and clip.

A view of a clip is the same in whichever batch, order, process or rank the clip is seen, because its draws
come from a counter-based generator: the purpose is the key, the clip is the counter, and nothing has a state.
A resumed training, one on more devices, or one with more loading processes draws what this one does.

Shape letters: B clips, n numbers per clip, K blocks of four numbers.

Source: Philox4x32-10 of Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011), whose known
answers are in the tests.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from avsl_train.seeding import purpose_key

_ROUNDS: Final = 10
_FACTORS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_WORDS: Final = 4
"""Numbers of one block."""

Words = np.ndarray[Any, np.dtype[np.uint64]]
"""32-bit words, each in 64 bits, so that products do not overflow."""


class Draws:
    """Uniform numbers of one purpose.

    Parameters
    ----------
    seed
        Seed of the training.
    *purpose
        What is drawn, for example ``"strong", "a", step``. Different purposes give independent numbers.

    Examples
    --------
    >>> keys = torch.tensor([key_of("one"), key_of("two")])
    >>> both = Draws(0, "strong", "a", 3).uniform(keys, 5)
    >>> bool(torch.equal(both[1:], Draws(0, "strong", "a", 3).uniform(keys[1:], 5)))
    True
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self._key = purpose_key(seed, *purpose)

    def uniform(self, keys: Tensor, n: int) -> Tensor:
        """Return ``n`` uniform numbers for each clip.

        Fewer numbers are the first ones of more.

        Parameters
        ----------
        keys : Tensor [B] of int64
            `Clips.key`.
        n
            Numbers per clip.

        Returns
        -------
        Tensor [B, n] of float32
            In [0, 1), multiples of 2**-24, on the CPU.
        """
        blocks = -(-n // _WORDS)
        clips = np.ascontiguousarray(keys.cpu().numpy()).view(np.uint64)[:, None]  # [B, 1]
        counter = np.empty((_WORDS, len(clips), blocks), np.uint64)
        counter[0] = np.arange(blocks, dtype=np.uint64)
        counter[1] = 0
        counter[2] = clips & _LOW
        counter[3] = clips >> _HALF
        words = np.stack(philox(counter, self._key), axis=-1)  # [B, K, 4]
        numbers = (words >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)
        return torch.from_numpy(numbers.reshape(len(clips), blocks * _WORDS)[:, :n])


def key_of(clip_id: str) -> int:
    """Return the stable key of a clip: the first 64 bits of its id's SHA-256, as a signed integer.

    Examples
    --------
    >>> key_of("-00y7sw8YIg_000030") == key_of("-00y7sw8YIg_000030")
    True
    """
    return int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big", signed=True)


def philox(counter: Words, key: int) -> tuple[Words, Words, Words, Words]:
    """Return the blocks of Philox4x32-10 at many counters.

    Parameters
    ----------
    counter : uint64 [4, ...]
        The four 32-bit words of every counter, the first one counts fastest.
    key
        64 bits; the low ones are the first word.

    Returns
    -------
    four arrays, uint64 [...]
        The 32-bit words of every block.
    """
    c0, c1, c2, c3 = counter
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        first, second = _FACTORS[0] * c0, _FACTORS[1] * c2
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(low),
            second & _LOW,
            (first >> _HALF) ^ c3 ^ np.uint64(high),
            first & _LOW,
        )
        low, high = (low + _KEY_STEPS[0]) & 0xFFFFFFFF, (high + _KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3
