"""Are two methods different? Paired statistics on their common clips, and where they differ.

``comparison.json`` (schema avsl-comparison/1; fractions; a difference is second minus first)::

    testset, methods: [{name, n_seeds, path}]
    inference: {interval, level, resamples, test, permutations, correction, seeds}
    subsets: {subset: {protocol: {
        rule
        pairs: [{
            first, second, n                                  clips that every seed of both predicted
            not_common {n, only_first, only_second, neither}  numbers of the other sounding clips
            metrics    {metric: {first, second, difference, ci95, p, p_holm}}
            by_class, by_size [{name, n, metrics: {metric: {first, second, difference}}}]
            clips      {second_better, first_better: [{clip_id, label, first, second, difference}]}
        }]
    }}}

Metrics are `avsl_eval.pooling.METRICS`, ``clips`` are listed by their cIoU. Over several seeds a clip's value
is the mean over seeds: all is conditional on the trainings at hand. Classes stand in the order of what they
add to the difference of the first metric. Where methods differ is for looking: nothing there is tested.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.bootstrap import LEVEL, RESAMPLES
from avsl_eval.breakdown import by_label, by_size
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.io import write_files
from avsl_eval.paired import PERMUTATIONS, holm, paired_intervals, sign_flip_test
from avsl_eval.per_clip import PerClip, read_tables, table_of
from avsl_eval.pooling import METRICS, agrees, clip_values
from avsl_eval.protocol_table import SUITES
from avsl_eval.results_file import Results

SCHEMA = "avsl-comparison/1"
N_CLIPS = 10
"""How many clips are listed for each direction."""

_SIDE = 224
"""Side of the map that the bounds of sizes are counted on, in pixels."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class MethodClips:
    """Hold one method's values on the sounding clips of one subset under one protocol.

    Parameters
    ----------
    name
        Of the method.
    clip_id, label
        Of N clips.
    gt_area : float64 [N]
        sum(g) as a fraction of the image.
    predicted : bool [N]
        Whether every seed predicted the clip.
    values : float64 [N, K]
        Columns `avsl_eval.pooling.METRICS`, mean over seeds; ``mean_iou`` is cIoU, 0 where undefined.
    """

    name: str
    clip_id: tuple[str, ...]
    label: tuple[str, ...]
    gt_area: Float64
    predicted: NDArray[np.bool_]
    values: Float64


