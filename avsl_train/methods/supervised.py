"""Supervised baseline: the labelled clips only.

With ``lambda_con`` above 0 the contrastive loss over all clips of the batch is added (``supervised+con``).
"""

from __future__ import annotations

from torch import Tensor

from avsl_train.config import ExperimentConfig
from avsl_train.excerpts import Heard
from avsl_train.method_config import SupervisedConfig
from avsl_train.methods.method import Batch
from avsl_train.methods.semi_method import SemiMethod
from avsl_train.views import Viewer


class Supervised(SemiMethod):
    """L = L_sup + lambda_con * L_con."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        assert isinstance(config.method, SupervisedConfig)
        self.uses_unlabeled = config.method.lambda_con > 0

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return (self.draws("strong", "a", step),)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms ``sup`` and, if it has a weight, ``con``."""
        draws = self.draws("strong", "a", step)
        view = self.viewer.strong(batch.clips, self.config.augment, draws, self.frontend("a"))
        return self.weighted(self.shared_terms("a", batch, view, self.forward("a", view), step))
