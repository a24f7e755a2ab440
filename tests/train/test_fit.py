"""Trainings: reproducible to the bit, also when they are killed and started again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from avsl_train import fit as fitting
from avsl_train import run_state
from avsl_train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_digest
from avsl_train.config import ExperimentConfig
from avsl_train.errors import TrainInputError
from avsl_train.fit import NotFiniteError, choose_device, fit, read_training_clips
from avsl_train.log import MEASURED, keep_lines
from tests.train.conftest import World, make_config

STEPS = 70
"""Steps of a training that is killed: long enough to be still running when it is."""
METHODS = ["supervised", "hard-pl", "xpl"]
XPL = {"name": "xpl", "warmup": 0.1, "rho_start": 0.3, "ramp": 0.8}
"""Warm-up ends early and the ramp takes long, so that stored labels and selection matter at every step."""


def method_of(name: str) -> dict[str, Any]:
    return {"supervised": {"name": name, "lambda_con": 1.0}, "hard-pl": {"name": name, "warmup": 0.1}}.get(
        name, XPL
    )


def train(config: ExperimentConfig, world: World, out: Path, seed: int = 0) -> Checkpoint:
    return fit(config, read_training_clips(config, [world.shards], world.split), seed, out, threads=1)


def metrics(out: Path) -> list[dict[str, Any]]:
    """Return the lines of the log without what a clock measured."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def numbers(out: Path, event: str) -> list[int]:
    """Return the steps of one kind of line of the log, in the order of the file."""
    return [line["step"] for line in metrics(out) if line["event"] == event]


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_and_nothing_else_decides(world: World, tmp_path: Path, name: str) -> None:
    config = make_config(method_of(name), optim={"steps": 5})
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        torch.rand(number)  # the global generator has no say
        digests.append(weights_digest(train(config, world, tmp_path / str(number), seed)))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    assert metrics(tmp_path / "0") == metrics(tmp_path / "1")


@pytest.mark.parametrize("name", METHODS)
def test_a_training_learns(world: World, tmp_path: Path, name: str) -> None:
    config = make_config({**method_of(name), "lambda_con": 0.0}, optim={"steps": 40, "schedule": "constant"})
    train(config, world, tmp_path)
    losses = [line["sup"] for line in metrics(tmp_path) if line["event"] == "step"]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


@pytest.mark.parametrize("name", METHODS)
def test_going_on_from_any_step_gives_the_same_weights(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = make_config(method_of(name), checkpoint_every=1)
    kept: list[Path] = []

    def keep(checkpoint: Checkpoint, path: Path) -> None:
        save_checkpoint(checkpoint, path)
        if path.name == "last.pt":
            kept.append(tmp_path / f"{checkpoint.step}.pt")
            shutil.copy(path, kept[-1])

    monkeypatch.setattr(run_state, "save_checkpoint", keep)
    wanted = weights_digest(train(config, world, tmp_path / "whole"))
    monkeypatch.undo()
    assert [int(path.stem) for path in kept] == list(range(1, 9))
    for path in kept:
        out = tmp_path / f"from{path.stem}"
        out.mkdir()
        shutil.copy(path, out / "last.pt")
        shutil.copy(
            tmp_path / "whole/metrics.jsonl", out
        )  # as if it had died just before the next checkpoint
        assert weights_digest(train(config, world, out)) == wanted
        assert metrics(out) == metrics(tmp_path / "whole")


def command(world: World, config: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "avsl_train", "fit", "--config", str(config), "--shards", str(world.shards)),
        *("--split", str(world.split), "--seed", "0", "--threads", "1", "--out", str(out)),
    ]


