"""The predictions file: what it holds, and that it holds the models' maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avsl_train.checkpoint import Checkpoint, file_digest
from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.methods.method import predicting
from avsl_train.predict import load_method, predict, write_predictions
from tests.train.conftest import World, make_config, make_method


def trained(world: World, out: Path, method: str, **over: Any) -> tuple[Path, Checkpoint]:
    config = make_config(method, **{"optim": {"steps": 2}, **over})
    clips = read_training_clips(config, [world.shards], world.split)
    return out / "checkpoint.pt", fit(config, clips, 3, out, threads=1)


@pytest.fixture(scope="module")
def xpl(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(world, tmp_path_factory.mktemp("xpl"), "xpl")[0]


@pytest.fixture(scope="module")
def supervised(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(world, tmp_path_factory.mktemp("supervised"), "supervised")[0]


def predictions(
    world: World, checkpoint: Path, out: Path, which: str | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    ids = [*world.test, *world.excluded]
    write_predictions(checkpoint, [world.shards], ids, out, which)
    with np.load(out, allow_pickle=False) as stored:
        return dict(stored)


def test_the_file_keeps_its_contract(world: World, xpl: Path, tmp_path: Path) -> None:
    found = predictions(world, xpl, tmp_path / "p.npz")
    assert sorted(found) == ["clip_id", "confidence", "heatmap", "meta"]
    assert found["clip_id"].tolist() == world.test
    assert found["heatmap"].shape == (3, 8, 8)
    assert found["heatmap"].dtype == np.float32
    assert found["heatmap"].min() >= 0
    assert found["heatmap"].max() <= 1
    largest = np.sort(found["heatmap"].reshape(3, -1), axis=1)[:, -16:]  # a quarter of the map
    np.testing.assert_allclose(found["confidence"], largest.mean(1), rtol=1e-6)
    config = make_config("xpl", optim={"steps": 2})
    assert json.loads(str(found["meta"])) == {
        "schema": "avsl-predictions/1",
        "checkpoint_sha256": file_digest(xpl),
        "config_digest": config.digest(),
        "method": "xpl",
        "seed": 3,
        "step": 2,
        "inference": "mean",
        "values": "probability",
        "value_range": [0.0, 1.0],
        "excluded": world.excluded,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_a_prediction_does_not_depend_on_its_batch(world: World, xpl: Path) -> None:
    method, _ = load_method(xpl)
    clips = ClipSet([world.shards], world.test, method.config.data)
    together, _ = predict(method, clips)
    for position, clip_id in enumerate(world.test):
        alone, _ = predict(method, ClipSet([world.shards], [clip_id], method.config.data))
        np.testing.assert_allclose(alone[0], together[position], atol=1e-6)


def test_the_maps_are_those_of_the_trained_models(world: World, tmp_path: Path) -> None:
    path, checkpoint = trained(world, tmp_path / "run", "supervised")
    method = make_method(make_config("supervised"))
    method.models.load_state_dict(checkpoint.models)
    clips = ClipSet([world.shards], world.test, method.config.data)
    with predicting(method.models):
        wanted = method.localize(method.viewer.plain(clips.batch(torch.arange(3))))[:, 0].numpy()
    found = predictions(world, path, tmp_path / "p.npz")
    np.testing.assert_allclose(found["heatmap"], wanted, atol=1e-6)
    untrained = make_method(make_config("supervised"), seed=3)
    with predicting(untrained.models):
        other = untrained.localize(untrained.viewer.plain(clips.batch(torch.arange(3))))[:, 0].numpy()
    assert np.abs(found["heatmap"] - other).max() > 1e-3


def test_which_chooses_the_model(world: World, xpl: Path, tmp_path: Path) -> None:
    maps = {}
    for which in ("mean", "a", "b"):
        found = predictions(world, xpl, tmp_path / f"{which}.npz", which)
        assert json.loads(str(found["meta"]))["inference"] == which
        maps[which] = found["heatmap"]
    np.testing.assert_allclose(maps["mean"], (maps["a"] + maps["b"]) / 2, atol=1e-6)
    assert np.abs(maps["a"] - maps["b"]).max() > 1e-3


def test_which_is_refused_where_there_is_one_model(world: World, supervised: Path, tmp_path: Path) -> None:
    message = r"--which a needs a method with two models, the checkpoint has supervised"
    with pytest.raises(TrainInputError, match=message):
        predictions(world, supervised, tmp_path / "p.npz", "a")
    assert list(tmp_path.iterdir()) == []


def test_no_clip_left_is_refused(world: World, supervised: Path, tmp_path: Path) -> None:
    message = r"none of the 2 clips can be predicted \(not in the shards, truncated\)"
    with pytest.raises(TrainInputError, match=message):
        write_predictions(supervised, [world.shards], list(world.excluded), tmp_path / "p.npz", None)
    with pytest.raises(TrainInputError, match=r"none of the 0 clips can be predicted \(none asked for\)"):
        write_predictions(supervised, [world.shards], [], tmp_path / "p.npz", None)
    assert list(tmp_path.iterdir()) == []


def test_prediction_needs_no_weights_to_start_from(world: World, tmp_path: Path) -> None:
    """The file that a training started from may be gone; the checkpoint replaces it in both models."""
    path, checkpoint = trained(world, tmp_path / "run", "xpl")
    checkpoint.config["model"]["weights"] = str(tmp_path / "gone.pt")
    checkpoint.config["method"]["model_b"] = {"weights": "imagenet"}
    torch.save(vars(checkpoint), path)
    method, _ = load_method(path)
    assert method.config.model.weights is None
    assert method.config.model_b().weights is None
