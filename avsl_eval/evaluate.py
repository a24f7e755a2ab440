"""Score predictions against annotations under a protocol."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from avsl_eval.bootstrap import mean_intervals
from avsl_eval.ciou import METRICS, CiouStatistics, metrics, per_clip_metrics
from avsl_eval.clip_ids import check_clip_ids, spelling_hint
from avsl_eval.context import context_ciou
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.io import sha256_of
from avsl_eval.maps import binarise, to_probability
from avsl_eval.predictions import Predictions, open_predictions
from avsl_eval.protocol import MissingPolicy, Protocol
from avsl_eval.protocol_table import get_protocol
from avsl_eval.result import Scores
from avsl_eval.truth import Annotations, describe_dropped, rasterise, read_annotations

_log = logging.getLogger(__name__)

RANGE_TOLERANCE = 1e-6
"""How far float32 rounding may carry a heatmap beyond the bounds of a protocol."""

Progress = Callable[[int, int], None]


def evaluate(
    predictions: str | Path | Mapping[str, Any] | Predictions,
    annotations: str | Path | Mapping[str, Any] | Annotations,
    protocol: str | Protocol = "ezvsl",
    missing: str = "error",
    *,
    progress: Progress | None = None,
) -> Scores:
    """Score heatmaps against boxes.

    Parameters
    ----------
    predictions
        An ``.npz`` with ``clip_id`` [N] and ``heatmap`` [N, h, w], a folder of ``<clip_id>.npy`` [h, w], or a
        mapping from clip id to [h, w]. Larger values mean "here"; any range, except under protocols with a
        ``value_range``.
    annotations
        The project's JSON, a ``vggss.json``, a folder of Flickr-SoundNet XML, or a mapping from clip id to
        boxes [n, 4], xyxy in [0, 1]. Its clips are the denominator.
    protocol
        Name of one of `avsl_eval.PROTOCOLS`, or a protocol of your own.
    missing
        What an annotated clip without prediction does: ``error`` stops, ``zero`` counts it as cIoU 0.
    progress
        Called with the numbers of scored and of all clips.

    Returns
    -------
    Scores
        ``.metrics`` by name, ``.per_clip`` as a DataFrame, ``.save(path)``.

    Raises
    ------
    EvalInputError
        If the input cannot be scored; the message says what, where and the likely mistake.

    Examples
    --------
    >>> import numpy as np
    >>> heatmap = np.zeros((14, 14))
    >>> heatmap[:, :7] = 1.0
    >>> scores = evaluate({"a_000001": heatmap}, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, "fixed")
    >>> scores.metrics["ciou@0.5"], scores.context["whole_image"]["mean_iou"]
    (1.0, 0.5)
    """
    if missing not in get_args(MissingPolicy):
        raise unknown_name("policy for missing clips", missing, get_args(MissingPolicy))
    rule = protocol if isinstance(protocol, Protocol) else get_protocol(protocol)
    rule = dataclasses.replace(rule, missing=missing)  # type: ignore[arg-type]
    truth = read_annotations(annotations)
    maps = open_predictions(predictions)
    absent, extra = match_ids(maps, truth, rule)
    if truth.dropped:
        _log.warning("annotations: %s", describe_dropped(truth.dropped))
    if extra:
        _log.warning(
            "%d predictions have no annotation and are ignored (%s)", len(extra), first_few(extra, 3)
        )
    statistics = score_maps(maps, truth, rule, progress)
    return _summarise(statistics, maps, truth, rule, absent, extra)


def match_ids(
    maps: Predictions, truth: Annotations, protocol: Protocol
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the ids of predictions and annotations.

    Parameters
    ----------
    maps, truth, protocol
        What will be scored; the protocol says what missing clips do.

    Returns
    -------
    missing, extra : tuple of str
        Annotated but not predicted, in the annotations' order; predicted but not annotated, in the
        predictions' order.

    Raises
    ------
    EvalInputError
        If no id is common, or some are missing and the policy is ``error``.
    """
    expected = check_clip_ids((clip.clip_id for clip in truth.clips), "annotations")
    predicted, annotated = set(maps.clip_ids), set(expected)
    absent = tuple(i for i in expected if i not in predicted)
    extra = tuple(i for i in maps.clip_ids if i not in annotated)
    hint = spelling_hint(extra, absent)
    if len(absent) == len(expected):
        raise EvalInputError(
            f"predictions and annotations have no clip in common: predictions begin with "
            f"{maps.clip_ids[0]!r}, annotations with "
            f"{expected[0]!r}; {hint or 'are they of the same test set?'}"
        )
    if absent and protocol.missing == "error":
        raise EvalInputError(
            f"{len(absent)} of {len(expected)} annotated clips have no prediction: {first_few(absent)}; "
            f"{hint or 'predict them, or count them as 0 by --missing zero'}"
        )
    return absent, extra


