"""SLAVC: which sound belongs to a position, and which position to a sound, by two heads and a slow copy.

Source: Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization", NeurIPS 2022,
and its published code (stoneMo/SLAVC). Its semi-supervised loss is left out: the published code computes it
without gradient, so that it trains nothing; `dmt` or `mean-teacher` with ``contrastive: slavc`` learn from
labels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from avsl_train import losses, published
from avsl_train.config import ExperimentConfig
from avsl_train.excerpts import Heard
from avsl_train.method_config_self import SLAVCConfig
from avsl_train.methods.self_supervised import SelfSupervised, image_of, single
from avsl_train.published import TwoHeads
from avsl_train.published_localizers import Momentum
from avsl_train.views import View, Viewer


class SLAVC(SelfSupervised[SLAVCConfig]):
    """L = CE(online frames with momentum sounds) + CE(momentum frames with online sounds) [code].

    ``value_range`` is ``any``: the published map is the mean of both heads' cosines divided by tau.
    """

    value_range = "any"

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        self._moved_at = -1

    def published_network(self) -> nn.Module:
        """Return SLAVC's network: ResNet-18 on both sides, two projections each, and a copy of it all."""
        return published.SLAVC(self.config.model.weights, self.settings.dropout)

    def localizer_network(self) -> nn.Module:
        """Return a localizer with second projections, and its copy."""
        return Momentum(self.config.model, self.config.data, self.settings.dropout)

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return self.heard_once(step)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the term ``con``.

        The copy moves inside the step, after the online features and before its own [code], and once per step
        of the optimiser however many micro-batches that has.
        """
        view = views[0]
        network: Any = self.models["a"]
        with self.autocast():
            online: TwoHeads = network(image_of(view), self.sound_of(view))
            if step != self._moved_at:
                network.update_momentum(self.settings.momentum)
                self._moved_at = step
            target: TwoHeads = network.momentum(image_of(view), self.sound_of(view))
        one, two, slow_one, slow_two = (self.together(single(head)) for head in (*online, *target))
        return {"con": losses.slavc(one, two, slow_one, slow_two, self.settings.tau)}

    def localize(self, view: View) -> Tensor:
        """Return the published map, [B, 1, h, w], by the online or the averaged weights."""
        network: Any = self.models["a"]
        run = network.momentum if self.settings.branch == "momentum" else network
        with self.autocast():
            heads: TwoHeads = run(image_of(view), self.sound_of(view))
        total: Tensor = single(heads.one).own + single(heads.two).own
        return total / (2 * self.settings.tau)
