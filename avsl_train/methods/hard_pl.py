"""Vanilla hard pseudo-labelling: one model trains on its own thresholded predictions.

It is the baseline of XPL's ablation: no second model, no sharpening, no averaging over epochs, no curriculum.
What it shares with XPL is everything else: encoders, steps, labels, views, supervised and contrastive loss,
warm-up, and that labels are made from a weak view once per epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsl_train import losses
from avsl_train.augment import uncrop
from avsl_train.config import ExperimentConfig
from avsl_train.method_config import HardPLConfig
from avsl_train.methods.method import Batch, Method, Sweep, predicting
from avsl_train.pseudo_labels import LabelStore, harden
from avsl_train.views import Viewer


class HardPL(Method):
    """L = L_sup + lambda_pl * L_pl + lambda_con * L_con."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, HardPLConfig)
        self.settings = config.method
        self.size = self.map_size
        self.store = LabelStore(n_unlabeled, self.size, beta=0.0)

    def begin_epoch(self, step: int, sweep: Sweep) -> dict[str, float]:
        """Label every unlabelled clip from its weak view."""
        if step < self.settings.warmup * self.config.optim.steps:
            return {}
        draws = self.draws("weak", "a", step)
        positive = 0.0
        with predicting(self.models):
            for clips in sweep():
                view = self.viewer.weak(clips, self.config.augment, draws, self.frontend("a"))
                p, covered = uncrop(self.forward("a", view).probability, view.geometry, self.size)
                label = harden(p, self.settings.threshold)
                self.store.update(clips.index, label, covered)
                positive += label.mean().item() * len(clips)
        return {"label_mean": positive / max(self.n_unlabeled, 1)}

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup``, ``con`` and, after warm-up, ``pl``."""
        draws = self.draws("strong", "a", step)
        view = self.viewer.strong(batch.clips, self.config.augment, draws, self.frontend("a"))
        output = self.forward("a", view)
        terms = self.shared_terms(batch, view, output)
        if self.store.seen.all():
            n = batch.n_labeled
            label = self.store.view(batch.unlabeled_index, view.geometry[n:], output.logit.shape[-1])
            label = harden(label, 0.5)  # resampling made soft borders
            chosen = torch.ones(len(label), dtype=torch.bool, device=label.device)
            terms["pl"] = losses.masked_cross_entropy(output.logit[n:], label, chosen)
        return self.weighted(terms)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        return {**super().weights(), "pl": self.settings.lambda_pl}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the stored labels."""
        return {"store": self.store.state()}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take over the stored labels."""
        self.store.load(state["store"])
