"""The miniature demo on a Slurm cluster of one node, by the project's profile; a job is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = {
    "datasets": {"demo": {"render": {"videos": 6, "scenes": 3, "val": 1, "test": 2}}},
    "trainsets": {
        "demo": {
            "split": {"labels": 3},
            "recipe": {"optim": {"steps": 4, "batch_labeled": 2, "batch_unlabeled": 2}},
        }
    },
    "protocols": ["fixed"],
    "report_experiments": ["xpl"],
}
TIMEOUT_S = 1200
POLLING = (
    *("--slurm-status-command", "squeue"),  # a cluster of one node has no accounting for sacct to read
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
    *("--latency-wait", "5"),
)


def _jobs(states: str) -> list[tuple[str, str]]:
    """Return number and comment (the rule) of the jobs in some states."""
    command = ["squeue", "-h", "--states", states, "-o", "%i|%k"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [(line.partition("|")[0], line.partition("|")[2]) for line in said.splitlines()]


@pytest.mark.usefixtures("cluster")
def test_a_study_whose_job_is_killed(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", "--snakefile", str(repository / "Snakefile")),
                *("--directory", str(tmp_path), "--profile", str(repository / "profiles/slurm")),
                *("--configfile", str(tmp_path / "study.json"), *POLLING, "results/xpl_demo.json"),
            ],
            cwd=repository,
            env={**os.environ, "AVSL_CACHE": str(tmp_path / "cache")},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        give_up = time.monotonic() + TIMEOUT_S
        killed: str | None = None
        while run.poll() is None and time.monotonic() < give_up:
            if killed is None:
                rendering = [number for number, rule in _jobs("RUNNING") if "download" in rule]
                if rendering:
                    (killed, *_) = rendering
                    subprocess.run(["scancel", "--signal=KILL", "--full", killed], check=True)
            time.sleep(0.1)
        if run.poll() is None:
            run.kill()
    output = (tmp_path / "said").read_text()
    assert run.wait() == 0, output[-5000:]
    assert killed is not None
    assert f"SLURM-job '{killed}' failed" in output
    assert "Trying to restart job" in output
    scores = json.loads((tmp_path / "results/xpl_demo/seed0/heard.json").read_text())
    assert scores["protocols"]["fixed"]["n_scored"] == scores["protocols"]["fixed"]["n_expected"] > 0
    # Every rule ran as a job of its own.
    assert output.count("has been submitted with SLURM jobid") >= 12
