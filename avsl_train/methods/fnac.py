"""FNAC: clips that are alike within a modality are no negatives of each other across modalities.

Source: Sun et al., "Learning Audio-Visual Source Localization via False Negative Aware Contrastive Learning",
CVPR 2023, and its published code (OpenNLPLab/FNAC_AVL).
"""

from __future__ import annotations

from torch import Tensor, nn

from avsl_train import published
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.excerpts import Heard
from avsl_train.losses.fnac import fnac_terms
from avsl_train.method_config_self import FNACConfig
from avsl_train.methods.self_supervised import SelfSupervised
from avsl_train.published_localizers import OneHead
from avsl_train.views import View


class FNAC(SelfSupervised[FNACConfig]):
    """L = L_EZ-VSL, and after warm-up + 100 l1 + 100 l2 + 100 l3 [code].

    ``value_range`` is ``any``: the published map is the cosine similarity divided by tau.
    """

    value_range = "any"

    def published_network(self) -> nn.Module:
        """Return FNAC's network: EZ-VSL's, with dropout of nine tenths of the visual features [code]."""
        return published.FNAC(self.config.model.weights, self.settings.dropout)

    def localizer_network(self) -> nn.Module:
        """Return a localizer's features, with dropout."""
        return OneHead(self.config.model, self.config.data, self.settings.dropout)

    def published_view(self, clips: Clips, draws: Draws) -> View:
        """Return EZ-VSL's view with two masks on the spectrogram [code]."""
        swapped = self.settings.mask_axes == "published"
        return self.eyes.masked(clips, draws, self.settings.mask, swapped, self.frontend("a"))

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return self.heard_once(step)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return ``con`` and, after warm-up, ``audio`` (l1), ``foreground`` (l2) and ``visual`` (l3)."""
        found = fnac_terms(*self.together(self.features(views[0])), self.settings.tau)
        terms = {"con": found.contrastive}
        if self.epoch(step) >= self.settings.warmup_epochs:
            terms["audio"] = found.audio_suppression
            terms["foreground"] = found.enhancement
            terms["visual"] = found.visual_suppression
        return terms

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        s = self.settings
        return {"audio": s.lambda_audio, "foreground": s.lambda_foreground, "visual": s.lambda_visual}

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine / tau, [B, 1, h, w]."""
        return self.features(view).own / self.settings.tau
