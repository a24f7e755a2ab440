"""The page as the commands make it, from the files of two methods, two seeds and two subsets."""

from __future__ import annotations

import html.parser
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avsl_eval import cli_report
from avsl_eval.__main__ import main
from avsl_eval.results_file import read_results
from tests.eval.handmade import run_record

from .conftest import Browser

pytestmark = pytest.mark.xdist_group("browser")  # with the tests that share its Chromium

SUBSETS = {"heard": 9, "unheard": 6}
PROTOCOLS = ("ezvsl", "fixed", "acl")
HOSTILE = "<script>alert(1)</script>\"'&\u202e"
RESULTS = ["results/supervised_demo.json", "results/xpl_demo.json"]


def run(*arguments: str) -> None:
    assert main(list(arguments)) == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write annotations, frames and predictions, score and collect them."""
    folder = tmp_path_factory.mktemp("site")
    rng = np.random.default_rng(5)
    boxes: dict[str, list[float]] = {}
    for subset, n in SUBSETS.items():
        ids = [f"{subset[:2]}_-vid{k:04d}_{k:06d}" for k in range(n)]
        for i in ids:
            x, y = rng.uniform(0, 0.5, 2)
            boxes[i] = [x, y, x + 0.4, y + 0.4]
        clips = [
            {"clip_id": i, "label": HOSTILE if k == 0 else f"label {k % 4}", "boxes": [boxes[i]]}
            for k, i in enumerate(ids)
        ]
        shape = {"schema": "avsl-annotations/1", "dataset": "demo", "subset": subset, "truth": "union"}
        (folder / f"{subset}.json").write_text(json.dumps({**shape, "clips": clips, "dropped": []}))
    (folder / "frames").mkdir()
    for i in list(boxes)[1:]:
        Image.new("RGB", (320, 180), (90, 140, 90)).save(folder / "frames" / f"{i}.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, noise in (("supervised", 0.25), ("xpl", 0.05)):
            write_method(name, noise, boxes, rng)
    return folder


def write_method(name: str, noise: float, boxes: dict[str, list[float]], rng: np.random.Generator) -> None:
    grid = (np.arange(10) + 0.5) / 10
    scores, runs = [], []
    for seed in (0, 1):
        folder = Path(f"results/{name}_demo/seed{seed}")
        folder.mkdir(parents=True)
        maps = []
        for x0, y0, x1, y1 in boxes.values():
            dx, dy = rng.normal(0, noise, 2)
            z = ((grid[None] - (x0 + x1) / 2 - dx) ** 2 + (grid[:, None] - (y0 + y1) / 2 - dy) ** 2) / 0.045
            maps.append(np.exp(-0.69 * z))
        ids = list(boxes)[name == "supervised" :]  # one method lacks the first clip
        meta = json.dumps({"excluded": {next(iter(boxes)): "no_audio"}})
        predictions = folder / "predictions.npz"
        heatmap = np.stack(maps)[-len(ids) :]
        np.savez(predictions, clip_id=np.array(ids), heatmap=heatmap, meta=np.array(meta))
        runs.append(f"seed={seed},{folder}/run.json")
        (folder / "run.json").write_text(json.dumps(run_record(seed)))
        for subset in SUBSETS:
            out = f"{folder}/{subset}.json"
            files = ("--predictions", str(predictions), "--annotations", f"{subset}.json", "--out", out)
            run("score", *files, "--protocol", *PROTOCOLS, "--missing", "zero", "--name", name)
            scores.append(f"seed={seed},subset={subset},{out}")
    given = ("--scores", *scores, "--run", *runs, "--out", f"results/{name}_demo.json")
    run("collect", "--name", name, "--testset", "demo", *given)


class Parsed(html.parser.HTMLParser):
    """Collect what a page refers to, and check that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, *names: str) -> list[str]:
        return [attributes[n] or "" for _, attributes in self.tags for n in names if n in attributes]


