"""BatchNorm over the clips of all processes.

With the statistics of its own clips only, a process would train another network than one process with the
whole batch. `torch.nn.SyncBatchNorm` does this on CUDA and refuses the CPU; the class here does it anywhere,
so that several processes can be tested against one without a GPU.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avsl_train.distributed import world_size


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm inside a module use the statistics of all processes; names and weights stay.

    Nothing changes where there is one process.
    """
    if world_size() == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncedBatchNorm | nn.SyncBatchNorm):
            setattr(module, name, _converted(child, device))
        else:
            synchronise(child, device)


def _converted(own: _BatchNorm, device: torch.device) -> nn.Module:
    """Return the synchronised counterpart that shares parameters and buffers with a BatchNorm."""
    kind = nn.SyncBatchNorm if device.type == "cuda" else SyncedBatchNorm
    synced = kind(own.num_features, own.eps, own.momentum, own.affine, own.track_running_stats)
    synced.weight, synced.bias = own.weight, own.bias
    synced.running_mean, synced.running_var = own.running_mean, own.running_var
    synced.num_batches_tracked = own.num_batches_tracked
    return synced.train(own.training)


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm whose mean and variance in training are those over the clips of all processes.

    Variance is the mean of squared distances from the common mean, made in a second exchange: the mean of
    squares less the squared mean would lose the digits that processes are compared by.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features, [B, C, ...] as they came."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        over = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        values = x.float()
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        summed = _sum(torch.cat([values.sum(over), count]))
        n = summed[-1].detach()
        mean = summed[:-1] / n
        centred = values - mean.view(shape)
        variance = _sum((centred * centred).sum(over)) / n
        self._remember(mean.detach(), variance.detach(), n)
        normal: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        """Move the running statistics towards the batch's; its variance without bias, as torch does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * n / (n - 1), share)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"BatchNorm takes [B, C, ...], got {list(x.shape)}")


class _Sum(torch.autograd.Function):
    """Sum over processes; backward, the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        return _all_reduced(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _all_reduced(gradient)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _sum(x: Tensor) -> Tensor:
    return cast("Tensor", _Sum.apply(x))  # type: ignore[no-untyped-call]


def _all_reduced(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(x)
    return x
