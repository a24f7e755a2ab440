"""EZ-VSL: a frame is as near to a sound as its nearest position, and nearer than to any other clip's sound.

Source: Mo and Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022, and its published code
(stoneMo/EZ-VSL). The object-guided half of the method is an option of prediction, of every method.
"""

from __future__ import annotations

from torch import Tensor, nn

from avsl_train import losses, published
from avsl_train.excerpts import Heard
from avsl_train.method_config_self import EZVSLConfig
from avsl_train.methods.self_supervised import SelfSupervised
from avsl_train.published_localizers import OneHead
from avsl_train.views import View


class EZVSL(SelfSupervised[EZVSLConfig]):
    """L = CE over the sounds of each frame + CE over the frames of each sound [code].

    ``value_range`` is ``any``: the published map is the cosine similarity divided by tau.
    """

    value_range = "any"

    def published_network(self) -> nn.Module:
        """Return EZ-VSL's network: ResNet-18 on both sides, one projection each [code]."""
        return published.EZVSL(self.config.model.weights)

    def localizer_network(self) -> nn.Module:
        """Return a localizer's features."""
        return OneHead(self.config.model, self.config.data)

    def heard(self, step: int) -> Heard | None:
        """Return the views of a step."""
        return self.heard_once(step)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the term ``con``."""
        del step
        return {"con": losses.ezvsl(*self.together(self.features(views[0])), self.settings.tau)}

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine / tau, [B, 1, h, w]."""
        return self.features(view).own / self.settings.tau
