"""DMT: dual mean-teacher for semi-supervised audio-visual source localization.

Two teacher-student pairs. Stage 1 trains the teachers on the labelled clips. In stage 2 both teachers mark
the sources of an unlabelled clip; where their masks disagree the clip is rejected as noise, else the
intersection of the masks is the label that both students learn from. The teachers follow the students as
moving averages.

What the paper's official figure states and what is our choice is tagged in
`avsl_train.method_config.DMTConfig` and in `docs/methods.md`.

Shape letters: B clips of a batch, U unlabelled ones of them, h = w side of the map.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from avsl_train import losses
from avsl_train.config import ExperimentConfig, ModelConfig
from avsl_train.data import Clips
from avsl_train.excerpts import Heard
from avsl_train.method_config import DMTConfig
from avsl_train.methods.method import Batch
from avsl_train.methods.semi_method import SemiMethod, sum_of
from avsl_train.pseudo_labels import harden, intersect, transfer
from avsl_train.views import View, Viewer

PAIRS = {"a": "teacher_a", "b": "teacher_b"}


class DMT(SemiMethod):
    """L = L_sup + lambda_u * L_ipl + lambda_con * L_con, each the sum over the two students."""

    teachers = {"teacher_a": "a", "teacher_b": "b"}  # noqa: RUF012 - never changed

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, DMTConfig)
        self.settings = config.method
        self.warm = self.settings.warmup * config.optim.steps

    @classmethod
    def model_configs(cls, config: ExperimentConfig) -> dict[str, ModelConfig]:
        """Return the two students; in the paper they differ in their audio encoder (``model_b``)."""
        return {"a": config.model, "b": config.model_b()}

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return (*(self.draws("strong", name, step) for name in PAIRS), self.draws("weak", step))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup``, ``con`` and in stage 2 ``ipl``."""
        taught = self._teach(batch, step) if step >= self.warm else None
        per_student = []
        for name in PAIRS:
            draws = self.draws("strong", name, step)
            view = self.viewer.strong(batch.clips, self.config.augment, draws, self.frontend(name))
            output = self.forward(name, view)
            terms = self.shared_terms(name, batch, view, output, step)
            if taught is not None:
                terms["ipl"] = self._ipl(batch, view, output.logit, *taught)
            per_student.append(terms)
        return self.weighted({term: sum_of(terms[term] for terms in per_student) for term in per_student[0]})

    def after_step(self, step: int) -> None:
        """Step the teachers: in stage 1 they are the students, in stage 2 their moving averages [paper].

        The average is made after the optimiser's step; BatchNorm's statistics are copied [ours].
        """
        super().after_step(step)
        self.step_teachers(self.settings.ema if step >= self.warm else 0.0)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        return {**super().weights(), "ipl": self.settings.lambda_u}

    def localize(self, view: View) -> Tensor:
        """Return the mean of both teachers' P, or one of them, as ``inference`` says [ours].

        The mean has the size of A's map.
        """
        if self.settings.inference != "mean":
            return self.forward(PAIRS[self.settings.inference], view).probability
        p_a, p_b = self._maps(view)
        return (p_a + p_b) / 2

    def labels_of(self, clips: Clips, view: View) -> dict[str, Tensor]:
        """Return both teachers' maps and the label of the whole frame, black where the clip is rejected."""
        del clips
        p_a, p_b = self._maps(view)
        label, accepted, _ = intersect(p_a, p_b, self.settings.delta, self.settings.tau)
        return {
            **dict(zip(PAIRS.values(), (p_a, p_b), strict=True)),
            "label": label * accepted[:, None, None, None],
        }

    def _teach(self, batch: Batch, step: int) -> tuple[View, Tensor, Tensor]:
        """Return the weak view of the unlabelled clips, their label and which of them are accepted.

        Both teachers see and hear the same weak view, so that their masks can be compared [ours].
        """
        clips = batch.unlabeled
        draws = self.draws("weak", step)
        view = self.viewer.weak(clips, self.config.augment, draws, self.frontend("teacher_a"))
        with self.predicting(*PAIRS.values()):
            maps = self._maps(view)
        label, accepted, iou = intersect(*maps, self.settings.delta, self.settings.tau)
        self.diary.add("agreement", iou)
        self.note_labels(label, clips, view.geometry, accepted)
        return view, label, accepted

    def _maps(self, view: View) -> tuple[Tensor, Tensor]:
        """Return both teachers' P, [B, 1, h, w] of A's size."""
        p_a, p_b = (self.forward(teacher, view).probability for teacher in PAIRS.values())
        return p_a, functional.interpolate(p_b, size=p_a.shape[-2:], mode="bilinear", align_corners=False)

    def _ipl(
        self, batch: Batch, view: View, logit: Tensor, weak: View, label: Tensor, accepted: Tensor
    ) -> Tensor:
        """Return BCE(P of a student, label) over the accepted clips, where the teachers looked."""
        n = batch.n_labeled
        moved, covered = transfer(label, weak.geometry, view.geometry[n:], logit.shape[-1])
        label = harden(moved, 0.5)  # resampling made soft borders
        return losses.masked_cross_entropy(logit[n:], label, accepted, covered)
