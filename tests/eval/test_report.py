"""Results and gallery, made by the commands from synthetic predictions of two methods and two seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval import evaluate
from avsl_eval.__main__ import main
from avsl_eval.gallery import choose
from avsl_eval.results_file import read_results
from tests.eval.handmade import run_record

PROTOCOLS = ("ezvsl", "fixed")
SUBSETS = {"heard": 9, "unheard": 6}
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
    return {**run_record(seed), "versions": {"torch": "2.11"}}


RESULTS = ["results/supervised_demo.json", "results/xpl_demo.json"]


def test_pooled_scores_by_hand(site: Path) -> None:
    results = json.loads((site / RESULTS[1]).read_text())
    assert results["schema"] == "avsl-results/2"
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


COLLECT = ["collect", "--name", "a", "--testset", "b", "--out", "x", "--scores"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", RESULTS[0], RESULTS[0]], "same name"),
        (["summary", "nowhere.json"], "avsl-eval score or collect writes it"),
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
            "scored against different annotations",
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
