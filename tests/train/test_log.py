"""Logs of a run: the record, TensorBoard, image strips and the progress bar; nothing twice after a kill."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from avsl_train import engine
from avsl_train.checkpoint import Checkpoint
from avsl_train.config import ExperimentConfig
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.log import RunLog, clock, keep_lines
from avsl_train.strips import CELL, GAP, HEADER, draw_strip
from tests.train.conftest import World, make_config

XPL = {"name": "xpl", "warmup": 0.1, "rho_start": 0.3, "ramp": 0.8}
START = Checkpoint.fresh({}, "", 0, "")


def train(config: ExperimentConfig, world: World, out: Path) -> Checkpoint:
    return fit(config, read_training_clips(config, [world.shards], world.split), 0, out, threads=1)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values of every curve in the event files, every event that is written there."""
    reader = EventAccumulator(
        str(out / "tensorboard"), {"scalars": 0, "images": 0}, purge_orphaned_data=False
    )
    reader.Reload()
    return {
        tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]
    }


def shown(out: Path) -> list[int]:
    """Return the steps of the pictures in the event files."""
    reader = EventAccumulator(str(out / "tensorboard"), {"images": 0}, purge_orphaned_data=False)
    reader.Reload()
    return [event.step for event in reader.Images("pictures")]


class StopNowError(Exception):
    """Stands for a kill."""


def die_at(step: int, config: ExperimentConfig, world: World, out: Path) -> None:
    """Train until a step is reached, and die in it."""
    own, done = engine.Stepper.step, []

    def count(self: engine.Stepper) -> None:
        if len(done) == step:
            raise StopNowError
        done.append(step)
        own(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Stepper, "step", count)
        with pytest.raises(StopNowError):
            train(config, world, out)


def test_event_files_hold_what_the_record_holds(world: World, tmp_path: Path) -> None:
    train(make_config(XPL), world, tmp_path)
    curves = events(tmp_path)
    steps = [line for line in lines(tmp_path) if line["event"] == "step"]
    for tag, key in (
        *(("loss/sup", "sup"), ("loss/con", "con"), ("optim/lr", "lr")),
        *(("optim/grad_norm", "grad_norm"), ("speed/clips_per_s", "clips_per_s")),
    ):
        assert [step for step, _ in curves[tag]] == list(range(1, 9))
        assert [value for _, value in curves[tag]] == pytest.approx([line[key] for line in steps], rel=1e-6)
    assert [step for step, _ in curves["epoch/rho"]] == [0, 2, 4, 6]
    assert all(line["clips_per_s"] > 0 for line in steps)
    assert [line["wall_s"] for line in steps] == sorted(line["wall_s"] for line in steps)


@pytest.mark.parametrize("died_at", [3, 5, 7])
def test_nothing_stands_twice_after_a_kill(world: World, tmp_path: Path, died_at: int) -> None:
    config = make_config(XPL, checkpoint_every=3, pictures_every=2)
    die_at(died_at, config, world, tmp_path)
    train(config, world, tmp_path)
    curves = events(tmp_path)
    assert [step for step, _ in curves["loss/sup"]] == list(range(1, 9))
    assert [step for step, _ in curves["epoch/rho"]] == [0, 2, 4, 6]
    assert shown(tmp_path) == [2, 4, 6, 8]
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == [
        f"step{step:08d}.png" for step in (2, 4, 6, 8)
    ]


def test_the_strip_shows_frames_and_maps_of_the_method(world: World, tmp_path: Path) -> None:
    train(make_config(XPL, pictures_every=8), world, tmp_path)
    with Image.open(tmp_path / "pictures/step00000008.png") as picture:
        width, height = picture.size
        assert picture.mode == "RGB"
    assert (width - GAP) // (CELL + GAP) >= 3  # a frame, a prediction and a label at least
    assert (height - HEADER) % (CELL + GAP) == 0


def test_a_strip_has_a_row_per_clip_and_a_column_per_map() -> None:
    frames = torch.zeros(2, 3, 8, 8)
    frames[1, 0] = 1.0  # the second frame is red
    maps = torch.zeros(2, 1, 2, 2)
    maps[0, 0, 0, 1] = 1.0  # top right
    picture = np.asarray(draw_strip({"frame": frames, "label": maps}))
    assert picture.shape == (HEADER + 2 * (CELL + GAP), GAP + 2 * (CELL + GAP), 3)
    second = picture[HEADER + CELL + GAP :, GAP : GAP + CELL]
    assert second[CELL // 2, CELL // 2].tolist() == [255, 0, 0]
    label = picture[HEADER : HEADER + CELL, GAP + CELL + GAP :][:, :CELL]
    assert label[CELL // 4, 3 * CELL // 4].tolist() == [255] * 3
    assert label[3 * CELL // 4, CELL // 4].tolist() == [0] * 3


def test_no_strips_where_none_are_asked_for(world: World, tmp_path: Path) -> None:
    train(make_config(XPL, pictures_every=None, optim={"steps": 2}), world, tmp_path)
    assert not (tmp_path / "pictures").exists()


def test_a_log_tells_steps_speed_and_the_time_left(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(make_config(XPL, optim={"steps": 3}), world, tmp_path)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert len(said) == 3
    assert all("clips/s, " in text and " left)" in text for text in said)


def test_a_terminal_gets_a_bar_with_an_eta(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(make_config(XPL, optim={"steps": 3}), world, tmp_path)
    bar = capsys.readouterr().err
    assert "3/3" in bar
    assert "step/s" in bar or "s/step" in bar
    assert "sup " in bar
    assert "<" in bar  # elapsed<left


def test_other_processes_are_silent(tmp_path: Path) -> None:
    with RunLog(tmp_path, make_config(XPL), START, speaks=False) as log:
        log.epoch(0, {"rho": 0.5})
        log.advance(3)
        log.step(1, {"sup": 1.0}, [0.1], 2.0)
        assert log.validation(1, "fixed", {"auc": 0.1}, True)
        log.pictures(1, {"frame": torch.zeros(1, 3, 4, 4)})
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_none_are_left_out_of_the_curves(tmp_path: Path) -> None:
    with RunLog(tmp_path, make_config(XPL), START) as log:
        log.epoch(0, {"precision": float("nan"), "rho": 0.5})
        log.step(1, {"sup": 1.0}, [0.1, 0.2], 2.0)
    assert lines(tmp_path)[0] == {"step": 0, "event": "epoch", "precision": None, "rho": 0.5}
    assert lines(tmp_path)[1]["lr_1"] == 0.2
    curves = events(tmp_path)
    assert set(curves) >= {"epoch/rho", "optim/lr", "optim/lr_1", "loss/sup"}
    assert "epoch/precision" not in curves


def test_a_record_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with RunLog(tmp_path, make_config(XPL), START) as log:
        (tmp_path / "metrics.jsonl").unlink()
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(
            TrainInputError, match=r"cannot write .*metrics\.jsonl: No space left .*make room"
        ):
            log.epoch(0, {"rho": 0.5})


def test_a_cut_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "event": "step"}\n{"step": 2, "ev')
    assert keep_lines(path, 5) == [{"step": 1, "event": "step"}]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "0:01:00"), (90061, "25:01:01")]
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text
