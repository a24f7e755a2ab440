"""The optimiser and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch

from avsl_train.config import ExperimentConfig, OptimConfig


class Optimizer:
    """An optimiser of a method's parameters whose rates follow the configuration's schedule.

    Parameters
    ----------
    config
        Section ``optim``.
    groups
        Groups of parameters as `torch.optim` takes them; a group's own ``lr`` replaces the configured one
        and follows the same schedule.
    fused
        Whether Adam may run as one pass over the parameters, which takes a quarter of the time. Such an Adam
        undoes the loss scaling of fp16 by itself and leaves no moment to clip the gradient in.
    """

    def __init__(self, config: OptimConfig, groups: list[dict[str, Any]], fused: bool = True) -> None:
        self.config = config
        self.torch = _make(config, groups, fused)
        self.rates: list[float] = [group["lr"] for group in self.torch.param_groups]

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step."""
        factor = rate_factor(self.config, step)
        for group, rate in zip(self.torch.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    @property
    def rates_now(self) -> list[float]:
        """The learning rates that are set, one per group."""
        return [group["lr"] for group in self.torch.param_groups]


def _make(config: OptimConfig, groups: list[dict[str, Any]], fused: bool) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


def learning_rate(config: ExperimentConfig, step: int) -> float:
    """Return the learning rate of a step."""
    return config.optim.lr * rate_factor(config.optim, step)


def rate_factor(config: OptimConfig, step: int) -> float:
    """Return what the learning rates are multiplied by at a step.

    Warm-up is linear and reaches 1 at its last step. ``cosine`` falls by half a cosine from 1 to 0 over the
    steps after it; ``step`` is multiplied by ``decay`` every ``decay_every`` steps, counted from the start.

    Examples
    --------
    >>> config = OptimConfig(steps=100, schedule="cosine", warmup_steps=4)
    >>> [round(rate_factor(config, step), 3) for step in (0, 1, 3, 4, 52)]
    [0.25, 0.5, 1.0, 1.0, 0.5]
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    match config.schedule:
        case "constant":
            return 1.0
        case "step":
            return float(config.decay ** (step // config.decay_every))
        case "cosine":
            done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
            return 0.5 * (1 + math.cos(math.pi * done))
