"""The report's tables and interval drawings of scores."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from avsl_eval.ciou import METRICS
from avsl_eval.summary import REFERENCE_NAMES, Comparison, Row

METRIC_NAMES = {"ciou@0.5": "cIoU@0.5", "auc": "AUC", "mean_iou": "mean cIoU"}

# Lengths of a drawing, in its own unit; x runs from 0 to 100 percent.
_LEFT, _SCALE, _ROW, _TOP = 8.0, 2.4, 30.0, 4.0
_REFERENCE_DASHES = {"ceiling": "", "center_prior": "5 3", "whole_image": "1.5 3"}
_METHOD_COLOURS = ("#0b6e8a", "#c2410c", "#5b3fa0", "#3f7d20", "#a8174f", "#7a5c00")


def scores_section(comparison: Comparison, absences: str) -> str:
    """Lay out the scores of one subset.

    Parameters
    ----------
    comparison
        Methods and references under each protocol.
    absences
        HTML that says which predictions are missing; may be empty.

    Returns
    -------
    str
        HTML: drawings and table of cIoU@0.5, and the other metrics folded away.
    """
    first, *others = METRICS
    folded = "".join(_table(comparison, metric) for metric in others)
    bars = "".join(_bars(comparison, protocol, first) for protocol in comparison.protocols)
    names = " and ".join(METRIC_NAMES[metric] for metric in others)
    return (
        f'<h3>{html.escape(comparison.subset)} <span class="count">{comparison.n_expected} '
        f"clips</span></h3>{absences}"
        f"{_table(comparison, first)}"
        "<div "
        f'class="bars">{bars}</div>'
        f"{_bars_key()}"
        f"<details><summary>{names}</summary>{folded}</details>"
    )


def _table(comparison: Comparison, metric: str) -> str:
    heads = "".join(
        "<th "
        f'scope="col">{html.escape(protocol)}<small>{html.escape(str(comparison.rules[protocol]["summary"]))}</small></th>'
        for protocol in comparison.protocols
    )
    methods = [row for row in comparison.rows if row.is_method]
    best = {
        protocol: max(
            (row.cells[protocol][metric]["value"] for row in methods if protocol in row.cells), default=None
        )
        for protocol in comparison.protocols
    }
    rows = []
    for k, row in enumerate(comparison.rows):
        kind = (
            "" if row.is_method else ' class="reference first"' if k == len(methods) else ' class="reference"'
        )
        cells = "".join(_cell(row, protocol, metric, best[protocol]) for protocol in comparison.protocols)
        rows.append(f'<tr{kind}><th scope="row">{html.escape(row.name)}</th>{cells}</tr>')
    label = f"{METRIC_NAMES[metric]} in percent, {comparison.subset}"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label)}"><table '
        'class="scores">'
        f'<thead><tr><th scope="col">{METRIC_NAMES[metric]}, '
        f"%</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _cell(row: Row, protocol: str, metric: str, best: float | None) -> str:
    if protocol not in row.cells:
        return "<td>not scored</td>"
    found: Mapping[str, Any] = row.cells[protocol][metric]
    value = f'<span class="value">{100 * found["value"]:.1f}</span>'
    if not row.is_method:
        return f"<td>{value}</td>"
    low, high = (100 * bound for bound in found["ci95"])
    seeds = ""
    if found["n_seeds"] > 1:
        seeds = (
            f'<span class="interval">{found["n_seeds"]} seeds, sd {100 * found["sd_over_seeds"]:.1f}</span>'
        )
    kind = ' class="best"' if found["value"] == best else ""
    return f'<td{kind}>{value}<span class="interval">[{low:.1f}, {high:.1f}]</span>{seeds}</td>'


def _bars(comparison: Comparison, protocol: str, metric: str) -> str:
    """Draw the intervals of all methods under one rule, over the references."""
    methods = [row for row in comparison.rows if row.is_method and protocol in row.cells]
    bottom = _TOP + _ROW * len(methods) + 4
    parts = [
        f'<line x1="{_x(tick)}" y1="{_TOP}" x2="{_x(tick)}" y2="{bottom}" stroke="#e3e7ec"/>'
        f'<text x="{_x(tick)}" y="{bottom + 13}" text-anchor="middle">{tick}</text>'
        for tick in (0, 25, 50, 75, 100)
    ]
    said = []
    for key, name in REFERENCE_NAMES.items():
        value = (
            100 * next(row for row in comparison.rows if row.name == name).cells[protocol][metric]["value"]
        )
        said.append(f"{name} {value:.1f}")
        parts.append(
            f'<line x1="{_x(value)}" y1="{_TOP}" x2="{_x(value)}" y2="{bottom}" stroke="#566172" '
            'stroke-width="1.4" '
            f'stroke-dasharray="{_REFERENCE_DASHES[key]}"/>'
        )
    for k, row in enumerate(methods):
        found = row.cells[protocol][metric]
        value, (low, high) = 100 * found["value"], (100 * bound for bound in found["ci95"])
        said.append(f"{row.name} {value:.1f}")
        y, colour = _TOP + _ROW * k + 22, _METHOD_COLOURS[k % len(_METHOD_COLOURS)]
        parts.append(
            f'<text class="name" x="{_LEFT}" y="{y - 9}" paint-order="stroke" stroke="#fff" stroke-width="3">'
            f"{html.escape(row.name)}</text>"
            f'<line x1="{_x(low)}" y1="{y}" x2="{_x(high)}" y2="{y}" stroke="{colour}" stroke-width="5" '
            'stroke-opacity=".35"/>'
            f'<circle cx="{_x(value)}" cy="{y}" r="4" fill="{colour}"/>'
        )
    label = html.escape(f"{METRIC_NAMES[metric]} in percent under {protocol}: {'; '.join(said)}")
    return (
        f"<figure><figcaption>{html.escape(protocol)}</figcaption>"
        f'<svg viewBox="0 0 264 {bottom + 17:.0f}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg></figure>'
    )


def _x(percent: float) -> str:
    return f"{_LEFT + _SCALE * percent:.1f}"


def _bars_key() -> str:
    items = "".join(
        '<li><svg viewBox="0 0 38 16" aria-hidden="true"><line x1="19" y1="0" x2="19" y2="16" '
        'stroke="#566172" '
        f'stroke-width="1.6" stroke-dasharray="{dashes}"/></svg>{html.escape(REFERENCE_NAMES[key])}</li>'
        for key, dashes in _REFERENCE_DASHES.items()
    )
    return (
        '<ul class="legend"><li><svg viewBox="0 0 38 16" aria-hidden="true"><line x1="4" y1="8" x2="34" '
        'y2="8" stroke="#0b6e8a" '
        'stroke-width="5" stroke-opacity=".35"/><circle cx="19" cy="8" r="4" fill="#0b6e8a"/></svg>score '
        "and 95 % interval</li>"
        f"{items}</ul>"
    )
