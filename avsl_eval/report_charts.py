"""The report's drawings: intervals against references, and success curves, as inline SVG.

Shapes tell methods apart, colours only help: markers differ by method, dashes by reference, and every value
is printed beside its mark. Colours are classes of the page's style (``m0`` ... ``m5``), so that the page can
be dark. Lengths are in the drawing's own unit; the origin is at the top left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avsl_eval.report_text import REFERENCE_NAMES, escape, metric_name, percent
from avsl_eval.report_view import Curve, Estimate, Method, Panel, Reference

N_COLOURS = 6
"""Number of method colours in report.css and of marker shapes; a seventh method begins anew."""

WIDTH = 440.0
LEFT, RIGHT = 128.0, 428.0
"""Where the axes of values begin and end."""

_NAME_LENGTH = 14
"""Characters of a method's name that fit left of the axis."""
_LABEL, _ROW, _BELOW = 14.0, 40.0, 20.0
"""Heights of a reference's label, of a method's row, and of the ticks below."""
CURVE_LEFT, CURVE_TOP, CURVE_BOTTOM = 44.0, 10.0, 230.0
"""Where the axes of success curves begin and end; x ends at `RIGHT`."""

DASHES = {"ceiling": "", "center_prior": "6 3", "mean_truth_prior": "2 2", "whole_image": "8 3 2 3"}
"""Dash patterns of references, in lines and in curves."""

MARKERS = (
    "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z",  # disc
    "M-4-4H4V4H-4Z",  # square
    "M0-5.8L5.8 0L0 5.8L-5.8 0Z",  # diamond
    "M0-5.2L5.2 4.2H-5.2Z",  # triangle
    "M0 5.2L5.2-4.2H-5.2Z",  # triangle, point down
    "M-2-5.4H2V-2H5.4V2H2V5.4H-2V2H-5.4V-2H-2Z",  # cross
)
"""Outlines of the markers, around the origin."""


def marker(k: int, x: float, y: float) -> str:
    """Draw the marker of a method.

    Parameters
    ----------
    k
        The method's place on the page.
    x, y
        Its centre.

    Returns
    -------
    str
        SVG.

    Examples
    --------
    >>> marker(1, 10, 20)
    '<path class="mark m1" transform="translate(10.0 20.0)" d="M-4-4H4V4H-4Z"/>'
    """
    place = k % N_COLOURS
    return f'<path class="mark m{place}" transform="translate({x:.1f} {y:.1f})" d="{MARKERS[place]}"/>'


