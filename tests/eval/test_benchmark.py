"""Benchmarks: a grid of hand-made cells, what is refused, the document and its drawings."""

from __future__ import annotations

import doctest
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avsl_eval.benchmark
from avsl_eval.__main__ import main
from avsl_eval.benchmark import benchmark, read_benchmark
from avsl_eval.benchmark_charts import Line, chart
from avsl_eval.benchmark_page import BEGIN, END, page
from avsl_eval.errors import EvalInputError
from avsl_eval.paired import holm, sign_flip_test
from avsl_eval.results_file import Results, read_results
from avsl_eval.training_log import validations
from tests.eval.handmade import write_scores

LABELED = {"few": 3, "t": 10}
GOOD: Mapping[str, list[list[float]]] = {
    # One row per seed; a clip counts where cIoU >= 0.5.
    "ours": [[0.9] * 8 + [0.1] * 2, [0.9] * 7 + [0.1] * 3],
    "base": [[0.9] * 5 + [0.1] * 5, [0.9] * 4 + [0.1] * 6],
    "ours-less": [[0.9] * 6 + [0.1] * 4, [0.9] * 6 + [0.1] * 4],
}


def cell(
    folder: Path, method: str, testset: str, values: list[list[float]], sha256: str = "same", **run: Any
) -> Path:
    """Collect seeds of one method at one budget, with records of trainings and their logs."""
    scores, runs = [], []
    for seed, ciou in enumerate(values):
        place = folder / method / testset / f"seed{seed}"
        scores.append(
            str(write_scores(place / "heard.json", {"fixed": ciou, "adaptive": ciou}, sha256=sha256))
        )
        clips = {"labeled": LABELED[testset], "unlabeled": 90, "used": LABELED[testset] + 90}
        record = {
            "seed": seed,
            "wall_time_s": 10.0 * (seed + 1),
            "device": "cpu",
            "commit": "abc",
            "clips": clips,
        }
        (place / "run.json").write_text(json.dumps({**record, **run}))
        lines: list[dict[str, Any]] = [{"step": 4, "event": "step", "lr": 0.1}]
        lines += [
            {"step": step, "event": "val", "ciou@0.5": value, "better": True}
            for step, value in ((4, 0.2), (8, 0.4), (10, 0.5 + 0.1 * seed), (12, 0.6))
        ]
        (place / "metrics.jsonl").write_text(
            "".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 13, "ev'
        )
        runs.append(str(place / "run.json"))
    out = folder / f"{method}_{testset}.json"
    arguments = ["collect", "--name", method, "--testset", testset, "--out", str(out)]
    assert main([*arguments, "--scores", *scores, "--run", *runs]) == 0
    return out


@pytest.fixture
def cells(tmp_path: Path) -> dict[tuple[str, str], Path]:
    """Write a grid of two methods over two budgets, and an ablation at the main one."""
    wanted = [("base", "few"), ("base", "t"), ("ours", "t"), ("ours", "few"), ("ours-less", "t")]
    return {key: cell(tmp_path, *key, GOOD[key[0]]) for key in wanted}


def made(paths: list[Path], **changed: Any) -> dict[str, Any]:
    """Make the benchmark of some cells."""
    names = {
        "name": "small",
        "reference": "ours",
        "main": "t",
        "protocol": "fixed",
        "ablations": ["ours-less"],
    }
    found: list[Results] = [read_results(path) for path in paths]
    return benchmark(found, **{**names, **changed})


def test_examples_in_docstrings_run() -> None:
    tried = doctest.testmod(avsl_eval.benchmark)
    assert tried.attempted > 0
    assert tried.failed == 0


