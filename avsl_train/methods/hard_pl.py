"""Vanilla hard pseudo-labelling: one model trains on its own thresholded predictions.

It is the baseline of XPL's ablation: no second model, no sharpening, no averaging over epochs, no curriculum.
What it shares with XPL is everything else: encoders, steps, labels, views, supervised and contrastive loss,
warm-up, and that labels are made from a weak view once per epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsl_train import losses
from avsl_train.augment import identity, uncrop
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.excerpts import Heard
from avsl_train.method_config import HardPLConfig
from avsl_train.methods.method import Batch, State, Sweep, predicting
from avsl_train.methods.semi_method import SemiMethod
from avsl_train.pseudo_labels import LabelStore, harden
from avsl_train.views import View, Viewer


class HardPL(SemiMethod):
    """L = L_sup + lambda_pl * L_pl + lambda_con * L_con."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, HardPLConfig)
        self.settings = config.method
        self.size = self.map_size
        self.store = LabelStore(n_unlabeled, self.size, beta=0.0)
        self.labelled = False

    def begin_epoch(self, step: int, sweep: Sweep) -> dict[str, float]:
        """Label every unlabelled clip from its weak view."""
        if step < self.settings.warmup * self.config.optim.steps:
            return super().begin_epoch(step, sweep)
        draws = self.draws("weak", "a", step)
        with predicting(self.models):
            for clips in sweep():
                self.remember(clips)
                view = self.viewer.weak(clips, self.config.augment, draws, self.frontend("a"))
                p, covered = uncrop(self.forward("a", view).probability, view.geometry, self.size)
                label = harden(p, self.settings.threshold)
                self.store.update(clips.index, label, covered)
                self.note_labels(label, clips, identity(len(clips)).to(label.device))
        self.labelled = True
        return self.read_diary()

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return (self.draws("strong", "a", step),)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup``, ``con`` and, after warm-up, ``pl``."""
        draws = self.draws("strong", "a", step)
        view = self.viewer.strong(batch.clips, self.config.augment, draws, self.frontend("a"))
        output = self.forward("a", view)
        terms = self.shared_terms("a", batch, view, output, step)
        if self.labelled:
            n = batch.n_labeled
            label = self.store.view(batch.unlabeled_index, view.geometry[n:], output.logit.shape[-1])
            label = harden(label, 0.5)  # resampling made soft borders
            everyone = torch.ones(len(label), dtype=torch.bool, device=label.device)
            terms["pl"] = losses.masked_cross_entropy(output.logit[n:], label, everyone)
        return self.weighted(terms)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        return {**super().weights(), "pl": self.settings.lambda_pl}

    def labels_of(self, clips: Clips, view: View) -> dict[str, Tensor]:
        """Return the stored labels of some of this process's clips."""
        del view
        return {"label": self.store.own(clips.index)}

    def state(self) -> State:
        """Return the stored labels."""
        return {**super().state(), "store": self.store.state()}

    def load(self, state: State) -> None:
        """Take over the stored labels."""
        super().load(state)
        self.store.load(state["store"])
        self.labelled = bool(state["store"]["seen"].all())
