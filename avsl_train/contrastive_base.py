"""The contrastive method that a semi-supervised one is built on ("SLAVC + DMT"): what its loss needs.

`ContrastiveBase` adds to the localizers what a contrastive loss `needs` (`avsl_train.losses.contrastive`),
only for the loss that needs it, and as models of the method, so that checkpoints hold them:

==============================  ==========================================================================
loss                            what is added to a localizer ``a``
==============================  ==========================================================================
``ezvsl lvs htf fnac ssltie``   nothing; ``ssltie`` asks the visual encoder a second time, for a moved view
``slavc``                       ``a_extra``: second projections of frame and sound; ``momentum_a`` and
                                ``momentum_a_extra``: their moving average, unless the method has a
                                teacher, which then takes that part
``alignment``                   ``a_extra``: projections of the whole frame and the whole sound
==============================  ==========================================================================

Choices [ours]: every loss is added to the *shared* localizer, so that a comparison isolates the loss. What
else the published networks have (SLAVC's and FNAC's image dropout, LVS's ReLU before the unit vectors) stays
in their own methods. The map P comes from the first heads. SSL-TIE's second view is the first one moved, with
the same sound. Alignment has the terms of the clips themselves, without further views.

Shape letters: B clips, C channels of the common space, C_v and C_a those of the encoders, h = w side of the
map.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train import losses
from avsl_train.data import Clips
from avsl_train.distributed import gather_rows
from avsl_train.draws import Draws
from avsl_train.ema import update_average
from avsl_train.localizer import Localizer, Output
from avsl_train.losses.ssltie import MAX_DEGREES
from avsl_train.method_config import Losses
from avsl_train.seeding import stream
from avsl_train.views import View

Features = losses.Features
Run = Callable[[str, View], Output]
"""Runs a model of the method, by its name, on a view."""


class SecondHeads(nn.Module):
    """SLAVC's second projections of both sides [code].

    Parameters
    ----------
    model
        The localizer whose encoders they share.
    """

    def __init__(self, model: Localizer) -> None:
        super().__init__()
        dim = model.visual_projection.out_channels
        self.visual = nn.Conv2d(model.visual.channels, dim, 1)
        self.audio = nn.Linear(model.audio.channels, dim)

    def forward(self, output: Output) -> Features:
        """Return the unit vectors of the second heads, [B, C, h, w] and [B, C]."""
        visual = functional.normalize(self.visual(output.grid), dim=1)
        return Features(visual, functional.normalize(self.audio(output.vector), dim=1))


class Projections(nn.Module):
    """Alignment's linear projections of whole frames, their features' maxima, and of whole sounds [code].

    Parameters
    ----------
    model
        The localizer whose encoders they share.
    """

    def __init__(self, model: Localizer) -> None:
        super().__init__()
        dim = model.visual_projection.out_channels
        self.visual = nn.Linear(model.visual.channels, dim)
        self.audio = nn.Linear(model.audio.channels, dim)

    def forward(self, output: Output) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of whole frames and sounds, [B, C] each."""
        frames = functional.normalize(self.visual(output.grid.amax((2, 3))), dim=1)
        return frames, functional.normalize(self.audio(output.vector), dim=1)


EXTRAS: Final[Mapping[str, type[nn.Module]]] = {"slavc": SecondHeads, "alignment": Projections}
"""What a loss adds to a localizer."""