def test_a_grid_by_hand(cells: dict[tuple[str, str], Path]) -> None:
    found = made([*cells.values()])
    assert [(b["testset"], b["labeled"], b["clips"]) for b in found["budgets"]] == [
        ("few", 3, 93),
        ("t", 10, 100),
    ]
    assert found["methods"] == [
        {"name": "base", "kind": "method"},
        {"name": "ours", "kind": "method"},
        {"name": "ours-less", "kind": "ablation"},
    ]
    assert found["missing"] == []
    assert found["subsets"] == {
        "heard": {
            "n": 10,
            "context": {"ceiling": 0.9, "center_prior": 0.3, "mean_truth_prior": 0.31, "whole_image": 0.2},
        }
    }
    by_key = {(one["method"], one["testset"]): one for one in found["cells"]}
    assert [*by_key] == [("base", "few"), ("base", "t"), ("ours", "few"), ("ours", "t"), ("ours-less", "t")]
    ours = by_key["ours", "t"]
    score = ours["subsets"]["heard"]["fixed"]
    assert score["value"] == pytest.approx(0.75)
    assert score["seeds"] == {"0": 0.8, "1": 0.7}
    assert score["sd_over_seeds"] == pytest.approx(0.1 / np.sqrt(2))
    assert (
        score["ci95"]
        == read_results(cells["ours", "t"]).subsets["heard"]["protocols"]["fixed"]["pooled"]["ciou@0.5"][
            "ci95"
        ]
    )
    assert (ours["differences"], ours["seeds"], ours["seconds"]) == (None, [0, 1], {"0": 10.0, "1": 20.0})
    assert ours["validation"]["steps"] == [4, 8, 10, 12]
    assert ours["validation"]["seeds"]["1"] == [0.2, 0.4, 0.6, 0.6]
    # Of 12 steps those after step 9 are late: .5 .6 of seed 0, .6 .6 of seed 1.
    assert ours["late_sd"] == {"0": round(0.1 / np.sqrt(2), 4), "1": 0.0}


def test_differences_are_paired_and_corrected(cells: dict[tuple[str, str], Path]) -> None:
    by_key = {(one["method"], one["testset"]): one for one in made([*cells.values()])["cells"]}
    means = {name: np.mean(np.array(rows) >= 0.5, axis=0) for name, rows in GOOD.items()}
    others = ["base", "ours-less"]
    p = [sign_flip_test(means["ours"] - means[other]) for other in others]
    for other, raw, corrected in zip(others, p, holm(np.array(p)), strict=True):
        said = by_key[other, "t"]["differences"]["heard"]
        assert said["difference"] == pytest.approx(float(np.mean(means["ours"] - means[other])))
        assert (said["p"], said["p_holm"]) == (raw, corrected)
        assert said["ci95"][0] <= said["difference"] <= said["ci95"][1]
    alone = by_key["base", "few"]["differences"]["heard"]  # a family of one
    assert alone["p_holm"] == alone["p"]


def test_cells_that_are_not_there_are_named(cells: dict[tuple[str, str], Path]) -> None:
    del cells["ours", "few"]
    found = made([*cells.values()])
    assert found["missing"] == [{"method": "ours", "testset": "few"}]
    assert next(one for one in found["cells"] if one["testset"] == "few")["differences"] is None
    text, drawings = page(found, "figures")
    assert "not there: ours on few" in text
    assert set(drawings) == {"heard.svg", "learning.svg"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "our"}, r"unknown reference 'our'.*'ours'"),
        ({"main": "fe"}, r"unknown main test set 'fe'.*few"),
        ({"ablations": ["ours-les"]}, r"unknown ablation 'ours-les'.*ours-less"),
        ({"protocol": "lvs"}, r"unknown protocol of .*'lvs'"),
    ],
)
def test_unknown_names_are_told(
    cells: dict[tuple[str, str], Path], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvalInputError, match=message):
        made([*cells.values()], **change)


def test_cells_that_do_not_belong_together_are_refused(
    tmp_path: Path, cells: dict[tuple[str, str], Path]
) -> None:
    paths = [*cells.values()]
    with pytest.raises(EvalInputError, match=r"both of base on few"):
        made([*paths, cells["base", "few"]])
    with pytest.raises(EvalInputError, match=r"a benchmark needs results"):
        made([])
    other = cell(tmp_path / "other", "third", "t", GOOD["base"], sha256="other")
    with pytest.raises(EvalInputError, match=r"different annotations of heard"):
        made([*paths, other])
    clips = {"labeled": 11, "used": 101}
    more = cell(tmp_path / "more", "third", "t", GOOD["base"], clips=clips)
    with pytest.raises(
        EvalInputError, match=r"trainings for t do not agree .*10 of 100 .*11 of 101 .*third_t"
    ):
        made([*paths, more])
    unsaid = cell(tmp_path / "unsaid", "third", "t", GOOD["base"], clips={})
    with pytest.raises(EvalInputError, match=r"run\.json of seed 0 does not say how many clips"):
        made([*paths, unsaid])


