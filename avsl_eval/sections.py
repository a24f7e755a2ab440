"""What only some rules or test sets have: groups, negative audio, segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import DrawnTruths
from avsl_eval.errors import EvalInputError
from avsl_eval.groups import find_groups, group_metrics, incomplete_groups
from avsl_eval.maps import rescale, to_probability
from avsl_eval.negatives import negative_scores, universal_thresholds
from avsl_eval.options import UNIVERSAL, Options
from avsl_eval.predictions import Predictions, open_predictions
from avsl_eval.protocol import Protocol
from avsl_eval.resizing import resize
from avsl_eval.segmentation import (
    N_THRESHOLDS,
    SegmentationStatistics,
    batched,
    official_scores,
    segmentation_statistics,
)
from avsl_eval.truth import AnnotatedClip

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Negatives:
    """Score a model's maps of negative audio: first what threshold they set, then what it leaves of them.

    Parameters
    ----------
    options
        Which predictions, and how they set the threshold.
    """

    def __init__(self, options: Options) -> None:
        self.universal = options.universal
        self.predictions: dict[str, Predictions] = {
            kind: open_predictions(source) for kind, source in options.negatives.items()
        }
        self._maxima: dict[tuple[Any, ...], Float64] = {}

    def known(self, protocol: Protocol) -> Protocol:
        """Return the rule with its universal threshold.

        Parameters
        ----------
        protocol
            A rule ``universal``.

        Returns
        -------
        Protocol
            With a threshold.

        Raises
        ------
        EvalInputError
            If neither negatives nor a number were given.
        """
        if isinstance(self.universal, float):
            return replace(protocol, threshold_value=self.universal)
        if not self.predictions:
            raise EvalInputError(
                f"protocol {protocol.name} needs the model's maps of negative audio, which set its "
                "threshold: --negative silence=FILE noise=FILE offscreen=FILE, or --universal NUMBER"
            )
        return replace(protocol, threshold_value=self.thresholds(protocol)[UNIVERSAL[self.universal]])

    def thresholds(self, protocol: Protocol) -> dict[str, float]:
        """Return every universal threshold that the negatives set, by the names of `avsl_eval.negatives`."""
        if not self.predictions:
            return {}
        tops = [
            top
            for maps in self.predictions.values()
            for s in _scores(maps, protocol)
            for top in s.max(axis=(1, 2)).tolist()
        ]
        return universal_thresholds(np.array(tops))

    def section(self, protocol: Protocol, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return the section of the scores file.

        Parameters
        ----------
        protocol
            The rule, with its threshold.
        metrics
            Of the positives.

        Returns
        -------
        dict
            The threshold, how it was found, and the metrics of each kind.
        """
        threshold = np.float32(protocol.threshold_value or 0.0)
        kinds: list[str] = []
        shares: list[float] = []
        for kind, maps in self.predictions.items():
            for s in _scores(maps, protocol):
                mask = s > threshold if protocol.comparison == ">" else s >= threshold
                shares += mask.mean(axis=(1, 2)).tolist()
                kinds += [kind] * len(s)
        given = isinstance(self.universal, float)
        return {
            "threshold": protocol.threshold_value,
            "chosen_by": "given" if given else self.universal,
            "thresholds": self.thresholds(protocol),
            "kinds": negative_scores(kinds, np.array(shares), metrics["mean_iou"], metrics["auc"]),
        }


def _scores(maps: Predictions, protocol: Protocol) -> Any:
    """Yield s of all maps, a chunk at a time."""
    for _, chunk in maps.chunks(set(maps.clip_ids)):
        yield rescale(
            resize(chunk, protocol.map_size, protocol.interpolation, protocol.align_corners), protocol
        )


