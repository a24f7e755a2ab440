"""Results, gallery and page, made by the commands from synthetic predictions of two methods and two seeds."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval import evaluate
from avsl_eval.__main__ import main
from avsl_eval.collect import parse_run, parse_scores, read_results
from avsl_eval.errors import EvalInputError
from avsl_eval.gallery import choose
from avsl_eval.picture import jpeg_size, outline_path, overlay_png

PROTOCOLS = ("ezvsl", "fixed")
SUBSETS = {"heard": 9, "unheard": 6}
# The smallest JPEG header that states a size: start, frame header of 320 x 180 pixels, end.
JPEG = b"\xff\xd8\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 180, 320) + b"\x01\x01\x11\x00\xff\xd9"
ATTACK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the workflow has before collect, in its layout, and collect it."""
    folder = tmp_path_factory.mktemp("site")
    rng = np.random.default_rng(5)
    grid = (np.arange(10) + 0.5) / 10
    boxes: dict[str, list[float]] = {}
    for subset, n in SUBSETS.items():
        ids = [f"{subset[:2]}_-vid{k:04d}_{k:06d}" for k in range(n)]
        for i in ids:
            x0, y0 = rng.uniform(0, 0.5, 2)
            boxes[i] = [x0, y0, x0 + 0.4, y0 + 0.4]
        clips = [
            {"clip_id": i, "label": ATTACK if k == 0 else f"label {k}", "boxes": [boxes[i]]}
            for k, i in enumerate(ids)
        ]
        content = {
            "schema": "avsl-annotations/1",
            "dataset": "demo",
            "subset": subset,
            "truth": "union",
            "clips": clips,
        }
        path = folder / "data" / "demo" / "annotations" / f"{subset}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content | {"dropped": []}))
    (folder / "frames").mkdir()
    for i in list(boxes)[1:]:
        (folder / "frames" / f"{i}.jpg").write_bytes(JPEG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, noise in (("supervised", 0.25), ("xpl", 0.05)):
            write_method(name, noise, boxes, grid, rng)
    return folder


def write_method(name: str, noise: float, boxes: dict[str, list[float]], grid: Any, rng: Any) -> None:
    scores, runs = [], []
    for seed in (0, 1):
        folder, run = Path(f"results/{name}_demo/seed{seed}"), Path(f"runs/demo/{name}/seed{seed}/run.json")
        folder.mkdir(parents=True)
        run.parent.mkdir(parents=True)
        maps = []
        for x0, y0, x1, y1 in boxes.values():
            dx, dy = rng.normal(0, noise, 2)
            z = ((grid[None] - (x0 + x1) / 2 - dx) ** 2 + (grid[:, None] - (y0 + y1) / 2 - dy) ** 2) / 0.045
            maps.append(np.exp(-0.69 * z))
        ids = list(boxes)[name == "supervised" :]
        meta = json.dumps({"excluded": {next(iter(boxes)): "no_audio"}})
        np.savez(
            folder / "predictions.npz",
            clip_id=np.array(ids),
            heatmap=np.stack(maps)[-len(ids) :],
            meta=np.array(meta),
        )
        run.write_text(json.dumps(record(seed)))
        runs.append(str(run))
        for subset in SUBSETS:
            for protocol in PROTOCOLS:
                out = folder / f"{subset}.{protocol}.json"
                found = evaluate(
                    folder / "predictions.npz", f"data/demo/annotations/{subset}.json", protocol, "zero"
                )
                found.save(out, out.with_suffix(".csv"))
                scores.append(str(out))
    out = f"results/{name}_demo.json"
    assert (
        main(
            [
                "collect",
                "--name",
                name,
                "--testset",
                "demo",
                "--scores",
                *scores,
                "--run",
                *runs,
                "--out",
                out,
            ]
        )
        == 0
    )


def record(seed: int) -> dict[str, Any]:
    return {
        "schema": "avsl-run/1",
        "seed": seed,
        "config_digest": "c0ffee" * 8,
        "commit": "0123456789abcdef+dirty",
        "checkpoint_sha256": f"{seed}a" * 32,
        "device": "cpu: Some Processor",
        "wall_time_s": 90.0,
        "steps": 1500,
        "clips": {"used": 1234, "excluded": {"x_000001": "damaged", "y_000002": "damaged"}},
        "versions": {"torch": "2.11"},
    }


RESULTS = ["results/supervised_demo.json", "results/xpl_demo.json"]


def test_pooled_scores_by_hand(site: Path) -> None:
    results = json.loads((site / RESULTS[1]).read_text())
    assert results["schema"] == "avsl-results/1"
    assert (results["name"], results["testset"]) == ("xpl", "demo")
    for subset, n in SUBSETS.items():
        assert results["subsets"][subset]["n_expected"] == n
        for protocol in PROTOCOLS:
            found = results["subsets"][subset]["protocols"][protocol]
            files = [site / f"results/xpl_demo/seed{seed}/{subset}.{protocol}.json" for seed in (0, 1)]
            each = [json.loads(file.read_text())["protocols"][protocol] for file in files]
            assert found["context"] == each[0]["context"]
            assert found["rule"]["name"] == protocol
            for metric, pooled in found["pooled"].items():
                values = [score["metrics"][metric]["value"] for score in each]
                assert pooled["value"] == pytest.approx(sum(values) / 2)
                assert pooled["sd_over_seeds"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
                assert pooled["n_seeds"] == 2
                assert pooled["ci95"][0] <= pooled["value"] <= pooled["ci95"][1]
                assert {seed: found["seeds"][seed][metric]["value"] for seed in ("0", "1")} == dict(
                    zip("01", values, strict=True)
                )


def test_provenance(site: Path) -> None:
    provenance = json.loads((site / RESULTS[0]).read_text())["provenance"]
    assert provenance["config_digest"] == "c0ffee" * 8
    assert provenance["checkpoint_sha256"] == {"0": "0a" * 32, "1": "1a" * 32}
    assert provenance["clips"]["0"]["excluded"]["x_000001"] == "damaged"
    assert provenance["runs"]["1"] == record(1)
    assert provenance["predictions"]["0"]["excluded"] == {"he_-vid0000_000000": "no_audio"}
    heard = json.loads((site / RESULTS[0]).read_text())["subsets"]["heard"]["protocols"]["fixed"]
    assert (heard["n_scored"], heard["missing"]) == (8, ["he_-vid0000_000000"])


def test_scores_are_named_by_fields_or_by_layout() -> None:
    source = parse_scores("a,b/seed12/heard.fixed.json")
    assert (source.seed, source.subset, str(source.per_clip)) == (12, "heard", "a,b/seed12/heard.fixed.csv")
    source = parse_scores("subset=my set,seed=4,x/seed12/heard.fixed.json")
    assert (source.seed, source.subset) == (4, "my set")
    assert parse_run("seed=3,x/seed12/run.json").seed == 3
    assert parse_run("x/run.json").seed is None
    with pytest.raises(EvalInputError, match="did you mean 'subset'"):
        parse_scores("sbset=heard,x.json")
    with pytest.raises(EvalInputError, match=r"seed=K,subset=NAME,x\.json"):
        parse_scores("x.json")
    with pytest.raises(EvalInputError, match=r"'one' .* not a whole number"):
        parse_scores("seed=one,subset=heard,x.json")


def test_the_gallery_is_the_same_every_time(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    for out in ("one.txt", "two.txt"):
        assert main(["gallery", "--scores", *RESULTS, "--n", "8", "--out", out]) == 0
    assert Path("one.txt").read_text() == Path("two.txt").read_text()
    results = [read_results(Path(path)) for path in RESULTS]
    picks = choose(results, 8)
    assert [pick.clip_id for pick in picks] == Path("one.txt").read_text().split()
    assert [pick.subset for pick in picks] == ["heard"] * 4 + ["unheard"] * 4
    assert [pick.kind for pick in picks[:4]] == ["largest difference", "best", "typical", "worst"]
    assert len({pick.clip_id for pick in choose(results, 100)}) == sum(SUBSETS.values())
    assert {pick.kind for pick in choose(results[:1], 6)} == {"best", "typical", "worst"}


class Page(html.parser.HTMLParser):
    """Collect tags and check that they are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.images = 0
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [
            values[key] or "" for key in ("href", "src", "xlink:href", "srcset") if key in values
        ]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.images += values.get("role") == "img"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(site: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(site)
        assert (
            main(["report", "--results", *RESULTS, "--frames", "frames", "--n", "15", "--out", "report.html"])
            == 0
        )
    return (site / "report.html").read_text()


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    parsed = Page(page)
    assert all(reference.startswith(("#", "data:image/")) for reference in parsed.references)
    assert {reference[1:] for reference in parsed.references if reference.startswith("#")} <= set(parsed.ids)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert not re.search(r"https?://|@import|url\(|<script", page)
    assert ATTACK.replace("<", "&lt;").replace(">", "&gt;") in page


def test_the_page_shows_every_clip_method_and_number(site: Path, page: str) -> None:
    results = [read_results(site / path) for path in RESULTS]
    for r in results:
        assert f'<th scope="row">{r.name}</th>' in page
        for subset in r.subsets.values():
            for scores in subset["protocols"].values():
                for pooled in scores["pooled"].values():
                    low, high = (f"{100 * v:.1f}" for v in pooled["ci95"])
                    assert f'{100 * pooled["value"]:.1f}</span><span class="interval">[{low}, {high}]' in page
                for answer in scores["context"].values():
                    assert f'<span class="value">{100 * answer["ciou@0.5"]["value"]:.1f}</span>' in page
    for subset, n in SUBSETS.items():
        for k in range(n):
            assert page.count(f'<span class="id">{subset[:2]}_-vid{k:04d}_{k:06d}</span>') == 1
    # one drawing per method and clip, and one per subset and protocol
    assert Page(page).images == 2 * 15 + 2 * 2
    for text in (
        "Compare within a column",
        "ceiling of the rule",
        "centred disc",
        "cpu: Some Processor",
        "1234",
        "damaged: 2",
    ):
        assert text in page


def test_what_is_absent_is_said(page: str) -> None:
    assert "no he_-vid0000_000000.jpg in frames" in page
    assert "no prediction: no_audio" in page
    assert "supervised: 1 clips without prediction count as 0" in page


def test_overlays_are_pngs_of_the_scored_map(page: str) -> None:
    images = re.findall(r'href="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 2 * 15 - 1
    content = base64.b64decode(images[0])
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (224, 224)


def test_png_by_hand() -> None:
    content = overlay_png(np.array([[0.0, 1.0], [2.0, 0.5]]))
    position, chunks = 8, {}
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        assert (
            zlib.crc32(kind + data)
            == struct.unpack(">I", content[position + 8 + length : position + 12 + length])[0]
        )
        chunks[kind], position = data, position + 12 + length
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 0, 63, 0, 63, 32])
    assert len(chunks[b"PLTE"]) == 3 * len(chunks[b"tRNS"])
    assert chunks[b"tRNS"][0] == 0


def test_outline_goes_along_the_edges_of_pixels() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert sorted(re.findall(r"M[^M]+", outline_path(mask))) == ["M1 1H4", "M1 1V3", "M1 3H4", "M4 1V3"]
    assert outline_path(np.ones((3, 3), bool)) == ""


def test_jpeg_size() -> None:
    assert jpeg_size(JPEG, "x.jpg") == (320, 180)
    for bad in (b"", b"\x89PNG", JPEG[:9], b"\xff\xd8\xff\xe0\xff\xff"):
        with pytest.raises(EvalInputError, match=r"x\.jpg is not a JPEG"):
            jpeg_size(bad, "x.jpg")


def test_summary(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(site)
    assert main(["summary", *RESULTS]) == 0
    text = capsys.readouterr().out
    results = read_results(Path(RESULTS[1]))
    value = results.subsets["heard"]["protocols"]["fixed"]["pooled"]["ciou@0.5"]["value"]
    assert re.search(rf"^xpl .*{100 * value:.1f} \[", text, re.MULTILINE)
    assert "centred disc" in text
    assert not re.search(r" $", text, re.MULTILINE)


COLLECT = ["collect", "--name", "a", "--testset", "b", "--out", "x", "--scores"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "results/xpl_demo/seed0/heard.fixed.json"], "not schema avsl-results/1"),
        (["summary", RESULTS[0], RESULTS[0]], "same name"),
        (["summary", "nowhere.json"], "avsl-eval collect writes it"),
        (["gallery", "--scores", RESULTS[0], "--n", "0", "--out", "x"], "positive"),
        (["report", "--results", RESULTS[0], "--out", RESULTS[0]], "named twice"),
        ([*COLLECT, "s0.json"], "seed=K"),
        (
            [*COLLECT, "seed=0,subset=a,no.json"],
            "avsl-eval score",
        ),
        (
            [
                *COLLECT,
                "results/xpl_demo/seed0/heard.fixed.json",
                "seed=0,results/xpl_demo/seed1/heard.fixed.json",
            ],
            "both of seed 0",
        ),
        (
            [
                *COLLECT,
                "results/xpl_demo/seed0/heard.fixed.json",
                "subset=heard,results/xpl_demo/seed1/unheard.fixed.json",
            ],
            "differ in rule or clips",
        ),
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
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_table_of_another_evaluation_is_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = site / "results/xpl_demo/seed0"
    (tmp_path / "s.json").write_bytes((source / "heard.fixed.json").read_bytes())
    (tmp_path / "s.csv").write_bytes((source / "unheard.fixed.csv").read_bytes())
    scores = f"seed=0,subset=heard,{tmp_path / 's.json'}"
    out = tmp_path / "out.json"
    assert main(["collect", "--name", "a", "--testset", "b", "--scores", scores, "--out", str(out)]) == 2
    assert "different evaluations" in capsys.readouterr().err
    (tmp_path / "s.csv").unlink()
    assert main(["collect", "--name", "a", "--testset", "b", "--scores", scores, "--out", str(out)]) == 2
    assert "--per-clip" in capsys.readouterr().err
    assert not out.exists()
