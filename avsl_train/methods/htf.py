"""HTF ("Hear The Flow"): a frame's positions attend to how they move.

Source: Fedorishin et al., "Hear The Flow: Optical Flow-Based Self-Supervised Visual Sound Source
Localization", WACV 2023, and its published code (denfed/heartheflow).

The published flow lies in 8-bit pictures, which keep no motion to the left or up, and is not mirrored when a
frame is; ``flow_values`` chooses between that and the whole flow.
"""

from __future__ import annotations

from torch import Tensor, nn

from avsl_train import published
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.flow import FlowView, FlowViewer
from avsl_train.method_config_self import HTFConfig
from avsl_train.methods.lvs import trimap
from avsl_train.methods.self_supervised import SelfSupervised, image_of, single
from avsl_train.published import Features
from avsl_train.published_localizers import Flowing
from avsl_train.views import View, Viewer


class HTF(SelfSupervised[HTFConfig]):
    """L = LVS's loss of features that the flow has attended to [code]."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        seen_as_published = self.settings.flow_values == "published"
        self.eyes = FlowViewer(viewer.config, viewer.device, seen_as_published)
        self.viewer = self.eyes

    def published_network(self) -> nn.Module:
        """Return HTF's network; the frame's trunk is frozen, its BatchNorm is not [code]."""
        network = published.HTF(self.config.model.weights)
        network.imgnet.requires_grad_(not self.config.model.freeze_visual)
        return network

    def localizer_network(self) -> nn.Module:
        """Return a localizer with an encoder of the flow."""
        return Flowing(self.config.model, self.config.data)

    def view(self, clips: Clips, draws: Draws) -> View:
        """Return the published view, which alone has flow."""
        return self.published_view(clips, draws)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the term ``trimap``."""
        del step
        return {"trimap": trimap(self.together(self.features(views[0])), self.settings)}

    def features(self, view: View) -> Features:
        """Return the unit vectors of a view with flow, in float32."""
        flow = view.flow if isinstance(view, FlowView) else None
        if flow is None:
            raise ValueError("a view without optical flow: ask this method's own `viewer` for it")
        with self.autocast():
            found: Features = self.models["a"](image_of(view), self.sound_of(view), flow)
        return single(found)

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self.features(view).own
