"""Validation during training: only the subset ``val``, the best weights kept, early stopping, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsl_eval import evaluate
from avsl_train import engine, validate
from avsl_train.checkpoint import Checkpoint, load_checkpoint, weights_digest
from avsl_train.config import ExperimentConfig
from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.methods.method import Method, predicting
from avsl_train.validate import Validation, drawn
from tests.train.conftest import World, make_config, make_method, write_split

SUPERVISED = {"name": "supervised"}
OPTIM = {"steps": 12, "val_every": 2, "schedule": "constant", "lr": 0.003}


@pytest.fixture(scope="module")
def split(world: World) -> Path:
    """Return a split with a validation set."""
    return write_split(
        world.folder / "with_val.parquet",
        {"labeled": world.labeled, "unlabeled": world.unlabeled, "val": world.test},
    )


def train(config: ExperimentConfig, world: World, split: Path, out: Path) -> Checkpoint:
    return fit(config, read_training_clips(config, [world.shards], split), 0, out, threads=1)


def metrics(out: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def by_the_scorer(method: Method, clips: ClipSet, protocol: str) -> dict[str, float]:
    """Return the metrics of `avsl_eval.evaluate`, which validation must agree with."""
    with predicting(method.models):
        batch = clips.batch(torch.arange(len(clips)))
        maps = method.localize(method.viewer.plain(batch))[:, 0].numpy()
    boxes = [drawn(row).numpy() for row in batch.boxes]
    scores = evaluate(
        dict(zip(clips.ids, maps, strict=True)), dict(zip(clips.ids, boxes, strict=True)), protocol
    )
    return {name: scores.metrics[name] for name in ("ciou@0.5", "auc")}


@pytest.mark.parametrize("protocol", ["fixed", "ezvsl"])
def test_scores_are_those_of_the_scorer(world: World, split: Path, protocol: str) -> None:
    config = make_config(SUPERVISED, optim={**OPTIM, "val_protocol": protocol})
    clips = read_training_clips(config, [world.shards], split).val
    assert clips is not None
    assert clips.ids == world.test
    method = make_method(config)
    found = Validation(config.optim, clips, method).score(method)
    wanted = by_the_scorer(method, clips, protocol)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert method.models.training


def test_the_last_checkpoint_is_validated_and_chosen_by_default(
    world: World, split: Path, tmp_path: Path
) -> None:
    last = train(make_config(SUPERVISED, optim={**OPTIM, "steps": 5}), world, split, tmp_path)
    assert [line["step"] for line in metrics(tmp_path, "val")] == [2, 4, 5]
    assert (last.step, last.finished) == (5, 5)
    assert not (tmp_path / "best.pt").exists()


def scores(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let validations find these values of cIoU@0.5, one after the other by step."""

    def score(self: Validation, method: Method) -> dict[str, float]:
        return {"ciou@0.5": values[self.asked], "auc": 0.5, "mean_iou": 0.1}

    def judge(self: Validation, method: Method, done: int) -> tuple[dict[str, float], bool]:
        self.asked = done // 2 - 1
        return own(self, method, done)

    own = Validation.judge
    monkeypatch.setattr(Validation, "asked", 0, raising=False)
    monkeypatch.setattr(Validation, "score", score)
    monkeypatch.setattr(Validation, "judge", judge)


def test_the_best_weights_are_the_result(
    world: World, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [0.1, 0.4, 0.3, 0.4, 0.2, 0.0])
    config = make_config(SUPERVISED, optim={**OPTIM, "choose": "best"})
    best = train(config, world, split, tmp_path / "best")
    assert (best.step, best.finished) == (4, 12)  # of equal ones, the first
    record = json.loads((tmp_path / "best/run.json").read_text())
    assert (record["steps"], record["steps_trained"]) == (4, 12)
    assert record["validation"] == {
        "protocol": "fixed",
        **{"ciou@0.5": 0.4, "auc": 0.5},
        **{"best_step": 4, "waited": 4},
    }
    four = train(make_config(SUPERVISED, optim={**OPTIM, "steps": 4}), world, split, tmp_path / "four")
    assert weights_digest(best) == weights_digest(four)
    assert sorted(path.name for path in (tmp_path / "best").glob("*.pt")) == ["checkpoint.pt"]
    before = metrics(tmp_path / "best", "step")
    again = train(config, world, split, tmp_path / "best")  # a finished training is not done again
    assert weights_digest(again) == weights_digest(best)
    assert metrics(tmp_path / "best", "step") == before


