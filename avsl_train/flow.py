"""Optical flow of stored clips, for the method that sees it (HTF).

`FlowShards` reads the column ``flow`` of shards that ``avsl-data preprocess --flow`` made; anything else that
gives the flow of `Clips` can take its place. `FlowViewer` adds it to the views, in their geometry.

A flow is stored as KITTI does it, a PNG of 16 bits: 64 d + 2^15 for a displacement of d pixels of the decoded
picture, red to the right, green down. Resizing resamples the field and leaves its values alone, as the
published loader does.

Shape letters: B clips, F side of the square frame, S side of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional

from avsl_train.augment import Geometry, crop
from avsl_train.config import DataConfig, FrontendName
from avsl_train.data import Clips
from avsl_train.draws import key_of
from avsl_train.errors import TrainInputError
from avsl_train.published_views import PublishedViewer
from avsl_train.views import View

COLUMN: Final = "flow"
STEPS_PER_PIXEL: Final = 64
ZERO: Final = 2**15
LARGEST: Final = 255.0
"""What the published loader divides by: it reads the flow from 8-bit pictures [code]."""

Flow = Callable[[Clips], Tensor]
"""Gives the flow of clips in pixels, [B, 2, F, F], x before y."""


@dataclass(frozen=True)
class FlowView(View):
    """A view with its optical flow.

    Parameters
    ----------
    flow : Tensor [B, 2, S, S]
        As the network sees it.
    """

    flow: Tensor | None = None


class FlowShards:
    """The flow of the clips in folders of shards.

    Parameters
    ----------
    folders
        Made with ``avsl-data preprocess --flow``.
    size
        F: flows are resampled to this side, so that they fit into one batch.

    Raises
    ------
    TrainInputError
        A folder has no shards, or they hold no flow.
    """

    def __init__(self, folders: Sequence[Path], size: int) -> None:
        self.folders, self.size = folders, size
        self._group: tuple[Path, int, pa.Table] | None = None
        self._places: dict[int, tuple[Path, int, int]] = {}
        for folder in folders:
            files = sorted(folder.glob("*.parquet"))
            if not files:
                raise TrainInputError(f"method.flow: no shards (*.parquet) in {folder}")
            for file in files:
                self._index(file)

    def __call__(self, clips: Clips) -> Tensor:
        """Return the flow of clips, [B, 2, F, F] in pixels of the decoded picture.

        Raises
        ------
        TrainInputError
            A clip has none.
        """
        return torch.stack([self._one(key) for key in clips.key.tolist()])

    def _index(self, file: Path) -> None:
        """Remember where the flow of each clip lies."""
        with pq.ParquetFile(file) as parquet:
            if COLUMN not in parquet.schema_arrow.names:
                raise TrainInputError(
                    f"method.flow: {file} holds no optical flow: make its shards with "
                    "`avsl-data preprocess --flow`"
                )
            for group in range(parquet.num_row_groups):
                ids = parquet.read_row_group(group, columns=["clip_id"])["clip_id"].to_pylist()
                for offset, clip_id in enumerate(ids):
                    self._places[key_of(clip_id)] = (file, group, offset)

    def _one(self, key: int) -> Tensor:
        if key not in self._places:
            places = ", ".join(map(str, self.folders))
            raise TrainInputError(
                f"method.flow: a clip of this training is in none of the shards of {places}"
            )
        file, group, offset = self._places[key]
        if self._group is None or self._group[:2] != (file, group):
            with pq.ParquetFile(file, memory_map=True) as parquet:
                self._group = (file, group, parquet.read_row_group(group, columns=["clip_id", COLUMN]))
        row = self._group[2].slice(offset, 1).to_pylist()[0]
        if row[COLUMN] is None:
            raise TrainInputError(
                f"method.flow: clip {row['clip_id']} has no optical flow in {file}: its picture is the last "
                "of its video, or it was stored without --flow; leave it out of the split"
            )
        return resized(decoded(row[COLUMN]), self.size)


class FlowViewer(PublishedViewer):
    """Makes views with flow.

    Parameters
    ----------
    config, device
        As of every viewer.
    flow
        Where flow comes from; None: nowhere, and every view is an error that says what is missing.
    published
        Whether values are those of the published pictures: whole pixels above 0, not mirrored with the frame.
    """

    def __init__(
        self, config: DataConfig, device: torch.device, flow: Flow | None, published: bool = False
    ) -> None:
        super().__init__(config, device)
        self.flow = flow
        self.published = published

    def plain(self, clips: Clips, frontend: FrontendName | None = None) -> FlowView:
        """Return the whole frame, its flow, and the middle of the sound."""
        return self._with_flow(super().plain(clips, frontend), clips)

    def placed(self, clips: Clips, geometry: Geometry, frontend: FrontendName | None = None) -> FlowView:
        """Return a part of the frame and of its flow, and the middle of the sound."""
        return self._with_flow(super().placed(clips, geometry, frontend), clips)

    def _with_flow(self, view: View, clips: Clips) -> FlowView:
        if self.flow is None:
            raise TrainInputError(
                "method htf sees the optical flow of every clip, and method.flow names none: make shards "
                "with `avsl-data preprocess --flow` and give their folder; a clip's flow is that from its "
                "frame to the next one"
            )
        flow = self.flow(clips).to(self.device)
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


def decoded(content: bytes) -> Tensor:
    """Return the flow [2, H, W] in pixels of a PNG as KITTI stores flow."""
    from torchvision.io import decode_png

    stored = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    if stored.dtype != torch.uint16 or len(stored) != 3:
        raise TrainInputError("this is no optical flow as a PNG of three channels of 16 bits")
    flow: Tensor = (stored[:2].float() - ZERO) / STEPS_PER_PIXEL
    return flow


def resized(flow: Tensor, size: int) -> Tensor:
    """Return a flow [2, H, W] resampled to a square; its values stay."""
    return functional.interpolate(flow[None], (size, size), mode="bilinear", antialias=True).squeeze(0)
