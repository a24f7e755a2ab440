"""Tables of scores for papers and terminals: a column per rule, methods above what they are read against.

Every header names its rule: scores of different rules never share a column. Published figures, where asked
for, stand in a block of their own, each in the column of the rule that it was published under.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.layout import Table
from avsl_eval.protocol_table import SUITES
from avsl_eval.published import PublishedFigure, figures_beside, footnotes
from avsl_eval.results_file import Results
from avsl_eval.summary import Comparison, Row, compare_side_by_side

RULES_ABREAST = 4
"""Columns of one table; more rules make more tables."""


def score_tables(
    results: Sequence[Results],
    metric: str = "ciou@0.5",
    protocols: Sequence[str] | None = None,
    *,
    published: str | None = None,
    digits: int = 2,
) -> list[Table]:
    """Lay scores of one metric out.

    Parameters
    ----------
    results
        One per method, of one test set.
    metric
        Which metric.
    protocols
        Names of protocols or suites, or None for all that some method was scored under.
    published
        Name of a published test set whose figures are added, such as ``vggss``; None for none.
    digits
        Decimals of percent.

    Returns
    -------
    list of Table
        One per subset and `RULES_ABREAST` rules: percent with 95 % intervals, references below the methods.

    Raises
    ------
    EvalInputError
        If results do not belong together, a name is unknown, or no figure was published under these rules.
    """
    tables = []
    for comparison in compare_side_by_side(results):
        rules = _rules(comparison, protocols)
        figures = figures_beside(published, rules, metric) if published else ()
        for start in range(0, len(rules), RULES_ABREAST):
            abreast = rules[start : start + RULES_ABREAST]
            tables.append(_table(results[0].testset, comparison, abreast, metric, figures, digits))
    return tables


def _rules(comparison: Comparison, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return list(comparison.protocols)
    wanted: list[str] = []
    for name in names:
        if name in comparison.protocols:
            wanted.append(name)
        elif name in SUITES:
            wanted += [p for p in SUITES[name].protocols if p in comparison.protocols]
        else:
            raise unknown_name("protocol of these scores", name, comparison.protocols)
    if not wanted:
        raise EvalInputError(
            f"nothing was scored under {first_few(names)}; scored were {', '.join(comparison.protocols)}"
        )
    return list(dict.fromkeys(wanted))


def _table(
    testset: str,
    comparison: Comparison,
    rules: Sequence[str],
    metric: str,
    figures: Sequence[PublishedFigure],
    digits: int,
) -> Table:
    known = dict.fromkeys(m for row in comparison.rows for cells in row.cells.values() for m in cells)
    if metric not in known:
        raise unknown_name("metric of these scores", metric, known)
    methods = [row for row in comparison.rows if row.is_method]
    references = [row for row in comparison.rows if not row.is_method]
    blocks = [
        tuple((row.name, *(_cell(row, rule, metric, digits) for rule in rules)) for row in rows)
        for rows in (methods, references)
    ]
    notes = [
        "Percent, with 95 % intervals over clips in brackets"
        + ("; ± is the standard deviation over seeds." if _has_seeds(methods, rules, metric) else ".")
    ]
    beside = [figure for figure in figures if figure.rule in rules]
    if beside:
        rows, sources = _published_block(beside, rules, comparison.n_expected, digits)
        blocks.append(rows)
        notes += sources
    notes += [f"{rule}: {comparison.rules[rule]['summary']}." for rule in rules]
    header = tuple(f"{rule} v{comparison.rules[rule]['version']}" for rule in rules)
    clips = f"{comparison.n_expected} clips"
    if comparison.n_silent:
        clips = f"{comparison.n_expected - comparison.n_silent} of {clips}, in which something sounds"
    caption = f"{testset}, {comparison.subset}: {metric} under {', '.join(rules)} ({clips})"
    return Table(caption, ("method", *header), tuple(blocks), tuple(notes))


def _has_seeds(rows: Sequence[Row], rules: Sequence[str], metric: str) -> bool:
    cells = [row.cells[rule].get(metric) for row in rows for rule in rules if rule in row.cells]
    return any(cell and cell["n_seeds"] > 1 for cell in cells)


def _cell(row: Row, rule: str, metric: str, digits: int) -> str:
    found: Any = row.cells.get(rule, {}).get(metric)
    if found is None:
        return "-"
    value = f"{100 * found['value']:.{digits}f}"
    if not row.is_method:
        # Blanks keep the values of references under those of methods in plain text.
        return value + " " * (2 * (digits + 3) + 5)
    if found["n_seeds"] > 1:
        value += f" ± {100 * found['sd_over_seeds']:.{digits}f}"
    if found["ci95"] is None:
        return value
    low, high = (f"{100 * bound:{digits + 3}.{digits}f}" for bound in found["ci95"])
    return f"{value} [{low}, {high}]"


def _published_block(
    figures: Sequence[PublishedFigure], rules: Sequence[str], n_clips: int, digits: int
) -> tuple[tuple[tuple[str, ...], ...], list[str]]:
    """Return the rows of published figures, and the notes that say where they come from."""
    marks, notes = footnotes(figures)
    rows = []
    for figure, mark in zip(figures, marks, strict=True):
        name = f"published: {figure.method}, {figure.trainset} {mark}"
        padding = " " * (2 * (digits + 3) + 5)
        rows.append(
            (name, *(f"{100 * figure.value:.{digits}f}{padding}" if figure.rule == r else "-" for r in rules))
        )
    sizes = sorted({figure.n_clips for figure in figures if figure.n_clips is not None})
    if sizes != [n_clips]:
        notes.append(
            f"Published figures are over {' or '.join(map(str, sizes))} clips, the scores above over "
            f"{n_clips}: not the same clips."
        )
    return tuple(rows), notes
