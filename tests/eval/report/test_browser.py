"""The report as a reader meets it: opened, looked at, clicked and typed into in a real browser."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsl_eval.report import render
from avsl_eval.report_gallery import Card, Frame, Gallery, GalleryClip
from avsl_eval.report_view import Estimate, Group, Method, Page, Panel, Reference, Source

from .conftest import Browser

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium for all

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \"'& \u05e9\u05dc\u05d5\u05dd\u202e"
NAMES = ("first", HOSTILE)
CLASSES = ("zebra", "dog 10", "dog 9", "ant", HOSTILE, "bee", "cow", "emu", "fox")
X = [k / 20 for k in range(21)]


def a_method(name: str, value: float) -> Method:
    """Make a method whose n-th class has n clips and a score that no other has."""
    metrics = {
        "ciou@0.5": Estimate(value, value - 0.1, value + 0.1, (value, value)),
        "auc": Estimate(1, 1, 1),
    }
    groups = tuple(
        Group(c, n, {"ciou@0.5": Estimate((n * 7 % 9) / 10 * value)}) for n, c in enumerate(CLASSES, 1)
    )
    curve = tuple((x, max(0.0, 1 - x / (2 * value))) for x in X)
    return Method(name, metrics, curve, {"class": groups}, 40, details={name: {name: name}})


def a_frame() -> Frame:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(out, "JPEG")
    return Frame(64, 48, out.getvalue(), "image/jpeg")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page of two methods, one of them hostile, on two subsets under two rules."""
    references = tuple(
        Reference(key, name, {"ciou@0.5": Estimate(v)}, ((0.0, 1.0), (1.0, 0.0)))
        for key, name, v in (("ceiling", "ceiling", 0.9), ("center_prior", "centred disc", 0.3))
    )
    panels = tuple(
        Panel(subset, protocol, 40, (a_method(NAMES[0], 0.4), a_method(NAMES[1], 0.6)), references)
        for protocol in ("lvs", HOSTILE)
        for subset in ("heard", HOSTILE)
    )
    y, x = np.mgrid[0:32, 0:32] / 32
    clips = []
    for k in range(6):
        values = np.exp(-((x - 0.1 * k) ** 2 + (y - 0.5) ** 2) / 0.1)
        scores = (k / 10, 0.9 - k / 20)
        cards = tuple(
            Card(m, name, score, values, values > 0.5)
            for m, (name, score) in enumerate(zip(NAMES, scores, strict=True))
        )
        kind = ("best", "worst")[k % 2]
        boxes = np.array([[0.1, 0.2, 0.5, 0.9]])
        clips.append(
            GalleryClip(
                f"{HOSTILE}{k}", CLASSES[3 + k % 2], ("heard", HOSTILE)[k % 2], kind, boxes, a_frame(), cards
            )
        )
    rule = {"version": 1, "summary": HOSTILE, "threshold": "median", HOSTILE: HOSTILE}
    found = Page(
        testset=HOSTILE,
        names=NAMES,
        panels=panels,
        rules={"lvs": rule, HOSTILE: rule},
        warnings=((HOSTILE, HOSTILE),),
        sources=(
            Source(HOSTILE, 0, HOSTILE, HOSTILE, {"predictions": {"path": HOSTILE}}, {HOSTILE: HOSTILE}),
        ),
        runs={HOSTILE: {"0": {"commit": HOSTILE, "clips": {"excluded": {HOSTILE: HOSTILE}}}}},
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        render(found, Gallery(tuple(clips), (("heard", "lvs"), (HOSTILE, "lvs")))), encoding="utf-8"
    )
    return path


