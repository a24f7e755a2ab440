"""One table of many trainings: methods, label budgets, seeds; with intervals, differences, spread and cost.

``benchmark.json`` (schema avsl-benchmark/1; fractions; made of results files, one per cell)::

    name, protocol, metric, reference, main
    rule                      the protocol's fields
    subsets: {subset: {n, context: {ceiling | center_prior | ...: value}}}
    budgets: [{testset, labeled, clips}]                  labelled and all training clips, fewest labels first
    methods: [{name, kind}]                                kind: method or ablation
    cells: [{
        method, testset, seeds, config_digest, commit, device
        subsets: {subset: {protocol: {value, ci95, sd_over_seeds, seeds: {seed: value}}}}
        differences: {subset: {difference, ci95, p, p_holm}} | null     reference minus this method
        seconds: {seed: wall time}
        validation: {metric, steps, seeds: {seed: [value]}} | null      scores on validation clips
        late_sd: {seed: standard deviation over the last quarter of the steps} | null
    }]
    missing: [{method, testset}]                          cells that were not there

Values, intervals and ``sd_over_seeds`` are those of the results files (`avsl_eval.pooling`). A difference is
taken clip by clip between means over seeds, like those of `avsl_eval.compare`: its interval is a bootstrap
over clips, p of a sign-flip test, corrected by Holm over the methods that the reference is compared with in
one subset and at one budget.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsl_eval.compare import compare_pair, method_clips
from avsl_eval.errors import EvalInputError, unknown_name
from avsl_eval.io import read_json, write_files
from avsl_eval.paired import holm
from avsl_eval.per_clip import PerClip
from avsl_eval.results_file import Results
from avsl_eval.shape import NUMBER, Each, ListOf, OrNull, faults

SCHEMA = "avsl-benchmark/1"
METRIC = "ciou@0.5"
ABLATION = "ablation"
"""Kind of a method that is trained at the main budget only."""
LATE = 0.75
"""Validations after this share of the steps count for the spread over the last epochs."""

_INTERVAL = ListOf(NUMBER, 2)
_VALUE = {"value": NUMBER, "ci95": OrNull(_INTERVAL), "sd_over_seeds": OrNull(NUMBER), "seeds": Each(NUMBER)}
_SHAPE = {
    "name": str,
    "protocol": str,
    "metric": str,
    "reference": str,
    "main": str,
    "subsets": Each({"n": int, "context": Each(NUMBER)}, least=1),
    "budgets": ListOf({"testset": str, "labeled": int, "clips": int}),
    "methods": ListOf({"name": str, "kind": str}),
    "cells": ListOf(
        {
            "method": str,
            "testset": str,
            "seeds": ListOf(int),
            "subsets": Each(Each(_VALUE, least=1), least=1),
            "differences": OrNull(
                Each({"difference": NUMBER, "ci95": _INTERVAL, "p": NUMBER, "p_holm": NUMBER})
            ),
            "seconds": Each(NUMBER),
            "validation": OrNull({"metric": str, "steps": ListOf(NUMBER), "seeds": Each(ListOf(NUMBER))}),
            "late_sd": OrNull(Each(NUMBER)),
        }
    ),
    "missing": ListOf({"method": str, "testset": str}),
}


def benchmark(
    cells: Sequence[Results],
    *,
    name: str,
    reference: str,
    main: str,
    protocol: str,
    ablations: Sequence[str] = (),
) -> dict[str, Any]:
    """Put the results of a grid of trainings into one table.

    Parameters
    ----------
    cells
        One per method and label budget: the results' name is the method's, their test set names the budget.
    name
        Of the benchmark.
    reference
        Method that every other one is compared with.
    main
        Test set whose budget ablations have.
    protocol
        Rule of differences and curves; the others are in the table, too.
    ablations
        Methods that are wanted at the main budget only.

    Returns
    -------
    dict
        Content of ``benchmark.json``, see the module.

    Raises
    ------
    EvalInputError
        If a cell stands twice, cells differ in rule or test clips, a training's record lacks, or a name is
        unknown.
    """
    table = _by_cell(cells)
    methods = list(dict.fromkeys(method for method, _ in table))
    if reference not in methods:
        raise unknown_name("reference", reference, methods)
    for ablation in ablations:
        if ablation not in methods:
            raise unknown_name("ablation", ablation, methods)
    budgets = sorted(
        (_budget(testset, table) for testset in dict.fromkeys(testset for _, testset in table)),
        key=lambda budget: int(budget["labeled"]),
    )
    if main not in {budget["testset"] for budget in budgets}:
        raise unknown_name("main test set", main, [budget["testset"] for budget in budgets])
    rule, subsets = _common(table, protocol)
    tables: dict[Path, dict[str, PerClip]] = {}
    differences = {
        budget["testset"]: _differences(table, budget["testset"], reference, protocol, tables)
        for budget in budgets
    }
    order = [(method, budget["testset"]) for method in methods for budget in budgets]
    wanted = [(method, testset) for method, testset in order if method not in ablations or testset == main]
    return {
        "schema": SCHEMA,
        "name": name,
        "protocol": protocol,
        "metric": METRIC,
        "reference": reference,
        "main": main,
        "rule": rule,
        "subsets": subsets,
        "budgets": budgets,
        "methods": [
            {"name": method, "kind": ABLATION if method in ablations else "method"} for method in methods
        ],
        "cells": [_cell(table[key], differences[key[1]].get(key[0])) for key in order if key in table],
        "missing": [
            {"method": method, "testset": testset}
            for method, testset in wanted
            if (method, testset) not in table
        ],
    }


def save_benchmark(content: Mapping[str, Any], path: Path) -> None:
    """Write ``benchmark.json``."""
    write_files({path: json.dumps(content, indent=1, allow_nan=False) + "\n"})


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read ``benchmark.json``.

    Raises
    ------
    EvalInputError
        If the file is not one.
    """
    content = read_json(path, SCHEMA, "avsl-eval benchmark")
    for fault in faults(content, _SHAPE):
        raise EvalInputError(f"{path}: {fault}; write it again by avsl-eval benchmark")
    return content