def compare(results: Sequence[Results], protocols: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare methods pair by pair.

    Parameters
    ----------
    results
        Two methods or more, of one test set.
    protocols
        Names of protocols or suites, or None for all protocols that two methods or more share.

    Returns
    -------
    dict
        Content of ``comparison.json``, see the module.

    Raises
    ------
    EvalInputError
        If names repeat, rules or annotations differ, nothing is common, or a table cannot be read.
    """
    _check_methods(results)
    wanted = None if protocols is None else _wanted(results, protocols)
    subsets: dict[str, Any] = {}
    read: dict[Path, dict[str, PerClip]] = {}
    for subset in dict.fromkeys(s for r in results for s in r.subsets):
        holders = [r for r in results if subset in r.subsets]
        _check_annotations(holders, subset)
        known = dict.fromkeys(p for r in holders for p in r.subsets[subset]["protocols"])
        for protocol in known if wanted is None else [p for p in known if p in wanted]:
            scored = [r for r in holders if protocol in r.subsets[subset]["protocols"]]
            if len(scored) > 1:
                rule = _one_rule(scored, subset, protocol)
                methods = [method_clips(r, subset, protocol, read) for r in scored]
                subsets.setdefault(subset, {})[protocol] = {"rule": rule, "pairs": compare_pairs(methods)}
    if not subsets:
        have = [
            f"{r.name} has {subset} under {first_few(found['protocols'])}"
            for r in results
            for subset, found in r.subsets.items()
        ]
        among = f" among {', '.join(protocols)}" if protocols else ""
        raise EvalInputError(f"no two methods share a subset and a protocol{among}: {'; '.join(have)}")
    return {
        "schema": SCHEMA,
        "testset": results[0].testset,
        "methods": [{"name": r.name, "n_seeds": _n_seeds(r), "path": str(r.path)} for r in results],
        "inference": {
            "interval": "percentile bootstrap over clips, both methods together",
            "level": LEVEL,
            "resamples": RESAMPLES,
            "test": "two-sided sign-flip permutation test over clips",
            "permutations": PERMUTATIONS,
            "correction": "Holm, over all pairs of methods of one subset, protocol and metric",
            "seeds": "a clip's value is its mean over seeds; all is over clips, given the trainings",
        },
        "subsets": subsets,
    }


def save_comparison(content: Mapping[str, Any], path: Path) -> None:
    """Write ``comparison.json``.

    Parameters
    ----------
    content
        What `compare` returned.
    path
        Where to.
    """
    write_files({path: json.dumps(content, indent=1, allow_nan=False) + "\n"})


def method_clips(
    results: Results, subset: str, protocol: str, read: dict[Path, dict[str, PerClip]]
) -> MethodClips:
    """Read one method's per-clip tables.

    Parameters
    ----------
    results
        The method.
    subset, protocol
        Names.
    read
        Tables that were read already, by path; those read now are added.

    Returns
    -------
    MethodClips
        Of the sounding clips.

    Raises
    ------
    EvalInputError
        If a table cannot be read, lacks the protocol, is of another evaluation, or has other clips than
        another seed's.
    """
    stated = results.subsets[subset]["protocols"][protocol]["seeds"]
    tables = []
    for file in results.files(subset, protocol):
        path = Path(file["per_clip"])
        if path not in read:
            read[path] = read_tables(path)
        table = table_of(read[path], protocol, path)
        if not agrees(table, stated[str(file["seed"])]):
            raise EvalInputError(
                f"{path} and the scores of {results.name} under {protocol} are of different evaluations; "
                "write both by one avsl-eval score"
            )
        tables.append(table)
    first = tables[0]
    if any(table.clip_id != first.clip_id for table in tables):
        raise EvalInputError(f"the tables of {results.name}, subset {subset}, have different clips per seed")
    keep = first.sounding
    rows = np.flatnonzero(keep)
    missing: NDArray[np.bool_] = np.zeros(len(first.clip_id), dtype=bool)
    for table in tables:
        missing |= np.array(table.status) == "missing"
    values = np.mean([list(clip_values(table).values()) for table in tables], axis=0)
    return MethodClips(
        results.name,
        tuple(first.clip_id[k] for k in rows),
        tuple(first.label[k] for k in rows),
        first.gt_area[keep],
        ~missing[keep],
        values.T,
    )


def compare_pairs(methods: Sequence[MethodClips]) -> list[dict[str, Any]]:
    """Compare every pair of methods and correct the p values for their number.

    Parameters
    ----------
    methods
        Of one subset under one protocol.

    Returns
    -------
    list of dict
        ``pairs`` of the module's schema; the family of Holm's correction is all of them, per metric.
    """
    pairs = [compare_pair(first, second) for first, second in itertools.combinations(methods, 2)]
    for metric in METRICS:
        corrected = holm(np.array([pair["metrics"][metric]["p"] for pair in pairs]))
        for pair, p in zip(pairs, corrected.tolist(), strict=True):
            pair["metrics"][metric]["p_holm"] = p
    return pairs


def compare_pair(first: MethodClips, second: MethodClips) -> dict[str, Any]:
    """Compare two methods on their common clips.

    Parameters
    ----------
    first, second
        Of one subset under one protocol.

    Returns
    -------
    dict
        One of ``pairs`` of the module's schema, without ``p_holm``.

    Raises
    ------
    EvalInputError
        If they have no clip in common.
    """
    row_of = {clip_id: k for k, clip_id in enumerate(second.clip_id)}
    shared = [(k, row_of[i]) for k, i in enumerate(first.clip_id) if i in row_of]
    rows = [(j, k) for j, k in shared if first.predicted[j] and second.predicted[k]]
    if not rows:
        raise EvalInputError(f"{first.name} and {second.name} have no predicted clip in common")
    left, right = (list(column) for column in zip(*rows, strict=True))
    a, b = first.values[left], second.values[right]
    difference = b - a
    bounds = paired_intervals(difference)
    labels = [first.label[k] for k in left]
    pixels = first.gt_area[left] * _SIDE**2
    only_first, only_second = int(first.predicted.sum()) - len(rows), int(second.predicted.sum()) - len(rows)
    everything = len(set(first.clip_id) | set(second.clip_id))
    return {
        "first": first.name,
        "second": second.name,
        "n": len(rows),
        "not_common": {
            "n": everything - len(rows),
            "only_first": only_first,
            "only_second": only_second,
            "neither": everything - len(rows) - only_first - only_second,
        },
        "metrics": {
            metric: {
                **_means(a, b, k),
                "ci95": bounds[k].tolist(),
                "p": sign_flip_test(difference[:, k]),
            }
            for k, metric in enumerate(METRICS)
        },
        "by_class": sorted(_groups(by_label(labels, _named(a)), by_label(labels, _named(b))), key=_added),
        "by_size": _groups(by_size(pixels, _named(a)), by_size(pixels, _named(b))),
        "clips": _largest([first.clip_id[k] for k in left], labels, *(_named(v)["mean_iou"] for v in (a, b))),
    }


def _means(a: Float64, b: Float64, k: int) -> dict[str, float]:
    return {
        "first": float(a[:, k].mean()),
        "second": float(b[:, k].mean()),
        "difference": float((b - a)[:, k].mean()),
    }


def _named(values: Float64) -> dict[str, Float64]:
    return dict(zip(METRICS, values.T, strict=True))


def _groups(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the two methods' rows of a breakdown side by side."""
    return [
        {
            "name": a["name"],
            "n": a["n"],
            "metrics": {
                metric: {
                    "first": a["metrics"][metric],
                    "second": value,
                    "difference": value - a["metrics"][metric],
                }
                for metric, value in b["metrics"].items()
            },
        }
        for a, b in zip(first, second, strict=True)
    ]


def _added(group: Mapping[str, Any]) -> float:
    """Return minus how much a class adds to the difference of the first metric, so that most comes first."""
    return -abs(float(group["n"] * group["metrics"][METRICS[0]]["difference"]))


def _largest(clip_ids: Sequence[str], labels: Sequence[str], a: Float64, b: Float64) -> dict[str, Any]:
    """List the clips on which one method is furthest ahead, for both directions."""
    order = np.argsort(a - b, kind="stable")  # second ahead first

    def row(k: int) -> dict[str, Any]:
        return {
            "clip_id": clip_ids[k],
            "label": labels[k],
            "first": float(a[k]),
            "second": float(b[k]),
            "difference": float(b[k] - a[k]),
        }

    return {
        "second_better": [row(k) for k in order[:N_CLIPS] if b[k] > a[k]],
        "first_better": [row(k) for k in order[::-1][:N_CLIPS] if a[k] > b[k]],
    }


def _check_methods(results: Sequence[Results]) -> None:
    if len(results) < 2:
        raise EvalInputError("a comparison needs two methods or more")
    names = [r.name for r in results]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise EvalInputError(
            f"{first_few(twice)} is the name of several methods; give others on the command line: NAME=PATH"
        )


def _wanted(results: Sequence[Results], names: Sequence[str]) -> set[str]:
    """Spell suites out, and check that every other name is a protocol that some method was scored under."""
    known = dict.fromkeys(p for r in results for s in r.subsets.values() for p in s["protocols"])
    wanted: set[str] = set()
    for name in names:
        if name not in known and name not in SUITES:
            raise unknown_name("protocol of these scores", name, known)
        wanted.update([name] if name in known else SUITES[name].protocols)
    return wanted


def _check_annotations(results: Sequence[Results], subset: str) -> None:
    digests = {r.subsets[subset]["testset"]["sha256"] for r in results}
    if len(digests) > 1:
        sizes = ", ".join(f"{r.name}: {r.subsets[subset]['n_expected']} clips" for r in results)
        raise EvalInputError(
            f"the methods were scored against different annotations ({sizes}, subset {subset}); score all "
            "against the same file, with --missing zero where predictions are missing"
        )


def _one_rule(results: Sequence[Results], subset: str, protocol: str) -> dict[str, Any]:
    """Return the rule that all share; what missing clips do is left out, they take no part."""
    rules = [
        {k: v for k, v in r.subsets[subset]["protocols"][protocol]["rule"].items() if k != "missing"}
        for r in results
    ]
    for r, rule in zip(results, rules, strict=True):
        if rule != rules[0]:
            keys = [k for k in rules[0].keys() | rule.keys() if rule.get(k) != rules[0].get(k)]
            raise EvalInputError(
                f"{results[0].name} and {r.name} were scored by different rules named {protocol}: "
                f"{first_few(sorted(keys))} differ; score both again by one version"
            )
    return rules[0]


def _n_seeds(results: Results) -> int:
    return len({file["seed"] for file in results.content["files"]})
