"""FixMatch on maps: what the model is sure of in a weak view, pixel by pixel, teaches it in a strong view.

Source: Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
NeurIPS 2020: a hard label of the weak view where the confidence passes a threshold, cross-entropy on the
strong view, divided by everything that was looked at and not by what passed [paper]. The two thresholds of a
map, the warm-up, and that the weak view is predicted in evaluation mode are [ours].

Shape letters: B clips of a batch, U unlabelled ones of them, h = w side of the map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from avsl_train import losses
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.excerpts import Heard
from avsl_train.method_config import FixMatchConfig
from avsl_train.methods.method import Batch
from avsl_train.methods.semi_method import SemiMethod
from avsl_train.pseudo_labels import confident, transfer
from avsl_train.views import View, Viewer


class FixMatch(SemiMethod):
    """L = L_sup + lambda_u * L_confident + lambda_con * L_con."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, FixMatchConfig)
        self.settings = config.method

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return (self.draws("strong", "a", step), self.draws("weak", "a", step))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup``, ``con`` and, after warm-up, ``confident``."""
        taught = None
        if step >= self.settings.warmup * self.config.optim.steps:
            taught = self._weak(
                batch, step
            )  # before the step's own forward pass moves BatchNorm's statistics
        draws = self.draws("strong", "a", step)
        view = self.viewer.strong(batch.clips, self.config.augment, draws, self.frontend("a"))
        output = self.forward("a", view)
        terms = self.shared_terms("a", batch, view, output, step)
        if taught is not None:
            terms["confident"] = self._confident(batch, view, output.logit, *taught)
        return self.weighted(terms)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        return {**super().weights(), "confident": self.settings.lambda_u}

    def labels_of(self, clips: Clips, view: View) -> dict[str, Tensor]:
        """Return the label of the whole frame, and where the model is sure of it."""
        del clips
        p = self.forward("a", view).probability
        label, sure = confident(p, self.settings.positive, self.settings.negative)
        return {"label": label, "sure": sure.to(p.dtype)}

    def _weak(self, batch: Batch, step: int) -> tuple[View, Tensor]:
        """Return the weak view of the unlabelled clips, and what the model predicts there."""
        clips = batch.unlabeled
        draws = self.draws("weak", "a", step)
        view = self.viewer.weak(clips, self.config.augment, draws, self.frontend("a"))
        p = self.predict("a", view)
        label, sure = confident(p, self.settings.positive, self.settings.negative)
        self.note_labels(label, clips, view.geometry)
        self.diary.add("sure", sure.float().mean((1, 2, 3)))
        return view, p

    def _confident(self, batch: Batch, view: View, logit: Tensor, weak: View, p: Tensor) -> Tensor:
        """Return BCE(strong, label) where the label is sure, a mean over all pixels, sure or not."""
        n = batch.n_labeled
        moved, covered = transfer(p, weak.geometry, view.geometry[n:], logit.shape[-1])
        label, sure = confident(moved, self.settings.positive, self.settings.negative)
        pixels = functional.binary_cross_entropy_with_logits(logit[n:], label, reduction="none")
        everyone = torch.ones(len(label), dtype=torch.bool, device=label.device)
        return losses.mean_of_chosen(losses.pixel_mean(pixels * (sure & covered)), everyone)
