"""What can go wrong in a training, by the command line: one message, exit status 2, nothing lost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsl_train.__main__ import main
from avsl_train.checkpoint import load_checkpoint, weights_digest
from avsl_train.errors import TrainInputError
from avsl_train.fit import NotFiniteError, fit, read_training_clips
from avsl_train.methods.method import Batch
from avsl_train.methods.supervised import Supervised
from tests.train.conftest import World, make_config, write_split
from tests.train.processes import REPOSITORY

CON = {"name": "supervised", "lambda_con": 1.0}


def arguments(world: World, config: Path, out: Path, *more: str, shards: Path | None = None) -> list[str]:
    return [
        *("fit", "--config", str(config), "--shards", str(shards or world.shards)),
        *("--split", str(world.split), "--seed", "0", "--threads", "1", "--out", str(out), *more),
    ]


def run(world: World, config: Path, out: Path, *more: str, shards: Path | None = None) -> tuple[int, str]:
    """Run ``avsl-train fit`` here; return its exit status and what it wrote to standard error."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main(arguments(world, config, out, *more, shards=shards))
    return status, said.getvalue()


def run_with_little_room(world: World, config: Path, out: Path, room: int) -> tuple[int, str]:
    """Run it as a process that cannot write a file of more than ``room`` bytes, as on a full disk."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(
        [sys.executable, "-m", "avsl_train", *arguments(world, config, out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        timeout=240,
        preexec_fn=prepare,
    )
    return done.returncode, done.stderr


def message(done: tuple[int, str]) -> str:
    """Return the one message of a command that failed."""
    status, text = done
    assert status == 2, text
    assert "Traceback" not in text
    said = [line for line in text.splitlines() if line.startswith("avsl-train: error: ")]
    assert len(said) == 1, text
    assert text.splitlines()[-1] == said[0]
    return said[0].removeprefix("avsl-train: error: ")


def test_a_full_disk_is_one_message_and_leaves_no_half_file(world: World, tmp_path: Path) -> None:
    config = world.write_config(tmp_path / "c.json", CON, optim={"steps": 4}, checkpoint_every=2)
    out = tmp_path / "run"
    text = message(run_with_little_room(world, config, out, 20_000))
    assert "cannot write the checkpoint" in text
    assert "is the disk full? The checkpoint before it is kept; make room and run the same" in text
    assert not list(out.glob(".*tmp*"))
    assert not list(out.glob("*.pt"))  # there was none before
    assert run(world, config, out)[0] == 0  # room was made
    assert load_checkpoint(out / "checkpoint.pt").step == 4


def test_a_disk_that_fills_up_keeps_what_was_written(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered between two checkpoints."""
    config = make_config(CON, optim={"steps": 8}, checkpoint_every=2)
    clips = read_training_clips(config, [world.shards], world.split)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(self: Supervised, step: int) -> None:
        if step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    monkeypatch.setattr(Supervised, "after_step", fill)
    try:
        with pytest.raises(TrainInputError, match=r"cannot write the checkpoint .*last\.pt .*disk full"):
            fit(config, clips, 0, tmp_path, threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(tmp_path / "last.pt").step == 4
    monkeypatch.undo()
    again = fit(config, clips, 0, tmp_path, threads=1)
    whole = fit(config, clips, 0, tmp_path / "whole", threads=1)
    assert weights_digest(again) == weights_digest(whole)


def test_a_folder_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    config = world.write_config(tmp_path / "c.json", CON)
    (tmp_path / "run").write_text("a file")
    assert "cannot write the logs in" in message(run(world, config, tmp_path / "run"))


def test_a_corrupt_shard_is_named(world: World, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for file in world.shards.iterdir():
        (shards / file.name).write_bytes(file.read_bytes())
    damaged = shards / "0001.parquet"
    whole = bytearray(damaged.read_bytes())
    whole[-1000:-900] = b"\0" * 100
    damaged.write_bytes(bytes(whole))
    config = world.write_config(tmp_path / "c.json", CON)
    text = message(run(world, config, tmp_path / "run", shards=shards))
    assert str(damaged) in text
    assert "delete it and make it again" in text


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("none.pth", "no file"),
        ("file.pth#sha256=" + "0" * 64, "sha256"),
    ],
)
def test_weights_that_cannot_be_used_are_told(
    world: World, tmp_path: Path, weights: str, wanted: str
) -> None:
    (tmp_path / "file.pth").write_bytes(b"not what it should be")
    name = f"file://{tmp_path}/{weights}" if "#" in weights else str(tmp_path / weights)
    model = {"visual": "resnet18", "weights": name}
    config = world.write_config(tmp_path / "c.json", CON, model=model)
    text = message(run(world, config, tmp_path / "run"))
    assert "model.weights" in text
    assert wanted in text.lower()
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished training."""
    out = tmp_path_factory.mktemp("finished") / "run"
    config = make_config(CON, optim={"steps": 2})
    fit(config, read_training_clips(config, [world.shards], world.split), 0, out, threads=1)
    return out


def test_a_checkpoint_of_another_method_is_refused(world: World, tmp_path: Path, finished: Path) -> None:
    config = world.write_config(tmp_path / "c.json", "xpl", optim={"steps": 2})
    before = (finished / "checkpoint.pt").read_bytes()
    text = message(run(world, config, finished))
    assert "is of a training with another method (supervised, not xpl) (step 2): add --on-change rest" in text
    assert (finished / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_version_is_refused_or_replaced(
    world: World, tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    values = torch.load(finished / "checkpoint.pt", weights_only=True)
    torch.save({**values, "version": 1}, out / "last.pt")
    before = (out / "last.pt").read_bytes()
    config = world.write_config(tmp_path / "c.json", CON, optim={"steps": 2})
    text = message(run(world, config, out))
    assert "last.pt has checkpoint version 1, this program reads version 2" in text
    assert (out / "last.pt").read_bytes() == before
    assert run(world, config, out, "--on-change", "restart")[0] == 0
    wanted = load_checkpoint(finished / "checkpoint.pt")
    assert weights_digest(load_checkpoint(out / "checkpoint.pt")) == weights_digest(wanted)


Losses = Callable[[Supervised, Batch, int], dict[str, Tensor]]


def failing(at: int, change: Callable[[dict[str, Tensor], Supervised], dict[str, Tensor]]) -> Losses:
    """Return losses that are changed from a step on."""
    own = Supervised.losses

    def losses(self: Supervised, batch: Batch, step: int) -> dict[str, Tensor]:
        terms = own(self, batch, step)
        return change(terms, self) if step >= at else terms

    return losses


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_term_and_the_clips(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    config = make_config(CON, optim={"steps": 8, "batch_labeled": 2, "accumulate": 2}, checkpoint_every=2)
    clips = read_training_clips(config, [world.shards], world.split)
    monkeypatch.setattr(
        Supervised, "losses", failing(5, lambda terms, _: {**terms, "con": terms["con"] * value})
    )
    with pytest.raises(
        NotFiniteError, match=r"^loss term con is not finite at step 5, with the clips 0"
    ) as caught:
        fit(config, clips, 0, tmp_path, threads=1)
    record: dict[str, Any] = json.loads((tmp_path / "not_finite.json").read_text())
    assert record["step"] == 5
    assert set(record["clips"]) == {"con"}
    assert len(record["clips"]["con"]) == 2 + 4
    assert set(record["clips"]["con"]) <= {*world.labeled, *world.unlabeled}
    assert record["clips"]["con"][0] in str(caught.value)
    assert "and 3 more, in" in str(caught.value)
    assert load_checkpoint(tmp_path / "last.pt").step == 4
    monkeypatch.undo()
    again = fit(config, clips, 0, tmp_path, threads=1)  # the bug was mended: the run goes on from step 4
    assert weights_digest(again) == weights_digest(fit(config, clips, 0, tmp_path / "whole", threads=1))


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(terms: dict[str, Tensor], method: Supervised) -> dict[str, Tensor]:
        scale = method.models["a"].scale
        return {**terms, "root": (scale - scale.detach()).abs().sqrt()}  # 0, and its gradient 0 * inf

    config = make_config(CON, optim={"steps": 8}, checkpoint_every=1)
    clips = read_training_clips(config, [world.shards], world.split)
    monkeypatch.setattr(Supervised, "losses", failing(3, change))
    with pytest.raises(NotFiniteError, match=r"^gradient is not finite at step 3, with the clips "):
        fit(config, clips, 0, tmp_path, threads=1)
    last = load_checkpoint(tmp_path / "last.pt")
    assert last.step == 3
    assert all(bool(value.isfinite().all()) for value in last.models.values())


def test_no_memory_left_names_the_keys_to_change(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(terms: dict[str, Tensor], method: Supervised) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has")

    config = make_config(CON, optim={"steps": 8}, checkpoint_every=2)
    clips = read_training_clips(config, [world.shards], world.split)
    monkeypatch.setattr(Supervised, "losses", failing(5, change))
    wanted = (
        r"^no memory left on cpu \(CUDA out of memory\)\. .*kept.*optim\.batch_labeled \(3\) or "
        r"optim\.batch_unlabeled \(4\), raise optim\.accumulate \(1\), lower data\.image_size \(32\)"
    )
    with pytest.raises(TrainInputError, match=wanted):
        fit(config, clips, 0, tmp_path, threads=1)
    assert load_checkpoint(tmp_path / "last.pt").step == 4


def test_a_split_without_validation_clips_is_one_message(world: World, tmp_path: Path) -> None:
    config = world.write_config(tmp_path / "c.json", CON, optim={"val_every": 2, "choose": "best"})
    text = message(run(world, config, tmp_path / "run"))
    assert "optim.val_every asks for validations, but" in text
    assert "has no subset 'val'" in text
    assert not (tmp_path / "run").exists()


def test_wrong_values_on_the_command_line_are_told(world: World, tmp_path: Path) -> None:
    config = world.write_config(tmp_path / "c.json", CON)
    assert "the command line: devices: " in message(run(world, config, tmp_path / "run", "--devices", "two"))
    text = message(run(world, config, tmp_path / "run", "--device", "gpu"))
    assert "the command line: device: unknown name 'gpu'" in text
    assert not (tmp_path / "run").exists()


def test_a_labelled_subset_that_is_missing_is_told(world: World, tmp_path: Path) -> None:
    split = write_split(tmp_path / "s.parquet", {"unlabeled": world.unlabeled})
    config = make_config(CON)
    with pytest.raises(TrainInputError, match=r"has no subset 'labeled' \(it has: unlabeled\)"):
        read_training_clips(config, [world.shards], split)
