"""Score predictions against annotations under protocols."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from avsl_eval.cautions import negative_warnings, sweep_warnings
from avsl_eval.clip_ids import check_clip_ids, spelling_hint
from avsl_eval.errors import EvalInputError, first_few, kind_of, unknown_name
from avsl_eval.options import Options, subset_warnings
from avsl_eval.predictions import Predictions, open_predictions
from avsl_eval.protocol import MissingPolicy, Protocol, ProtocolSuite
from avsl_eval.protocol_table import expand, get_protocol
from avsl_eval.result import Scores
from avsl_eval.run import WORTH_WORKERS, Progress, Run, cores
from avsl_eval.sections import Negatives
from avsl_eval.shared import Shared
from avsl_eval.truth import Annotations, describe_dropped, read_annotations

Named = str | Protocol | ProtocolSuite
Source = str | Path | Mapping[str, Any] | Predictions


def evaluate(
    predictions: Source,
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
    if not isinstance(protocol, Protocol):
        raise EvalInputError(
            f"the protocol is {kind_of(protocol)}, not a name or a Protocol; for several: evaluate_all"
        )
    (scores,) = evaluate_all(predictions, annotations, protocol, missing, progress=progress).values()
    return scores


def evaluate_all(
    predictions: Source,
    annotations: str | Path | Mapping[str, Any] | Annotations,
    protocols: Named | Sequence[Named] = "strict",
    missing: str = "error",
    *,
    name: str | None = None,
    subsets: Mapping[str, Collection[str]] | None = None,
    group_by: str | None = None,
    negatives: Mapping[str, Source] | None = None,
    universal: str | float = "max",
    official_batch: int | None = None,
    workers: int | None = 1,
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
    subsets
        Name to the ids or classes of some clips, which get scores of their own in the breakdown.
    group_by
        ``last-underscore``: clips with the same id up to its last ``_`` are one group, beside the groups that
        annotations define.
    negatives
        Kind (``silence``, ``noise``, ``offscreen``) to predictions of the same model on negative audio, which
        the protocol ``vssl-eval`` needs.
    universal
        How they set its threshold: ``max``, ``1.1max``, ``q3`` (the third quartile of the maps' maxima) or a
        number.
    official_batch
        Batch size of AVSBench's published F, which depends on it; None leaves that out.
    workers
        How many processes score, None for one per core where there are clips enough for it to pay. Results
        do not depend on it.

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
    only = evaluate_many(
        {"": predictions},
        annotations,
        protocols,
        missing,
        names={"": name},
        subsets=subsets,
        group_by=group_by,
        negatives={"": negatives or {}},
        universal=universal,
        official_batch=official_batch,
        workers=workers,
        progress=progress,
    )
    return only[""]


def evaluate_many(
    predictions: Mapping[str, Source],
    annotations: str | Path | Mapping[str, Any] | Annotations,
    protocols: Named | Sequence[Named] = "strict",
    missing: str = "error",
    *,
    names: Mapping[str, str | None] | None = None,
    subsets: Mapping[str, Collection[str]] | None = None,
    group_by: str | None = None,
    negatives: Mapping[str, Mapping[str, Source]] | None = None,
    universal: str | float = "max",
    official_batch: int | None = None,
    workers: int | None = 1,
    progress: Progress | None = None,
) -> dict[str, dict[str, Scores]]:
    """Score several sets of heatmaps against the same annotations: models, or one model's maps and mixtures.

    What depends on the annotations alone (their digest, the context, the bootstrap's draws) is found once.

    Parameters
    ----------
    predictions
        Key to predictions as for `evaluate_all`.
    annotations, protocols, missing, subsets, group_by, universal, official_batch, workers, progress
        As for `evaluate_all`; progress is called anew for each set.
    names
        Key to the name of the method, for the scores file (default: the key).
    negatives
        Key to that model's predictions on negative audio, by kind.

    Returns
    -------
    dict
        Key to protocol name to scores; each equal to what `evaluate_all` returns for it.

    Raises
    ------
    EvalInputError
        If some input cannot be scored, there is none, or names or negatives are of a key without predictions.

    Examples
    --------
    >>> import numpy as np
    >>> left = np.tile(np.linspace(1.0, 0.0, 14), (14, 1))
    >>> maps = {"av": {"a_000001": left}, "mirrored": {"a_000001": left[:, ::-1]}}
    >>> found = evaluate_many(maps, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, "lvs")
    >>> {key: scores["lvs"].metrics["ciou@0.5"] for key, scores in found.items()}
    {'av': 1.0, 'mirrored': 0.0}
    """
    if not predictions:
        raise EvalInputError("there are no predictions to score")
    for what, by_key in (("names", names or {}), ("negatives", negatives or {})):
        if unknown := [key for key in by_key if key not in predictions]:
            raise EvalInputError(
                f"{what} are given for {first_few(unknown)}, of which there are no predictions; there are "
                f"{first_few(list(predictions))}"
            )
    wanted = expand(protocols)
    options = {
        key: Options(
            dict(subsets or {}), group_by, dict((negatives or {}).get(key, {})), universal, official_batch
        )
        for key in predictions
    }
    for each in options.values():
        each.refuse_unused(rule for rule, _ in wanted.values())
    _check_missing_policy(missing, wanted)
    truth = read_annotations(annotations)
    if workers is None:
        workers = cores() if len(truth.clips) >= WORTH_WORKERS else 1
    with Shared(truth, len(predictions), workers) as shared:
        return {
            key: _evaluate_one(
                source, truth, wanted, missing, (names or {}).get(key, key), options[key], progress, shared
            )
            for key, source in predictions.items()
        }


def _evaluate_one(
    predictions: Source,
    truth: Annotations,
    wanted: Mapping[str, tuple[Protocol, ProtocolSuite | None]],
    missing: str,
    name: str | None,
    options: Options,
    progress: Progress | None,
    shared: Shared,
) -> dict[str, Scores]:
    """Score one set of predictions."""
    optional = {key for key, (_, suite) in wanted.items() if suite is not None and suite.skips_inapplicable}
    maps = open_predictions(predictions)
    absent, extra = match_ids(maps, truth, missing)
    if truth.n_silent == len(truth.clips):
        raise EvalInputError(
            f"none of the {len(truth.clips)} annotated clips has a box: there is nothing to locate"
        )
    ids, labels = [clip.clip_id for clip in truth.clips], [clip.label for clip in truth.clips]
    warnings = [*truth.notes, *maps.notes, *_annotation_warnings(truth, extra)]
    warnings += subset_warnings(ids, labels, options.subsets)
    negative = Negatives(options)
    rules: dict[str, Protocol] = {}
    for key, (rule, _) in wanted.items():
        if rule.task == "segmentation" and truth.truth != "mask" and key in optional and len(wanted) > 1:
            warnings.append(
                f"{key} is left out: it compares masks, but the annotations are boxes; name it by itself to "
                "score boxes all the same"
            )
            continue
        rules[key] = dataclasses.replace(rule, missing=missing)  # type: ignore[arg-type]
        if rule.threshold == "universal" and rule.threshold_value is None:
            try:
                rules[key] = negative.known(rules[key])
            except EvalInputError as error:
                if key not in optional or len(wanted) == 1:
                    raise
                del rules[key]
                warnings.append(f"{key} is left out: {error}")
    warnings += [*negative_warnings(options.negatives), *sweep_warnings(list(rules.values()))]
    run = Run(maps, shared, rules, optional, options, negative, warnings)
    run.score(progress)
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
        found.append(
            f"{len(extra)} predictions are of no clip of the test set and are ignored ({first_few(extra, 3)})"
        )
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