class ContrastiveBase:
    """A method's contrastive loss, and the models that it brings along.

    Parameters
    ----------
    settings
        The method's section of the configuration.
    steps
        Optimiser steps of the training.
    gather
        Whether the clips of all processes are each other's negatives.
    seed
        Seed of the training.
    """

    def __init__(self, settings: Losses, steps: int, gather: bool, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.gather = gather
        self.warm = settings.fnac_warmup * steps
        self.term = losses.contrastive(settings.contrastive)
        self.momentum: dict[str, str] = {}
        """Students by the names of their momentum copies."""
        self.target: dict[str, str] = {}
        """Models that give SLAVC's targets, teachers or momentum copies, by their students."""

    def build(self, models: Mapping[str, Localizer], teachers: Mapping[str, str]) -> dict[str, nn.Module]:
        """Return the models that the loss adds; none where it has no weight.

        Parameters
        ----------
        models
            The students by their names.
        teachers
            Students by the names of their teachers.
        """
        added: dict[str, nn.Module] = {}
        if self.settings.lambda_con == 0 or self.settings.contrastive not in EXTRAS:
            return added
        for name, model in models.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream(self.seed, "init", name, "extra").initial_seed())
                added[extra(name)] = EXTRAS[self.settings.contrastive](model)
        if self.settings.contrastive != "slavc":
            return added
        self.target = {student: teacher for teacher, student in teachers.items()}
        for name in sorted(models.keys() - self.target.keys()):  # processes must agree on the order
            self.target[name] = momentum = f"momentum_{name}"
            self.momentum[momentum] = name
            added[momentum] = copy.deepcopy(models[name])
        for name in sorted(models):
            added[extra(self.target[name])] = copy.deepcopy(added[extra(name)])
        return added

    def averages(self) -> Iterator[str]:
        """Yield the names of the added models that are moving averages."""
        yield from self.momentum
        yield from (extra(name) for name in self.target.values())

    def after_step(self, models: nn.ModuleDict) -> None:
        """Step the momentum copies: parameters only, their BatchNorm keeps statistics of its own [code].

        SLAVC makes this step at the beginning of the *next* forward pass; between the two nothing happens.
        """
        for name, student in self.momentum.items():
            for average, online in ((name, student), (extra(name), extra(student))):
                update_average(models[average], models[online], self.settings.momentum, buffers=False)

    def loss(
        self, name: str, models: nn.ModuleDict, run: Run, clips: Clips, view: View, output: Output, step: int
    ) -> Tensor:
        """Return the contrastive loss of one student over all clips of the batch, of all processes.

        Parameters
        ----------
        name
            The student.
        models
            The method's models.
        run
            Runs one of them; a teacher in evaluation mode.
        clips, view, output
            The batch, how the student saw it, and what it made of it.
        step
            The step, for the draws and FNAC's warm-up.
        """
        match self.settings.contrastive:
            case "slavc":
                context = self._slavc(name, models, run, view, output)
            case "alignment":
                frames, sounds = models[extra(name)](output)
                context = losses.Context(projected=(self._all(frames), self._all(sounds)))
            case "ssltie":
                context = self._ssltie(name, models, clips, view, output, step)
            case _:
                context = losses.Context(warmed_up=step >= self.warm)
        return self.term(self._all(output.visual), self._all(output.audio), context)

    def _slavc(
        self, name: str, models: nn.ModuleDict, run: Run, view: View, output: Output
    ) -> losses.Context:
        """Return a context with the second heads' features and both heads' of the target.

        The target is the student's momentum copy [code]. A method with teachers takes the teacher [ours]: it
        is a moving average of the same student, and another copy would know nothing else.
        """
        target = self.target[name]
        with torch.no_grad():
            there = run(target, view)
            second = models[extra(target)](there)
        return losses.Context(
            second=self._both(models[extra(name)](output)),
            target=self._both(Features(there.visual, there.audio)),
            target_second=self._both(second),
        )

    def _ssltie(
        self, name: str, models: nn.ModuleDict, clips: Clips, view: View, output: Output, step: int
    ) -> losses.Context:
        """Return a context with T and the features of the moved view."""
        transform = draw_transform(self.seed, name, step, clips.key)
        model = models[name]
        visual = model.project(model.see(transform(view.image))).float()  # type: ignore[operator]
        size = int(transform.scale * output.visual.shape[-1])
        if visual.shape[-1] != size:  # a ResNet at stride 32 rounds 3.5 cells up, T down
            visual = functional.normalize(functional.adaptive_avg_pool2d(visual, size), dim=1)
        degrees = transform.degrees if not self.gather else gather_rows(transform.degrees)
        moved = Features(self._all(visual), self._all(output.audio))
        return losses.Context(moved=moved, transform=replace(transform, degrees=degrees))

    def _both(self, features: Features) -> Features:
        return Features(self._all(features.visual.float()), self._all(features.audio.float()))

    def _all(self, features: Tensor) -> Tensor:
        return losses.gathered(features, across=self.gather)


def extra(name: str) -> str:
    """Return the name of what a loss adds to a model."""
    return f"{name}_extra"


def draw_transform(seed: int, name: str, step: int, keys: Tensor) -> losses.Transform:
    """Return SSL-TIE's T of a step, the same whichever process a clip is in.

    Scale and flip belong to the step and the angles, whole degrees in [-30, 30], to the clips; distributed as
    those of the published code.

    Parameters
    ----------
    seed, name, step
        Seed of the training, the student, the step.
    keys : Tensor [B] of int64
        `Clips.key`.
    """
    whole = random.Random(stream(seed, "moved", name, step).initial_seed())
    scale, flip = (1.0 if whole.random() > 0.5 else 0.5), whole.random() > 0.5
    turn = Draws(seed, "moved", name, step).uniform(keys, 1)[:, 0]
    return losses.Transform(scale, (turn * (2 * MAX_DEGREES + 1)).floor() - MAX_DEGREES, flip)
