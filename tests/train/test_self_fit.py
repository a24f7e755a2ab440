"""Whole trainings of the self-supervised methods: resumed, without labels, predicted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_train import fit as fitting
from avsl_train.checkpoint import Checkpoint, weights_digest
from avsl_train.config import ExperimentConfig
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.methods.method import Method
from avsl_train.predict import write_predictions
from tests.train.conftest import World, make_config, write_split

NAMES = ("ezvsl", "lvs", "slavc", "fnac", "attention10k", "sspl", "ssltie", "alignment")
"""All but htf, whose clips need flow; `test_flow` trains it."""
SETTINGS: dict[str, dict[str, Any]] = {
    "fnac": {"warmup_epochs": 1},
    "sspl": {"pcm": False},
    "alignment": {"neighbours_every": 1, "k": 3},
}


def config_of(name: str) -> ExperimentConfig:
    section = {"name": name, "network": "localizer", **SETTINGS.get(name, {})}
    return make_config(section, optim={"steps": 5}, checkpoint_every=1)


def train(config: ExperimentConfig, world: World, out: Path, split: Path | None = None) -> Checkpoint:
    clips = read_training_clips(config, [world.shards], split or world.split)
    return fit(config, clips, 0, out, threads=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_that_breaks_off_goes_on_as_if_it_had_not(
    world: World, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, momentum copies, passes and neighbours are those of the uninterrupted training."""
    config = config_of(name)
    whole = train(config, world, tmp_path / "whole")
    kind: type[Method] = fitting.METHODS[name]
    losses = kind.losses

    def broken(self: Method, batch: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return losses(self, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "losses", broken)
        with pytest.raises(KeyboardInterrupt):
            train(config, world, tmp_path / "cut")
    cut = train(config, world, tmp_path / "cut")
    assert weights_digest(cut) == weights_digest(whole)
    shutil.rmtree(tmp_path / "cut")


@pytest.mark.parametrize("name", ["ezvsl", "attention10k"])
def test_labelled_clips_change_nothing(world: World, tmp_path: Path, name: str) -> None:
    alone = write_split(tmp_path / "split.parquet", {"unlabeled": world.unlabeled})
    config = config_of(name)
    found = [train(config, world, tmp_path / place, split) for place, split in (("a", None), ("b", alone))]
    assert weights_digest(found[0]) == weights_digest(found[1])


def test_a_method_that_learns_from_labels_misses_them(world: World, tmp_path: Path) -> None:
    alone = write_split(tmp_path / "split.parquet", {"unlabeled": world.unlabeled})
    config = make_config({"name": "attention10k", "network": "localizer", "lambda_sup": 1.0})
    with pytest.raises(TrainInputError, match="has no subset 'labeled'"):
        read_training_clips(config, [world.shards], alone)
    train(config, world, tmp_path / "semi")


@pytest.mark.parametrize("name", ["ezvsl", "slavc", "alignment"])
def test_a_trained_model_predicts_its_published_map(world: World, tmp_path: Path, name: str) -> None:
    train(config_of(name), world, tmp_path)
    write_predictions(tmp_path / "checkpoint.pt", [world.shards], world.test, tmp_path / "p.npz", None)
    with np.load(tmp_path / "p.npz") as found:
        heatmap, meta = found["heatmap"], str(found["meta"])
    assert heatmap.shape == (3, 8, 8)
    assert np.isfinite(heatmap).all()
    assert '"cosine"' in meta if name == "alignment" else '"cosine/0.03"' in meta
