"""``--devices 2`` on the command line: killed, gone on with by two or by one process, torchrun, failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from avsl_train.checkpoint import Checkpoint, load_checkpoint, weights_digest
from avsl_train.log import MEASURED
from tests.train.conftest import World
from tests.train.processes import REPOSITORY

STEPS = 40
XPL = {"name": "xpl", "warmup": 0.1, "rho_start": 0.3, "ramp": 0.8}
OPTIM = {
    **{"steps": STEPS, "batch_labeled": 4, "batch_unlabeled": 4},
    **{"optimizer": "sgd", "lr": 0.001, "schedule": "constant"},
}
PROGRAM = ("-m", "avsl_train")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **more}


def command(world: World, config: Path, out: Path, *more: str, program: Sequence[str] = PROGRAM) -> list[str]:
    return [
        *(sys.executable, *program, "fit", "--config", str(config), "--shards", str(world.shards)),
        *("--split", str(world.split), "--seed", "0", "--threads", "1", "--out", str(out), *more),
    ]


def run(arguments: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=environment(**more), timeout=300
    )


def result(done: subprocess.CompletedProcess[str], out: Path) -> Checkpoint:
    assert done.returncode == 0, done.stderr
    return load_checkpoint(out / "checkpoint.pt")


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


@pytest.fixture(scope="module")
def config(world: World) -> Path:
    return world.write_config(world.folder / "two.json", XPL, optim=OPTIM, checkpoint_every=5)


@pytest.fixture(scope="module")
def whole(world: World, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with two processes and nothing that disturbs them; return the folder of the run."""
    out = tmp_path_factory.mktemp("two") / "whole"
    result(run(command(world, config, out, "--devices", "2")), out)
    return out


@pytest.fixture(scope="module")
def killed(world: World, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill a training of two processes after some checkpoints; return the folder of the run."""
    out = tmp_path_factory.mktemp("two") / "killed"
    with subprocess.Popen(
        command(world, config, out, "--devices", "2"), stderr=subprocess.DEVNULL, env=environment()
    ) as process:
        deadline = time.monotonic() + 120
        while len(lines(out)) < 16 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    stopped = load_checkpoint(out / "last.pt")
    assert 0 < stopped.step < STEPS
    assert stopped.processes == 2
    return out


def lines(out: Path) -> list[str]:
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def copy_of(folder: Path, into: Path) -> Path:
    """Copy what a killed run left."""
    into.mkdir()
    for name in ("last.pt", "metrics.jsonl"):
        (into / name).write_bytes((folder / name).read_bytes())
    return into


def test_two_killed_processes_go_on_to_the_same_weights(
    world: World, config: Path, whole: Path, killed: Path, tmp_path: Path
) -> None:
    out = copy_of(killed, tmp_path / "run")
    again = run(command(world, config, out, "--devices", "2"))
    last = result(again, out)
    assert again.stderr.count("going on from step") == 1  # only the first process speaks
    assert weights_digest(last) == weights_digest(load_checkpoint(whole / "checkpoint.pt"))
    assert metrics(out) == metrics(whole)


def test_another_number_of_processes_goes_on_and_says_so(
    world: World, config: Path, whole: Path, killed: Path, tmp_path: Path
) -> None:
    out = copy_of(killed, tmp_path / "run")
    again = run(command(world, config, out))
    last = result(again, out)
    assert "it ran with 2 processes until now and goes on with 1" in again.stderr
    wanted = load_checkpoint(whole / "checkpoint.pt")
    assert (last.processes, wanted.processes) == (1, 2)
    for name, value in wanted.models.items():
        torch.testing.assert_close(last.models[name], value, rtol=1e-3, atol=1e-3)
    assert [line["step"] for line in metrics(out)] == [line["step"] for line in metrics(whole)]


def test_torchrun_decides_how_many_processes_there_are(world: World, config: Path, tmp_path: Path) -> None:
    program = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *PROGRAM)
    short = world.write_config(tmp_path / "c.json", XPL, optim={**OPTIM, "steps": 2})
    assert (
        result(run(command(world, short, tmp_path / "run", program=program)), tmp_path / "run").processes == 2
    )


def test_a_batch_that_two_cannot_share_is_one_message(world: World, tmp_path: Path) -> None:
    odd = world.write_config(tmp_path / "c.json", XPL, optim={**OPTIM, "batch_labeled": 3})
    done = run(command(world, odd, tmp_path / "run", "--devices", "2"))
    assert done.returncode == 2
    assert done.stderr.count("a step has 3 labeled clips, which 2 processes cannot divide") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


FAIL_ON_ONE = """
import os, sys, torch
from avsl_train.__main__ import main
from avsl_train.methods.xpl import XPL
own = XPL.losses
def losses(self, batch, step):
    if step == 3 and os.environ.get("LOCAL_RANK") == "1":
        {failure}
    return own(self, batch, step)
XPL.losses = losses
if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            'raise torch.OutOfMemoryError("CUDA out of memory. Tried")',
            "no memory left on cpu (CUDA out of memory)",
        ),
        (
            "return {name: term * float('nan') for name, term in own(self, batch, step).items()}",
            "sup is not finite at step 3, with the clips",
        ),
    ],
)
def test_a_failure_of_one_process_ends_all_with_its_message(
    world: World, tmp_path: Path, failure: str, message: str
) -> None:
    program = tmp_path / "train.py"
    program.write_text(FAIL_ON_ONE.format(failure=failure))
    config = world.write_config(tmp_path / "c.json", XPL, optim=OPTIM, checkpoint_every=2)
    done = run(command(world, config, tmp_path / "run", "--devices", "2", program=(str(program),)))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(message) == 1
    assert "Traceback" not in done.stderr
    assert load_checkpoint(tmp_path / "run/last.pt").step == 2