def _by_cell(cells: Sequence[Results]) -> dict[tuple[str, str], Results]:
    """Return the results by method and test set, each once."""
    table: dict[tuple[str, str], Results] = {}
    for results in cells:
        key = (results.name, results.testset)
        if key in table:
            raise EvalInputError(
                f"{results.path} and {table[key].path} are both of {key[0]} on {key[1]}; give one of them"
            )
        table[key] = results
    if not table:
        raise EvalInputError("a benchmark needs results: give one file or more of avsl-eval collect")
    return table


def _budget(testset: str, table: Mapping[tuple[str, str], Results]) -> dict[str, Any]:
    """Return how many training clips and labels the trainings for a test set had."""
    counts: dict[tuple[int, int], Path | None] = {}
    for (_, of), results in table.items():
        if of != testset:
            continue
        for seed, run in results.content["provenance"]["runs"].items():
            clips = run.get("clips", {})
            try:
                counts.setdefault((int(clips["labeled"]), int(clips["used"])), results.path)
            except (KeyError, TypeError, ValueError) as error:
                raise EvalInputError(
                    f"{results.path}: the run.json of seed {seed} does not say how many clips it used; "
                    "collect with --run of avsl-train fit"
                ) from error
    if len(counts) != 1:
        said = ", ".join(f"{labeled} of {clips} ({path})" for (labeled, clips), path in counts.items())
        said = said or "no run.json was collected"
        raise EvalInputError(f"trainings for {testset} do not agree in their labelled clips: {said}")
    labeled, clips = next(iter(counts))
    return {"testset": testset, "labeled": labeled, "clips": clips}


