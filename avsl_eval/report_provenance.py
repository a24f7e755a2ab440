"""The report's account of itself: warnings, rules in full, and where every score comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from avsl_eval.errors import first_few
from avsl_eval.report_tables import table
from avsl_eval.report_text import escape, name
from avsl_eval.report_view import Page, Source

_RUN_HEADS = (
    "Method",
    "Seed",
    "Commit",
    "Config",
    "Checkpoint",
    "Device",
    "Time",
    "Steps",
    "Clips used",
    "Excluded",
)


def warnings_box(page: Page) -> str:
    """Lay out what a reader has to know first.

    Parameters
    ----------
    page
        The page; equal sentences of several methods are said once.

    Returns
    -------
    str
        HTML; empty if there is nothing to warn of.
    """
    if not page.warnings:
        return ""
    holders: dict[str, list[str]] = {}
    for whose, sentence in page.warnings:
        holders.setdefault(sentence, [])
        if whose not in holders[sentence]:
            holders[sentence].append(whose)
    items = "".join(
        f"<li><b>{', '.join(name(whose) for whose in names)}</b>: {escape(sentence)}</li>"
        for sentence, names in holders.items()
    )
    return (
        '<section id="warnings" class="warnings"><h2>Before you read the scores</h2>'
        f"<ul>{items}</ul></section>"
    )


def rule_table(rule: Mapping[str, Any], key: str) -> str:
    """Lay out all fields of a rule.

    Parameters
    ----------
    rule
        As a scores file embeds it.
    key
        Id of the table.

    Returns
    -------
    str
        HTML, a fold.
    """
    rows = [
        f'<tr><th scope="row">{escape(field)}</th><td>{escape(_plain(value))}</td></tr>'
        for field, value in rule.items()
    ]
    laid = table(
        key, "All fields of the rule, as the scores files have them", ("Field", "Value"), rows, kind="fields"
    )
    return f"<details><summary>The rule in full</summary>{laid}</details>"


def _plain(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, list | tuple):
        return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)


def provenance(page: Page) -> str:
    """Lay out where every score comes from.

    Parameters
    ----------
    page
        The page.

    Returns
    -------
    str
        HTML: scores files with their inputs' digests, and one row per training where there are records.
    """
    seeds = any(source.seed is not None for source in page.sources)
    heads = ("Method", *(["Seed"] if seeds else []), "Subset", "Scores", "Predictions", "Annotations")
    files = table(
        "sources",
        "Scores files and what they were computed from",
        (*heads, "Computed by"),
        [_source_row(source, seeds) for source in page.sources],
        kind="fields",
    )
    return f"<details open><summary>Inputs with SHA-256</summary>{files}</details>{_runs(page)}"


def _source_row(source: Source, seeds: bool) -> str:
    number = "" if source.seed is None else source.seed
    seed = f'<td data-v="{number}">{number}</td>' if seeds else ""
    computed = ", ".join(f"{what} {version}" for what, version in source.versions.items())
    inputs = "".join(
        f"<td>{_file(source.inputs.get(kind, {}))}</td>" for kind in ("predictions", "annotations")
    )
    return (
        f'<tr><th scope="row">{name(source.method)}</th>{seed}<td>{name(source.subset)}</td>'
        f"<td><code>{escape(source.scores)}</code></td>{inputs}<td>{escape(computed)}</td></tr>"
    )


def _file(entry: Mapping[str, Any]) -> str:
    path, digest = entry.get("path"), entry.get("sha256")
    shown = f"<code>{escape(path)}</code>" if path else "from memory"
    return f"{shown} <code>sha256 {escape(digest)}</code>" if digest else shown


def _runs(page: Page) -> str:
    rows = [
        _run_row(method, seed, run)
        for method, runs in page.runs.items()
        for seed, run in sorted(runs.items(), key=lambda item: int(item[0]))
    ]
    if not rows:
        return ""
    laid = table("runs", "Trainings, one row each", _RUN_HEADS, rows, kind="fields")
    return f"<details open><summary>Trainings</summary>{laid}</details>"


def _run_row(method: str, seed: str, run: Mapping[str, Any]) -> str:
    clips = run.get("clips")
    clips = clips if isinstance(clips, Mapping) else {}
    time_s = run.get("wall_time_s")
    cells: Sequence[str] = (
        escape(seed),
        _digest(run.get("commit")),
        _digest(run.get("config_digest")),
        _digest(run.get("checkpoint_sha256")),
        _text(run.get("device")),
        f"{time_s / 60:.1f} min" if isinstance(time_s, int | float) else "\u2013",
        _text(run.get("steps")),
        _text(clips.get("used")),
        _excluded(clips.get("excluded")),
    )
    return f'<tr><th scope="row">{name(method)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _text(value: object) -> str:
    return "\u2013" if value is None else escape(value)


def _digest(value: object) -> str:
    """Show the beginning of a digest, and whether a commit was dirty; the whole one as its title."""
    if value is None:
        return "\u2013"
    text = str(value)
    dirty = " (changed)" if "dirty" in text else ""
    return f'<code title="{escape(text)}">{escape(text[:10])}</code>{dirty}'


def _excluded(excluded: object) -> str:
    """Count excluded clips by reason."""
    if not isinstance(excluded, Mapping):
        return _text(excluded)
    if not excluded:
        return "0"
    reasons = Counter(str(reason) for reason in excluded.values())
    lines = "".join(f"<li>{escape(reason)}: {count}</li>" for reason, count in reasons.most_common())
    ids = escape(first_few(map(str, excluded), 20))
    return f"<details><summary>{len(excluded)}</summary><ul>{lines}</ul><code>{ids}</code></details>"
