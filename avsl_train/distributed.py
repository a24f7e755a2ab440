"""What processes that train together tell each other, without gradient.

Plain functions on `torch.distributed`: where no process group was initialised, or it has one process, each of
them gives back what it was given, so that callers need no second path. Every process must call them, in the
same order. `losses.gathered` is the counterpart with gradient.

Shape letters: W processes, B rows of one process.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def world_size() -> int:
    """Return how many processes train together, W."""
    return distributed.get_world_size() if _together() else 1


def total(tensor: Tensor) -> Tensor:
    """Return the sum over processes, element by element, the same on each; truth values are counted.

    A mean over the clips of all processes, whose gradients are averaged afterwards, is
    ``sum_here / (total(count) / world_size())``.

    Parameters
    ----------
    tensor
        Of the same shape on every process, on any device.

    Examples
    --------
    >>> total(torch.tensor([True, False]))
    tensor([1, 0])
    """
    tensor = tensor.detach()
    counted = tensor.long() if tensor.dtype == torch.bool else tensor
    if world_size() == 1:
        return counted
    summed = counted.to(_device(counted)).clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(summed)
    return summed.to(tensor.device)


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks.

    Parameters
    ----------
    tensor : Tensor [B, ...]
        B may differ between processes, and be 0.

    Returns
    -------
    Tensor [sum of B, ...]

    Examples
    --------
    >>> gather_rows(torch.tensor([3, 4]))
    tensor([3, 4])
    """
    tensor = tensor.detach()
    if world_size() == 1:
        return tensor
    rows = tensor.to(_device(tensor)).contiguous()
    counts = _gathered(torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [part[:size] for part, size in zip(_gathered(padded), sizes, strict=True)]
    return torch.cat(parts).to(tensor.device)


def gather_objects(value: T) -> list[T]:
    """Return what each process holds, in the order of their ranks; pickled, so not for every step."""
    if world_size() == 1:
        return [value]
    parts: list[T | None] = [None] * world_size()
    distributed.all_gather_object(parts, value)
    return parts  # type: ignore[return-value]  # every place was filled


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _device(tensor: Tensor) -> torch.device:
    """Return where a tensor must lie to be sent: NCCL sends from GPUs only."""
    if distributed.get_backend() == "nccl" and not tensor.is_cuda:
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device


def _gathered(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor)
    return parts
