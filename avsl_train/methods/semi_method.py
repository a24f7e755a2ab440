"""What the methods that learn from labels share: localizers, teachers, loss terms, numbers for the log."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train import losses
from avsl_train.augment import Geometry
from avsl_train.config import ExperimentConfig, FrontendName
from avsl_train.contrastive_base import ContrastiveBase, extra
from avsl_train.data import Clips
from avsl_train.diagnostics import GOOD, Diary, distance, label_iou
from avsl_train.distributed import rank, world_size
from avsl_train.ema import update_average
from avsl_train.localizer import Localizer, Output
from avsl_train.method_config import Losses
from avsl_train.methods.method import PICTURED, Batch, Method, State, Sweep, predicting
from avsl_train.views import View, Viewer


class SemiMethod(Method):
    """A method whose models are localizers, some of them perhaps teachers, with labelled clips."""

    teachers: ClassVar[Mapping[str, str]] = {}
    """Students by the names of their teachers, which are their moving averages."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        assert isinstance(config.method, Losses)
        self.shared = config.method
        self.base = ContrastiveBase(self.shared, config.optim.steps, config.optim.gather, seed)
        self.diary = Diary()
        self.gallery: Clips | None = None
        super().__init__(config, viewer, seed, n_unlabeled)

    def build(self) -> dict[str, nn.Module]:
        """Return the students, their teachers as copies, and what the contrastive loss adds."""
        students = cast("dict[str, Localizer]", super().build())
        copies = {name: copy.deepcopy(students[student]) for name, student in self.teachers.items()}
        models = {**students, **copies, **self.base.build(students, self.teachers)}
        for name in {*self.teachers, *self.base.averages()}:
            models[name].requires_grad_(False)
        return models

    @property
    def averages(self) -> frozenset[str]:
        """Teachers and momentum copies."""
        return frozenset({*self.teachers, *self.base.averages()})

    def frontend(self, name: str) -> FrontendName | None:
        """Return the front end of a student, a teacher's is its student's."""
        student = self.teachers.get(name) or self.base.momentum.get(name) or name
        return self.configs[student].frontend

    def begin_epoch(self, step: int, sweep: Sweep) -> dict[str, float]:
        """Return the numbers of the last pass."""
        del step
        self.remember_first(sweep)
        return self.read_diary()

    def after_step(self, step: int) -> None:
        """Step the momentum copies of the contrastive loss."""
        del step
        self.base.after_step(self.models)

    def step_teachers(self, decay: float) -> None:
        """Make one step of the teachers' moving averages; BatchNorm's statistics are the student's [ours]."""
        for teacher, student in self.teachers.items():
            for average, online in ((teacher, student), (extra(teacher), extra(student))):
                if average in self.models:
                    update_average(self.models[average], self.models[online], decay)

    def predict(self, name: str, view: View) -> Tensor:
        """Return a model's P, [B, 1, h, w], in evaluation mode and without gradient."""
        with self.predicting(name):
            return self.forward(name, view).probability

    def predicting(self, *names: str) -> AbstractContextManager[None]:
        """Switch some of the models to evaluation without gradients for a ``with`` block."""
        return predicting(nn.ModuleDict({name: self.models[name] for name in names}))

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms by name; a term that is not named counts once."""
        return {"con": self.shared.lambda_con}

    def shared_terms(
        self, name: str, batch: Batch, view: View, output: Output, step: int
    ) -> dict[str, Tensor]:
        """Return a student's terms ``sup`` and, if it has a weight, ``con``, both unweighted."""
        n = batch.n_labeled
        truth = self.viewer.truth(batch.clips[torch.arange(n)], view.geometry[:n])
        logit = output.logit[:n]
        everyone = torch.ones(n, dtype=torch.bool, device=logit.device)
        terms = {"sup": losses.supervised(logit, truth, everyone, self.shared.loss_at)}
        if self.shared.lambda_con > 0:
            terms["con"] = self.base.loss(name, self.models, self._target, batch.clips, view, output, step)
        self.diary.calibrate(logit.sigmoid(), functional.adaptive_avg_pool2d(truth, logit.shape[-1]))
        return terms

    def note_labels(
        self, label: Tensor, clips: Clips, geometry: Geometry, chosen: Tensor | None = None
    ) -> Tensor:
        """Note how good pseudo-labels are where hidden boxes are known, for the log only.

        Parameters
        ----------
        label : Tensor [B, 1, h, w]
            As a view of ``geometry`` sees them.
        clips
            The clips, whose boxes no training may use.
        geometry
            The view.
        chosen : Tensor [B] of bool or None
            The clips whose labels teach; None: all, or not known yet.

        Returns
        -------
        Tensor [B]
            Intersection over union, NaN where no box is known.
        """
        iou, known = label_iou(label, clips.boxes, geometry)
        self.diary.add("label_mean", label.mean((1, 2, 3)))
        self.diary.add("label_iou", iou, known)
        self.diary.add("label_ciou", iou >= GOOD, known)
        if chosen is not None:
            self.diary.add("selected", chosen)
            self.diary.add("precision", iou >= GOOD, known & chosen)
        return torch.where(known, iou, torch.nan)

    def read_diary(self) -> dict[str, float]:
        """Return the numbers since the last call, and how far the teachers are from their students."""
        apart = {
            f"distance_{student}": distance(self.models[teacher], self.models[student])
            for teacher, student in self.teachers.items()
        }
        return {**self.diary.read(), **apart}

    def remember(self, clips: Clips) -> None:
        """Keep the first clips that are shown to it for `pictures`."""
        if self.gallery is None:
            self.gallery = clips[torch.arange(min(PICTURED, len(clips)))]

    def remember_first(self, sweep: Sweep) -> None:
        """Keep the first unlabelled clips for `pictures`, where no sweep over all of them is made anyway."""
        if self.gallery is None:
            for clips in sweep():
                self.remember(clips)
                break

    def pictures(self) -> dict[str, Tensor]:
        """Return frames, hidden boxes, predictions and pseudo-labels of the first unlabelled clips."""
        if self.gallery is None and self.fetch is not None and self.n_unlabeled:  # a run that just went on
            self.remember(self.fetch(torch.arange(rank(), self.n_unlabeled, world_size())[:PICTURED]))
        if self.gallery is None:
            return {}
        clips = self.gallery
        view = self.viewer.plain(clips, self.frontend("a"))
        with predicting(self.models):
            maps = {"prediction": self.localize(view), **self.labels_of(clips, view)}
        return {"frame": view.image, "boxes": self.viewer.truth(clips, view.geometry), **maps}

    def labels_of(self, clips: Clips, view: View) -> dict[str, Tensor]:  # noqa: ARG002 - a hook
        """Return the pseudo-labels of some clips on the whole frame, [B, 1, h, w] each, by name."""
        return {}

    def state(self) -> State:
        """Return the sums for the next line of the log."""
        return {"diary": self.diary.state()}

    def load(self, state: State) -> None:
        """Take over what a checkpoint held."""
        self.diary.load(state["diary"])

    def _target(self, name: str, view: View) -> Output:
        """Run a model that gives targets: a teacher predicts, a momentum copy stays as it is [code SLAVC]."""
        if name not in self.teachers:
            return self.forward(name, view)
        with self.predicting(name):
            return self.forward(name, view)


def sum_of(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of scalars."""
    return torch.stack(list(terms)).sum()
