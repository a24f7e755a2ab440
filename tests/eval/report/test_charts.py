"""Drawings and tables of the report, by structure and by coordinates computed by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from avsl_eval.report_charts import (
    CURVE_BOTTOM,
    CURVE_LEFT,
    CURVE_TOP,
    LEFT,
    N_COLOURS,
    RIGHT,
    axis_top,
    interval_bars,
    marker,
    success_curves,
)
from avsl_eval.report_tables import breakdown_tables, details_table, overview, panel_table, table
from avsl_eval.report_text import escape, rule_limits
from avsl_eval.report_view import Estimate, Group, Method, Panel, Reference

HOSTILE = "<script>alert('1')</script> & \"q\" \u202eabc\u05e9\u05dc\u05d5\u05dd \x00\ud800"


def method(name: str = "a", **more: object) -> Method:
    metrics = {"ciou@0.5": Estimate(0.3, 0.2, 0.45), "mean_iou": Estimate(0.4, 0.35, 0.45)}
    return Method(name, **{"metrics": metrics, "n_scored": 9, **more})  # type: ignore[arg-type]


def panel(*methods: Method | None, references: tuple[Reference, ...] = ()) -> Panel:
    return Panel("heard", "lvs", 10, methods, references)


REFERENCES = (
    Reference("ceiling", "ceiling", {"ciou@0.5": Estimate(0.5)}, ((0.0, 1.0), (1.0, 0.0))),
    Reference("center_prior", "centred disc", {"ciou@0.5": Estimate(0.25)}),
    Reference("whole_image", "whole image", {"auc": Estimate(0.25)}),
)


def svg(text: str) -> ET.Element:
    return ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


def of_class(root: ET.Element, kind: str) -> list[ET.Element]:
    return [e for e in root.iter() if kind in e.get("class", "").split()]


def test_intervals_stand_where_the_axis_says() -> None:
    """By hand: the largest value is 0.5, so the axis ends at 0.6 and 0.1 is 50 units."""
    assert (LEFT, RIGHT) == (128, 428)
    root = svg(interval_bars(panel(method(), references=REFERENCES), "ciou@0.5"))
    (interval,) = of_class(root, "interval")
    assert interval.get("d") == "M228.0 52.0H353.0M228.0 45.0v14M353.0 45.0v14"
    (mark,) = of_class(root, "mark")
    assert mark.get("transform") == "translate(278.0 52.0)"
    lines = {e.get("data-reference"): e.get("d") for e in of_class(root, "reference")}
    # Two labels above, the right one higher; both lines end at the axis, below the one row.
    assert lines == {"ceiling": "M378.0 4.0V74.0", "center_prior": "M253.0 18.0V74.0"}
    assert [e.text for e in of_class(root, "reference-name")] == ["ceiling 50.0", "centred disc 25.0"]
    assert [e.text for e in of_class(root, "tick")] == ["0", "10", "20", "30", "40", "50", "60"]
    assert [e.text for e in of_class(root, "value")] == ["30.0 [20.0, 45.0]"]
    assert "a 30.0 [20.0, 45.0]" in root.get("aria-label", "")


def test_seeds_are_rings_below_the_marker() -> None:
    found = method(metrics={"auc": Estimate(0.5, None, None, (0.4, 0.6))})
    root = svg(interval_bars(panel(found), "auc"))
    rings = of_class(root, "seed")
    assert [(e.get("cx"), e.get("cy")) for e in rings] == [("328.0", "34.0"), ("428.0", "34.0")]
    assert not of_class(root, "interval")


def test_labels_of_references_never_cross_lines() -> None:
    """Each label ends left of its line, and every line that begins above it is right of its line."""
    many = tuple(
        Reference(k, k, {"auc": Estimate(v)}) for k, v in (("a", 0.34), ("b", 0.345), ("c", 0.9), ("d", 0))
    )
    root = svg(interval_bars(panel(method(metrics={"auc": Estimate(0.1)}), references=many), "auc"))
    starts = [
        tuple(map(float, re.match(r"M(\S+) (\S+)V", e.get("d", "")).groups()))  # type: ignore[union-attr]
        for e in of_class(root, "reference")
    ]
    for (x, y), label in zip(starts, of_class(root, "reference-name"), strict=True):
        assert label.get("text-anchor") == "end"
        assert float(label.get("x", "")) < x
        assert all(other_x > x for other_x, other_y in starts if other_y < y)


def test_success_curves_by_hand() -> None:
    assert (CURVE_LEFT, CURVE_TOP, CURVE_BOTTOM) == (44, 10, 230)
    curve = tuple((k / 4, 1 - k / 4) for k in range(5))
    root = svg(success_curves(panel(None, method(curve=curve), references=REFERENCES)))
    (line,) = of_class(root, "curve")
    assert line.get("points") == "44.0,10.0 140.0,65.0 236.0,120.0 332.0,175.0 428.0,230.0"
    assert line.get("class") == "curve m1"
    assert [e.get("data-reference") for e in of_class(root, "reference")] == ["ceiling"]
    assert success_curves(panel(method())) == ""


def test_markers_differ_without_colour() -> None:
    shapes = {re.sub(r' class="[^"]*"', "", marker(k, 0, 0)) for k in range(N_COLOURS)}
    assert len(shapes) == N_COLOURS
    assert marker(N_COLOURS, 0, 0) == marker(0, 0, 0)


@pytest.mark.parametrize(("values", "top"), [([], 0.2), ([0.2], 0.2), ([0.21], 0.4), ([0.1, 1.0], 1.0)])
def test_axis(values: list[float], top: float) -> None:
    assert axis_top(values) == top


def rows(text: str) -> list[list[str]]:
    return [
        [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", text)
    ]


def test_every_metric_in_the_table() -> None:
    text = panel_table(panel(method(missing=("x",), tied_share=0.125), None, references=REFERENCES), "t")
    head, own, ceiling, *_ = rows(text)
    assert head[:4] == ["Method", "cIoU@0.5, %", "mean cIoU, %", "Clips scored"]
    assert head[4].startswith("Tied maps, %")
    assert own == ["a", "30.0 [20.0, 45.0]", "40.0 [35.0, 45.0]", "9 of 10", "12.5"]
    assert ceiling == ["ceiling", "50.0", "\u2013", "", ""]
    assert 'data-v="0.3"' in text


def test_breakdown_shows_bars_and_the_difference() -> None:
    def parts(value: float) -> dict[str, tuple[Group, ...]]:
        return {
            "class": (
                Group("dog", 7, {"ciou@0.5": Estimate(value)}),
                Group("cat", 2, {"ciou@0.5": Estimate(0)}),
            )
        }

    text = breakdown_tables(panel(method("a", breakdown=parts(0.25)), method("b", breakdown=parts(0.5))), "t")
    head, dog, cat = rows(text)
    assert head[:2] == ["Class", "Clips"]
    assert dog == ["dog", "7", "25.0", "50.0", "+25.0"]
    assert cat == ["cat", "2", "0.0", "0.0", "+0.0"]
    assert re.findall(r"width:([^%]+)%", text) == ["25.0", "50.0", "0.0", "0.0"]
    assert breakdown_tables(panel(method()), "t") == ""


def test_a_group_that_one_method_lacks_is_a_dash() -> None:
    one = {"size": (Group("small", 3, {"ciou@0.5": Estimate(0.5)}),)}
    text = breakdown_tables(panel(method("a", breakdown=one), method("b")), "t")
    assert rows(text)[1] == ["small", "3", "50.0", "\u2013", "\u2013"]


def test_other_results_are_laid_side_by_side() -> None:
    details = {"detection": {"all": {"ap": 0.51631}}, "sweep": [{"threshold": 0.05, "ciou": 0.5}]}
    text = details_table(
        panel(method("a", details=details), method("b", details={"detection": {"n": 4}})), "t"
    )
    found = rows(text)[1:]
    assert ["detection / all / ap", "0.5163", "\u2013"] in found
    assert ["sweep / 0.05 / ciou", "0.5", "\u2013"] in found
    assert ["detection / n", "\u2013", "4"] in found


def test_long_tables_have_a_filter() -> None:
    assert "data-filter" not in table("t", "short", ["a"], ["<tr><td>1</td></tr>"] * 7)
    assert 'data-filter="t"' in table("t", "long", ["a"], ["<tr><td>1</td></tr>"] * 8)


def test_overview_names_what_was_not_scored() -> None:
    panels = [panel(method(), None), Panel("heard", "fixed", 10, (method(), method("b")), REFERENCES)]
    found = rows(overview(panels, ["a", "b"], {"lvs": "x", "fixed": "y"}))
    assert found[0] == ["Protocol", "Metric", "a", "b", "ceiling", "centred disc", "whole image"]
    assert found[1][:4] == ["lvs", "cIoU@0.5", "30.0 [20.0, 45.0]", "\u2013"]
    assert found[2][4:] == ["50.0", "25.0", "\u2013"]


def test_nothing_hostile_gets_through() -> None:
    groups = {HOSTILE: (Group(HOSTILE, 1, {"ciou@0.5": Estimate(0.5)}),)}
    curve = ((0.0, 1.0), (1.0, 0.0))
    found = panel(method(HOSTILE, breakdown=groups, curve=curve, details={HOSTILE: {HOSTILE: HOSTILE}}))
    drawn = (interval_bars, lambda p, _: success_curves(p), panel_table, breakdown_tables, details_table)
    for draw in drawn:
        text = draw(found, "ciou@0.5" if draw is interval_bars else "t")
        assert "<script" not in text
        assert escape("alert('1')") in text
        text.encode()  # a lone surrogate cannot be written to a file
        assert not re.search("[\x00-\x08]", text)
        if draw is interval_bars:
            svg(text)  # well-formed


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"threshold": "median"}, "half of the image"),
        ({"threshold": "adaptive", "normalisation": "minmax"}, "given away"),
        ({"threshold": "fixed", "normalisation": "minmax"}, "some mask is always found"),
        ({"threshold": "fixed", "normalisation": "none"}, "unlike scales"),
        ({"threshold": "sweep"}, "this very test set"),
        ({"threshold": "universal"}, "its own"),
        ({"threshold": "fixed", "task": "segmentation"}, "the truth here is a mask"),
    ],
)
def test_what_a_rule_cannot_mean(rule: dict[str, str], said: str) -> None:
    assert said in rule_limits(rule)
    assert rule_limits(rule).startswith("It cannot")