def _common(
    table: Mapping[tuple[str, str], Results], protocol: str
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return the rule and what is known of the test clips, which are the same in every cell."""
    first = next(iter(table.values()))
    for results in table.values():
        if list(results.subsets) != list(first.subsets):
            raise EvalInputError(f"{results.path} and {first.path} have other subsets")
        for subset, held in results.subsets.items():
            known = held["protocols"]
            if protocol not in known:
                raise unknown_name(f"protocol of {results.path}", protocol, known)
            same = first.subsets[subset]
            if held["testset"]["sha256"] != same["testset"]["sha256"]:
                raise EvalInputError(
                    f"{results.path} and {first.path} were scored against different annotations of {subset}"
                )
            if known[protocol]["rule"] != same["protocols"][protocol]["rule"]:
                raise EvalInputError(f"{results.path} and {first.path} differ in the rule of {protocol}")
    rule = next(iter(first.subsets.values()))["protocols"][protocol]["rule"]
    return rule, {
        subset: {
            "n": held["n_expected"],
            "context": {
                answer: values[METRIC]["value"]
                for answer, values in held["protocols"][protocol]["context"].items()
                if METRIC in values
            },
        }
        for subset, held in first.subsets.items()
    }


def _differences(
    table: Mapping[tuple[str, str], Results],
    testset: str,
    reference: str,
    protocol: str,
    tables: dict[Path, dict[str, PerClip]],
) -> dict[str, dict[str, Any]]:
    """Return by method and subset how far the reference is above the others, at one budget."""
    here = {method: results for (method, of), results in table.items() if of == testset}
    best = here.pop(reference, None)
    found: dict[str, dict[str, Any]] = {method: {} for method in here}
    for subset in [] if best is None else best.subsets:
        ours = method_clips(best, subset, protocol, tables)  # type: ignore[arg-type]
        pairs = {
            method: compare_pair(method_clips(results, subset, protocol, tables), ours)["metrics"][METRIC]
            for method, results in here.items()
        }
        corrected = holm(np.array([pair["p"] for pair in pairs.values()])).tolist()
        for (method, pair), p in zip(pairs.items(), corrected, strict=True):
            kept = {key: pair[key] for key in ("difference", "ci95", "p")}
            found[method][subset] = {**kept, "p_holm": p}
    return found if best is not None else {}


def _cell(results: Results, differences: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return one of ``cells``."""
    provenance = results.content["provenance"]
    runs = provenance["runs"]
    curve = _validation({seed: run.get("validation") or [] for seed, run in runs.items()})
    return {
        "method": results.name,
        "testset": results.testset,
        "seeds": sorted(int(seed) for seed in runs),
        **{key: provenance.get(key) for key in ("config_digest", "commit", "device")},
        "subsets": {
            subset: {rule: _value(scores) for rule, scores in held["protocols"].items()}
            for subset, held in results.subsets.items()
        },
        "differences": differences or None,
        "seconds": {
            seed: float(run["wall_time_s"])
            for seed, run in runs.items()
            if run.get("wall_time_s") is not None
        },
        "validation": curve,
        "late_sd": None if curve is None else _late_sd(curve),
    }


def _value(scores: Mapping[str, Any]) -> dict[str, Any]:
    pooled = scores["pooled"][METRIC]
    return {
        **{key: pooled[key] for key in ("value", "ci95", "sd_over_seeds")},
        "seeds": {seed: metrics[METRIC]["value"] for seed, metrics in scores["seeds"].items()},
    }


def _validation(by_seed: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any] | None:
    """Return the curves of all seeds, or None if they were not validated at the same steps."""
    steps = {tuple(point["step"] for point in points if METRIC in point) for points in by_seed.values()}
    if len(steps) != 1 or not (common := steps.pop()):
        return None
    return {
        "metric": METRIC,
        "steps": list(common),
        "seeds": {
            seed: [point[METRIC] for point in points if METRIC in point] for seed, points in by_seed.items()
        },
    }


def _late_sd(curve: Mapping[str, Any]) -> dict[str, float] | None:
    """Return each seed's standard deviation over the validations after `LATE` of the steps, two or more.

    Examples
    --------
    >>> _late_sd({"steps": [10, 80, 100], "seeds": {"0": [0.1, 0.5, 0.7]}})
    {'0': 0.1414}
    """
    late = [k for k, step in enumerate(curve["steps"]) if step > LATE * curve["steps"][-1]]
    if len(late) < 2:
        return None
    return {
        seed: round(float(np.std([values[k] for k in late], ddof=1)), 4)
        for seed, values in curve["seeds"].items()
    }
