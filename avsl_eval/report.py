"""One self-contained page for the results of one test set: scores, gallery, provenance.

The page loads nothing: style, script, drawings, frames and heatmaps are inside, and its content security
policy forbids everything else. It is whole without its script, which only sorts and filters. Every text that
comes from a file is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from avsl_eval.gallery_data import read_gallery
from avsl_eval.report_charts import interval_bars, key_of_methods, success_curves
from avsl_eval.report_data import read_page
from avsl_eval.report_gallery import Gallery, controls, gallery_list, legend
from avsl_eval.report_provenance import provenance, rule_table, warnings_box
from avsl_eval.report_tables import breakdown_tables, details_table, key_of_references, overview, panel_table
from avsl_eval.report_text import escape, name, rule_limits
from avsl_eval.report_view import Page, Panel
from avsl_eval.result import versions
from avsl_eval.results_file import WHOLE, Results

_READING = (
    "Values are percent, with the 95 % interval over test clips in brackets. Vertical lines are what the "
    "same rule gives to answers that are no method, on the same clips. A method that is not clearly above "
    "the centred disc has not been shown to localize anything."
)
_WARNING = (
    "Every protocol is a different rule for making a mask of a heatmap. Compare within a rule, never across."
)
_GALLERY = "Chosen by cIoU (of the lowest seed): {kinds}. Nothing is left out for looking bad."
_KINDS = {
    "largest difference": "the clips on which methods differ most",
    "best": "the best",
    "typical": "typical ones near the median",
    "worst": "the worst",
}


def report(results: Sequence[Results], frames: Path | None, n_clips: int) -> str:
    """Write the page.

    Parameters
    ----------
    results
        One per method, of one test set.
    frames
        Folder of ``<clip_id>.jpg`` or ``.png``, or None; a frame that is absent becomes a grey panel that
        says so.
    n_clips
        Number of clips of the gallery; `avsl_eval.gallery.choose` chooses them.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    EvalInputError
        If results do not belong together, or a file they name cannot be read.
    """
    return render(read_page(results), read_gallery(results, frames, n_clips))


def render(page: Page, gallery: Gallery) -> str:
    """Lay out the page.

    Parameters
    ----------
    page
        Scores and provenance.
    gallery
        Clips to show.

    Returns
    -------
    str
        HTML.
    """
    protocols = list(dict.fromkeys(panel.protocol for panel in page.panels))
    anchors = {protocol: f"protocol{number}" for number, protocol in enumerate(protocols)}
    sections = [
        warnings_box(page),
        _overview_section(page, anchors),
        *(_protocol_section(page, protocol, anchors[protocol]) for protocol in protocols),
        _gallery_section(page, gallery),
        f'<section id="provenance"><h2>Provenance</h2>{provenance(page)}</section>',
    ]
    links = [("overview", "Overview"), *((anchors[p], p) for p in protocols)]
    links += [("gallery", "Gallery"), ("provenance", "Provenance")]
    script = _resource("report.js").strip()
    subsets = {panel.subset: panel.clips for panel in page.panels}
    counted = ", ".join(
        clips if subset == WHOLE else f"{name(subset)} ({clips})" for subset, clips in subsets.items()
    )
    return Template(_resource("report.html")).substitute(
        policy=_policy(f"\n{script}\n"),
        title=escape(f"{page.testset}: {', '.join(page.names)}"),
        heading=f"Test set {name(page.testset)}",
        style=_resource("report.css").rstrip(),
        lead=f"{len(page.names)} method{'s' * (len(page.names) > 1)} on {counted}.",
        methods=key_of_methods(page.names),
        navigation="".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links),
        sections="\n".join(section for section in sections if section),
        footer=f"avsl-toolkit {escape(versions()['avsl-toolkit'])}. This page loads nothing.",
        script=script,
    )


def _resource(name_: str) -> str:
    return (files("avsl_eval") / "templates" / name_).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Forbid everything but the page's own style, script (by its digest) and pictures."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _overview_section(page: Page, anchors: Mapping[str, str]) -> str:
    laid = overview(page.panels, page.names, anchors)
    return (
        f'<section id="overview"><h2>Overview</h2><p>{_READING}</p>{key_of_references(page.panels)}'
        f"<p>{_WARNING}</p>{laid}</section>"
    )


def _protocol_section(page: Page, protocol: str, anchor: str) -> str:
    """Lay out one protocol: what its rule does and cannot mean, and a block per subset."""
    rule = page.rules[protocol]
    panels = [panel for panel in page.panels if panel.protocol == protocol]
    blocks = "".join(
        _panel(panel, f"{anchor}-{number}", len(panels) > 1) for number, panel in enumerate(panels)
    )
    return (
        f'<section id="{anchor}" class="protocol"><h2>{escape(protocol)}'
        f"<small>version {escape(rule.get('version', '?'))}</small></h2>"
        f'<p class="does">{_sentence(rule.get("summary", ""))}</p>'
        f'<p class="cannot">{escape(rule_limits(rule))}</p>'
        f"{blocks}{rule_table(rule, f'{anchor}-rule')}</section>"
    )


def _sentence(text: object) -> str:
    said = str(text).strip()
    return escape(said[:1].upper() + said[1:] + ("" if said.endswith(".") else "."))


def _panel(panel: Panel, key: str, titled: bool) -> str:
    first, *others = panel.metrics()
    title = f"<h3>{name(panel.subset)}<small>{panel.clips}</small></h3>" if titled else ""
    more = "".join(interval_bars(panel, metric) for metric in others)
    folded = (
        f"<details><summary>Intervals of the other metrics</summary>"
        f'<div class="charts">{more}</div></details>'
        if more
        else ""
    )
    return (
        f'{title}<div class="charts">{interval_bars(panel, first)}{success_curves(panel)}</div>'
        f"{panel_table(panel, f'{key}-metrics')}{folded}"
        f"{breakdown_tables(panel, key)}{details_table(panel, f'{key}-details')}"
    )


def _gallery_section(page: Page, gallery: Gallery) -> str:
    if not gallery.clips:
        return f'<section id="gallery"><h2>Gallery</h2><p>{escape(gallery.why_empty)}</p></section>'
    several = len({clip.subset for clip in gallery.clips}) > 1
    rules = "".join(
        f"<li>{name('all clips' if subset == WHOLE else subset)}: masks and cIoU under "
        f"{escape(protocol)}</li>"
        for subset, protocol in gallery.protocols
    )
    kinds = ", ".join(text for kind, text in _KINDS.items() if any(c.kind == kind for c in gallery.clips))
    return (
        f'<section id="gallery" class="gallery"><h2>Gallery<small>{len(gallery.clips)} clips</small></h2>'
        f"<p>{_GALLERY.format(kinds=kinds)}</p><ul>{rules}</ul>{legend()}{controls(page.names)}"
        f"{gallery_list(gallery.clips, len(page.names), several)}</section>"
    )
