"""Results side by side: which rows a comparison has, and the same as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avsl_eval.collect import Results
from avsl_eval.errors import EvalInputError

REFERENCE_NAMES = {
    "ceiling": "ceiling of the rule",
    "center_prior": "centred disc",
    "whole_image": "whole image",
}
"""What the context answers are called where people read."""


@dataclass(frozen=True)
class Row:
    """Hold one line of a comparison.

    Parameters
    ----------
    name
        Of the method, or of a reference answer.
    is_method
        Whether it is a method.
    cells
        Protocol to metric to ``{"value", ...}``; methods have ``ci95`` too.
    """

    name: str
    is_method: bool
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Comparison:
    """Hold the methods and references of one subset."""

    subset: str
    n_expected: int
    protocols: tuple[str, ...]
    rules: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...]


def compare_side_by_side(results: Sequence[Results]) -> list[Comparison]:
    """Lay results of one test set side by side.

    Parameters
    ----------
    results
        One per method.

    Returns
    -------
    list of Comparison
        One per subset, in the order of the first results. Protocols that only some results have are included.

    Raises
    ------
    EvalInputError
        If they are of different test sets, a name occurs twice, or a subset's clips or reference answers
        differ.
    """
    if len({r.testset for r in results}) != 1:
        raise EvalInputError(
            f"results are of different test sets: {', '.join(sorted({r.testset for r in results}))}"
        )
    names = [r.name for r in results]
    if len(set(names)) < len(names):
        raise EvalInputError(f"two results have the same name; the names are {', '.join(names)}")
    return [_compare(subset, results) for subset in dict.fromkeys(s for r in results for s in r.subsets)]


def _compare(subset: str, results: Sequence[Results]) -> Comparison:
    holders = [r for r in results if subset in r.subsets]
    rules: dict[str, Any] = {}
    context: dict[str, Any] = {}
    for r in holders:
        for protocol, scores in r.subsets[subset]["protocols"].items():
            rule = {key: value for key, value in scores["rule"].items() if key != "missing"}
            same = rules.setdefault(protocol, rule) == rule
            if not (same and context.setdefault(protocol, scores["context"]) == scores["context"]):
                raise EvalInputError(
                    f"{r.name} and {holders[0].name} were scored by different rules or on different clips, "
                    f"subset {subset}, protocol {protocol}; score them again"
                )
    sizes = {r.subsets[subset]["n_expected"] for r in holders}
    if len(sizes) > 1:
        raise EvalInputError(
            f"subset {subset} has {sorted(sizes)} clips in different results; score them again"
        )
    rows = [
        Row(r.name, True, {p: s["pooled"] for p, s in r.subsets[subset]["protocols"].items()})
        for r in holders
    ]
    rows += [
        Row(text, False, {p: answers[name] for p, answers in context.items()})
        for name, text in REFERENCE_NAMES.items()
    ]
    return Comparison(subset, sizes.pop(), tuple(rules), rules, tuple(rows))


def summary(results: Sequence[Results], metric: str = "ciou@0.5") -> str:
    """Lay results out as plain text.

    Parameters
    ----------
    results
        One per method, of one test set.
    metric
        Which metric.

    Returns
    -------
    str
        A table per subset: percent with 95 % intervals, references below the methods.
    """
    return "\n\n".join(_table(comparison, metric) for comparison in compare_side_by_side(results))


def _table(comparison: Comparison, metric: str) -> str:
    grid = [
        [f"{comparison.subset} ({comparison.n_expected} clips), {metric} in percent", *comparison.protocols]
    ]
    grid += [
        [row.name, *(_cell(row, protocol, metric) for protocol in comparison.protocols)]
        for row in comparison.rows
    ]
    first = max(len(line[0]) for line in grid)
    others = max(len(cell) for line in grid for cell in line[1:])
    lines = [line[0].ljust(first) + "".join("  " + cell.rjust(others) for cell in line[1:]) for line in grid]
    lines = [line.rstrip() for line in lines]
    rule = "-" * len(lines[0])
    n_methods = sum(row.is_method for row in comparison.rows)
    return "\n".join([lines[0], rule, *lines[1 : 1 + n_methods], rule, *lines[1 + n_methods :]])


def _cell(row: Row, protocol: str, metric: str) -> str:
    if protocol not in row.cells:
        return "-"
    found = row.cells[protocol][metric]
    value = f"{100 * found['value']:.1f}"
    # Blanks keep the values of references under those of methods.
    return (
        f"{value} [{100 * found['ci95'][0]:4.1f}, {100 * found['ci95'][1]:4.1f}]"
        if row.is_method
        else value + " " * 13
    )
