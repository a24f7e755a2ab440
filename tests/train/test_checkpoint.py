"""Checkpoints and the files beside them: whole or not at all, and refused with one message."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from avsl_train.checkpoint import (
    Checkpoint,
    OtherVersionError,
    file_digest,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from avsl_train.errors import TrainInputError
from avsl_train.files import whole_file, write_json


def checkpoint(**over: Any) -> Checkpoint:
    values: dict[str, Any] = {
        "config": {"method": {"name": "xpl"}, "optim": {"lr": 1e-4}},
        "digest": "0123456789abcdef",
        "seed": 3,
        "step": 7,
        "models": {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(5)},
        "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4}]},
        "method": {"store_a": {"maps": torch.rand(2, 1, 2, 2).half(), "seen": torch.tensor([True, False])}},
        "data": "fedcba9876543210",
        "wall_time_s": 1.5,
    }
    return Checkpoint(**{**values, **over})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(checkpoint(), tmp_path / "c.pt")
    return tmp_path / "c.pt"


def test_a_checkpoint_comes_back_as_it_was(saved: Path) -> None:
    wanted, found = checkpoint(), load_checkpoint(saved)
    assert (found.config, found.seed, found.step, found.wall_time_s) == (
        wanted.config,
        wanted.seed,
        wanted.step,
        wanted.wall_time_s,
    )
    assert torch.equal(found.models["a.weight"], wanted.models["a.weight"])
    assert found.method["store_a"]["maps"].dtype == torch.float16
    assert weights_digest(found) == weights_digest(wanted)


def test_it_loads_without_running_code(saved: Path) -> None:
    assert torch.load(saved, weights_only=True)["step"] == 7


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("must-not-exist",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"version": 2, "config": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(TrainInputError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "must-not-exist").exists()


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TrainInputError, match=r"c\.pt cannot be read as a checkpoint .*cut short") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello world", b"U\xdcb\xb7: no pickle", b"\x80\x02}q\x00."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(TrainInputError, match=r"other\.pt cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize("values", [{"model": torch.zeros(2)}, [1, 2], torch.zeros(3)])
def test_files_of_other_programs_are_refused(tmp_path: Path, values: object) -> None:
    torch.save(values, tmp_path / "other.pt")
    with pytest.raises(TrainInputError, match=r"other\.pt is not a checkpoint of `avsl-train fit`"):
        load_checkpoint(tmp_path / "other.pt")


def test_another_version_is_refused(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(version=99), tmp_path / "c.pt")
    with pytest.raises(OtherVersionError, match=r"version 99, this program reads version 2: train again"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_checkpoint_of_version_1_is_refused(tmp_path: Path) -> None:
    values = {f.name: getattr(checkpoint(), f.name) for f in fields(Checkpoint)}
    for name in ("scaler", "validation", "processes", "finished"):
        del values[name]
    torch.save({**values, "rng": {"torch": torch.get_rng_state()}, "version": 1}, tmp_path / "c.pt")
    with pytest.raises(
        OtherVersionError, match=r"c\.pt has checkpoint version 1, this program reads version 2"
    ):
        load_checkpoint(tmp_path / "c.pt")


def test_a_missing_checkpoint_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(TrainInputError, match=r"no checkpoint .*none\.pt: train one with `avsl-train fit`"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file_digest(saved)

    def fail(values: object, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(TrainInputError, match=r"cannot write the checkpoint .*No space left.*is kept; make"):
        save_checkpoint(checkpoint(step=8), saved)
    assert file_digest(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["c.pt"]


def test_a_full_disk_leaves_the_old_file(saved: Path) -> None:
    """The operating system refuses to make a file larger than the limit, as a full disk would."""
    before = file_digest(saved)
    big = checkpoint(models={"a.weight": torch.zeros(300_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with pytest.raises(
            TrainInputError, match=r"cannot write the checkpoint .*c\.pt .*is the disk full\?"
        ):
            save_checkpoint(big, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file_digest(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["c.pt"]


def test_a_file_appears_whole_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new/run.json"
    with whole_file(path) as temporary:
        temporary.write_text("{}")
        assert not path.exists()
        assert temporary.suffix == ".json"
    assert path.read_text() == "{}"
    write_json({"a": 1}, path)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]


def test_the_digest_of_weights_is_that_of_their_values() -> None:
    base = weights_digest(checkpoint())
    turned = checkpoint().models["a.weight"].T.contiguous().T  # the same values, stored otherwise
    assert weights_digest(checkpoint(models={**checkpoint().models, "a.weight": turned})) == base
    assert weights_digest(checkpoint(models=dict(reversed(checkpoint().models.items())))) == base
    assert weights_digest(checkpoint(step=9, wall_time_s=0.0)) == base
    other = {**checkpoint().models, "a.count": torch.tensor(6)}
    assert weights_digest(checkpoint(models=other)) != base
