"""The whole line on a miniature demo: six rendered videos, a few steps of training, scores and a page."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.workflow.conftest import Snakemake, run_snakemake

EXPERIMENTS = ("supervised", "xpl")
PROTOCOLS = ("lvs", "fixed")
TINY = {
    "datasets": {"demo": {"render": {"videos": 6, "scenes": 3, "val": 1, "test": 2}}},
    "trainsets": {
        "demo": {
            "split": {"labels": 3},
            "recipe": {"optim": {"steps": 4, "batch_labeled": 2, "batch_unlabeled": 2}},
        },
        "demo-few": {"like": "demo", "split": {"labels": 2}},
    },
    "testsets": {"demo-few": {"dataset": "demo", "trainset": "demo-few", "subsets": ["heard", "unheard"]}},
    "benchmarks": {
        "demo": {
            "testsets": ["demo-few", "demo"],
            "experiments": ["supervised", "supervised+con"],
            "ablations": ["hard-pl"],
            "main": "demo",
            "reference": "supervised+con",
            "seeds": [0],
        }
    },
    "protocols": list(PROTOCOLS),
    "report_experiments": list(EXPERIMENTS),
}

pytestmark = pytest.mark.xdist_group("end to end")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the working directory of the miniature study, with its configuration."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    return folder


@pytest.fixture(scope="module")
def run(repository: Path, folder: Path) -> Snakemake:
    """Return a function that runs snakemake on the miniature study."""
    return partial(
        run_snakemake, repository, folder, "--configfile", str(folder / "tiny.json"), "--cores", "2"
    )


@pytest.fixture(scope="module")
def finished(run: Snakemake) -> subprocess.CompletedProcess[str]:
    """Return what the first, complete run said."""
    done = run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_results_hold_scores_and_where_they_come_from(folder: Path, experiment: str) -> None:
    text = (folder / f"results/{experiment}_demo.json").read_text()
    assert json.loads(text)
    config = json.loads((folder / f"runs/demo/{experiment}/config.json").read_text())
    assert config["method"]["name"] == experiment
    assert config["optim"]["steps"] == TINY["trainsets"]["demo"]["recipe"]["optim"]["steps"]  # type: ignore[index]
    for word in ("heard", "unheard", *PROTOCOLS, "ciou@0.5", "ci95", "ceiling", "center_prior"):
        assert word in text
    run = json.loads((folder / f"runs/demo/{experiment}/seed0/run.json").read_text())
    assert run["checkpoint_sha256"] in text


@pytest.mark.usefixtures("finished")
def test_the_page_shows_every_experiment_and_needs_no_other_file(folder: Path) -> None:
    page = (folder / "results/report_demo.html").read_text()
    for experiment in EXPERIMENTS:
        assert experiment in page
    assert "data:image/" in page
    assert 'src="http' not in page


def test_a_second_run_does_nothing_and_says_so(
    run: Snakemake, finished: subprocess.CompletedProcess[str]
) -> None:
    assert "Nothing to be done" not in finished.stdout + finished.stderr
    again = run("demo")
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("experiments={xpl: {method: {beta: 0.5}}}", {"resolve": 1, "train": 1, "predict": 1}),
        ("trainsets={demo: {recipe: {optim: {steps: 6}}}}", {"resolve": 2, "train": 2, "predict": 2}),
        ("protocols=[lvs,fixed,adaptive]", {"resolve": 0, "train": 0, "predict": 0, "score": 4}),
        ("datasets={vggss: {buckets: 4}}", {"resolve": 0, "train": 0, "predict": 0, "score": 0}),
    ],
)
def test_a_change_runs_what_depends_on_it_and_nothing_else(
    run: Snakemake, change: str, expected: dict[str, int]
) -> None:
    planned = run("-n", "demo", "--config", change)
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    table = output.split("Job stats:", maxsplit=1)[-1].split("total", maxsplit=1)[0].split()
    counts = {rule: int(table[table.index(rule) + 1]) if rule in table else 0 for rule in expected}
    assert counts == expected
    assert "download" not in table


@pytest.mark.usefixtures("finished")
def test_real_clips_are_scored_with_the_checkpoint_of_the_demo(
    run: Snakemake, folder: Path, shared: Path
) -> None:
    clips = shared / "clips/vggss"
    done = run(
        "results/xpl_sample.json",
        "--config",
        f"sample_clips={clips}",
        f"sample_annotations={clips / 'annotations.json'}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((folder / "results/xpl_sample/seed0/test.json").read_text())["protocols"]["fixed"]
    assert scores["n_expected"] == scores["n_scored"] == 6


def test_a_benchmark_trains_what_lacks_and_names_a_cell_that_fails(
    run: Snakemake, finished: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert finished.returncode == 0
    cells = {
        *((name, testset) for name in ("supervised", "supervised+con") for testset in ("demo-few", "demo")),
        ("hard-pl", "demo"),
    }
    broken = "experiments={hard-pl: {optim: {lr: 1.0e+30}}}"
    failed = run("results/benchmark_demo.json", "--keep-going", "--config", broken)
    assert failed.returncode == 1
    assert "runs/demo/hard-pl/seed0/checkpoint.pt" in failed.stdout + failed.stderr
    there = {path.stem for path in folder.glob("results/benchmark_demo/*.json")}
    assert there == {f"{name}_{testset}" for name, testset in cells - {("hard-pl", "demo")}}
    assert not (folder / "results/benchmark_demo.json").exists()
    done = run("results/benchmark_demo.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"rule train:|Train \S+ on \S+, seed \d", done.stderr) == [
        "Train hard-pl on demo, seed 0"
    ]
    table = json.loads((folder / "results/benchmark_demo.json").read_text())
    assert [budget["labeled"] for budget in table["budgets"]] == [2, 3]
    assert {(cell["method"], cell["testset"]) for cell in table["cells"]} == cells
    assert table["missing"] == []
    again = run("results/benchmark_demo.json")
    assert "Nothing to be done" in again.stdout + again.stderr
