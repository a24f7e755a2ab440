"""The report's tables: all protocols at a glance, every metric of one panel, and its parts by size and class.

A cell that sorts by something else than its text says so in ``data-v``. Tables are whole without the script;
it only sorts rows and hides those that a filter does not match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from avsl_eval.errors import first_few
from avsl_eval.report_charts import N_COLOURS
from avsl_eval.report_text import REFERENCE_MEANINGS, REFERENCE_NAMES, escape, metric_name, name, percent
from avsl_eval.report_view import Estimate, Group, Method, Panel

_FILTER_FROM = 8
"""Rows from which on a table gets a box to filter them."""

_PART_NAMES = {"class": "Class", "size": "Size of the sounding area", "n_boxes": "Number of boxes"}


def table(
    key: str,
    label: str,
    heads: Sequence[str],
    body: Sequence[str],
    foot: Sequence[str] = (),
    kind: str = "",
) -> str:
    """Lay out a table that can be sorted, and filtered if it is long.

    Parameters
    ----------
    key
        Its id, unique on the page.
    label
        What it is, plain text.
    heads
        HTML of the columns' heads.
    body, foot
        HTML of rows; those of `foot` stay below.
    kind
        A class for the style.

    Returns
    -------
    str
        HTML; scrolls by itself where the page is narrow.
    """
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    control = ""
    if len(body) >= _FILTER_FROM:
        control = (
            f'<p class="controls" hidden><label>Filter rows <input type="search" data-filter="{key}" '
            f'autocomplete="off"></label> <output for="{key}"></output></p>'
        )
    below = f'<tbody class="fixed">{"".join(foot)}</tbody>' if foot else ""
    return (
        f'<p class="caption" id="{key}-label">{escape(label)}</p>{control}'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{key}-label">'
        f'<table id="{key}" class="sortable {kind}" aria-labelledby="{key}-label">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>{below}</table></div>"
    )


def overview(panels: Sequence[Panel], names: Sequence[str], anchors: Mapping[str, str]) -> str:
    """Show the first metric of every method under every protocol.

    Parameters
    ----------
    panels
        All of them.
    names
        The methods'.
    anchors
        Protocol to the id of its section.

    Returns
    -------
    str
        HTML.
    """
    several = len({panel.subset for panel in panels}) > 1
    references = {r.key: r.name for panel in panels for r in panel.references}
    heads = [
        "Protocol",
        *(["Subset"] if several else []),
        "Metric",
        *(name(n) for n in names),
        *(f"<span class=soft>{escape(text)}</span>" for text in references.values()),
    ]
    rows = []
    for panel in panels:
        metric = panel.metrics()[0]
        cells = [estimate_cell(m.metrics.get(metric) if m else None) for m in panel.methods]
        known = {r.key: r.metrics.get(metric) for r in panel.references}
        cells += [estimate_cell(known.get(key), "soft") for key in references]
        subset = f"<td>{name(panel.subset)}</td>" if several else ""
        rows.append(
            f'<tr><th scope="row"><a href="#{anchors[panel.protocol]}">{escape(panel.protocol)}</a></th>'
            f"{subset}<td>{escape(metric_name(metric))}</td>{''.join(cells)}</tr>"
        )
    return table(
        "overview-scores",
        "Percent, with 95 % intervals over clips; every row is a rule of its own",
        heads,
        rows,
        kind="scores",
    )


def estimate_cell(found: Estimate | None, kind: str = "") -> str:
    """Lay out one value with its interval and what seeds did.

    Parameters
    ----------
    found
        The value, or None.
    kind
        A class for the style.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> estimate_cell(Estimate(0.5))
    '<td data-v="0.5"><span class="value">50.0</span></td>'
    """
    style = f' class="{kind}"' if kind else ""
    if found is None:
        return f'<td{style} data-v="">\u2013</td>'
    lines = f'<span class="value">{percent(found.value)}</span>'
    if found.low is not None and found.high is not None:
        lines += f' <span class="interval">[{percent(found.low)}, {percent(found.high)}]</span>'
    if len(found.seeds) > 1:
        spread = ", ".join(percent(seed) for seed in found.seeds)
        lines += f' <span class="interval seeds">{len(found.seeds)} seeds: {spread}</span>'
    return f'<td{style} data-v="{found.value:.6g}">{lines}</td>'


def panel_table(panel: Panel, key: str) -> str:
    """Show every metric of one panel, references below.

    Parameters
    ----------
    panel
        One subset under one protocol.
    key
        Id of the table.

    Returns
    -------
    str
        HTML.
    """
    metrics = panel.metrics()
    ties = any(m.tied_share is not None for _, m in panel.scored())
    heads = ["Method", *(f"{escape(metric_name(m))}, %" for m in metrics), "Clips scored"]
    heads += ["Tied maps, %<small>over 1 % of pixels at the threshold</small>"] if ties else []
    rows = []
    for _, method in panel.scored():
        cells = [estimate_cell(method.metrics.get(metric)) for metric in metrics]
        cells.append(f'<td data-v="{method.n_scored}">{method.n_scored} of {panel.n_clips}</td>')
        if ties:
            cells.append(_tied(method.tied_share))
        rows.append(f'<tr><th scope="row">{name(method.name)}</th>{"".join(cells)}</tr>')
    foot = [
        f'<tr class="reference"><th scope="row" title="{escape(REFERENCE_MEANINGS.get(r.key, ""))}">'
        f"{escape(r.name)}</th>{''.join(estimate_cell(r.metrics.get(m)) for m in metrics)}"
        f"{'<td></td>' * (1 + ties)}</tr>"
        for r in panel.references
    ]
    return table(key, f"Every metric, {panel.title}, percent", heads, rows, foot, "scores")


def _tied(share: float | None) -> str:
    return '<td data-v="">\u2013</td>' if share is None else f'<td data-v="{share:.6g}">{percent(share)}</td>'


def breakdown_tables(panel: Panel, key: str) -> str:
    """Show the first two metrics by size, number of boxes, class and given subsets.

    Parameters
    ----------
    panel
        One subset under one protocol.
    key
        What ids of its tables begin with.

    Returns
    -------
    str
        HTML: one fold per division; empty if there is none.
    """
    found = dict.fromkeys(division for _, m in panel.scored() for division in m.breakdown)
    divisions = sorted(found, key=lambda division: division == "class")  # the longest comes last
    return "".join(
        _division(panel, division, f"{key}-part{number}") for number, division in enumerate(divisions)
    )


def _division(panel: Panel, division: str, key: str) -> str:
    holders = [(k, m, {g.name: g for g in m.breakdown.get(division, ())}) for k, m in panel.scored()]
    groups = list(dict.fromkeys(g for _, _, by_name in holders for g in by_name))
    if not groups:
        return ""
    metrics = list(
        dict.fromkeys(
            metric for _, m, _ in holders for g in m.breakdown.get(division, ()) for metric in g.metrics
        )
    )
    first, others = metrics[0], metrics[1:]
    second = "mean_iou" if "mean_iou" in others else None
    heads = [escape(_PART_NAMES.get(division, division)), "Clips"]
    heads += [f"{name(m.name)}<small>{escape(metric_name(first))}, %</small>" for _, m, _ in holders]
    heads += ["Difference<small>points, second \u2212 first</small>"] if len(holders) == 2 else []
    if second:
        heads += [f"{name(m.name)}<small>{escape(metric_name(second))}, %</small>" for _, m, _ in holders]
    rows = []
    for place, group in enumerate(groups):
        found = [by_name.get(group) for _, _, by_name in holders]
        n = next(g.n for g in found if g is not None)
        cells = [_bar_cell(k, g, first) for (k, _, _), g in zip(holders, found, strict=True)]
        cells += [_difference(found, first)] if len(holders) == 2 else []
        cells += [estimate_cell(g.metrics.get(second) if g else None) for g in found] if second else []
        rows.append(
            f'<tr><th scope="row" data-v="{place if division != "class" else ""}">{name(group)}</th>'
            f'<td data-v="{n}">{n}</td>{"".join(cells)}</tr>'
        )
    title = _PART_NAMES.get(division, division)
    laid = table(key, f"{title}, {panel.title}", heads, rows, kind="parts")
    return f"<details><summary>{escape(title)} ({len(groups)})</summary>{laid}</details>"


def _bar_cell(k: int, group: Group | None, metric: str) -> str:
    found = group.metrics.get(metric) if group else None
    if found is None:
        return '<td data-v="">\u2013</td>'
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f' <span class="interval">[{percent(found.low)}, {percent(found.high)}]</span>'
    width = 100 * min(max(found.value, 0.0), 1.0)
    return (
        f'<td class="barred" data-v="{found.value:.6g}"><span>{percent(found.value)}{interval}</span>'
        f'<span class="track"><span class="bar m{k % N_COLOURS}" style="width:{width:.1f}%"></span></span>'
        "</td>"
    )


def _difference(found: Sequence[Group | None], metric: str) -> str:
    values = [g.metrics[metric].value for g in found if g is not None and metric in g.metrics]
    if len(values) < 2:
        return '<td data-v="">\u2013</td>'
    gap = values[1] - values[0]
    shown = f"{100 * gap:+.1f}".replace("-", "\N{MINUS SIGN}")
    return f'<td data-v="{gap:.6g}">{shown}</td>'


def details_table(panel: Panel, key: str) -> str:
    """Show whatever else the scores files hold, side by side.

    Parameters
    ----------
    panel
        One subset under one protocol.
    key
        Id of the table.

    Returns
    -------
    str
        HTML, a fold; empty if there is nothing. Values are as in the files: fractions, counts, texts.
    """
    columns = [(m, dict(_leaves(m.details))) for _, m in panel.scored()]
    paths = list(dict.fromkeys(path for _, leaves in columns for path in leaves))
    if not paths:
        return ""
    kinds = ", ".join(dict.fromkeys(part for m, _ in columns for part in m.details))
    rows = [
        f'<tr><th scope="row">{escape(" / ".join(path))}</th>'
        f"{''.join(_leaf_cell(leaves.get(path)) for _, leaves in columns)}</tr>"
        for path in paths
    ]
    laid = table(
        key,
        f"Further results, {panel.title}, as in the scores files (fractions)",
        ["Quantity", *(name(m.name) for m, _ in columns)],
        rows,
        kind="parts",
    )
    return f"<details><summary>Further results: {escape(kinds)}</summary>{laid}</details>"


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of everything that holds no more values; a row of a list goes by its name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value, 1):
            label = (
                inner.get("name", inner.get("threshold", number)) if isinstance(inner, Mapping) else number
            )
            yield from _leaves(inner, (*path, str(label)))
    else:
        yield path, value


def _leaf_cell(value: Any) -> str:
    if value is None:
        return '<td data-v="">\u2013</td>'
    if isinstance(value, float):
        return f'<td data-v="{value:.6g}">{value:.4g}</td>'
    if isinstance(value, list | tuple):
        value = first_few((f"{v:.4g}" if isinstance(v, float) else str(v) for v in value), 5)
    return f"<td>{escape(value)}</td>"


def key_of_references(panels: Sequence[Panel]) -> str:
    """Explain the references that the panels have.

    Parameters
    ----------
    panels
        All of them.

    Returns
    -------
    str
        HTML, a list of terms.
    """
    keys = dict.fromkeys(r.key for panel in panels for r in panel.references)
    return (
        "<dl>"
        + "".join(
            f"<div><dt>{escape(REFERENCE_NAMES.get(key, key))}</dt>"
            f"<dd>{escape(REFERENCE_MEANINGS.get(key, 'as the scores file has it'))}</dd></div>"
            for key in keys
        )
        + "</dl>"
    )


def missing_note(method: Method) -> str:
    """Say which clips a method lacks.

    Parameters
    ----------
    method
        Its scores.

    Returns
    -------
    str
        Plain text; empty if it lacks none.

    Examples
    --------
    >>> missing_note(Method("a", {}, missing=("x", "y")))
    '2 clips without prediction count as 0: x, y'
    """
    if not method.missing:
        return ""
    n = len(method.missing)
    counted = "1 clip without prediction counts" if n == 1 else f"{n} clips without prediction count"
    return f"{counted} as 0: {first_few(method.missing)}"