def key_of_methods(names: Sequence[str]) -> str:
    """Explain the markers of all methods.

    Parameters
    ----------
    names
        In the order of the page.

    Returns
    -------
    str
        HTML, a list.
    """
    items = "".join(
        f'<li><svg viewBox="0 0 38 16" aria-hidden="true"><path class="curve m{k % N_COLOURS}" d="M2 8H36"/>'
        f"{marker(k, 19, 8)}</svg><bdi>{escape(name)}</bdi></li>"
        for k, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def axis_top(values: Sequence[float]) -> float:
    """Choose where an axis that begins at 0 ends.

    Parameters
    ----------
    values
        Fractions that have to fit.

    Returns
    -------
    float
        The smallest of 0.2, 0.4, ..., 1 that is not below any of them.

    Examples
    --------
    >>> axis_top([0.1, 0.505]), axis_top([0.2]), axis_top([])
    (0.6, 0.2, 0.2)
    """
    return next((k / 5 for k in range(1, 5) if max(values, default=0) <= k / 5), 1.0)


def interval_bars(panel: Panel, metric: str) -> str:
    """Draw every method's value and interval, over the lines of the references.

    Parameters
    ----------
    panel
        One subset under one protocol.
    metric
        Which metric; methods and references without it are left out.

    Returns
    -------
    str
        HTML, a figure. Value v stands at ``x = LEFT + (RIGHT - LEFT) v / axis_top``.
    """
    methods = [(k, m, m.metrics[metric]) for k, m in panel.scored() if metric in m.metrics]
    references = [(r, r.metrics[metric].value) for r in panel.references if metric in r.metrics]
    shown = [e.value if e.high is None else max(e.high, e.value) for _, _, e in methods]
    top = axis_top([*shown, *(v for _, v in references), *(s for _, _, e in methods for s in e.seeds)])
    begin = _LABEL * len(references) + 6
    end = begin + _ROW * len(methods)
    parts = [_value_axis(top, begin, end)]
    # From the right to the left: no line crosses the label of another.
    ordered = sorted(references, key=lambda pair: -pair[1])
    parts += [_reference_line(r, v, row, top, end) for row, (r, v) in enumerate(ordered)]
    parts += [_method_row(k, m, e, begin + _ROW * row, top) for row, (k, m, e) in enumerate(methods)]
    said = [*(f"{r.name} {percent(v)}" for r, v in references), *(_spoken(m, e) for _, m, e in methods)]
    label = f"{metric_name(metric)} in percent, {panel.title}: {'; '.join(said)}"
    height = end + _BELOW
    return (
        f'<figure class="chart"><figcaption>{escape(metric_name(metric))}, percent</figcaption>'
        f'<svg class="bars" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _spoken(method: Method, found: Estimate) -> str:
    interval = (
        "" if found.low is None or found.high is None else f" [{percent(found.low)}, {percent(found.high)}]"
    )
    return f"{method.name} {percent(found.value)}{interval}"


def _x(value: float, top: float) -> float:
    return LEFT + (RIGHT - LEFT) * value / top


def _value_axis(top: float, begin: float, end: float) -> str:
    step = 0.1 if top <= 0.6 else 0.2
    ticks = [k * step for k in range(round(top / step) + 1)]
    lines = "".join(
        f'<path class="grid" d="M{_x(tick, top):.1f} {begin:.1f}V{end:.1f}"/>'
        f'<text class="tick" x="{_x(tick, top):.1f}" y="{end + 14:.1f}" text-anchor="middle">'
        f"{100 * tick:.0f}</text>"
        for tick in ticks
    )
    return f'{lines}<path class="axis" d="M{LEFT:.1f} {end:.1f}H{RIGHT:.1f}"/>'


def _reference_line(reference: Reference, value: float, row: int, top: float, end: float) -> str:
    x, y = _x(value, top), _LABEL * (row + 1)
    return (
        f'<path class="reference" data-reference="{escape(reference.key)}" '
        f'stroke-dasharray="{DASHES.get(reference.key, "1 3")}" d="M{x:.1f} {y - 10:.1f}V{end:.1f}"/>'
        f'<text class="reference-name" x="{x - 4:.1f}" y="{y - 1:.1f}" text-anchor="end">'
        f"{escape(reference.name)} {percent(value)}</text>"
    )


def _method_row(k: int, method: Method, found: Estimate, y: float, top: float) -> str:
    """Draw name and value, interval with end caps, marker, and a ring per seed below."""
    x, middle, colour = _x(found.value, top), y + 18, f"m{k % N_COLOURS}"
    short = (
        method.name
        if len(method.name) <= _NAME_LENGTH
        else method.name[: _NAME_LENGTH - 1].rstrip() + "\u2026"
    )
    value = percent(found.value)
    bar = ""
    if found.low is not None and found.high is not None:
        low, high = _x(found.low, top), _x(found.high, top)
        value += f" [{percent(found.low)}, {percent(found.high)}]"
        bar = (
            f'<path class="interval {colour}" d="M{low:.1f} {middle:.1f}H{high:.1f}'
            f'M{low:.1f} {middle - 7:.1f}v14M{high:.1f} {middle - 7:.1f}v14"/>'
        )
    rings = "".join(
        f'<circle class="seed {colour}" cx="{_x(seed, top):.1f}" cy="{middle + 10:.1f}" r="2.6"/>'
        for seed in found.seeds
    )
    return (
        f"<g><title>{escape(_spoken(method, found))}</title>"
        f'<text class="method" x="{LEFT - 10:.1f}" y="{middle - 3:.1f}" text-anchor="end" direction="ltr">'
        f"{escape(short)}</text>"
        f'<text class="value" x="{LEFT - 10:.1f}" y="{middle + 11:.1f}" text-anchor="end">{value}</text>'
        f"{bar}{rings}{marker(k, x, middle)}</g>"
    )


def success_curves(panel: Panel) -> str:
    """Draw the share of clips with cIoU >= x.

    Parameters
    ----------
    panel
        One subset under one protocol.

    Returns
    -------
    str
        HTML, a figure; empty if no method has a curve. Point (x, y) stands at ``(CURVE_LEFT + (RIGHT -
        CURVE_LEFT) x, CURVE_BOTTOM - (CURVE_BOTTOM - CURVE_TOP) y)``.
    """
    methods = [(k, m) for k, m in panel.scored() if m.curve]
    references = [r for r in panel.references if r.curve]
    if not methods:
        return ""
    parts = [_curve_axes()]
    parts += [
        f'<polyline class="reference" data-reference="{escape(r.key)}" '
        f'stroke-dasharray="{DASHES.get(r.key, "1 3")}" points="{_points(r.curve)}"/>'
        for r in references
    ]
    for k, method in methods:
        # Markers of methods stand at different x, so that those of equal curves can be told apart.
        marks = "".join(
            marker(k, *_place(x, y)) for n, (x, y) in enumerate(method.curve) if n % 5 == k % 5 and n
        )
        parts.append(
            f"<g><title>{escape(method.name)}</title>"
            f'<polyline class="curve m{k % N_COLOURS}" points="{_points(method.curve)}"/>{marks}</g>'
        )
    label = f"Share of clips with cIoU of at least x, {panel.title}; at 0.2, 0.5, 0.8: " + "; ".join(
        f"{m.name} {_at(m.curve)}" for _, m in methods
    )
    return (
        '<figure class="chart"><figcaption>Success curve: clips with cIoU \u2265 x, percent</figcaption>'
        f'<svg class="curves" viewBox="0 0 {WIDTH:g} {CURVE_BOTTOM + 34:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>{_key_of_curves(references)}</figure>'
    )


def _curve_axes() -> str:
    across = "".join(
        f'<path class="grid" d="M{CURVE_LEFT:.1f} {y:.1f}H{RIGHT:.1f}"/>'
        f'<text class="tick" x="{CURVE_LEFT - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{100 * t:.0f}</text>'
        for t, y in ((t, _place(0, t)[1]) for t in (0, 0.2, 0.4, 0.6, 0.8, 1))
    )
    along = "".join(
        f'<path class="{"axis" if t == 0.5 else "grid"}" d="M{x:.1f} {CURVE_TOP:.1f}V{CURVE_BOTTOM:.1f}"/>'
        f'<text class="tick" x="{x:.1f}" y="{CURVE_BOTTOM + 14:.1f}" text-anchor="middle">{t:g}</text>'
        for t, x in ((t, _place(t, 0)[0]) for t in (0, 0.25, 0.5, 0.75, 1))
    )
    return (
        f'{across}{along}<text class="tick" x="{(CURVE_LEFT + RIGHT) / 2:.1f}" y="{CURVE_BOTTOM + 29:.1f}" '
        'text-anchor="middle">x</text>'
    )


def _place(x: float, y: float) -> tuple[float, float]:
    return CURVE_LEFT + (RIGHT - CURVE_LEFT) * x, CURVE_BOTTOM - (CURVE_BOTTOM - CURVE_TOP) * y


def _points(curve: Curve) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in (_place(x, y) for x, y in curve))


def _at(curve: Curve) -> str:
    near: Mapping[float, float] = {round(x, 6): y for x, y in curve}
    return ", ".join(percent(near[x]) for x in (0.2, 0.5, 0.8) if x in near)


def _key_of_curves(references: Sequence[Reference]) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 38 16" aria-hidden="true"><path class="reference" '
        f'stroke-dasharray="{DASHES.get(r.key, "1 3")}" d="M2 8H36"/></svg>'
        f"{escape(REFERENCE_NAMES.get(r.key, r.name))}</li>"
        for r in references
    )
    return f'<ul class="legend small">{items}</ul>' if items else ""