FIRST_COLUMN = (
    "Array.from(document.querySelector('%s').tBodies[0].rows, r => r.hidden ? '' : r.cells[0].textContent)"
)
CLASS_TABLE = "table.parts"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_quietly_and_fits(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:image/")] == [page.resolve().as_uri()]
    browser.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == width
    # The longest value there is ends inside its drawing.
    assert "100.0 [100.0, 100.0]" in browser.run("document.body.textContent")
    cut = browser.run(
        "Array.from(document.querySelectorAll('svg.bars text, svg.curves text')).filter((text) => {"
        " const inner = text.getBoundingClientRect(), outer = text.closest('svg').getBoundingClientRect();"
        " return inner.left < outer.left - 0.5 || inner.right > outer.right + 0.5; }).map(e => e.textContent)"
    )
    assert cut == []
    # Whatever is wider than the page scrolls inside its own region.
    wide = browser.run(
        "Array.from(document.querySelectorAll('body *')).filter(e => !e.closest('.scroll, svg')"
        " && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 99))"
    )
    assert wide == []


def test_hostile_names_stay_text(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    assert (
        browser.run("document.querySelectorAll('img, script[src], body script:not(:last-of-type)').length")
        == 0
    )
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelector('h1').innerText") == f"Test set {HOSTILE}"
    assert browser.run("getComputedStyle(document.querySelector('h1 bdi')).unicodeBidi") == "isolate"


def test_pictures_are_decoded(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    sizes = browser.run(
        "Promise.all(Array.from(document.querySelectorAll('#gallery image'), async (shown) => {"
        " const image = new Image(); image.src = shown.getAttribute('href'); await image.decode();"
        " return [image.naturalWidth, image.naturalHeight]; }))"
    )
    assert sorted(sizes) == sorted([[64, 48]] * 6 + [[32, 32]] * 12)


def test_the_frame_shows_in_every_card(browser: Browser, page: Path) -> None:
    """The frame is red and drawn once; without heatmap, both cards of a clip show it."""
    browser.open(page, 1280)
    browser.click("input[data-layer=heat]")
    assert browser.run("getComputedStyle(document.querySelector('.heat')).display") == "none"
    shot = browser.screenshot()
    for x, y in browser.run(
        "Array.from(document.querySelectorAll('.cards svg[role=img]'), (e) => {"
        " const r = e.getBoundingClientRect();"
        " return [r.x + 0.9 * r.width + scrollX, r.y + 0.1 * r.height + scrollY]; })"
    ):
        red, green, blue = shot.getpixel((round(x), round(y)))  # type: ignore[misc]
        assert red > 150
        assert max(green, blue) < 80


def test_marks_are_drawn_in_the_colour_of_their_method(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    shot = browser.screenshot()
    for k in range(2):
        colour = browser.run(f"getComputedStyle(document.querySelector('svg.bars .mark.m{k}')).fill")
        wanted = tuple(map(int, re.findall(r"\d+", colour)))
        x, y = browser.run(
            f"(() => {{ const r = document.querySelector('svg.bars .mark.m{k}').getBoundingClientRect();"
            " return [r.x + r.width / 2 + scrollX, r.y + r.height / 2 + scrollY]; })()"
        )
        found = shot.getpixel((round(x), round(y)))
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 12  # type: ignore[arg-type]
    assert len(shot.getcolors(1 << 24) or []) > 500


def test_tables_sort_by_click_and_by_key(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.run(f"document.querySelector('{CLASS_TABLE}').closest('details').open = true")
    column = FIRST_COLUMN % CLASS_TABLE
    assert browser.run(column) == list(CLASSES)
    browser.click(f"{CLASS_TABLE} th:nth-child(1) button")
    named = browser.run(column)
    assert [c for c in named if c != HOSTILE] == [
        "ant",
        "bee",
        "cow",
        "dog 9",
        "dog 10",
        "emu",
        "fox",
        "zebra",
    ]
    assert browser.run(f"document.querySelector('{CLASS_TABLE} th').getAttribute('aria-sort')") == "ascending"
    # Numbers begin with the largest; by keyboard, a second press turns them around.
    browser.run(f"document.querySelector('{CLASS_TABLE} th:nth-child(2) button').focus()")
    browser.press("Enter", "\r")
    assert browser.run(column) == list(reversed(CLASSES))
    browser.press("Enter", "\r")
    assert browser.run(column) == list(CLASSES)
    assert browser.run(f"document.querySelectorAll('{CLASS_TABLE} [aria-sort]').length") == 1
    browser.click(f"{CLASS_TABLE} th:nth-child(3) button")
    by_score = sorted(CLASSES, key=lambda c: -((CLASSES.index(c) + 1) * 7 % 9))
    assert browser.run(column) == by_score


def test_references_stay_below(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.click("#protocol0-0-metrics th:nth-child(2) button")
    names = browser.run(
        "Array.from(document.querySelectorAll('#protocol0-0-metrics tbody th'), e => e.innerText)"
    )
    assert names == [NAMES[1], NAMES[0], "ceiling", "centred disc"]


def test_the_filter_hides_rows(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.run(f"document.querySelector('{CLASS_TABLE}').closest('details').open = true")
    key = browser.run(f"document.querySelector('{CLASS_TABLE}').id")
    browser.click(f"input[data-filter={key}]")
    browser.type("DOG")
    assert [c for c in browser.run(FIRST_COLUMN % CLASS_TABLE) if c] == ["dog 10", "dog 9"]
    assert browser.run(f"document.querySelector('output[for={key}]').innerText") == "2 of 9 rows"
    assert browser.run(f"document.querySelectorAll('#{key} tbody tr')[0].offsetHeight") == 0


def choose(browser: Browser, name: str, value: str) -> None:
    chosen = browser.run(
        f"(() => {{ const s = document.querySelector('#gallery [name={name}]');"
        f" s.value = {json.dumps(value)};"
        " s.dispatchEvent(new Event('input', {bubbles: true})); return s.value; })()"
    )
    assert chosen == value


SHOWN = (
    "Array.from(document.querySelectorAll('article.clip')).filter(e => e.offsetHeight)"
    ".map(e => e.dataset.rank)"
)


def test_the_gallery_sorts_and_filters(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    assert browser.run(SHOWN) == list("012345")
    choose(browser, "order", "m0 down")
    assert browser.run(SHOWN) == list("543210")
    choose(browser, "order", "spread down")  # |0.9 - 0.15 k|: 0.9 0.75 0.6 0.45 0.3 0.15
    assert browser.run(SHOWN) == list("012345")
    choose(browser, "order", "m1 up")
    choose(browser, "kind", "=worst")
    assert browser.run(SHOWN) == list("531")
    choose(browser, "kind", "")
    choose(browser, "label", "=ant")
    assert browser.run(SHOWN) == list("420")
    assert browser.run("document.querySelector('#gallery output').innerText") == "3 of 6 clips"
    choose(browser, "subset", f"={HOSTILE}")
    assert browser.run(SHOWN) == []


def test_the_page_is_whole_without_its_script(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, scripts=False)
    shown = browser.run("Array.from(document.querySelectorAll('.controls, button'), e => e.offsetHeight)")
    assert set(shown) == {0}
    assert browser.run(SHOWN) == list("012345")
    assert browser.run(FIRST_COLUMN % CLASS_TABLE) == list(CLASSES)


def test_paper_shows_what_is_folded(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("document.querySelectorAll('details:not([open])').length") == 0
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('details:not([open])').length") > 0
