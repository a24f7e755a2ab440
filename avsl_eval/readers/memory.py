"""Predictions that are in memory already."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import check_clip_ids
from avsl_eval.predictions import Predictions


class MappingPredictions(Predictions):
    """Read a mapping from clip id to heatmap, in its own order."""

    def __init__(self, maps: Mapping[str, Any]) -> None:
        self.path = None
        self.meta = {}
        self._maps = maps
        self.clip_ids = check_clip_ids(maps, "predictions")

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Read wanted clips; see `Predictions.read`."""
        return ((clip_id, np.asarray(self._maps[clip_id])) for clip_id in self.clip_ids if clip_id in wanted)
