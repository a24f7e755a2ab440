"""Results files: pooled over seeds by hand, a scores file in their place, what does not belong together."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avsl_eval.collect
import avsl_eval.pooling
import avsl_eval.shape
from avsl_eval.__main__ import main
from avsl_eval.bootstrap import mean_intervals
from avsl_eval.collect import parse_run, parse_scores
from avsl_eval.errors import EvalInputError
from avsl_eval.pooling import mean_of
from avsl_eval.results_file import Results, read_results
from tests.eval.handmade import Ciou, write_scores

SEEDS: dict[int, Ciou] = {0: [0.6, 0.2, 0.7, None], 4: [0.6, 0.6, float("nan"), 0.9]}


@pytest.mark.parametrize("module", [avsl_eval.collect, avsl_eval.pooling, avsl_eval.shape])
def test_examples_in_docstrings_run(module: Any) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted > 0
    assert tried.failed == 0


@pytest.fixture
def pooled(tmp_path: Path) -> Results:
    """Collect two seeds of one subset under two rules, and one seed of another."""
    paths = []
    for seed, values in SEEDS.items():
        sections = {"detection": {"ap": 0.2 + seed / 10, "n": 3}}
        path = tmp_path / f"seed{seed}/heard.json"
        warnings = ["same for all", f"of seed {seed}"]
        write_scores(path, {"lvs": values, "fixed": values}, n_silent=2, sections=sections, warnings=warnings)
        paths.append(str(path))
    write_scores(tmp_path / "seed0/unheard.json", {"lvs": [0.5]}, sha256="other")
    out = tmp_path / "m_t.json"
    scores = [*paths, str(tmp_path / "seed0/unheard.json")]
    assert main(["collect", "--name", "m", "--testset", "t", "--scores", *scores, "--out", str(out)]) == 0
    return read_results(out)


def test_pooled_by_hand(pooled: Results) -> None:
    assert pooled.content["schema"] == "avsl-results/2"
    assert list(pooled.subsets) == ["heard", "unheard"]
    heard = pooled.subsets["heard"]
    assert (heard["n_expected"], heard["testset"]["n_silent"]) == (6, 2)
    found = heard["protocols"]["lvs"]
    assert (found["n_expected"], found["n_scored"], found["missing"]) == (6, 5, ["clip003_000001"])
    share = found["pooled"]["ciou@0.5"]  # 2 of 4 and 3 of 4 sounding clips
    assert (share["value"], share["n_seeds"]) == (0.625, 2)
    assert share["sd_over_seeds"] == pytest.approx(0.25 / 2**0.5)
    per_clip = np.array([[1.0], [0.5], [0.5], [0.5]])
    assert share["ci95"] == mean_intervals(per_clip)[0].tolist()
    assert {seed: value["ciou@0.5"]["value"] for seed, value in found["seeds"].items()} == {
        **{"0": 0.5, "4": 0.75}
    }
    assert found["pooled"]["mean_iou"]["value"] == pytest.approx((1.5 / 4 + 2.1 / 4) / 2)
    assert found["pooled"]["pointing"]["value"] == pytest.approx((0.5 + 0.75) / 2)


def test_the_rest_is_carried_over(pooled: Results) -> None:
    found = pooled.subsets["heard"]["protocols"]["lvs"]
    assert found["detection"] == {"ap": pytest.approx(0.4), "n": 3}
    assert found["curve"]["thresholds"] == [0, 1]
    assert found["curve"]["share"] == [1.0, pytest.approx(found["pooled"]["mean_iou"]["value"])]
    assert found["tied"] == {"n": 1, "share": 0.25, "clips": ["clip003_000001"], "n_large": 0}
    (row,) = found["breakdown"]["size"]
    assert (row["name"], row["n"], row["metrics"]["ciou@0.5"]) == ("large", 4, 0.625)
    assert found["context"]["mean_truth_prior"]["auc"]["value"] == 0.31
    assert pooled.content["warnings"] == [
        {"subset": "heard", "seeds": [0, 4], "text": "same for all"},
        {"subset": "heard", "seeds": [0], "text": "of seed 0"},
        {"subset": "heard", "seeds": [4], "text": "of seed 4"},
    ]


def test_files_are_found_by_subset_and_protocol(pooled: Results) -> None:
    files = pooled.files("heard", "fixed")
    assert [file["seed"] for file in files] == [0, 4]
    assert pooled.file("heard", "fixed") == files[0]
    assert Path(files[1]["per_clip"]).name == "heard.csv"
    assert pooled.files("unheard", "fixed") == []


def test_a_scores_file_stands_for_results(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "x.json", {"lvs": [0.6, None]}, name="my method", warnings=["look"])
    results = read_results(path)
    assert (results.name, results.testset, list(results.subsets)) == ("my method", "t", ["all"])
    found = results.subsets["all"]["protocols"]["lvs"]
    stated = json.loads(path.read_text())["protocols"]["lvs"]
    for metric, value in stated["metrics"].items():
        assert found["pooled"][metric] == {**value, "sd_over_seeds": None, "n_seeds": 1}
    assert (found["n_scored"], found["missing"]) == (1, ["clip001_000001"])
    assert found["curve"] == stated["curve"]
    assert results.content["warnings"] == [{"subset": "all", "seeds": [0], "text": "look"}]
    assert results.file("all", "lvs")["per_clip"] == str(tmp_path / "x.csv")
    assert read_results(write_scores(tmp_path / "y.json", {"lvs": [0.6]})).name == "y"
    assert main(["summary", str(path)]) == 0


def test_one_seed_pooled_is_that_seed(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "seed3/all.json", {"lvs": [0.6, 0.2, 0.7]})
    out = tmp_path / "r.json"
    assert main(["collect", "--name", "m", "--testset", "t", "--scores", str(path), "--out", str(out)]) == 0
    collected, alone = (read_results(p).subsets["all"]["protocols"]["lvs"] for p in (out, path))
    assert collected.pop("seeds") == {"3": alone.pop("seeds")["0"]}
    assert collected == alone


def test_protocols_of_several_files_come_together(tmp_path: Path) -> None:
    scores = []
    for protocol in ("lvs", "fixed"):
        path = write_scores(tmp_path / f"{protocol}.json", {protocol: [0.6, 0.2]})
        scores.append(f"seed=0,subset=heard,{path}")
    out = tmp_path / "r.json"
    assert main(["collect", "--name", "m", "--testset", "t", "--scores", *scores, "--out", str(out)]) == 0
    assert list(read_results(out).subsets["heard"]["protocols"]) == ["lvs", "fixed"]


def test_means_of_nested_values() -> None:
    assert mean_of([[1, 2.0], [3, 2.0]]) == [2.0, 2.0]
    assert mean_of([[1], [1, 2]]) == [1]  # of another shape: the first seed's
    assert mean_of([{"a": 1}, {"b": 1}]) == {"a": 1}
    assert mean_of([True, False]) is True
    assert mean_of([None, 0.5]) is None


def collected(tmp_path: Path, *scores: str) -> int:
    arguments = ["--name", "m", "--testset", "t", "--out", str(tmp_path / "out.json")]
    return main(["collect", *arguments, "--scores", *scores])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({}, "are both of seed 0, subset heard, protocol lvs"),
        ({"seed": 1, "sha256": "other"}, "scored against different annotations, subset heard"),
        ({"seed": 1, "changed_rule": {"version": 2}}, "differ in rule or clips under lvs"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, second: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = second.pop("seed", 0)
    one = write_scores(tmp_path / "one.json", {"lvs": [0.5]})
    two = write_scores(tmp_path / "two.json", {"lvs": [0.5]}, **second)
    assert collected(tmp_path, f"seed=0,subset=heard,{one}", f"seed={seed},subset=heard,{two}") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_table_of_another_evaluation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_scores(tmp_path / "s.json", {"lvs": [0.5, 0.9]})
    table = path.with_suffix(".csv")
    lines = table.read_text().splitlines()
    for changed in (lines[:2], [lines[0], lines[1].replace("0.5", "0.6"), lines[2]]):
        table.write_text("\n".join(changed))
        assert collected(tmp_path, f"seed=0,subset=a,{path}") == 2
        assert "are of different evaluations (under lvs)" in capsys.readouterr().err
    table.unlink()
    assert collected(tmp_path, f"seed=0,subset=a,{path}") == 2
    assert "--per-clip" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    for content, message in (
        ({"schema": "avsl-results/1"}, r"schema 'avsl-results/1', not avsl-results/2.*older version"),
        ({"schema": "avsl-scores/1"}, "older version wrote it"),
        ({"a": 1}, "schema None, not avsl-results/2 or avsl-scores/2"),
        ({"schema": "avsl-results/2"}, r"name is absent \(and 5 more\); write it again by avsl-eval collect"),
        ({"schema": "avsl-scores/2", "protocols": {}}, "lacks .*protocols|lacks "),
        ([], "is JSON, but not an object"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(EvalInputError, match=message) as raised:
            read_results(path)
        assert re.search(r"avsl-eval (score|collect)", str(raised.value))


def test_scores_are_named_by_fields_or_by_layout() -> None:
    for name in ("heard.json", "heard.fixed.json"):
        source = parse_scores(f"a,b/seed12/{name}")
        assert (source.seed, source.subset, str(source.path)) == (12, "heard", f"a,b/seed12/{name}")
    source = parse_scores("subset=my set,seed=4,x/seed12/heard.json")
    assert (source.seed, source.subset) == (4, "my set")
    assert parse_run("seed=3,x/seed12/run.json").seed == 3
    assert parse_run("x/run.json").seed is None
    with pytest.raises(EvalInputError, match="did you mean 'subset'"):
        parse_scores("sbset=heard,x.json")
    with pytest.raises(EvalInputError, match=r"seed=K,subset=NAME,x\.json"):
        parse_scores("x.json")
    with pytest.raises(EvalInputError, match=r"'one' .* not a whole number"):
        parse_scores("seed=one,subset=heard,x.json")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, content in inner:
        yield (*path, key)
        yield from places(content, (*path, key))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["results", "scores"])
def test_damaged_files_end_with_one_line(
    kind: str, seed: int, tmp_path: Path, pooled: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    """Put nonsense into one place after the other: a command works, or one line says what is wrong."""
    whole = tmp_path / ("m_t.json" if kind == "results" else "seed0/heard.json")
    content = whole.read_text()
    assert pooled.path is not None
    rng = np.random.default_rng(seed)
    damaged, written = whole.with_name("damaged.json"), ["--out", str(tmp_path / "out.json")]
    everywhere = list(places(json.loads(content)))
    for _ in range(15):
        changed = json.loads(content)
        *path, last = everywhere[int(rng.integers(len(everywhere)))]
        holder = changed
        for key in path:
            holder = holder[key]
        nonsense = [None, -1, 2.5, "<b>", [], {}, "NaN", True]
        if rng.random() < 0.3 and isinstance(holder, dict):
            del holder[last]
        else:
            holder[last] = nonsense[int(rng.integers(len(nonsense)))]
        damaged.write_text(json.dumps(changed))
        commands = [
            ["summary", str(damaged)],
            ["compare", f"a={damaged}", f"b={whole}", "--no-details"],
            ["collect", "--name", "m", "--testset", "t", "--scores", f"seed=0,subset=s,{damaged}", *written],
        ]
        for command in commands:
            status = main(command)
            said = capsys.readouterr().err
            assert (status, said.count("\n")) in {(0, 0), (2, 1)}, (path, last, command)
