"""What the training loop asks of a method, and what methods share.

A method owns its models and whatever it remembers between steps. The loop knows none of a method's terms: it
calls `begin_epoch` once per pass over the unlabelled clips and `losses` once per step, and sums what it gets.

Shape letters: B clips of a batch, n_l of them labelled (they come first), h = w side of the map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from avsl_train.config import ExperimentConfig, FrontendName, ModelConfig
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.excerpts import Heard
from avsl_train.localizer import Localizer, Output
from avsl_train.seeding import stream
from avsl_train.views import View, Viewer

Sweep = Callable[[], Iterable[Clips]]
"""Gives this process's unlabelled clips once, in batches; ``Clips.index`` is the clip's place among all."""

PICTURED: Final = 4
"""Clips of the image strips."""

State = dict[str, dict[str, Tensor]]
"""What a method remembers between steps, for the checkpoint; the same on every process."""


@dataclass(frozen=True)
class Batch:
    """One step's clips: labelled ones first, then unlabelled ones."""

    clips: Clips
    n_labeled: int

    @property
    def labeled(self) -> Tensor:
        """Which clips have ground truth, [B] of bool."""
        return torch.arange(len(self.clips)) < self.n_labeled

    @property
    def unlabeled(self) -> Clips:
        """The unlabelled clips."""
        return self.clips[torch.arange(self.n_labeled, len(self.clips))]

    @property
    def unlabeled_index(self) -> Tensor:
        """Places of the unlabelled clips among all unlabelled clips, [B - n_l] of int64."""
        return self.clips.index[self.n_labeled :]


class Method(ABC):
    """A training method.

    Parameters
    ----------
    config
        The training configuration.
    viewer
        Makes views.
    seed
        Seed of every draw.
    n_unlabeled
        Number of unlabelled clips.
    """

    uses_unlabeled = True
    """Whether the loop must bring unlabelled clips."""
    fetch: Callable[[Tensor], Clips] | None = None
    """Reads unlabelled clips by their places, [B] of int64; the loop sets it."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        self.config = config
        self.viewer = viewer
        self.seed = seed
        self.n_unlabeled = n_unlabeled
        self.models = nn.ModuleDict(self.build()).to(
            viewer.device,
            memory_format=torch.channels_last,  # type: ignore[call-overload]
        )

    def build(self) -> dict[str, nn.Module]:
        """Return the models by their names, freshly initialised; localizers unless a method says else."""
        return {name: build(model, self.config, self.seed, name) for name, model in self.configs.items()}

    @cached_property
    def configs(self) -> dict[str, ModelConfig]:
        """The `model_configs` of this training; checking them takes as long as a view."""
        return self.model_configs(self.config)

    @classmethod
    def model_configs(cls, config: ExperimentConfig) -> dict[str, ModelConfig]:
        """Return the configuration of every model by its name; one model ``a`` unless a method says else."""
        return {"a": config.model}

    def begin_epoch(self, step: int, sweep: Sweep) -> dict[str, float]:  # noqa: ARG002 - part of the contract
        """Prepare a pass over the unlabelled clips; return numbers for the log."""
        return {}

    def after_step(self, step: int) -> None:  # noqa: B027 - a hook, not a duty
        """Do what follows the optimiser's step, such as the step of a moving average."""

    @property
    def averages(self) -> frozenset[str]:
        """Names of the models that are moving averages of others: no gradient, no optimiser."""
        return frozenset()

    def students(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the optimiser gets: those of every model but the averages."""
        for name, model in self.models.items():
            if name not in self.averages:
                yield from model.parameters()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups of parameters; a method with rates of its own names them here."""
        return [{"params": list(self.students())}]

    def pictures(self) -> dict[str, Tensor]:
        """Return strips of pictures of a few clips, for the log.

        Returns
        -------
        dict of Tensor [K, 1 or 3, H, W]
            In [0, 1], one per strip, the same K clips in each: their frames, and maps on the whole frame.
        """
        return {}

    def heard(self, step: int) -> Heard | None:  # noqa: ARG002 - part of the contract
        """Return the views that `losses` makes at a step: only what they hear is decoded of its clips.

        None: all of it. A view that is not among them is refused when it is made (`Clips.sound`).
        """
        return None

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms by name; a term that is not named counts once."""
        return {}

    def weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms times their weights."""
        weights = self.weights()
        return {name: weights.get(name, 1.0) * term for name, term in terms.items()}

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of one step, scalars by name."""

    def localize(self, view: View) -> Tensor:
        """Return the predicted map P, [B, 1, h, w] in [0, 1]."""
        return self.forward("a", view).probability

    def state(self) -> State:
        """Return what the method remembers between steps besides its models."""
        return {}

    def load(self, state: State) -> None:
        """Take over what a checkpoint held; the counterpart of `state`."""
        if state:
            raise ValueError(
                f"method {self.config.method.name} remembers nothing, the checkpoint holds {sorted(state)}"
            )

    def forward(self, name: str, view: View) -> Output:
        """Run one model on a view, heard by its front end, in the precision that was asked for."""
        view = self.viewer.heard(view, self.frontend(name))
        with self.autocast():
            output: Output = self.models[name](view.image, view.spectrogram)
        return output.float()

    def autocast(self) -> torch.autocast:
        """Return the context that networks run in: bf16 or fp16 where the configuration asks for it."""
        kind = torch.float16 if self.config.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.viewer.device.type, kind, enabled=self.config.precision != "fp32")

    def frontend(self, name: str) -> FrontendName | None:
        """Return the front end that a model's views are asked with; None: that of the data."""
        return self.configs[name].frontend

    def draws(self, *purpose: str | int) -> Draws:
        """Return the random numbers of a named purpose of this training."""
        return Draws(self.seed, *purpose)

    @property
    def map_size(self) -> int:
        """Side of the first model's map."""
        return probe_map_size(self.models["a"], self.viewer)


def build(model: ModelConfig, config: ExperimentConfig, seed: int, name: str) -> Localizer:
    """Return a localizer whose initialisation depends on the seed and its name only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "init", name).initial_seed())
        return Localizer(model, config.data)


@contextmanager
def predicting(models: nn.ModuleDict) -> Iterator[None]:
    """Switch models to evaluation without gradients, and back to what they were."""
    modes = [(module, module.training) for module in models.modules()]
    models.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def probe_map_size(model: nn.Module, viewer: Viewer) -> int:
    """Return the side of a model's map, by looking."""
    size = viewer.config.image_size
    with predicting(nn.ModuleDict({"model": model})):
        features = model.visual(torch.zeros(1, 3, size, size, device=viewer.device))  # type: ignore[operator]
    return int(features.shape[-1])
