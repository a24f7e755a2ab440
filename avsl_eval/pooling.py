"""Several seeds of one experiment as one: means over seeds of whatever a scores file holds.

A value of a metric is the mean over seeds; its interval is the bootstrap over clips of each clip's mean over
seeds, so it says how much another draw of clips would change it. ``sd_over_seeds`` says what another training
would do. Of everything else in a scores file (curves, breakdowns, detection, ...) every number is replaced by
its mean over seeds; what all seeds share, such as counts of clips, stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.bootstrap import mean_intervals
from avsl_eval.ciou import METRICS as CIOU_METRICS
from avsl_eval.ciou import per_clip_metrics
from avsl_eval.per_clip import PerClip

Float64 = NDArray[np.float64]

METRICS = (*CIOU_METRICS, "pointing")
"""Metrics that are means over clips of one number per clip."""

SHARED = ("rule", "context", "n_expected")
"""Parts of a protocol's scores that are equal for all seeds."""

SPECIAL = (*SHARED, "metrics", "n_scored", "missing", "tied")
"""Parts that are not pooled number by number."""


def pool(
    by_seed: Mapping[int, Mapping[str, Any]], tables: Mapping[int, PerClip] | None = None
) -> dict[str, Any]:
    """Pool the seeds of one subset under one protocol.

    Parameters
    ----------
    by_seed
        Seed to one of ``protocols`` of a scores file; rule and clips are the same.
    tables
        Seed to the per-clip table; needed if there are several seeds.

    Returns
    -------
    dict
        One of ``protocols`` of a results file, see `avsl_eval.results_file`.
    """
    seeds = dict(sorted(by_seed.items()))
    first = next(iter(seeds.values()))
    missing = list(dict.fromkeys(i for scores in seeds.values() for i in scores["missing"]))
    pooled: dict[str, Any] = {key: first[key] for key in SHARED}
    pooled |= {
        "n_scored": first["n_expected"] - len(missing),
        "missing": missing,
        "pooled": _metrics(seeds, tables),
        "seeds": {str(seed): scores["metrics"] for seed, scores in seeds.items()},
    }
    if "tied" in first:  # of the seed that has most: it is a warning
        pooled["tied"] = max((scores["tied"] for scores in seeds.values()), key=lambda tied: tied["n"])
    others = dict.fromkeys(key for scores in seeds.values() for key in scores if key not in SPECIAL)
    return pooled | {
        key: mean_of([scores[key] for scores in seeds.values() if key in scores]) for key in others
    }


def _metrics(
    seeds: Mapping[int, Mapping[str, Any]], tables: Mapping[int, PerClip] | None
) -> dict[str, dict[str, Any]]:
    names = list(next(iter(seeds.values()))["metrics"])
    values = {name: [scores["metrics"][name]["value"] for scores in seeds.values()] for name in names}
    several = len(seeds) > 1
    bounds = _intervals(tables) if several and tables else {}
    only = next(iter(seeds.values()))["metrics"]
    return {
        name: {
            "value": float(np.mean(values[name])),
            "ci95": bounds.get(name) if several else only[name].get("ci95"),
            "sd_over_seeds": float(np.std(values[name], ddof=1)) if several else None,
            "n_seeds": len(seeds),
        }
        for name in names
    }


def _intervals(tables: Mapping[int, PerClip]) -> dict[str, list[float]]:
    """Bootstrap each clip's mean over seeds."""
    seeds = [clip_values(table) for table in tables.values()]
    means = np.column_stack([np.mean([values[name] for values in seeds], axis=0) for name in seeds[0]])
    return dict(zip(seeds[0], mean_intervals(means).tolist(), strict=True))


def clip_values(table: PerClip) -> dict[str, Float64]:
    """Return the numbers whose means over clips are the metrics.

    Parameters
    ----------
    table
        Of one protocol.

    Returns
    -------
    dict
        Metric (`METRICS`) to float64 [N], one number per sounding clip.
    """
    columns = per_clip_metrics(table.ciou[table.sounding]).T
    pointing = np.nan_to_num(table.pointing[table.sounding], nan=0.0)
    return dict(zip(METRICS, [*columns, pointing], strict=True))


def agrees(table: PerClip, metrics: Mapping[str, Mapping[str, Any]]) -> bool:
    """Check that a table and a scores file come from one evaluation.

    Parameters
    ----------
    table
        Of one protocol.
    metrics
        What the scores file says: metric to ``{"value"}``.

    Returns
    -------
    bool
        Whether the means over the table are the stated values.
    """
    found = clip_values(table)
    return all(
        metric in found and math.isclose(found[metric].mean(), stated["value"], abs_tol=1e-9)
        for metric, stated in metrics.items()
    )


def mean_of(trees: Sequence[Any]) -> Any:
    """Average nested values of one shape.

    Parameters
    ----------
    trees
        What the seeds have in one place.

    Returns
    -------
    Any
        What all share stays as it is, numbers are averaged, mappings and lists of equal shape element by
        element; of anything else the first seed's.

    Examples
    --------
    >>> mean_of([{"n": 3, "ap": 0.25, "by": [1, 2]}, {"n": 3, "ap": 0.75, "by": [1, 4]}])
    {'n': 3, 'ap': 0.5, 'by': [1, 3.0]}
    """
    first = trees[0]
    if all(tree == first for tree in trees[1:]):
        return first
    if all(isinstance(tree, int | float) and not isinstance(tree, bool) for tree in trees):
        return float(np.mean(trees))
    if all(isinstance(tree, Mapping) and tree.keys() == first.keys() for tree in trees):
        return {key: mean_of([tree[key] for tree in trees]) for key in first}
    if all(isinstance(tree, list) and len(tree) == len(first) for tree in trees):
        return [mean_of(list(items)) for items in zip(*trees, strict=True)]
    return first
