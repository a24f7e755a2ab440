"""From statistics to scores: metrics, intervals, context, and the parts of the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.bootstrap import Draws, intervals_of_several
from avsl_eval.breakdown import by_boxes, by_label, by_size
from avsl_eval.cautions import LARGE_TIE
from avsl_eval.ciou import AUC_THRESHOLDS, METRICS, best_column, ciou_of, per_clip_metrics
from avsl_eval.context import Context
from avsl_eval.detection import detection_scores
from avsl_eval.engine import Engine
from avsl_eval.protocol import Protocol
from avsl_eval.result import TIED_NAMED

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

POINTING = "pointing"
AREA_SIZE = 224
"""Classes of size are defined by pixels of a map of this size."""


class Found:
    """Hold what one protocol found: the numbers of each clip, at the threshold that is reported.

    Parameters
    ----------
    protocol
        The rule.
    engine
        What scored the maps.
    sounding : bool [N]
        Clips in which something sounds.
    missing : bool [N]
        Clips without prediction.
    stored : float64 [N] or None
        Confidences that the predictions hold.
    """

    def __init__(
        self, protocol: Protocol, engine: Engine, sounding: Bools, missing: Bools, stored: Float64 | None
    ) -> None:
        statistics = engine.statistics[protocol.name]
        self.protocol, self.sounding, self.missing = protocol, sounding, missing
        self.truth = engine.truth[protocol.map_size]
        every = ciou_of(statistics.intersection, self.truth[:, None], statistics.false_positive)
        every[missing], every[~sounding] = 0.0, np.nan
        self.column = best_column(every[sounding])
        self.every = every
        self.ciou: Float64 = every[:, self.column]
        self.intersection = statistics.intersection[:, self.column]
        self.false_positive = statistics.false_positive[:, self.column]
        self.ties = statistics.ties
        self.pointing = engine.pointing_of(protocol)
        self.confidence = statistics.confidence if stored is None else stored
        self.values = np.column_stack([per_clip_metrics(self.ciou), self.pointing])[sounding]

    def metrics(self) -> dict[str, float]:
        """Return every metric, over sounding clips."""
        return dict(zip((*METRICS, POINTING), self.values.mean(axis=0).tolist(), strict=True))

    def context(self, context: Context) -> dict[str, dict[str, float]]:
        """Return every metric of every answer of the context."""
        pointing = context.pointing(self.protocol)
        found = {}
        for answer, ciou in context.ciou(self.protocol).items():
            values = per_clip_metrics(ciou[self.sounding]).mean(axis=0).tolist()
            found[answer] = dict(zip(METRICS, values, strict=True))
            found[answer][POINTING] = float(pointing[answer][self.sounding].mean())
        return found

    def curve(self, context: Context) -> dict[str, Any]:
        """Return the share of clips with cIoU >= x at the AUC's thresholds, of the context's answers too."""
        return {
            "thresholds": AUC_THRESHOLDS.tolist(),
            "share": self._share(self.ciou),
            "context": {answer: self._share(ciou) for answer, ciou in context.ciou(self.protocol).items()},
        }

    def _share(self, ciou: Float64) -> list[float]:
        share: list[float] = (ciou[self.sounding][:, None] >= AUC_THRESHOLDS).mean(axis=0).tolist()
        return share

    def tied(self, clip_ids: Sequence[str]) -> dict[str, Any]:
        """Return how many maps have other pixels equal to the threshold."""
        rows = np.flatnonzero(self.ties).tolist()
        large = self.ties >= LARGE_TIE * self.protocol.map_size**2
        n = int(np.count_nonzero(~self.missing))
        return {
            "n": len(rows),
            "share": len(rows) / n if n else 0.0,
            "clips": [clip_ids[row] for row in rows[:TIED_NAMED]],
            "n_large": int(np.count_nonzero(large)),
        }

    def named_values(self) -> dict[str, Float64]:
        """Return the numbers of each sounding clip whose means are the metrics."""
        return {name: self.values[:, k] for k, name in enumerate((*METRICS, POINTING))}

    def breakdown(self, labels: Sequence[str], n_boxes: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
        """Return the scores of parts of the test set: by class, size and number of boxes."""
        rows = np.flatnonzero(self.sounding).tolist()
        values = self.named_values()
        area = self.truth[rows] * (AREA_SIZE / self.protocol.map_size) ** 2
        return {
            "class": by_label([labels[row] for row in rows], values),
            "size": by_size(area, values),
            "n_boxes": by_boxes([n_boxes[row] for row in rows], values),
        }

    def detection(self) -> dict[str, Any] | None:
        """Return the metrics of detection, None where no confidence is defined."""
        present = ~self.missing
        if not present.any() or np.isnan(self.confidence[present]).any():
            return None
        area = self.truth * (AREA_SIZE / self.protocol.map_size) ** 2
        # A clip without prediction is not detected at any threshold but the lowest.
        confidence = np.where(present, self.confidence, self.confidence[present].min())
        return detection_scores(self.sounding, self.ciou, confidence, area)

    def sweep(self) -> dict[str, Any] | None:
        """Return one row per threshold of a sweep."""
        if not self.protocol.thresholds:
            return None
        rows = []
        for k, threshold in enumerate(self.protocol.thresholds):
            values = per_clip_metrics(self.every[self.sounding, k]).mean(axis=0).tolist()
            rows.append({"threshold": threshold, "metrics": dict(zip(METRICS, values, strict=True))})
        return {
            "chosen": self.protocol.thresholds[self.column],
            "chosen_by": "the largest ciou@0.5 on the test set itself, as published",
            "rows": rows,
        }


def intervals(found: Mapping[str, Found], draws: Draws) -> dict[str, dict[str, tuple[float, float]]]:
    """Compute the intervals of every metric of every protocol, with the same draws.

    Parameters
    ----------
    found
        By protocol.
    draws
        Bootstrap samples of the sounding clips.

    Returns
    -------
    dict
        Protocol to metric to bounds.
    """
    bounds = intervals_of_several([one.values for one in found.values()], draws)
    return {
        name: {m: (low, high) for m, (low, high) in zip((*METRICS, POINTING), b.tolist(), strict=True)}
        for name, b in zip(found, bounds, strict=True)
    }