class Segmentation:
    """Score maps as masks, one image at a time; a few numbers per image stay.

    Parameters
    ----------
    protocols
        The rules; those of the task ``segmentation`` count.
    n_clips
        Number of images.
    """

    def __init__(self, protocols: Sequence[Protocol], n_clips: int) -> None:
        self._rules = [p for p in protocols if p.task == "segmentation"]
        self._found: dict[str, list[SegmentationStatistics | None]] = {
            p.name: [None] * n_clips for p in self._rules
        }

    def score(self, heatmaps: Float32, rows: Sequence[int], truths: Mapping[int, DrawnTruths]) -> None:
        """Score a chunk of maps; parameters as of `avsl_eval.engine.Engine.score`."""
        for rule in self._rules:
            size = rule.map_size
            for k, row in enumerate(rows):
                inside = truths[size][k].inside.reshape(1, size, size)
                p = to_probability(heatmaps[k : k + 1], rule)
                self._found[rule.name][row] = segmentation_statistics(inside, p)

    def part(self, rows: Sequence[int]) -> dict[str, list[SegmentationStatistics | None]]:
        """Return what was found of some images, for `put`."""
        return {name: [found[row] for row in rows] for name, found in self._found.items()}

    def put(self, rows: Sequence[int], part: Mapping[str, list[SegmentationStatistics | None]]) -> None:
        """Take over what another object of the same protocols found of some images."""
        for name, found in part.items():
            for row, one in zip(rows, found, strict=True):
                self._found[name][row] = one

    def section(
        self, protocol: Protocol, truth: Float64, official_batch: int | None
    ) -> dict[str, Any] | None:
        """Return the section of the scores file, None for other tasks.

        Parameters
        ----------
        protocol
            The rule.
        truth : float64 [N]
            True pixels of each image. An image without prediction has IoU and F 0.
        official_batch
            Batch size of the published F, or None.

        Returns
        -------
        dict or None
            ``miou``, ``f``, ``best_threshold``, numbers of images and, if asked for, the official ones.
        """
        if protocol.name not in self._found:
            return None
        images = [
            found if found is not None else _nothing(bool(pixels))
            for found, pixels in zip(self._found[protocol.name], truth.tolist(), strict=True)
        ]
        total = sum(images, start=SegmentationStatistics.zero())
        content: dict[str, Any] = {
            "n": total.n,
            "n_non_empty": total.n_non_empty,
            "miou": total.miou,
            "f": total.f,
            "best_threshold": total.best_threshold,
            "threshold_chosen_by": "the largest mean F on the test set itself, as published",
        }
        if official_batch is not None:
            content |= {"batch_size": official_batch, **official_scores(batched(images, official_batch))}
        return content


def _nothing(non_empty: bool) -> SegmentationStatistics:
    return SegmentationStatistics(n=1, n_non_empty=int(non_empty), iou=0.0, f_curve=np.zeros(N_THRESHOLDS))


def group_section(
    clips: Sequence[AnnotatedClip],
    ciou: Float64,
    sounding: Bools,
    missing: Bools,
    group_by: str | None,
) -> dict[str, Any] | None:
    """Return the interactive metrics of groups of clips, None where there are no groups.

    Parameters
    ----------
    clips
        N annotated clips.
    ciou : float64 [N]
        cIoU of each.
    sounding, missing : bool [N]
        Clips in which something sounds; clips without prediction.
    group_by
        ``last-underscore``, or None for the groups of the annotations.

    Returns
    -------
    dict or None
        ``iiou@0.5``, ``iauc``, the number of groups and their size, and the incomplete ones.
    """
    if group_by is None and not any(clip.group for clip in clips):
        return None
    rows = np.flatnonzero(sounding).tolist()
    ids = [clips[row].clip_id for row in rows]
    names = None if group_by else [clips[row].group or clips[row].clip_id for row in rows]
    groups = find_groups(ids, names)
    return {
        **group_metrics(groups, ciou[sounding]),
        "n_groups": len(groups.names),
        "expected_size": groups.expected_size,
        "incomplete": incomplete_groups(groups, missing[sounding]),
    }
