"""LVS: sounding positions are positives, silent positions of the own frame are hard negatives.

Source: Chen et al., "Localizing Visual Sounds the Hard Way", CVPR 2021, and its published model
(hche11/Localizing-Visual-Sounds-the-Hard-Way). No trainer is published: optimiser and lengths are those that
SSL-TIE, its successor, uses; the crop is that of the published loader.
"""

from __future__ import annotations

from torch import Tensor, nn

from avsl_train import losses, published
from avsl_train.excerpts import Heard
from avsl_train.losses.similarity import Features as Pair
from avsl_train.method_config_self import LVSConfig, TrimapConfig
from avsl_train.methods.self_supervised import SelfSupervised
from avsl_train.published_localizers import OneHead
from avsl_train.views import View


class LVS(SelfSupervised[LVSConfig]):
    """L = -log softmax of [P_i, N_i1 .. N_iB, H_i] / .07 at P_i, the mean over clips [code]."""

    def published_network(self) -> nn.Module:
        """Return LVS's network: ResNet-18 at stride 16 on both sides, no projection [code]."""
        return published.LVS(self.config.model.weights)

    def localizer_network(self) -> nn.Module:
        """Return a localizer's features."""
        return OneHead(self.config.model, self.config.data)

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return self.heard_once(step)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the term ``trimap``."""
        del step
        return {"trimap": trimap(self.together(self.features(views[0])), self.settings)}

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self.features(view).own


def trimap(features: Pair, settings: TrimapConfig) -> Tensor:
    """Return LVS's loss of the features of all processes, a scalar; SSL-TIE and HTF share it [code]."""
    return losses.lvs(
        *features, settings.positive, settings.negative, settings.hard_negatives, settings.diagonal
    )