def score_maps(
    maps: Predictions, truth: Annotations, protocol: Protocol, progress: Progress | None = None
) -> CiouStatistics:
    """Compute the statistics of every annotated clip.

    Parameters
    ----------
    maps, truth, protocol
        What is scored, against what, how.
    progress
        Called with the numbers of scored and of all clips.

    Returns
    -------
    CiouStatistics
        In the annotations' order. A clip without prediction has the statistics of an empty mask.

    Raises
    ------
    EvalInputError
        If a heatmap is malformed or outside the protocol's range.
    """
    n, size = len(truth.clips), protocol.map_size
    row_of = {clip.clip_id: row for row, clip in enumerate(truth.clips)}
    statistics = CiouStatistics.zeros(n)
    done, constant = 0, []
    for clip_ids, heatmaps in maps.chunks(row_of.keys()):
        low, high = heatmaps.min(axis=(1, 2)), heatmaps.max(axis=(1, 2))
        _check_range(clip_ids, low, high, protocol)
        constant += [i for i, flat in zip(clip_ids, low == high, strict=True) if flat]
        rows = [row_of[clip_id] for clip_id in clip_ids]
        levels = np.stack([rasterise(truth.clips[row].boxes, size, truth.truth) for row in rows])
        true_pixels = [int(np.count_nonzero(g)) for g in levels]
        masks = binarise(to_probability(heatmaps, protocol), protocol, true_pixels)
        statistics.record(rows, masks, levels, truth.unit)
        done += len(rows)
        if progress is not None:
            progress(done, n)
    if constant:
        _log.warning(
            "%d heatmaps are constant, the rule decides their mask (%s)",
            len(constant),
            first_few(constant, 3),
        )
    for row in set(range(n)) - {row_of[i] for i in maps.clip_ids if i in row_of}:
        statistics.truth[row] = rasterise(truth.clips[row].boxes, size, truth.truth).sum() / truth.unit
    return statistics


def _check_range(
    clip_ids: list[str], low: NDArray[np.float32], high: NDArray[np.float32], protocol: Protocol
) -> None:
    if protocol.value_range is None:
        return
    lower, upper = protocol.value_range
    outside = (low < lower - RANGE_TOLERANCE) | (high > upper + RANGE_TOLERANCE)
    if not outside.any():
        return
    row = int(outside.argmax())
    least, most = float(low[row]), float(high[row])
    if -1 - RANGE_TOLERANCE <= least < 0 and most <= 1 + RANGE_TOLERANCE:
        guess = (
            "cosine similarities? Map them to probabilities first, or use a rule without a fixed threshold"
        )
    elif least >= 0 and most <= 255:
        guess = "8-bit images? Divide by 255; or logits? Apply the sigmoid"
    else:
        guess = "logits? Apply the sigmoid"
    raise EvalInputError(
        f"heatmap of clip {clip_ids[row]} lies in [{least:.4g}, {most:.4g}], but protocol {protocol.name} "
        "thresholds "
        f"values in [{lower:g}, {upper:g}]; {guess}"
    )


def _summarise(
    statistics: CiouStatistics,
    maps: Predictions,
    truth: Annotations,
    protocol: Protocol,
    absent: tuple[str, ...],
    extra: tuple[str, ...],
) -> Scores:
    ciou = statistics.ciou
    gone = set(absent)
    is_missing = np.array([clip.clip_id in gone for clip in truth.clips])
    ciou[is_missing] = 0.0
    bounds = mean_intervals(per_clip_metrics(ciou)).tolist()
    status = np.where(is_missing, "missing", np.where(np.isnan(ciou), "undefined", "scored"))
    excluded = maps.meta.get("excluded")
    reasons = excluded if isinstance(excluded, Mapping) else {}
    columns = {
        "clip_id": [clip.clip_id for clip in truth.clips],
        "label": [clip.label for clip in truth.clips],
        "ciou": ciou.tolist(),
        "n_boxes": [len(clip.boxes) for clip in truth.clips],
        "gt_area": (statistics.truth / protocol.map_size**2).tolist(),
        "status": status.tolist(),
        "reason": [
            str(reasons.get(clip.clip_id, "")) if clip.clip_id in gone else "" for clip in truth.clips
        ],
        "n_dropped_boxes": [clip.n_dropped for clip in truth.clips],
        "intersection": statistics.intersection.tolist(),
        "false_positive": statistics.false_positive.astype(np.int64).tolist(),
    }
    return Scores(
        protocol=protocol,
        metrics=metrics(ciou),
        intervals={name: (low, high) for name, (low, high) in zip(METRICS, bounds, strict=True)},
        context={name: metrics(values) for name, values in context_ciou(truth, protocol).items()},
        n_expected=len(truth.clips),
        missing=absent,
        extra=extra,
        columns=columns,
        dropped_boxes=truth.dropped,
        inputs={"predictions": _input(maps.path), "annotations": _input(truth.path)},
        predictions_meta=maps.meta,
    )


def _input(path: Path | None) -> dict[str, str | None]:
    return {"path": str(path) if path else None, "sha256": sha256_of(path) if path else None}
