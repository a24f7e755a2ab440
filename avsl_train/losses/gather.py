"""Features of the clips of every process, so that a contrastive loss has all of them as negatives.

The published multi-GPU runs split the batch and gather nothing: their number of negatives is that of one GPU.
Gathering is our default [ours].
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed


class _Gather(torch.autograd.Function):
    """Concatenate over ranks; backward, sum the gradients of all ranks and take the own part."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.clips = len(features)
        parts = [torch.empty_like(features) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, features)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # others may hold it too
        distributed.all_reduce(gradient)
        first = distributed.get_rank() * ctx.clips
        return gradient[first : first + ctx.clips]


def gathered(features: Tensor, across: bool = True) -> Tensor:
    """Return the features of all processes, in the order of their ranks, with gradient.

    Every rank then computes the same loss of the global batch. Backward, a rank's features get the sum of
    what all ranks computed, which is world size times the gradient of one such loss; averaging the gradients
    of the parameters over ranks, as `torch.nn.parallel.DistributedDataParallel` does, gives exactly the
    gradient of one process that holds the global batch.

    Parameters
    ----------
    features : Tensor [B, ...]
        This rank's features; B is the same on every rank.
    across
        False returns ``features``, as the published runs do.

    Returns
    -------
    Tensor [W B, ...]
        W is the number of processes. With one process, or where none was initialised, ``features`` itself.

    Raises
    ------
    ValueError
        B differs between ranks; raised on all of them, where a plain gathering would wait for ever.
    """
    if not across or not distributed.is_available() or not distributed.is_initialized():
        return features
    if distributed.get_world_size() == 1:
        return features
    features = features.contiguous()  # NCCL asks for it
    own = torch.tensor([len(features)], device=features.device)
    sizes = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, own)
    clips = torch.cat(sizes).tolist()
    if len(set(clips)) > 1:
        raise ValueError(
            f"the ranks hold {clips} clips: features can be gathered only where each holds the same number; "
            "let the sampler drop the last, smaller batch"
        )
    return cast("Tensor", _Gather.apply(features))  # type: ignore[no-untyped-call]