def test_a_log_is_read_line_by_line(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert validations(log) == []
    log.write_text('{"step": 5, "event": "val", "a": 1}\n{"step": 2, "event": "val", "a": 0.5}\n{"st')
    assert validations(log) == [{"step": 2, "a": 0.5}, {"step": 5, "a": 1}]
    for text in ("[1]\n", '{"step": 1}\n', "no JSON\n", '{"step": "x", "event": "val"}\n'):
        log.write_text(text)
        with pytest.raises(EvalInputError, match=r"line 1 of .*metrics\.jsonl is no record"):
            validations(log)


def test_seeds_validated_at_other_steps_have_no_common_curve(tmp_path: Path) -> None:
    path = cell(tmp_path, "ours", "t", GOOD["ours"])
    content = json.loads(path.read_text())
    content["provenance"]["runs"]["1"]["validation"].pop()
    path.write_text(json.dumps(content))
    (found,) = made([path], ablations=[])["cells"]
    assert (found["validation"], found["late_sd"]) == (None, None)


def test_the_command_writes_and_reads_back(
    tmp_path: Path, cells: dict[tuple[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out, document = tmp_path / "benchmark_small.json", tmp_path / "docs/benchmark.md"
    options = ["--name", "small", "--reference", "ours", "--main", "t", "--ablations", "ours-less"]
    absent = tmp_path / "third_t.json"
    paths = [*map(str, cells.values()), str(absent)]
    assert main(["benchmark", *paths, *options, "--out", str(out)]) == 2
    assert str(absent) in capsys.readouterr().err
    assert not out.exists()
    assert main(["benchmark", *paths, *options, "--partial", "--out", str(out)]) == 0
    assert read_benchmark(out) == made([*cells.values()])

    document.parent.mkdir()
    document.write_text("before\n")
    assert main(["benchmark-page", str(out), "--update", str(document)]) == 2
    assert "has no marks" in capsys.readouterr().err
    document.write_text(f"before\n{BEGIN}old\n{END}after\n")
    for _ in range(2):  # the second time from its own copy
        assert main(["benchmark-page", str(out), "--update", str(document)]) == 0
        out = document.parent / "benchmark_small/benchmark.json"
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}**cIoU@0.5")
    assert text.endswith(f"{END}after\n")
    assert "old" not in text
    for file in re.findall(r"\((benchmark_small/\w+\.svg)\)", text):
        assert (document.parent / file).is_file()
    main(["benchmark-page", str(out)])
    assert capsys.readouterr().out in text
    assert main(["benchmark-page", str(out), "--update", str(tmp_path / "no.md")]) == 2
    assert "no.md" in capsys.readouterr().err
    out.write_text('{"schema": "avsl-benchmark/1", "name": 3}')
    assert main(["benchmark-page", str(out)]) == 2
    assert "write it again by avsl-eval benchmark" in capsys.readouterr().err


def test_the_page_says_what_was_measured(cells: dict[tuple[str, str], Path]) -> None:
    text, _ = page(made([*cells.values()]), "benchmark_small")
    rows = {line.split("|")[1].strip(): line for line in text.split("\n") if line.startswith("| ours ")}
    assert "75.0 [" in text
    assert "| 75.0 | 3.54 | 15 |" in rows["ours"] or "75.0" in rows["ours"]
    assert "10 % labels (10 clips)" in text
    assert "3 % labels (3 clips)" in text
    assert "+30.0 [" in text  # ours minus base
    assert "10 trainings" in text
    assert "commit abc" in text


def test_drawings_are_valid_and_stand_on_their_scale() -> None:
    svg = chart(
        [Line("a<b", [10, 100], [0.5, 0.6], [0.45, 0.5], [0.55, 0.7]), Line("c", [10, 100], [0.5, 0.5])],
        "t",
        "x",
        log=True,
    )
    root = ET.fromstring(svg)
    names = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a<b 60.0" in names
    lines = [one.get("points") for one in root.iter("{http://www.w3.org/2000/svg}polyline")]
    # 45 to 70 percent on 330 to 34: .5 is a fifth up, .6 three fifths.
    assert lines == ["56.0,270.8 540.0,152.4", "56.0,270.8 540.0,270.8"]
    (band,) = [one.get("points") for one in root.iter("{http://www.w3.org/2000/svg}polygon")]
    assert band == "56.0,211.6 540.0,34.0 540.0,270.8 56.0,330.0"