@pytest.mark.parametrize("name", ["xpl", "hard-pl"])
def test_kill_9_and_the_same_command_again_give_the_same_weights(
    world: World, tmp_path: Path, name: str
) -> None:
    steps = {"steps": STEPS}
    config = make_config(method_of(name), optim=steps, checkpoint_every=7)
    file = world.write_config(tmp_path / "config.json", method_of(name), optim=steps, checkpoint_every=7)
    out = tmp_path / "killed"
    with subprocess.Popen(command(world, file, out), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(log_lines(out)) < 20 and time.monotonic() < deadline:  # past warm-up and some checkpoints
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "checkpoint.pt").exists()
    stopped = load_checkpoint(out / "last.pt")
    assert 0 < stopped.step < STEPS
    again = subprocess.run(command(world, file, out), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"going on from step {stopped.step} of {STEPS}" in again.stderr
    record = json.loads((out / "run.json").read_text())
    train(config, world, tmp_path / "whole")
    assert record["weights_sha256"] == json.loads((tmp_path / "whole/run.json").read_text())["weights_sha256"]
    assert numbers(out, "step") == list(range(1, STEPS + 1))
    assert metrics(out) == metrics(tmp_path / "whole")
    last = metrics(out)[-1]
    assert last["cross" if name == "xpl" else "pl"] > 0


def log_lines(out: Path) -> list[str]:
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


DIE_WHILE_WRITING = """
import os, signal, sys, torch
from avsl_train.__main__ import main
save, calls = torch.save, []
def half(values, path):
    save(values, path)
    calls.append(path)
    if len(calls) == 2:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
main(sys.argv[1:])
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(world: World, tmp_path: Path) -> None:
    file = world.write_config(tmp_path / "config.json", XPL)
    out = tmp_path / "run"
    arguments = command(world, file, out)[3:]
    died = subprocess.run(
        [sys.executable, "-c", DIE_WHILE_WRITING, *arguments], stderr=subprocess.DEVNULL, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert len(list(out.glob(".last.*.tmp.pt"))) == 1
    assert load_checkpoint(out / "last.pt").step == 2
    config = make_config(XPL)
    assert weights_digest(train(config, world, out)) == weights_digest(
        train(config, world, tmp_path / "whole")
    )


def test_a_finished_training_is_not_done_again(world: World, tmp_path: Path) -> None:
    config = make_config("supervised", optim={"steps": 3})
    first = train(config, world, tmp_path)
    (tmp_path / "run.json").unlink()  # as if it had died just before
    again = train(config, world, tmp_path)
    assert weights_digest(again) == weights_digest(first)
    assert again.wall_time_s == first.wall_time_s
    assert weights_digest(load_checkpoint(tmp_path / "checkpoint.pt")) == weights_digest(first)
    assert numbers(tmp_path, "step") == [1, 2, 3]


def test_the_record_says_what_was_run(world: World, tmp_path: Path) -> None:
    config = make_config(XPL, optim={"steps": 3})
    checkpoint = train(config, world, tmp_path, seed=4)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["schema"] == "avsl-run/1"
    assert record["method"] == "xpl"
    assert record["config"] == config.model_dump(mode="json")
    assert record["config_digest"] == config.digest() == checkpoint.digest
    assert (record["seed"], record["steps"], record["threads"]) == (4, 3, 1)
    assert record["weights_sha256"] == weights_digest(checkpoint)
    assert record["clips"] == {
        "labeled": 4,
        "unlabeled": 10,
        "used": 14,
        "excluded": {"broken00000_000000": "truncated"},
    }
    assert record["device"].startswith("cpu: ")
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.pt",
        "metrics.jsonl",
        "run.json",
        "tensorboard",
    ]


def test_the_log_tells_what_the_curriculum_uses(world: World, tmp_path: Path) -> None:
    train(make_config(XPL), world, tmp_path)
    epochs = [line for line in metrics(tmp_path) if line["event"] == "epoch"]
    assert [line["step"] for line in epochs] == [0, 2, 4, 6]  # 10 clips, 4 in a batch
    assert epochs[0]["rho"] == 0
    assert [line["rho"] for line in epochs] == sorted(line["rho"] for line in epochs)
    assert epochs[-1]["rho"] > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"checkpoint\.pt is .* another seed \(step 8\): add --on-change restart"),
        ({"config": {"optim": {"lr": 0.1}}}, r"another configuration \(step 8\)"),
        ({"seed": 1, "config": {"optim": {"lr": 0.1}}}, r"another configuration and seed"),
    ],
)
def test_a_folder_of_another_training_is_refused(
    world: World, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    train(make_config("supervised"), world, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(TrainInputError, match=message):
        train(make_config("supervised", **change.get("config", {})), world, tmp_path, change.get("seed", 0))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_changed_training_starts_again_where_that_is_asked_for(world: World, tmp_path: Path) -> None:
    train(make_config("supervised", optim={"steps": 3}), world, tmp_path / "changed")
    config = make_config("supervised", optim={"steps": 3, "lr": 0.01})
    clips = read_training_clips(config, [world.shards], world.split)
    changed = fit(config, clips, 0, tmp_path / "changed", threads=1, on_change="restart")
    assert weights_digest(changed) == weights_digest(train(config, world, tmp_path / "fresh"))
    assert numbers(tmp_path / "changed", "step") == [1, 2, 3]
    assert json.loads((tmp_path / "changed/run.json").read_text())["config_digest"] == config.digest()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(world: World, tmp_path: Path) -> None:
    config = make_config("supervised", optim={"lr": 1e30, "schedule": "constant"}, checkpoint_every=1)
    with pytest.raises(
        NotFiniteError, match=r"loss term sup is not finite at step \d+, with the clips .*Lower optim\.lr"
    ):
        train(config, world, tmp_path)
    assert (tmp_path / "last.pt").exists()
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", METHODS)
def test_fewer_unlabelled_clips_than_a_batch_and_none_at_all(world: World, tmp_path: Path, name: str) -> None:
    config = make_config(method_of(name), optim={"steps": 3, "batch_unlabeled": 64})
    train(config, world, tmp_path / "few")
    assert numbers(tmp_path / "few", "step") == [1, 2, 3]
    clips = read_training_clips(config, [world.shards], world.split)
    if name == "supervised":
        return
    none = fitting.TrainingClips(clips.labeled, type(clips.unlabeled)([world.shards], [], config.data))
    with pytest.raises(TrainInputError, match="needs unlabelled clips"):
        fit(config, none, 0, tmp_path / "none", threads=1)
    assert not (tmp_path / "none").exists()


def test_workers_and_the_cache_train_the_same_weights(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSL_CACHE", str(tmp_path / "cache"))
    digests = set()
    for number, (cache, workers) in enumerate([("memory", 1), ("none", 1), ("disk", 1), ("disk", 0)]):
        config = make_config(XPL, data={"cache": cache, "workers": workers}, optim={"steps": 3})
        digests.add(weights_digest(train(config, world, tmp_path / str(number))))
    assert len(digests) == 1
    assert len(list((tmp_path / "cache/clips").iterdir())) == 1  # the sets of both trainings share it


def test_the_log_drops_what_will_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [("epoch", 0), ("step", 1), ("step", 2), ("val", 2), ("epoch", 2), ("step", 3), ("val", 4)]
    text = "".join(json.dumps({"step": step, "event": event}) + "\n" for event, step in lines)
    path.write_text(text + '{"step": 4, "ev')  # cut by a kill
    keep_lines(path, 2)
    assert [(line["event"], line["step"]) for line in metrics(tmp_path)] == [
        ("epoch", 0),
        ("step", 1),
        ("step", 2),
        ("val", 2),
    ]
    keep_lines(path, 0)
    assert path.read_text() == ""


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainInputError, match="no CUDA device is visible: use device: auto"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu").type == "cpu"
