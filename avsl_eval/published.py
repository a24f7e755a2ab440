"""Published figures, each with the rule that it was computed by and where it stands.

``published.csv`` has one row per figure:

================== ======================================================================================
column             content
================== ======================================================================================
method, trainset   as the source names them
testset            ``vggss``, ``flickr``; ``-heard``, ``-unheard`` (EZ-VSL's classes); ``-extended`` (SLAVC)
n_clips            clips of the published list; empty where the source leaves it open
rule               the protocol here that the method's own evaluator is; `UNSTATED` where no source says it
metric, value      as here; a fraction
source             paper and table, or repository and file
note               what else must be known to read the figure
================== ======================================================================================

A figure belongs beside a score of the same rule only: the rule alone moves cIoU@0.5 on VGG-SS by tens of
points. `figures_beside` therefore gives figures for one rule at a time, and none of unstated rule.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from avsl_eval.errors import EvalInputError, unknown_name
from avsl_eval.layout import Table

UNSTATED = "unstated"
COLUMNS = ("method", "trainset", "testset", "n_clips", "rule", "metric", "value", "source", "note")


@dataclass(frozen=True)
class PublishedFigure:
    """Hold one published figure; the module's table says what the fields are."""

    method: str
    trainset: str
    testset: str
    n_clips: int | None
    rule: str
    metric: str
    value: float
    source: str
    note: str


def published_figures(testset: str | None = None, method: str | None = None) -> tuple[PublishedFigure, ...]:
    """Return published figures.

    Parameters
    ----------
    testset
        Name of a test set, or None for all; a name without suffix includes its subsets and extended set.
    method
        Name of a method or its beginning, in any case and with or without hyphens; None for all.

    Returns
    -------
    tuple of PublishedFigure
        In the order of the file.

    Raises
    ------
    EvalInputError
        If nothing is known of the test set or method; the message names the nearest.

    Examples
    --------
    >>> figure = published_figures("vggss", "ezvsl")[0]
    >>> figure.trainset, figure.rule, figure.value
    ('vggsound-10k', 'ezvsl', 0.3718)
    """
    chosen = _read()
    if testset is not None:
        known = dict.fromkeys(figure.testset for figure in chosen)
        if testset not in known:
            raise unknown_name("test set", testset, known)
        chosen = [f for f in chosen if f.testset == testset or f.testset.startswith(f"{testset}-")]
    if method is not None:
        found = [f for f in chosen if _plain(f.method).startswith(_plain(method))]
        if not found or not _plain(method):
            raise unknown_name("method", method, dict.fromkeys(f.method for f in chosen))
        chosen = found
    return tuple(chosen)


def figures_beside(testset: str, protocols: Sequence[str], metric: str) -> tuple[PublishedFigure, ...]:
    """Return the published figures that may stand beside scores.

    Parameters
    ----------
    testset
        Name of a published test set, exactly.
    protocols
        Rules of the scores.
    metric
        Metric of the scores.

    Returns
    -------
    tuple of PublishedFigure
        Of the test set, the metric and one of the rules.

    Raises
    ------
    EvalInputError
        If nothing was published under any of the rules: figures of another rule are refused.
    """
    of_testset = [f for f in published_figures(testset) if f.testset == testset and f.metric == metric]
    beside = tuple(f for f in of_testset if f.rule in protocols and f.rule != UNSTATED)
    if not beside:
        rules = ", ".join(sorted({f.rule for f in of_testset} - {UNSTATED})) or "none"
        raise EvalInputError(
            f"no figure for {metric} on {testset} was published under {', '.join(protocols)}; rules with "
            f"figures: {rules}. Figures of another rule do not compare: score under one of these"
        )
    return beside


def published_table(figures: Sequence[PublishedFigure]) -> Table:
    """Lay figures out for a person.

    Parameters
    ----------
    figures
        The figures.

    Returns
    -------
    Table
        A block per rule; sources and notes below.
    """
    marks, notes = footnotes(figures)
    header = ("rule", "method", "train set", "test set", "clips", "metric", "percent", "source")
    blocks = tuple(
        tuple(
            (
                *(f.rule, f.method, f.trainset, f.testset, "" if f.n_clips is None else str(f.n_clips)),
                *(f.metric, f"{100 * f.value:.2f}", mark),
            )
            for f, mark in zip(figures, marks, strict=True)
            if f.rule == rule
        )
        for rule in dict.fromkeys(f.rule for f in figures)
    )
    warning = (
        "Figures of different rules or numbers of clips do not compare; 'unstated' ones compare with nothing."
    )
    return Table("Published figures", header, blocks, (warning, *notes), left=4)


def footnotes(figures: Sequence[PublishedFigure]) -> tuple[list[str], list[str]]:
    """Say where figures stand and what must be known to read them.

    Parameters
    ----------
    figures
        The figures.

    Returns
    -------
    marks : list of str
        Of each figure, such as ``[1]``.
    notes : list of str
        A sentence per mark.
    """
    remarks = list(dict.fromkeys((f.source, f.note) for f in figures))
    marks = [f"[{remarks.index((f.source, f.note)) + 1}]" for f in figures]
    notes = [f"[{k}] {source}{f': {note}' if note else ''}." for k, (source, note) in enumerate(remarks, 1)]
    return marks, notes


def _read() -> list[PublishedFigure]:
    text = (files("avsl_eval") / "published.csv").read_text(encoding="utf-8")
    return [
        PublishedFigure(
            method=row["method"],
            trainset=row["trainset"],
            testset=row["testset"],
            n_clips=int(row["n_clips"]) if row["n_clips"] else None,
            rule=row["rule"],
            metric=row["metric"],
            value=float(row["value"]),
            source=row["source"],
            note=row["note"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return "".join(character for character in name.lower() if character.isalnum())
