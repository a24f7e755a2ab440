"""Views with optical flow, for the method that sees it (HTF).

The flow is that of `Clips.flow`, which ``data.flow`` loads from shards that ``avsl-data preprocess --flow``
made. `FlowViewer` adds it to the views, in their geometry.

Shape letters: B clips, S side of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from avsl_train.augment import Geometry, crop
from avsl_train.config import DataConfig, FrontendName
from avsl_train.data import Clips
from avsl_train.errors import TrainInputError
from avsl_train.published_views import PublishedViewer
from avsl_train.views import View

LARGEST: Final = 255.0
"""What the published loader divides by: it reads the flow from 8-bit pictures [code]."""


@dataclass(frozen=True)
class FlowView(View):
    """A view with its optical flow.

    Parameters
    ----------
    flow : Tensor [B, 2, S, S]
        As the network sees it.
    """

    flow: Tensor | None = None


class FlowViewer(PublishedViewer):
    """Makes views with flow.

    Parameters
    ----------
    config, device
        As of every viewer.
    published
        Whether values are those of the published pictures: whole pixels above 0, not mirrored with the frame.
    """

    def __init__(self, config: DataConfig, device: torch.device, published: bool = False) -> None:
        super().__init__(config, device)
        self.published = published

    def plain(self, clips: Clips, frontend: FrontendName | None = None) -> FlowView:
        """Return the whole frame, its flow, and the middle of the sound."""
        return self._with_flow(super().plain(clips, frontend), clips)

    def placed(self, clips: Clips, geometry: Geometry, frontend: FrontendName | None = None) -> FlowView:
        """Return a part of the frame and of its flow, and the middle of the sound."""
        return self._with_flow(super().placed(clips, geometry, frontend), clips)

    def _with_flow(self, view: View, clips: Clips) -> FlowView:
        if clips.flow is None:
            raise TrainInputError(
                "these clips have no optical flow: set data.flow to true, and make their shards with "
                "`avsl-data preprocess --flow`"
            )
        flow = clips.flow.to(self.device, non_blocking=True)
        seen = self._values(crop(flow, view.geometry, self.config.image_size), view.geometry)
        known = {field.name: getattr(view, field.name) for field in fields(View)}
        return FlowView(**known, flow=seen)

    def _values(self, flow: Tensor, geometry: Geometry) -> Tensor:
        """Return flow [B, 2, S, S] as the network sees it."""
        if self.published:  # stored in pictures, which know whole numbers above 0 only
            return flow.round().clamp(0, LARGEST) / LARGEST
        mirrored = torch.where(geometry.flip, -1.0, 1.0)
        sign = torch.stack([mirrored, torch.ones_like(mirrored)], dim=1)[:, :, None, None]
        return sign * flow / LARGEST