def test_a_training_that_gets_no_better_stops(
    world: World, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [0.1, 0.4, 0.4, 0.3, 0.9, 0.9])
    config = make_config(SUPERVISED, optim={**OPTIM, "choose": "best", "patience": 2})
    best = train(config, world, split, tmp_path)
    assert (best.step, best.finished) == (4, 8)
    assert [line["step"] for line in metrics(tmp_path, "step")] == list(range(1, 9))
    assert train(config, world, split, tmp_path).finished == 8


class StopNowError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("died_after", range(1, 12))
def test_choice_and_patience_survive_a_kill(
    world: World, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died_after: int
) -> None:
    scores(monkeypatch, [0.1, 0.4, 0.4, 0.5, 0.3, 0.4])
    config = make_config(SUPERVISED, optim={**OPTIM, "choose": "best", "patience": 3}, checkpoint_every=3)
    whole = train(config, world, split, tmp_path / "whole")
    assert (whole.step, whole.finished) == (8, 12)
    own, done = engine.Stepper.step, []

    def step(self: engine.Stepper) -> None:
        if len(done) == died_after:
            raise StopNowError
        done.append(1)
        own(self)

    with monkeypatch.context() as patch:
        patch.setattr(engine.Stepper, "step", step)
        with pytest.raises(StopNowError):
            train(config, world, split, tmp_path / "again")
    again = train(config, world, split, tmp_path / "again")
    assert weights_digest(again) == weights_digest(whole)
    assert again.validation == whole.validation
    assert metrics(tmp_path / "again", "val") == metrics(tmp_path / "whole", "val")


def test_a_split_without_validation_clips_is_one_error(world: World, tmp_path: Path) -> None:
    config = make_config(SUPERVISED, optim={**OPTIM, "choose": "best"})
    with pytest.raises(
        TrainInputError, match=r"optim\.val_every asks for validations, but .*split\.parquet has"
    ):
        train(config, world, world.split, tmp_path)
    none = write_split(tmp_path / "s.parquet", {"labeled": world.labeled, "val": ["missing0000_000000"]})
    with pytest.raises(
        TrainInputError, match=r"none of the 1 validation clips is usable \(not in the shards"
    ):
        train(config, world, none, tmp_path)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("fixd", r"optim\.val_protocol: .*fixd.*fixed"),
        ("acl", r"optim\.val_protocol: protocol acl needs more than maps and boxes"),
    ],
)
def test_a_protocol_that_cannot_be_used_is_told_at_once(
    world: World, split: Path, tmp_path: Path, protocol: str, message: str
) -> None:
    with pytest.raises(TrainInputError, match=message):
        train(make_config(SUPERVISED, optim={**OPTIM, "val_protocol": protocol}), world, split, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_maps_that_are_no_probabilities_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(SUPERVISED, optim=OPTIM)
    method = make_method(config)
    assert Validation(config.optim, None, method).protocol == "fixed"
    monkeypatch.setattr(method, "value_range", "cosine", raising=False)
    assert Validation(config.optim, None, method).protocol == "ezvsl"


def test_rows_that_fill_up_a_batch_are_no_boxes() -> None:
    boxes: Tensor = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0, 0, 0, 0], [0.3, 0.3, 0.4, 0.9]])
    assert drawn(boxes).tolist() == boxes[[0, 2]].tolist()
    assert len(drawn(torch.zeros(2, 4))) == 0


def test_every_validation_clip_counts_once_in_small_batches(
    world: World, split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(SUPERVISED, optim=OPTIM)
    clips = read_training_clips(config, [world.shards], split).val
    method = make_method(config)
    whole = Validation(config.optim, clips, method).score(method)
    monkeypatch.setattr(validate, "BATCH", 1)
    assert Validation(config.optim, clips, method).score(method) == pytest.approx(whole)


def test_a_best_checkpoint_is_kept_while_the_training_runs(
    world: World, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [0.1, 0.4, 0.3, 0.2, 0.2, 0.0])
    config = make_config(SUPERVISED, optim={**OPTIM, "choose": "best"}, checkpoint_every=5)
    own, done = engine.Stepper.step, []

    def step(self: engine.Stepper) -> None:
        if len(done) == 9:
            raise StopNowError
        done.append(1)
        own(self)

    monkeypatch.setattr(engine.Stepper, "step", step)
    with pytest.raises(StopNowError):
        train(config, world, split, tmp_path)
    assert load_checkpoint(tmp_path / "best.pt").step == 4
    assert load_checkpoint(tmp_path / "last.pt").step == 5
