"""Score predictions against annotations under protocols."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from avsl_eval.cautions import MapsSeen, map_warnings, size_warnings, tie_warnings
from avsl_eval.clip_ids import check_clip_ids, spelling_hint
from avsl_eval.context import Context, DrawnTruth
from avsl_eval.engine import Engine
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.io import sha256_of
from avsl_eval.predictions import Predictions, open_predictions
from avsl_eval.protocol import MissingPolicy, Protocol, ProtocolSuite
from avsl_eval.protocol_table import expand, get_protocol
from avsl_eval.result import Evaluation, Scores
from avsl_eval.summarise import Found, intervals
from avsl_eval.truth import Annotations, describe_dropped, read_annotations

_log = logging.getLogger(__name__)

RANGE_TOLERANCE = 1e-6
"""How far float32 rounding may carry a heatmap beyond the bounds of a protocol."""

CHUNK = 8
"""Maps that are scored together: 8 of 224 x 224, and what is computed from them, stay near the processor."""

Progress = Callable[[int, int], None]
Named = str | Protocol | ProtocolSuite


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
    if isinstance(protocol, str):
        protocol = get_protocol(protocol)
    (scores,) = evaluate_all(predictions, annotations, protocol, missing, progress=progress).values()
    return scores


def evaluate_all(
    predictions: str | Path | Mapping[str, Any] | Predictions,
    annotations: str | Path | Mapping[str, Any] | Annotations,
    protocols: Named | Sequence[Named] = "strict",
    missing: str = "error",
    *,
    name: str | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Scores]:
    """Score heatmaps under several protocols in one pass.

    Parameters
    ----------
    predictions, annotations, missing, progress
        As for `evaluate`.
    protocols
        Names of protocols and suites (`avsl_eval.SUITES`), or protocols of your own.
    name
        Of the method, for the scores file.
    threads
        How many threads score; results do not depend on it.

    Returns
    -------
    dict
        Protocol name to its scores, in the order asked for; each equal to what `evaluate` returns.

    Raises
    ------
    EvalInputError
        If the input cannot be scored.

    Examples
    --------
    >>> import numpy as np
    >>> heatmap = np.tile(np.linspace(1.0, 0.0, 14), (14, 1))
    >>> found = evaluate_all({"a_000001": heatmap}, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, ["lvs", "strict"])
    >>> {name: scores.metrics["ciou@0.5"] for name, scores in found.items()}
    {'lvs': 1.0, 'strict-median': 1.0, 'strict-adaptive': 1.0, 'fixed': 1.0}
    """
    wanted = expand(protocols)
    _check_missing_policy(missing, wanted)
    rules = {
        key: dataclasses.replace(rule, missing=missing)  # type: ignore[arg-type]
        for key, (rule, _) in wanted.items()
    }
    optional = {key for key, (_, suite) in wanted.items() if suite is not None and suite.skips_inapplicable}
    truth = read_annotations(annotations)
    maps = open_predictions(predictions)
    absent, extra = match_ids(maps, truth, missing)
    if truth.n_silent == len(truth.clips):
        raise EvalInputError(
            f"none of the {len(truth.clips)} annotated clips has a box: there is nothing to locate"
        )
    run = _Run(maps, truth, rules, optional, progress, threads)
    run.warnings += _annotation_warnings(truth, extra)
    run.score()
    return run.scores(name, absent, extra)


def _check_missing_policy(missing: str, wanted: Mapping[str, tuple[Protocol, ProtocolSuite | None]]) -> None:
    if missing not in get_args(MissingPolicy):
        raise unknown_name("policy for missing clips", missing, get_args(MissingPolicy))
    for suite in {suite.name: suite for _, suite in wanted.values() if suite is not None}.values():
        if suite.missing is not None and missing != suite.missing:
            raise EvalInputError(
                f"the suite {suite.name} does not allow missing clips to count as 0; predict them all, or "
                f"name its protocols one by one: {' '.join(suite.protocols)}"
            )


def _annotation_warnings(truth: Annotations, extra: Sequence[str]) -> list[str]:
    found = []
    if truth.dropped:
        found.append(f"annotations: {describe_dropped(truth.dropped)}")
    if extra:
        found.append(f"{len(extra)} predictions have no annotation and are ignored ({first_few(extra, 3)})")
    return found


def match_ids(maps: Predictions, truth: Annotations, missing: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the ids of predictions and annotations.

    Parameters
    ----------
    maps, truth
        What will be scored.
    missing
        What missing clips do: ``error`` or ``zero``.

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
    if absent and missing == "error":
        raise EvalInputError(
            f"{len(absent)} of {len(expected)} annotated clips have no prediction: {first_few(absent)}; "
            f"{hint or 'predict them, or count them as 0 by --missing zero'}"
        )
    return absent, extra


class _Run:
    """One pass over predictions: what is read, and what is found."""

    def __init__(
        self,
        maps: Predictions,
        truth: Annotations,
        rules: Mapping[str, Protocol],
        optional: set[str],
        progress: Progress | None,
        threads: int,
    ) -> None:
        self.threads = threads
        self.maps, self.truth, self.rules, self.optional = maps, truth, dict(rules), optional
        self.progress = progress
        self.warnings: list[str] = []
        self.seen = MapsSeen()
        self.row_of = {clip.clip_id: row for row, clip in enumerate(truth.clips)}
        self.engine = Engine(list(rules.values()), len(truth.clips))
        self.context = Context(truth, list(rules.values()))
        self.sizes = sorted({rule.map_size for rule in rules.values()})

    def draw(self, row: int) -> dict[int, DrawnTruth]:
        """Draw a clip's truth at every map size, and note all that depends on it alone."""
        clip, truth = self.truth.clips[row], self.truth
        drawn = {
            size: DrawnTruth.of_levels(clip.levels(size, truth.truth), truth.unit) for size in self.sizes
        }
        self.engine.record_truth(row, drawn)
        self.context.record(row, drawn)
        return drawn

    def score(self) -> None:
        """Score every map, and draw the truth of clips without one."""
        n, done = len(self.row_of), 0
        lacking = set(range(n))
        with ThreadPoolExecutor(max(1, self.threads - 1)) as pool:
            running: deque[Future[None]] = deque()
            for clip_ids, heatmaps in self.maps.chunks(self.row_of.keys(), CHUNK):
                low, high = heatmaps.min(axis=(1, 2)), heatmaps.max(axis=(1, 2))
                self.check_ranges(clip_ids, low, high)
                self.seen.look(clip_ids, heatmaps, low, high)
                rows = [self.row_of[clip_id] for clip_id in clip_ids]
                drawn = [self.draw(row) for row in rows]
                # Rows of different chunks are disjoint, so that the order of threads changes nothing.
                if self.threads > 1 and len(running) < self.threads:
                    running.append(pool.submit(self.engine.score, heatmaps, rows, drawn))
                else:
                    self.engine.score(heatmaps, rows, drawn)
                while running and running[0].done():
                    running.popleft().result()
                lacking.difference_update(rows)
                done += len(rows)
                if self.progress is not None:
                    self.progress(done, n)
            for future in running:
                future.result()
        for row in sorted(lacking):
            self.draw(row)

    def check_ranges(
        self, clip_ids: Sequence[str], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> None:
        """Stop at maps that leave a rule's range, or leave out the rule if a suite allows it."""
        for key, rule in list(self.rules.items()):
            fault = range_fault(clip_ids, low, high, rule)
            if fault and (key not in self.optional or len(self.rules) == 1):
                raise EvalInputError(fault)
            if fault:
                del self.rules[key]
                self.engine.leave_out(key)
                self.warnings.append(f"{key} is left out: {fault}")

    def scores(self, name: str | None, absent: tuple[str, ...], extra: tuple[str, ...]) -> dict[str, Scores]:
        """Summarise."""
        clips, gone = self.truth.clips, set(absent)
        missing = np.array([clip.clip_id in gone for clip in clips])
        sounding = np.array([not clip.is_silent for clip in clips])
        found = {key: Found(rule, self.engine, sounding, missing, None) for key, rule in self.rules.items()}
        clip_ids, labels = [c.clip_id for c in clips], [c.label for c in clips]
        tied = {key: one.tied(clip_ids) for key, one in found.items()}
        rules = list(self.rules.values())
        self.warnings += map_warnings(self.seen, rules) + tie_warnings(tied, self.seen.n)
        testset = testset_of(self.truth)
        self.warnings += size_warnings(testset["name"] or "", len(clips), rules)
        for sentence in self.warnings:
            _log.warning("%s", sentence)
        evaluation = Evaluation(
            name=name,
            testset=testset,
            inputs={"predictions": _input(self.maps.path), "annotations": _input(self.truth.path)},
            predictions_meta=self.maps.meta,
            dropped_boxes=self.truth.dropped,
            extra=extra,
            warnings=tuple(self.warnings),
        )
        bounds = intervals(found)
        n_boxes = [len(c.boxes) for c in clips]
        return {
            key: Scores(
                protocol=one.protocol,
                metrics=one.metrics(),
                intervals=bounds[key],
                context=one.context(self.context),
                n_expected=len(clips),
                missing=absent,
                columns=self.columns(one),
                curve=one.curve(self.context),
                tied=tied[key],
                evaluation=evaluation,
                breakdown=one.breakdown(labels, n_boxes),
                sections={
                    section: content
                    for section, content in (("detection", one.detection()), ("sweep", one.sweep()))
                    if content is not None
                },
            )
            for key, one in found.items()
        }

    def columns(self, found: Found) -> dict[str, list[Any]]:
        """Return the table of clips."""
        clips = self.truth.clips
        excluded = self.maps.meta.get("excluded")
        reasons = excluded if isinstance(excluded, Mapping) else {}
        status = np.where(np.isnan(found.ciou), "undefined", "scored")
        status[~found.sounding] = "silent"
        status[found.missing] = "missing"
        return {
            "clip_id": [clip.clip_id for clip in clips],
            "label": [clip.label for clip in clips],
            "ciou": found.ciou.tolist(),
            "n_boxes": [len(clip.boxes) for clip in clips],
            "gt_area": (found.truth / found.protocol.map_size**2).tolist(),
            "status": status.tolist(),
            "reason": [
                str(reasons.get(clip.clip_id, "")) if gone else ""
                for clip, gone in zip(clips, found.missing.tolist(), strict=True)
            ],
            "n_dropped_boxes": [clip.n_dropped for clip in clips],
            "intersection": found.intersection.tolist(),
            "false_positive": found.false_positive.astype(np.int64).tolist(),
            "pointing": found.pointing.tolist(),
            "confidence": found.confidence.tolist(),
        }


def range_fault(
    clip_ids: Sequence[str], low: NDArray[np.float32], high: NDArray[np.float32], protocol: Protocol
) -> str:
    """Say which map leaves the range of a protocol.

    Parameters
    ----------
    clip_ids
        n ids.
    low, high : float32 [n]
        Smallest and largest value of each map.
    protocol
        The rule.

    Returns
    -------
    str
        A sentence with a guess at the mistake, "" if all keep it.
    """
    if protocol.value_range is None:
        return ""
    lower, upper = protocol.value_range
    outside = (low < lower - RANGE_TOLERANCE) | (high > upper + RANGE_TOLERANCE)
    if not outside.any():
        return ""
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
    return (
        f"heatmap of clip {clip_ids[row]} lies in [{least:.4g}, {most:.4g}], but protocol {protocol.name} "
        f"thresholds values in [{lower:g}, {upper:g}]; {guess}"
    )


def testset_of(truth: Annotations) -> dict[str, Any]:
    """Describe a test set, as the scores file does.

    Parameters
    ----------
    truth
        Its annotations.

    Returns
    -------
    dict
        Keys name, n_clips, n_silent, truth, sha256.
    """
    return {
        "name": truth.name or None,
        "n_clips": len(truth.clips),
        "n_silent": truth.n_silent,
        "truth": truth.truth,
        "sha256": truth.digest(),
    }


def _input(path: Path | None) -> dict[str, str | None]:
    return {"path": str(path) if path else None, "sha256": sha256_of(path) if path else None}
