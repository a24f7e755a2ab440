"""Look a predictions file over before it is scored: every problem at once, and which rules its values fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.cautions import EIGHT_BIT_LEVELS, RANGE_TOLERANCE, looks_8_bit
from avsl_eval.clip_ids import spelling_hint
from avsl_eval.errors import EvalInputError, first_few
from avsl_eval.predictions import Maps, Predictions, checked_heatmap, checked_stack, open_predictions
from avsl_eval.protocol import Protocol
from avsl_eval.protocol_table import PROTOCOLS, SUITES
from avsl_eval.truth import Annotations, describe_dropped

_SHOWN_SIZES = 3


@dataclass
class Findings:
    """Hold what was found out about a predictions file.

    Parameters
    ----------
    facts, warnings, problems
        One sentence each. Problems keep the file from being scored, warnings do not.
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check(source: str | Path, annotations: Annotations | None = None) -> Findings:
    """Look predictions over.

    Parameters
    ----------
    source
        A file or folder of predictions.
    annotations
        What they would be scored against, or None.

    Returns
    -------
    Findings
        All that can be found; problems are not raised.
    """
    findings = Findings()
    try:
        predictions = open_predictions(source)
    except EvalInputError as error:
        findings.problems += error.problems
        return findings
    findings.warnings += predictions.notes
    _check_maps(predictions, findings)
    if annotations is not None:
        _check_ids(predictions, annotations, findings)
    return findings


@dataclass
class _Tally:
    """Count what the maps have in common."""

    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    low: float = np.inf
    high: float = -np.inf
    constant: list[str] = field(default_factory=list)
    n_8bit: int = 0

    def add(self, clip_id: str, maps: Maps) -> None:
        self.sizes[maps.shape] += 1
        low, high = float(maps.min()), float(maps.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low == high:
            self.constant.append(clip_id)
        elif looks_8_bit(maps):
            self.n_8bit += 1


def _check_maps(predictions: Predictions, findings: Findings) -> None:
    tally = _Tally()
    faults: dict[str, list[str]] = defaultdict(list)
    try:
        for clip_id, raw in predictions.read(set(predictions.clip_ids)):
            try:
                tally.add(clip_id, _checked(raw, clip_id, predictions.where))
            except EvalInputError as error:
                # Clips with one fault make one problem.
                faults[str(error).replace(clip_id, "...")].append(clip_id)
    except EvalInputError as error:
        findings.problems += error.problems
    findings.problems += [
        text.replace("...", clips[0]) + (f" (so it is with {first_few(clips[1:])})" if clips[1:] else "")
        for text, clips in faults.items()
    ]
    findings.facts += _facts(predictions, tally)
    n = tally.sizes.total()
    if tally.constant:
        findings.warnings.append(
            f"{len(tally.constant)} of {n} heatmaps are constant, the rule decides their mask "
            f"({first_few(tally.constant, 3)})"
        )
    if tally.n_8bit:
        findings.warnings.append(
            f"{tally.n_8bit} of {n} heatmaps have at most {EIGHT_BIT_LEVELS} different values, as 8-bit "
            "pictures do: many pixels tie at a threshold; save the model's own floats"
        )
    if any(len(size) == 3 and size[0] > 1 for size in tally.sizes):
        findings.warnings.append("maps of several sources are scored by avsl-eval sources only")


def _checked(raw: NDArray[Any] | EvalInputError, clip_id: str, where: str) -> Maps:
    if isinstance(raw, EvalInputError):
        raise raw
    return (checked_stack if raw.ndim == 3 and len(raw) > 1 else checked_heatmap)(raw, clip_id, where)


def _facts(predictions: Predictions, tally: _Tally) -> list[str]:
    facts = [f"{len(predictions.clip_ids)} clips, the first is {predictions.clip_ids[0]}"]
    if tally.sizes:
        sizes = [f"{' x '.join(map(str, size))} ({n})" for size, n in tally.sizes.most_common()]
        facts.append(f"sizes of readable heatmaps: {first_few(sizes, _SHOWN_SIZES)}")
        facts.append(f"values from {tally.low:.6g} to {tally.high:.6g}")
    if predictions.confidence is not None:
        found = np.array(list(predictions.confidence.values()))
        facts.append(f"confidences from {found.min():.6g} to {found.max():.6g}")
    if tally.sizes:
        facts += _fitting(PROTOCOLS.values(), tally)
    return facts


def _fitting(rules: Iterable[Protocol], tally: _Tally) -> list[str]:
    """Sort protocols by whether values of this range can be meant for them."""
    any_range, own_scale = [], []
    outside: dict[str, str] = {}
    for rule in rules:
        low, high = rule.value_range or (-np.inf, np.inf)
        if tally.low < low - RANGE_TOLERANCE or tally.high > high + RANGE_TOLERANCE:
            outside[rule.name] = f"{rule.name} (needs [{low:g}, {high:g}])"
        elif rule.depends_on_scale:
            own_scale.append(rule.name)
        else:
            any_range.append(rule.name)
    lines = [f"protocols that fit: {', '.join(any_range)}"]
    if own_scale:
        lines.append(f"protocols that compare the values as they are with a number: {', '.join(own_scale)}")
    if outside:
        strict = [suite for suite in SUITES.values() if not suite.skips_inapplicable]
        suites = [suite.name for suite in strict if outside.keys() & set(suite.protocols)]
        lines.append(
            f"protocols that do not fit these values: {', '.join(outside.values())}"
            + (f"; nor does the suite {' and '.join(suites)}, which holds it" if suites else "")
        )
    return lines


def _check_ids(predictions: Predictions, annotations: Annotations, findings: Findings) -> None:
    annotated = [clip.clip_id for clip in annotations.clips]
    predicted, known = set(predictions.clip_ids), set(annotated)
    missing = [clip_id for clip_id in annotated if clip_id not in predicted]
    extra = [clip_id for clip_id in predictions.clip_ids if clip_id not in known]
    hint = spelling_hint(extra, missing)
    name = f" of {annotations.name}" if annotations.name else ""
    findings.facts.append(
        f"{len(annotated) - len(missing)} of the {len(annotated)} annotated clips{name} have a prediction"
    )
    findings.facts += annotations.notes
    if missing:
        findings.problems.append(
            f"{len(missing)} annotated clips have no prediction: {first_few(missing)}; "
            f"{hint or 'predict them, or count them as 0 by --missing zero'}"
        )
    if extra:
        findings.warnings.append(
            f"{len(extra)} predictions are of no clip of the test set and would be ignored "
            f"({first_few(extra, 3)})"
        )
    if annotations.dropped:
        findings.warnings.append(f"annotations: {describe_dropped(annotations.dropped)}")
