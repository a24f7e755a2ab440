"""Results side by side: which rows a comparison has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avsl_eval.errors import EvalInputError
from avsl_eval.report_text import REFERENCE_NAMES
from avsl_eval.results_file import Results


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
    """Hold the methods and references of one subset, `n_silent` of whose `n_expected` clips are silent."""

    subset: str
    n_expected: int
    n_silent: int
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
    sizes = {r.subsets[subset]["n_expected"] for r in holders}
    digests = {r.subsets[subset]["testset"]["sha256"] for r in holders}
    if len(sizes) > 1 or len(digests) > 1:
        raise EvalInputError(
            f"subset {subset} was scored against different annotations, of "
            f"{' and '.join(map(str, sorted(sizes)))} clips; score all against the same file"
        )
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
    rows = [
        Row(r.name, True, {p: s["pooled"] for p, s in r.subsets[subset]["protocols"].items()})
        for r in holders
    ]
    rows += [
        Row(text, False, {p: answers[name] for p, answers in context.items() if name in answers})
        for name, text in REFERENCE_NAMES.items()
        if any(name in answers for answers in context.values())
    ]
    n_silent = holders[0].subsets[subset]["testset"]["n_silent"]
    return Comparison(subset, sizes.pop(), n_silent, tuple(rules), rules, tuple(rows))
