"""XPL: cross pseudo-labelling for semi-supervised audio-visual source localization.

Two distinct localizers A and B predict a map for every unlabelled clip. The agreement of the two maps says
how reliable a clip is; a curriculum feeds the reliable ones first. Predictions are sharpened and averaged
with the previous epoch's label. Each model then trains on the label that the *other* made.

What the paper states and what is our choice is tagged in `avsl_train.method_config.XPLConfig` and in
`docs/methods.md`.

Shape letters: B clips of a batch, U unlabelled ones of them, h = w side of the map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from avsl_train import losses
from avsl_train.augment import identity, uncrop
from avsl_train.config import AugmentConfig, ExperimentConfig, ModelConfig
from avsl_train.data import Clips
from avsl_train.diagnostics import GOOD
from avsl_train.distributed import total
from avsl_train.excerpts import Heard
from avsl_train.localizer import Output
from avsl_train.method_config import XPLConfig
from avsl_train.methods.method import Batch, State, Sweep, predicting
from avsl_train.methods.semi_method import SemiMethod, sum_of
from avsl_train.pseudo_labels import LabelStore, harden, sharpen
from avsl_train.selection import keep_most_reliable, ramp_up, reliability
from avsl_train.views import View, Viewer

OTHER = {"a": "b", "b": "a"}


class XPL(SemiMethod):
    """L = L_sup + lambda_x * L_cross + lambda_con * L_con, each the sum over the two models."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, XPLConfig)
        self.settings = config.method
        self.size = self.map_size
        beta = self.settings.beta if self.settings.pl_ema else 0.0
        self.stores = {name: LabelStore(n_unlabeled, self.size, beta) for name in OTHER}
        self.selected = torch.zeros(n_unlabeled, dtype=torch.bool)
        self.policies = {name: self._policy(name) for name in OTHER}

    @classmethod
    def model_configs(cls, config: ExperimentConfig) -> dict[str, ModelConfig]:
        """Return two models that differ at least in their initialisation [paper: distinct; how: ours]."""
        return {"a": config.model, "b": config.model_b()}

    def begin_epoch(self, step: int, sweep: Sweep) -> dict[str, float]:
        """Make this epoch's labels from weak views, rank the clips and select the most reliable ones."""
        settings, steps = self.settings, self.config.optim.steps
        share = ramp_up(step, steps, settings.warmup, settings.ramp, settings.rho_start)
        if share == 0:
            return {"rho": 0.0, **super().begin_epoch(step, sweep)}
        scores, quality = self._label_all(step, sweep)
        self.selected = keep_most_reliable(scores, share if settings.curriculum else 1.0)
        for iou in quality.values():
            known = ~iou.isnan()
            self.diary.add("precision", iou >= GOOD, known & self.selected)
        n = max(self.n_unlabeled, 1)
        found = {"rho": self.selected.sum().item() / n, "reliability": scores.sum().item() / n}
        return {**found, **self.read_diary()}

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return [self.draws("strong", self._drawn_as(name), step) for name in OTHER]

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup``, ``con`` and, once clips are selected, ``cross``."""
        views = {name: self._strong_view(batch, name, step) for name in OTHER}
        outputs = {name: self.forward(name, views[name]) for name in OTHER}
        shared = [self.shared_terms(name, batch, views[name], outputs[name], step) for name in OTHER]
        terms = {term: sum_of(part[term] for part in shared) for term in shared[0]}
        if self.selected.any():
            terms["cross"] = sum_of(self._cross(batch, name, views[name], outputs[name]) for name in OTHER)
        return self.weighted(terms)

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        return {**super().weights(), "cross": self.settings.lambda_x}

    def localize(self, view: View) -> Tensor:
        """Return the mean of P_A and P_B, or one of them, as ``inference`` says [ours].

        The mean has the size of A's map.
        """
        if self.settings.inference != "mean":
            return self.forward(self.settings.inference, view).probability
        p_a, p_b = (self.forward(name, view).probability for name in OTHER)
        p_b = functional.interpolate(p_b, size=p_a.shape[-2:], mode="bilinear", align_corners=False)
        return (p_a + p_b) / 2

    def labels_of(self, clips: Clips, view: View) -> dict[str, Tensor]:
        """Return both models' stored labels of some of this process's clips."""
        del view
        return {f"label_{name}": store.own(clips.index) for name, store in self.stores.items()}

    def state(self) -> State:
        """Return both models' stored labels and the clips that are selected."""
        stored = {f"store_{name}": store.state() for name, store in self.stores.items()}
        return {**super().state(), **stored, "selection": {"selected": self.selected}}

    def load(self, state: State) -> None:
        """Take over stored labels and selection."""
        super().load(state)
        for name, store in self.stores.items():
            store.load(state[f"store_{name}"])
        self.selected = state["selection"]["selected"].clone()

    def _label_all(self, step: int, sweep: Sweep) -> tuple[Tensor, dict[str, Tensor]]:
        """Make the labels of all clips.

        Returns
        -------
        scores : Tensor [N]
            Reliability of every clip, of all processes.
        quality : dict of Tensor [N]
            Per model the labels' intersection over union with hidden boxes; NaN where that is unknown, and
            for the clips of other processes.
        """
        draws = {name: self.draws("weak", self._drawn_as(name), step) for name in OTHER}
        scores = torch.zeros(self.n_unlabeled)
        quality = {name: torch.full((self.n_unlabeled,), torch.nan) for name in OTHER}
        with predicting(self.models):
            for clips in sweep():
                self.remember(clips)
                p, covered = {}, {}
                for name in OTHER:
                    view = self.viewer.weak(clips, self.policies[name], draws[name], self.frontend(name))
                    probability = self.forward(name, view).probability
                    p[name], covered[name] = uncrop(probability, view.geometry, self.size)
                    self.stores[name].update(clips.index, self._label(p[name]), covered[name])
                    label = self.stores[name].own(clips.index)
                    quality[name][clips.index] = self.note_labels(label, clips, identity(len(clips)))
                scores[clips.index] = reliability(p["a"], p["b"], covered["a"] & covered["b"]).cpu()
        return total(scores), quality

    def _cross(self, batch: Batch, name: str, view: View, output: Output) -> Tensor:
        """Return BCE(P of this model, label of the other model) over the selected clips of the batch."""
        teacher = OTHER[name] if self.settings.labels == "cross" else name
        index, n = batch.unlabeled_index, batch.n_labeled
        label = self.stores[teacher].view(index, view.geometry[n:], output.logit.shape[-1])
        if not self.settings.soft:
            label = harden(label, 0.5)  # averaging and resampling made soft borders
        chosen = self.selected[index].to(label.device)
        return losses.masked_cross_entropy(output.logit[n:], label, chosen)

    def _label(self, p: Tensor) -> Tensor:
        """Return q of a prediction: sharpened, or thresholded where labels are not soft."""
        if not self.settings.soft:
            return harden(p, self.settings.threshold)
        return sharpen(p, self.settings.temperature) if self.settings.sharpening else p

    def _strong_view(self, batch: Batch, name: str, step: int) -> View:
        draws = self.draws("strong", self._drawn_as(name), step)
        return self.viewer.strong(batch.clips, self.policies[name], draws, self.frontend(name))

    def _drawn_as(self, name: str) -> str:
        """Return the name of a model's random draws: its own, or A's for both."""
        return name if self.settings.augmentation == "separate" else "a"

    def _policy(self, name: str) -> AugmentConfig:
        """Return a model's strong view: A colour-heavy, B geometry-heavy, or the base one for both [ours]."""
        base = self.config.augment
        if self.settings.augmentation == "same":
            return base
        if name == "a":
            smallest = (base.crop_scale[0] + base.crop_scale[1]) / 2
            return base.model_copy(update={"crop_scale": (smallest, base.crop_scale[1])})
        return base.model_copy(
            update={"jitter": base.jitter / 2, "gray": base.gray / 2, "blur": base.blur / 2}
        )
