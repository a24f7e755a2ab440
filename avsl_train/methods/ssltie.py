"""SSL-TIE: a moved frame must give a moved map, and match its sound as well as the frame itself.

Source: Liu et al., "Exploiting Transformation Invariance and Equivariance for Self-supervised Sound
Localisation", ACM MM 2022, and its published code (jinxiang-liu/SSL-TIE).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train import published
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.losses import Transform
from avsl_train.method_config_self import SSLTIEConfig
from avsl_train.methods.lvs import trimap
from avsl_train.methods.self_supervised import SelfSupervised, image_of, single
from avsl_train.published import Features
from avsl_train.published_localizers import OneHead
from avsl_train.views import View

IDENTITY = Transform(1.0, torch.zeros(0), flip=False)


@dataclass(frozen=True)
class MovedView(View):
    """A view and the transform T that its second view goes through."""

    transform: Transform = IDENTITY


class SSLTIE(SelfSupervised[SSLTIEConfig]):
    """L = .5 (LVS(view) + LVS(moved view)) + mean (S_moved - T(S_view))^2 [code]."""

    def published_network(self) -> nn.Module:
        """Return SSL-TIE's network: LVS's, and three layers that nothing uses [code]."""
        return published.SSLTIE(self.config.model.weights)

    def localizer_network(self) -> nn.Module:
        """Return a localizer's features."""
        return OneHead(self.config.model, self.config.data)

    def published_view(self, clips: Clips, draws: Draws) -> View:
        """Return a view with strong changes of colour and size and masks on the spectrogram [code]."""
        return self.eyes.contrasted(clips, draws, self.settings.spec_mask, self.frontend("a"))

    def views(self, clips: Clips, step: int) -> tuple[View, ...]:
        """Return one view, which knows how it is going to be moved."""
        view = self.view(clips, self.draws("self", step))
        return (MovedView(**vars(view), transform=self.draw(clips, step)),)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the terms ``view`` and ``moved``, LVS's loss of each, and ``equivariance``.

        The network hears the same sound twice, so that its BatchNorm counts it twice, as in the original.
        """
        del step
        (view,) = views
        assert isinstance(view, MovedView)
        seen = self.features(view)
        moved = self._moved(view)
        alike = functional.mse_loss(moved.own, view.transform(seen.own))
        return {"view": self._trimap(seen), "moved": self._trimap(moved), "equivariance": alike}

    def weights(self) -> dict[str, float]:
        """Return the weights of the terms."""
        return {"view": 0.5, "moved": 0.5, "equivariance": self.settings.lambda_equivariance}

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self.features(view).own

    def draw(self, clips: Clips, step: int) -> Transform:
        """Return T: one scale and flip for the batch of all processes, an angle per clip [code]."""
        draws = self.draws("transform", step)
        scale, flip = draws.uniform(torch.zeros(1, dtype=torch.int64), 2)[0].tolist()
        most = self.settings.max_degrees
        degrees = (draws.uniform(clips.key, 3)[:, 2] * (2 * most + 1)).long() - most
        return Transform(1.0 if scale > 0.5 else 0.5, degrees, flip > 0.5)

    def _moved(self, view: MovedView) -> Features:
        """Return the features of the moved view; what the move leaves empty has ImageNet's mean colour."""
        with self.autocast():
            image = view.transform(image_of(view))
            found: Features = self.models["a"](image, self.sound_of(view))
        return single(found)

    def _trimap(self, features: Features) -> Tensor:
        return trimap(self.together(features), self.settings)