@pytest.fixture(scope="module")
def page(site: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(site)
        run("report", *RESULTS, "--frames", "frames", "--n", "15", "--out", "report.html")
    return (site / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_refers_to_itself_alone(page: str) -> None:
    parsed = Parsed(page)
    ids = parsed.values("id")
    assert len(set(ids)) == len(ids)
    links = parsed.values("href", "src", "xlink:href", "srcset", "action", "poster", "background")
    assert all(link.startswith(("#", "data:image/")) for link in links)
    used = [link[1:] for link in links if link.startswith("#")]
    used += [key for value in parsed.values("for", "aria-labelledby", "data-filter") for key in value.split()]
    assert set(used) <= set(ids)
    assert len(used) > 20
    assert not re.search(r"https?://|@import|url\(", page)
    assert any(text.startswith("default-src 'none'; img-src data:;") for text in parsed.values("content"))


def test_headings_and_tables_have_their_order(page: str) -> None:
    parsed = Parsed(page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 or (a, b) == (2, 4) for a, b in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in parsed.tags if tag == "th")
    pictures = [attributes for _, attributes in parsed.tags if attributes.get("role") == "img"]
    assert all(attributes["aria-label"] for attributes in pictures)
    # a card per method and clip, and four drawings per protocol and subset: three of metrics, one of curves
    assert len(pictures) >= 2 * 15 + 4 * len(PROTOCOLS) * len(SUBSETS)


def test_hostile_labels_are_text(page: str) -> None:
    assert page.count("<script") == 1
    assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;\u202e</bdi>" in page


def test_every_score_is_there(site: Path, page: str) -> None:
    for path in RESULTS:
        for subset in read_results(site / path).subsets.values():
            for scores in subset["protocols"].values():
                for pooled in scores["pooled"].values():
                    low, high = (f"{100 * v:.1f}" for v in pooled["ci95"])
                    value = f'<span class="value">{100 * pooled["value"]:.1f}</span>'
                    assert f'{value} <span class="interval">[{low}, {high}]</span>' in page
                for answer in scores["context"].values():
                    assert f'<span class="value">{100 * answer["ciou@0.5"]["value"]:.1f}</span>' in page
    for subset, n in SUBSETS.items():
        for k in range(n):
            assert page.count(f'<span class="id"><bdi>{subset[:2]}_-vid{k:04d}_{k:06d}</bdi>') == 1


def test_curves_and_parts_are_means_over_seeds(site: Path, page: str) -> None:
    files = [json.loads((site / f"results/xpl_demo/seed{k}/heard.json").read_text()) for k in (0, 1)]
    entries = [file["protocols"]["fixed"] for file in files]
    shares = [sum(pair) / 2 for pair in zip(*(e["curve"]["share"] for e in entries), strict=True)]
    points = " ".join(f"{44 + 384 * k / 20:.1f},{230 - 220 * y:.1f}" for k, y in enumerate(shares))
    assert f'<polyline class="curve m1" points="{points}"/>' in page
    rows = [{row["name"]: row["metrics"]["ciou@0.5"] for row in e["breakdown"]["class"]} for e in entries]
    values = [
        row["label 1"] if isinstance(row["label 1"], float) else row["label 1"]["value"] for row in rows
    ]
    assert f'<td class="barred" data-v="{sum(values) / 2:.6g}">' in page


def test_references_have_curves(site: Path, page: str) -> None:
    found = json.loads((site / "results/xpl_demo/seed0/heard.json").read_text())["protocols"]["ezvsl"]
    assert found["curve"]["context"].keys() == found["context"].keys()
    for answer, share in found["curve"]["context"].items():
        assert share[10] == found["context"][answer]["ciou@0.5"]["value"]
        points = " ".join(f"{44 + 384 * k / 20:.1f},{230 - 220 * y:.1f}" for k, y in enumerate(share))
        assert points in page


@pytest.mark.parametrize(
    "text",
    [
        "Compare within a rule",
        "It cannot show that a model knows how large a source is",
        "cpu: Some Processor",
        "1234",
        "damaged: 2",
        "no he_-vid0000_000000.jpg in frames",
        "no prediction: no_audio",
        "<b><bdi>supervised</bdi></b>: heard: 1 clip without prediction counts as 0: he_-vid0000_000000",
        "Further results: detection, sweep",
        "sha256 ",
        "heard</bdi>: masks and cIoU under fixed",
    ],
)
def test_what_a_reader_has_to_know(page: str, text: str) -> None:
    assert text in page


def test_digests_of_inputs(site: Path, page: str) -> None:
    inputs = json.loads((site / "results/xpl_demo/seed1/heard.json").read_text())["inputs"]
    assert page.count(inputs["predictions"]["sha256"]) == 2  # of either subset
    assert inputs["annotations"]["sha256"] in page


def test_the_page_is_the_same_every_time(site: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    run("report", "--results", *RESULTS, "--frames", "frames", "--n", "15", "--out", "again.html")
    assert Path("again.html").read_text(encoding="utf-8") == page


def test_one_method_without_frames(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(site)
    run("report", RESULTS[1], "--n", "4", "--out", "one.html")
    assert re.fullmatch(r"wrote one\.html \(\d\.\d MB\)\n", capsys.readouterr().out)
    text = Path("one.html").read_text(encoding="utf-8")
    Parsed(text)
    assert "no folder of frames was given" in text
    assert "data:image/jpeg" not in text
    assert "largest difference" not in text


def test_scores_files_alone_make_a_page(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    files = [f"results/{name}_demo/seed0/heard.json" for name in ("supervised", "xpl")]
    run("report", files[0], f"renamed={files[1]}", "--n", "6", "--out", "alone.html")
    text = Path("alone.html").read_text(encoding="utf-8")
    Parsed(text)
    assert '<p class="lead">2 methods on 9 clips.</p>' in text
    assert "<bdi>renamed</bdi>" in text
    assert "Every metric, all clips under ezvsl, percent" in text
    assert text.count("<article") == 6


def test_digests_go_missing_with_the_scores_files(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site)
    content = json.loads(Path(RESULTS[1]).read_text())
    for file in content["files"]:
        file["scores"] = "moved.json"
    (tmp_path / "r.json").write_text(json.dumps(content))
    run("report", str(tmp_path / "r.json"), "--out", str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "moved.json" in text
    assert "sha256 " not in text
    assert "results/xpl_demo/seed0/predictions.npz" in text


def test_a_heavy_page_says_what_helps(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(site)
    monkeypatch.setattr(cli_report, "LARGE_PAGE", 1)
    run("report", RESULTS[1], "--n", "1", "--out", "one.html")
    assert "smaller frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "path"),
    [("per_clip", "gone.csv"), *itertools.product(("predictions", "annotations"), ("gone.csv", None))],
)
def test_scores_make_a_page_where_the_gallery_cannot_be_drawn(
    kind: str,
    path: str | None,
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(site)
    out = report_of_changed(
        lambda content: [file.update({kind: path}) for file in content["files"]], tmp_path
    )
    text = out.read_text(encoding="utf-8")
    said = "gone.csv of xpl does not exist here" if path else f"The {kind} of xpl were no file"
    assert said in text
    assert "<article" not in text
    assert "the page has no gallery" in caplog.text
    assert said in caplog.text


def report_of_changed(change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    """Write the page of results that were changed."""
    content = json.loads(Path(RESULTS[1]).read_text())
    change(content)
    (folder / "r.json").write_text(json.dumps(content))
    run("report", str(folder / "r.json"), "--n", "15", "--out", str(folder / "r.html"))
    return folder / "r.html"


def test_maps_that_were_not_scored_are_never_drawn(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(site)
    with np.load("results/xpl_demo/seed0/predictions.npz") as old:
        np.savez(tmp_path / "new.npz", clip_id=old["clip_id"], heatmap=old["heatmap"][::-1])
    with pytest.raises(AssertionError):
        report_of_changed(
            lambda content: [f.update(predictions=str(tmp_path / "new.npz")) for f in content["files"]],
            tmp_path,
        )
    assert "predictions or annotations changed after they were scored" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_annotations_that_lost_a_clip_are_named(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(site)
    annotations = json.loads(Path("heard.json").read_text())
    lost = annotations["clips"].pop(3)["clip_id"]
    (tmp_path / "fewer.json").write_text(json.dumps(annotations))
    with pytest.raises(AssertionError):
        report_of_changed(
            lambda content: [f.update(annotations=str(tmp_path / "fewer.json")) for f in content["files"]],
            tmp_path,
        )
    assert f"has clip {lost}, but {tmp_path / 'fewer.json'} has not" in capsys.readouterr().err


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, content in inner:
        yield (*path, key)
        yield from leaves(content, (*path, key))


@pytest.mark.parametrize("seed", range(3))
def test_damaged_results_end_with_one_sentence(
    seed: int, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Put nonsense into one place after the other: there is a whole page, or one line says what is wrong."""
    monkeypatch.chdir(site)
    rng = np.random.default_rng(seed)
    original = Path(RESULTS[1]).read_text()
    places = [p for p in leaves(json.loads(original)) if p[0] in {"name", "testset", "subsets", "warnings"}]
    for _ in range(25):
        content = json.loads(original)
        where = places[int(rng.integers(len(places)))]
        holder = content
        for key in where[:-1]:
            holder = holder[key]
        nonsense = [None, -1, 2.5, "<b>", [], {}, "NaN", True]
        holder[where[-1]] = nonsense[int(rng.integers(len(nonsense)))]
        (tmp_path / "r.json").write_text(json.dumps(content))
        out = tmp_path / "r.html"
        out.unlink(missing_ok=True)
        status = main(["report", str(tmp_path / "r.json"), "--n", "1", "--out", str(out)])
        said = capsys.readouterr().err
        assert (status, out.exists()) in {(0, True), (2, False)}, where
        if status == 0:
            text = out.read_text(encoding="utf-8")
            Parsed(text)
            assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", text))
        else:
            assert said.count("\n") == 1, where


def test_the_page_in_a_browser(site: Path, page: str, browser: Browser) -> None:
    for width in (1280, 390):
        browser.open(site / "report.html", width)
        assert page
        assert browser.complaints == []
        assert {url.split(":")[0] for url in browser.requests} == {"file", "data"}
        assert browser.run("document.documentElement.scrollWidth") == width
    for image in ("image/jpeg", "image/png"):
        assert browser.run(
            "Promise.all(Array.from(document.querySelectorAll(`image[href^='data:"
            + image
            + "']`), async (shown) =>"
            " { const image = new Image(); image.src = shown.getAttribute('href'); await image.decode();"
            " return image.naturalWidth; })).then((widths) => widths.length && Math.min(...widths))"
        ) == (320 if image == "image/jpeg" else 224)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a scores or results file per method"),
        (["nowhere.json"], "nowhere.json"),
        ([RESULTS[0], RESULTS[0]], "same name"),
        ([RESULTS[0], "--frames", "nowhere"], "no folder of frames nowhere"),
        ([RESULTS[0], "--n", "0"], "positive"),
    ],
)
def test_bad_input(
    arguments: list[str],
    message: str,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(site)
    assert main(["report", *arguments, "--out", "bad.html"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("bad.html").exists()


def test_an_input_is_never_overwritten(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(site)
    assert main(["report", RESULTS[0], "--out", RESULTS[0]]) == 2
    assert "named twice" in capsys.readouterr().err
