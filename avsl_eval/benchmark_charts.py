"""Drawings of a benchmark as SVG files: scores over label budgets, and scores while training.

Each is a file of its own with its own colours, for the light and the dark page, because documents show such
files as pictures. Methods differ by colour and marker, bands are intervals. Lengths are in pixels; the origin
is at the top left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avsl_eval.benchmark import ABLATION
from avsl_eval.report_charts import MARKERS
from avsl_eval.report_text import escape

WIDTH, HEIGHT = 720.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 540.0, 34.0, 330.0
"""Borders of the plane; names of the methods stand right of it."""

_COLOURS = ("#808080", "#0072b2", "#009e73", "#cc79a7", "#a6761d", "#56b4e9", "#d55e00", "#e6ab02")
"""Okabe and Ito's, which people with any kind of colour vision tell apart, and two more."""
_ROW = 20.0
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:13px}.grid{stroke:#ddd}"
    ".axis{stroke:#777}.grid,.axis,.line{fill:none}.line{stroke-width:2}.mark{stroke:none}"
    ".band{stroke:none;opacity:.13}@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"
)


@dataclass(frozen=True)
class Line:
    """A method's curve.

    Parameters
    ----------
    name
        Of the method.
    x, value
        Points; values are fractions.
    low, high
        Bounds of the band, or None without one.
    """

    name: str
    x: Sequence[float]
    value: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def budget_lines(content: Mapping[str, Any], subset: str) -> list[Line]:
    """Return how each method's score grows with the labels, with its interval over clips.

    Parameters
    ----------
    content
        Of ``benchmark.json``.
    subset
        Which test clips.

    Returns
    -------
    list of Line
        Methods with two budgets or more; x is the number of labelled clips.
    """
    labeled = {budget["testset"]: budget["labeled"] for budget in content["budgets"]}
    lines = []
    for method in content["methods"]:
        cells = [cell for cell in content["cells"] if cell["method"] == method["name"]]
        if len(cells) < 2:
            continue
        found = [cell["subsets"][subset][content["protocol"]] for cell in cells]
        bounds = [one["ci95"] or [one["value"]] * 2 for one in found]
        lines.append(
            Line(
                method["name"],
                [labeled[cell["testset"]] for cell in cells],
                [one["value"] for one in found],
                [bound[0] for bound in bounds],
                [bound[1] for bound in bounds],
            )
        )
    return lines


def learning_lines(content: Mapping[str, Any]) -> list[Line]:
    """Return each method's validation score while it trains at the main budget, with its range over seeds."""
    ablations = {method["name"] for method in content["methods"] if method["kind"] == ABLATION}
    lines = []
    for cell in content["cells"]:
        curve = cell["validation"]
        if cell["testset"] != content["main"] or cell["method"] in ablations or curve is None:
            continue
        values = list(zip(*curve["seeds"].values(), strict=True))
        means = [sum(point) / len(point) for point in values]
        lines.append(Line(cell["method"], curve["steps"], means, [*map(min, values)], [*map(max, values)]))
    return lines


def chart(lines: Sequence[Line], title: str, axis: str, *, log: bool = False) -> str:
    """Draw curves with their bands.

    Parameters
    ----------
    lines
        The curves; at least one, of two points or more.
    title
        Above the plane.
    axis
        What x is.
    log
        Whether x is drawn by its logarithm; ticks then stand at the points.

    Returns
    -------
    str
        An SVG document.
    """
    plane = _Plane.of(lines, log)
    parts = [f'<text class="title" x="{LEFT:g}" y="18">{escape(title)}</text>', *plane.axes(axis)]
    for k, line in enumerate(lines):
        if line.low is not None and line.high is not None:
            border = [
                *zip(line.x, line.high, strict=True),
                *reversed([*zip(line.x, line.low, strict=True)]),
            ]
            parts.append(f'<polygon class="band" fill="{_colour(k)}" points="{plane.points(border)}"/>')
    for k, line in enumerate(lines):
        points = [*zip(line.x, line.value, strict=True)]
        parts.append(
            f'<polyline class="line" stroke="{_colour(k)}" points="{plane.points(points)}"/>'
            + "".join(_mark(k, *plane.place(*point)) for point in _marked(points, k))
        )
    # Names stand in the order of the last values, so that they are found beside their curves.
    order = sorted(range(len(lines)), key=lambda k: -lines[k].value[-1])
    for row, k in enumerate(order):
        y = TOP + 12 + _ROW * row
        parts.append(
            f'<path class="line" stroke="{_colour(k)}" d="M{RIGHT + 12:g} {y:g}h24"/>'
            f'{_mark(k, RIGHT + 24, y)}<text x="{RIGHT + 42:g}" y="{y + 4:g}">{escape(lines[k].name)} '
            f"{100 * lines[k].value[-1]:.1f}</text>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" '
        f'height="{HEIGHT:g}" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


@dataclass(frozen=True)
class _Plane:
    """Where values of x and y stand."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, lines: Sequence[Line], log: bool) -> _Plane:
        xs = sorted({float(x) for line in lines for x in line.x})
        ys = [y for line in lines for y in (*line.value, *(line.low or ()), *(line.high or ()))]
        low, high = math.floor(min(ys) * 20) / 20, math.ceil(max(ys) * 20) / 20
        ticks = xs if log else [xs[-1] * k / 5 for k in range(6)]
        return cls((xs[0] if log else 0.0, xs[-1]), (low, max(high, low + 0.05)), log, tuple(ticks))

    def place(self, x: float, y: float) -> tuple[float, float]:
        scale = math.log if self.log else float
        begin, end = (scale(bound) for bound in self.x)
        across = (scale(x) - begin) / (end - begin) if end > begin else 0.5
        along = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + (RIGHT - LEFT) * across, BOTTOM - (BOTTOM - TOP) * along

    def points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in points))

    def axes(self, name: str) -> list[str]:
        step = 0.05 if self.y[1] - self.y[0] <= 0.4 else 0.1
        first = round(self.y[0] / step)
        levels = [step * k for k in range(first, round(self.y[1] / step) + 1)]
        parts = [f'<path class="axis" d="M{LEFT:g} {BOTTOM:g}H{RIGHT:g}"/>']
        for level in levels:
            y = self.place(self.x[0], level)[1]
            parts.append(
                f'<path class="grid" d="M{LEFT:g} {y:.1f}H{RIGHT:g}"/>'
                f'<text x="{LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{100 * level:.0f}</text>'
            )
        for tick in self.ticks:
            x = self.place(tick, self.y[0])[0]
            parts.append(
                f'<path class="axis" d="M{x:.1f} {BOTTOM:g}v5"/>'
                f'<text x="{x:.1f}" y="{BOTTOM + 19:g}" text-anchor="middle">{tick:g}</text>'
            )
        middle = (LEFT + RIGHT) / 2
        parts.append(f'<text x="{middle:g}" y="{BOTTOM + 38:g}" text-anchor="middle">{escape(name)}</text>')
        return parts


def _marked(points: Sequence[tuple[float, float]], k: int) -> Sequence[tuple[float, float]]:
    """Return the points that get a marker: all of a few, else some, other ones for each method."""
    return points if len(points) <= 4 else [*points[k % 4 :: 4]]


def _colour(k: int) -> str:
    return _COLOURS[k % len(_COLOURS)]


def _mark(k: int, x: float, y: float) -> str:
    shape = MARKERS[k % len(MARKERS)]
    return f'<path class="mark" fill="{_colour(k)}" transform="translate({x:.1f} {y:.1f})" d="{shape}"/>'
