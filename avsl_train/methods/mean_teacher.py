"""Mean teacher: a student whose map of a strong view follows that of its moving average on a weak view.

Source: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017: a consistency loss
between the predictions of student and teacher, the squared error, whose weight ramps up as
exp(-5 (1 - t)^2) [paper]. How it is put on maps is [ours]: the error is a mean over the pixels that both
views saw, and the teacher begins as the student that warm-up has trained.

Shape letters: B clips of a batch, U unlabelled ones of them, h = w side of the map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avsl_train import losses
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.excerpts import Heard
from avsl_train.method_config import MeanTeacherConfig
from avsl_train.methods.method import Batch
from avsl_train.methods.semi_method import SemiMethod
from avsl_train.pseudo_labels import transfer
from avsl_train.views import View, Viewer


class MeanTeacher(SemiMethod):
    """L = L_sup + lambda_u(t) * mean (P_student - P_teacher)^2 + lambda_con * L_con."""

    teachers = {"teacher": "a"}  # noqa: RUF012 - never changed

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, MeanTeacherConfig)
        self.settings = config.method
        self.warm = self.settings.warmup * config.optim.steps

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return (self.draws("strong", "a", step), self.draws("weak", "a", step))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup``, ``con`` and, after warm-up, ``consistency``."""
        draws = self.draws("strong", "a", step)
        view = self.viewer.strong(batch.clips, self.config.augment, draws, self.frontend("a"))
        output = self.forward("a", view)
        terms = self.shared_terms("a", batch, view, output, step)
        if step >= self.warm:
            terms["consistency"] = self._consistency(batch, view, output.probability, step)
            terms["consistency"] = rampup(self._done(step)) * terms["consistency"]
        return self.weighted(terms)

    def after_step(self, step: int) -> None:
        """Step the teacher: during warm-up it is the student [ours], then its moving average [paper]."""
        super().after_step(step)
        self.step_teachers(self.settings.ema if step >= self.warm else 0.0)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms; that of the consistency is what it ramps up to."""
        return {**super().weights(), "consistency": self.settings.lambda_u}

    def localize(self, view: View) -> Tensor:
        """Return the teacher's P [paper: the teacher predicts]."""
        return self.forward("teacher", view).probability

    def labels_of(self, clips: Clips, view: View) -> dict[str, Tensor]:
        """Return what the student says, beside the teacher's prediction."""
        del clips
        return {"student": self.forward("a", view).probability}

    def _consistency(self, batch: Batch, view: View, p: Tensor, step: int) -> Tensor:
        """Return the mean squared error of the student's P and the teacher's, over the unlabelled clips."""
        n = batch.n_labeled
        clips = batch.unlabeled
        draws = self.draws("weak", "a", step)
        weak = self.viewer.weak(clips, self.config.augment, draws, self.frontend("teacher"))
        taught = self.predict("teacher", weak)
        self.note_labels(taught, clips, weak.geometry)
        wanted, covered = transfer(taught, weak.geometry, view.geometry[n:], p.shape[-1])
        everyone = torch.ones(len(clips), dtype=torch.bool, device=p.device)
        return losses.mean_of_chosen(losses.pixel_mean((p[n:] - wanted).square(), covered), everyone)

    def _done(self, step: int) -> float:
        """Return the share of the ramp that is done, in [0, 1]."""
        length = self.settings.ramp * (self.config.optim.steps - self.warm)
        return min(1.0, (step - self.warm) / length) if length > 0 else 1.0


def rampup(done: float) -> float:
    """Return exp(-5 (1 - t)^2), which grows from .0067 to 1 [paper].

    Examples
    --------
    >>> [round(rampup(t), 4) for t in (0.0, 0.5, 1.0)]
    [0.0067, 0.2865, 1.0]
    """
    return math.exp(-5 * (1 - done) ** 2)
