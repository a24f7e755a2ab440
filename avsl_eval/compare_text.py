"""A comparison as tables for people; `avsl_eval.compare` says what the numbers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avsl_eval.errors import unknown_name
from avsl_eval.layout import Table
from avsl_eval.pooling import METRICS

N_SHOWN = 5
"""Clips and classes that are shown in each direction; the file has more."""


def comparison_tables(
    content: Mapping[str, Any], metrics: Sequence[str] | None = None, details: bool | None = None
) -> list[Table]:
    """Lay a comparison out.

    Parameters
    ----------
    content
        What `avsl_eval.compare.compare` returned.
    metrics
        Which metrics; None for all.
    details
        Whether to show where methods differ; None: for two methods under one rule, else there is too much.

    Returns
    -------
    list of Table
        For each subset and protocol one of tests, and those of the details.

    Raises
    ------
    EvalInputError
        If there is no such metric.
    """
    for metric in metrics or ():
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
    metrics = metrics or METRICS
    if details is None:
        n_rules = len({name for by_protocol in content["subsets"].values() for name in by_protocol})
        details = len(content["methods"]) == 2 and n_rules == 1
    tables: list[Table] = []
    for subset, by_protocol in content["subsets"].items():
        for found in by_protocol.values():
            rule = found["rule"]
            where = f"{content['testset']}, {subset}: rule {rule['name']} v{rule['version']}"
            summary = f"{rule['name']}: {rule['summary']}."
            tables.append(_tests(found["pairs"], metrics, where, summary, content["inference"]))
            if details:
                for pair in found["pairs"]:
                    tables += _differences(pair, metrics[0], where)
    return tables


def _tests(
    pairs: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    where: str,
    summary: str,
    inference: Mapping[str, Any],
) -> Table:
    header = (
        "metric",
        "first",
        "second",
        "clips",
        "first, %",
        "second, %",
        "difference",
        "95 % interval",
        "p",
    )
    several = len(pairs) > 1
    blocks = tuple(tuple(_test_row(pair, metric, several) for pair in pairs) for metric in metrics)
    notes = [
        summary,
        "Difference: second minus first, in points; interval and p are over the clips that both predicted.",
    ]
    if several:
        notes.append(f"p (Holm): corrected by {inference['correction']}.")
    for pair in pairs:
        left_out = pair["not_common"]
        if left_out["n"]:
            notes.append(
                f"{pair['first']} and {pair['second']}: {left_out['n']} clips are not common and left out "
                f"({left_out['only_first']} only {pair['first']} predicted, {left_out['only_second']} only "
                f"{pair['second']}, {left_out['neither']} neither)."
            )
    return Table(where, (*header, "p (Holm)") if several else header, blocks, tuple(notes), left=3)


def _test_row(pair: Mapping[str, Any], metric: str, several: bool) -> tuple[str, ...]:
    found = pair["metrics"][metric]
    low, high = found["ci95"]
    row = (
        *(metric, pair["first"], pair["second"], str(pair["n"])),
        *(_percent(found["first"]), _percent(found["second"]), _points(found["difference"])),
        *(f"[{_points(low)}, {_points(high)}]", _p(found["p"])),
    )
    return (*row, _p(found["p_holm"])) if several else row


def _differences(pair: Mapping[str, Any], metric: str, where: str) -> Iterator[Table]:
    names = (pair["first"], pair["second"])
    title = f"{where}, where {names[1]} differs from {names[0]}"
    header = (f"{metric} by", "clips", f"{names[0]}, %", f"{names[1]}, %", "difference")
    blocks = [
        tuple((group["name"], str(group["n"]), *_cells(group["metrics"][metric], 100, 1)) for group in groups)
        for groups in (pair["by_size"], _both_ends(pair["by_class"], metric))
        if groups
    ]
    hidden = len(pair["by_class"]) - len(_both_ends(pair["by_class"], metric))
    notes = ["Nothing here is tested. Classes: those that add most to the difference."]
    if hidden:
        notes.append(f"{hidden} classes are not shown; --out writes all.")
    yield Table(f"{title}, by size and class", header, tuple(blocks), tuple(notes))
    directions = [pair["clips"]["second_better"], pair["clips"]["first_better"]]
    rows = tuple(
        tuple((c["clip_id"], c["label"], *_cells(c, 1, 3)) for c in clips[:N_SHOWN])
        for clips in directions
        if clips
    )
    header = ("clip", "class", *names, "cIoU difference")
    yield Table(f"{title}, by clip", header, rows, ("Nothing here is tested.",), left=2)


def _both_ends(groups: Sequence[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
    """Return the classes that add most for the second method, then those for the first."""

    def added(group: Mapping[str, Any]) -> float:
        return float(group["n"] * group["metrics"][metric]["difference"])

    ranked = sorted(groups, key=added, reverse=True)
    ahead = [group for group in ranked if added(group) > 0][:N_SHOWN]
    behind = [group for group in ranked[::-1] if added(group) < 0][:N_SHOWN]
    return [*ahead, *behind]


def _cells(found: Mapping[str, Any], scale: float, digits: int) -> tuple[str, str, str]:
    return (
        f"{scale * found['first']:.{digits}f}",
        f"{scale * found['second']:.{digits}f}",
        f"{scale * found['difference']:+.{digits}f}",
    )


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
