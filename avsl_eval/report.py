"""One self-contained page for the results of one test set: scores, gallery, provenance.

The page loads nothing: style, drawings, frames and heatmaps are inside. Every text that comes from a file is
escaped.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from avsl_eval.collect import Results
from avsl_eval.errors import first_few
from avsl_eval.report_gallery import LEGEND, gallery_section
from avsl_eval.report_scores import scores_section
from avsl_eval.result import versions
from avsl_eval.summary import compare_side_by_side

_READING = (
    "Percent, with the 95 % interval over test clips in brackets. Below the line stand, under the same "
    "rule and on the same "
    "clips, the best that a map without ties can reach and two answers that neither look nor listen: a "
    "centred disc and the "
    "whole image. A method that is not clearly above the disc has not been shown to localize anything."
)
_WARNING = (
    "Every column is a different rule for making a mask of a heatmap. Compare within a column, never across."
)
_GALLERY_INTRO = (
    "Chosen by the cIoU of the lowest seed: the clips on which methods differ most, the best, typical "
    "ones near the median, and "
    "the worst. Nothing is left out for looking bad."
)


def report(results: Sequence[Results], frames: Path | None, n_clips: int) -> str:
    """Write the page.

    Parameters
    ----------
    results
        One per method, of one test set.
    frames
        Folder of ``<clip_id>.jpg``, or None; a frame that is absent becomes a grey panel that says so.
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
    comparisons = compare_side_by_side(results)
    testset = html.escape(results[0].testset)
    names = ", ".join(f"<b>{html.escape(r.name)}</b>" for r in results)
    subsets = ", ".join(f"{html.escape(c.subset)} ({c.n_expected} clips)" for c in comparisons)
    template = Template(_resource("report.html"))
    page = template.substitute(
        title=f"Test set {testset}",
        style=_resource("report.css"),
        lead=f"{names} on {subsets}.",
        navigation="".join(
            f'<a href="#{anchor}">{anchor.capitalize()}</a>' for anchor in ("scores", "gallery", "provenance")
        ),
        reading=_READING,
        warning=_WARNING,
        scores="\n".join(
            scores_section(comparison, _absences(results, comparison.subset)) for comparison in comparisons
        ),
        gallery_intro=_GALLERY_INTRO,
        legend=LEGEND,
        gallery=gallery_section(results, frames, n_clips),
        provenance=_provenance(results),
        footer=f"avsl-toolkit {html.escape(versions()['avsl-toolkit'])}. This page loads nothing.",
    )
    return "\n".join(line.rstrip() for line in page.splitlines()) + "\n"


def _resource(name: str) -> str:
    return (files("avsl_eval") / "templates" / name).read_text(encoding="utf-8")


def _absences(results: Sequence[Results], subset: str) -> str:
    """Say which methods lack predictions of which clips."""
    # Which clips are missing does not depend on the protocol: one of them tells.
    scored = [
        (r.name, next(iter(r.subsets[subset]["protocols"].values()))) for r in results if subset in r.subsets
    ]
    lines = [
        f"{html.escape(name)}: {len(scores['missing'])} clips without prediction count as 0 "
        f"(<code>{html.escape(first_few(scores['missing']))}</code>)."
        for name, scores in scored
        if scores["missing"]
    ]
    return "".join(f'<p class="note">{line}</p>' for line in lines)


def _provenance(results: Sequence[Results]) -> str:
    """Lay out where every score comes from: one row per training."""
    head = "".join(
        f'<th scope="col">{text}</th>'
        for text in (
            "method",
            "seed",
            "commit",
            "config",
            "checkpoint",
            "device",
            "time",
            "steps",
            "clips used",
            "excluded",
        )
    )
    rows = []
    for r in results:
        runs: Mapping[str, Mapping[str, Any]] = r.content["provenance"]["runs"]
        rows += [
            _run_row(r.name, seed, run) for seed, run in sorted(runs.items(), key=lambda item: int(item[0]))
        ]
        if not runs:
            rows.append(
                f'<tr><th scope="row">{html.escape(r.name)}</th><td colspan="9">no record of a training '
                "was given</td></tr>"
            )
    files_used = sorted(
        {
            str(file[key])
            for r in results
            for file in r.content["files"]
            for key in ("predictions", "annotations")
        }
    )
    listed = "".join(f"<li><code>{html.escape(path)}</code></li>" for path in files_used)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Provenance of each training">'
        "<table "
        f'class="provenance"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"<details><summary>Predictions and annotations that were scored</summary><ul>{listed}</ul></details>"
    )


def _run_row(name: str, seed: str, run: Mapping[str, Any]) -> str:
    clips = run.get("clips")
    clips = clips if isinstance(clips, Mapping) else {}
    time_s = run.get("wall_time_s")
    cells = (
        html.escape(seed),
        _digest(run.get("commit")),
        _digest(run.get("config_digest")),
        _digest(run.get("checkpoint_sha256")),
        _text(run.get("device")),
        f"{time_s / 60:.1f} min" if isinstance(time_s, int | float) else "-",
        _text(run.get("steps")),
        _text(clips.get("used")),
        _excluded(clips.get("excluded")),
    )
    return f'<tr><th scope="row">{html.escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _text(value: object) -> str:
    return "-" if value is None else html.escape(str(value))


def _digest(value: object) -> str:
    """Show the beginning of a digest, and whether a commit was dirty; the whole one as its title."""
    if value is None:
        return "-"
    text = str(value)
    dirty = " (changed)" if "dirty" in text else ""
    return f'<code title="{html.escape(text)}">{html.escape(text[:10])}</code>{dirty}'


def _excluded(excluded: object) -> str:
    """Count excluded clips by reason."""
    if not isinstance(excluded, Mapping):
        return _text(excluded)
    if not excluded:
        return "0"
    reasons = Counter(str(reason) for reason in excluded.values())
    lines = "".join(f"<li>{html.escape(reason)}: {count}</li>" for reason, count in reasons.most_common())
    ids = html.escape(first_few(map(str, excluded), 20))
    return f"<details><summary>{len(excluded)}</summary><ul>{lines}</ul><code>{ids}</code></details>"
