"""Dry runs: what the workflow would do, how long planning takes, and what it says to a wrong request."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import Snakemake

SECONDS_TO_PLAN = 5.0
"""Bound on planning the VGG-SS study, of which it needs about a quarter.

The processor time is compared: planning waits for nothing, and on a machine that is busy with other tests the
time on the clock says little. ``benchmarks/plan_vggss.py`` measures that one.
"""


MEGABYTES_TO_PLAN = 300.0


def jobs(output: str) -> dict[str, int]:
    """Return the number of jobs of each rule from the table that snakemake prints."""
    table = output.split("Job stats:", maxsplit=1)[1].split("total", maxsplit=1)[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def processor_seconds() -> float:
    """Return the processor time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_demo_trains_every_experiment_and_scores_it_under_every_protocol(snakemake: Snakemake) -> None:
    planned = snakemake("-n", "demo")
    assert planned.returncode == 0, planned.stderr
    found = jobs(planned.stdout + planned.stderr)
    assert found == {
        **{"render_site": 1, "catalog": 1, "annotations": 1, "download": 2, "preprocess": 2, "split": 1},
        **{"subset_annotations": 2, "resolve": 4, "train": 4, "predict": 4, "score": 4 * 2, "collect": 4},
        **{"gallery": 1, "frames": 1, "report": 1, "demo": 1},
    }


def test_no_target_means_the_pages_of_the_configuration(snakemake: Snakemake) -> None:
    planned = snakemake("-n")
    assert planned.returncode == 0, planned.stderr
    assert jobs(planned.stdout + planned.stderr)["report"] == 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_vggss_is_planned_in_seconds_without_data(
    snakemake: Snakemake, mirrored: bool, request: pytest.FixtureRequest
) -> None:
    mirror = [f"mirror={request.getfixturevalue('shared') / 'mirror'}"] if mirrored else []
    before = processor_seconds()
    planned = snakemake(
        "-n", "-p", "--cores", "8", "results/xpl_vggss.json", "--config", "seeds=[0]", *mirror
    )
    needed = processor_seconds() - before
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    found = jobs(output)
    assert found["download"] == found["preprocess"] == 8 + 144
    assert found["train"] == 1
    assert "--list vggsound_144k@ssltie" in output
    assert ("--mirror" in output) == mirrored
    assert needed < SECONDS_TO_PLAN


def test_two_hundred_thousand_clips_are_planned_in_seconds(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    command = [
        sys.executable,
        str(repository / "benchmarks/plan_vggss.py"),
        "--repeats",
        "1",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    measured = json.loads(out.read_text())["200,000 clips"]
    assert measured["processor_seconds"]["median"] < SECONDS_TO_PLAN
    assert measured["peak_memory_mb"] < MEGABYTES_TO_PLAN


def test_a_folder_of_clips_is_scored_with_the_checkpoint_of_the_demo(
    snakemake: Snakemake, tmp_path: Path
) -> None:
    clips = tmp_path / "my clips"
    clips.mkdir()
    (clips / "boxes.json").write_text("[]")
    planned = snakemake(
        *("-n", "-p", "results/xpl_sample.json", "--config"),
        *(f"sample_clips={clips}", f"sample_annotations={clips / 'boxes.json'}"),
    )
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    assert "avsl-train predict --checkpoint runs/demo/xpl/seed0/checkpoint.pt" in output
    assert f"--from-folder '{clips}'" in output
    assert "--frame-time 4.96" in output


def test_a_local_copy_of_the_clips_is_not_a_download(snakemake: Snakemake, tmp_path: Path) -> None:
    planned = snakemake(
        "-n",
        "-p",
        "data/vggss/ledger/0000.parquet",
        "--config",
        f"datasets={{vggss: {{clips: '{tmp_path}'}}}}",
    )
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    assert f"--from-folder {tmp_path}" in output


def test_one_job_scores_under_all_protocols_and_suites(snakemake: Snakemake) -> None:
    planned = snakemake("-n", "-p", "results/xpl_demo.json", "--config", "protocols=[lvs,strict]")
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    assert jobs(output)["score"] == 2
    assert output.count("--protocol lvs strict --missing error --name xpl") == 2


def test_seeds_are_trained_and_scored_each(snakemake: Snakemake) -> None:
    planned = snakemake("-n", "results/xpl_demo.json", "--config", "seeds=[0,1,2]")
    assert planned.returncode == 0, planned.stderr
    found = jobs(planned.stdout + planned.stderr)
    assert (found["train"], found["predict"], found["score"]) == (3, 3, 6)


def test_nested_keys_of_the_command_line_are_merged_into_the_file(
    snakemake: Snakemake, tmp_path: Path
) -> None:
    extra = tmp_path / "mine.yaml"
    extra.write_text("experiments: {mine: {method: {name: xpl, pl_ema: false}}}\n")
    planned = snakemake(
        *("-n", "-p", "runs/demo/mine/config.json", "--configfile", str(extra)),
        *("--config", "trainsets={demo: {recipe: {optim: {steps: 20}}}}"),
    )
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    assert '"pl_ema": false' in output
    assert (
        '"steps": "20"' in output
    )  # --config yields text; the training configuration turns it into a number
    assert '"batch_labeled": 12' in output  # of config/config.yaml


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--config", "protocls=[lvs]"], "protocls: unknown key, did you mean 'protocols'?"),
        (["demo", "--config", "experiments={xpl: {optim: {stpes: 5}}}"], "experiments.xpl.optim.stpes"),
        (["results/xlp_demo.json"], "experiments: unknown name 'xlp', did you mean 'xpl'?"),
        (["results/report_dmo.html"], "testsets: unknown name 'dmo', did you mean 'demo'?"),
        (["data/vgss/catalog.parquet"], "datasets: unknown name 'vgss', did you mean 'vggss'?"),
        (
            ["results/xpl_vggss.json", "--config", "protocols=[strict]"],
            "testsets.vggss.missing is 'zero', but the suite 'strict' of protocols wants 'error'",
        ),
        (
            ["demo", "--config", "protocols=[stict]"],
            "protocols: unknown name 'stict', did you mean 'strict'?",
        ),
        (
            ["results/benchmark_demo.json", "--config", "protocols=[lvs]"],
            "benchmarks.demo.protocol is 'fixed', but `protocols` scores only lvs: add it there",
        ),
        (["results/xpl_sample.json"], "--config sample_clips=FOLDER sample_annotations=FILE"),
    ],
)
def test_a_wrong_request_ends_with_one_message_and_status_2(
    snakemake: Snakemake, tmp_path: Path, arguments: list[str], message: str
) -> None:
    refused = snakemake("--cores", "1", *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("error:") == 1
    assert "Traceback" not in refused.stderr
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert made <= {".snakemake", "cache"}
