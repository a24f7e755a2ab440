"""`load_model` and `Model.localize`: the maps of the prediction, for any frame and sound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import avsl_train
from avsl_train.checkpoint import Checkpoint, save_checkpoint
from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.predict import load_method, predict
from tests.train.conftest import World, make_config, make_method

RATE = 16000


@pytest.fixture(scope="module")
def checkpoint(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("xpl")
    config = make_config("xpl", optim={"steps": 2})
    fit(config, read_training_clips(config, [world.shards], world.split), 3, out, threads=1)
    return out / "checkpoint.pt"


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> avsl_train.Model:
    return avsl_train.load_model(checkpoint)


def frame(width: int = 60, height: int = 44) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def sound(seconds: float, rate: int = RATE) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(-9000, 9000, round(seconds * rate)).astype(np.int16)


def test_a_stored_clip_is_localized_as_it_is_predicted(
    world: World, checkpoint: Path, model: avsl_train.Model
) -> None:
    method, _ = load_method(checkpoint)
    clips = ClipSet([world.shards], world.test, method.config.data)
    wanted, _ = predict(method, clips)
    for position in range(len(clips)):
        picture, samples = clips.stored(position)
        found = model.localize(picture, samples, sample_rate=RATE, size="map")
        np.testing.assert_allclose(found, wanted[position], atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3


def test_which_model_localizes(checkpoint: Path, model: avsl_train.Model) -> None:
    maps = {
        which: avsl_train.load_model(checkpoint, which=which).localize(
            frame(), sound(1), sample_rate=RATE, size="map"
        )
        for which in ("a", "b")
    }
    found = model.localize(frame(), sound(1), sample_rate=RATE, size="map")
    np.testing.assert_allclose(found, (maps["a"] + maps["b"]) / 2, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.0002, 0.3, 0.5, 0.7, 1.0, 3.3])
def test_the_middle_of_a_sound_is_heard_and_a_short_one_is_repeated(
    model: avsl_train.Model, seconds: float
) -> None:
    """The model hears 0.5 s of clips of 1 s."""
    given, heard = sound(seconds), round(model.window_s * RATE)
    middle = np.resize(given, heard) if len(given) < heard else given[(len(given) - heard) // 2 :][:heard]
    found = model.localize(frame(), given, sample_rate=RATE, size="map")
    np.testing.assert_array_equal(found, model.localize(frame(), middle, sample_rate=RATE, size="map"))
    other = model.localize(frame(), sound(0.5)[::-1].copy(), sample_rate=RATE, size="map")
    assert np.abs(found - other).max() > 1e-5


def test_the_map_at_the_frames_size_is_the_models_interpolated(model: avsl_train.Model) -> None:
    small = model.localize(frame(), sound(1), sample_rate=RATE, size="map")
    large = model.localize(frame(61, 43), sound(1), sample_rate=RATE)
    assert small.shape == (8, 8)
    assert large.shape == (43, 61)
    assert large.dtype == small.dtype == np.float32
    of_large = model.localize(frame(61, 43), sound(1), sample_rate=RATE, size="map")
    wanted = functional.interpolate(torch.from_numpy(of_large)[None, None], (43, 61), mode="bilinear")[0, 0]
    np.testing.assert_allclose(large, wanted.numpy())
    assert 0 <= large.min() <= large.max() <= 1
    assert (model.values.name, model.values.low, model.values.high) == ("probability", 0, 1)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (2000, 3), (640, 360), (360, 640)])
def test_frames_of_any_size(model: avsl_train.Model, width: int, height: int) -> None:
    found = model.localize(frame(width, height), sound(1), sample_rate=RATE)
    assert found.shape == (height, width)
    assert np.isfinite(found).all()


def test_forms_of_the_same_clip_give_the_same_map(model: avsl_train.Model) -> None:
    pixels, samples = frame(), sound(1)
    wanted = model.localize(pixels, samples, sample_rate=RATE)
    for picture in (Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1), pixels / 255):
        for wave in (torch.from_numpy(samples), samples / 32768, np.stack([samples, samples])):
            np.testing.assert_array_equal(model.localize(picture, wave, sample_rate=RATE), wanted)
    at_another_rate = np.repeat(samples, 3)  # three times the rate, with images of the spectrum above
    near = model.localize(pixels, at_another_rate, sample_rate=3 * RATE)
    assert np.abs(near - wanted).max() < 0.05


def test_localizing_leaves_no_trace(model: avsl_train.Model) -> None:
    first = model.localize(frame(), sound(1), sample_rate=RATE)
    model.localize(frame(90, 20), sound(2), sample_rate=RATE)
    np.testing.assert_array_equal(model.localize(frame(), sound(1), sample_rate=RATE), first)
    method = model.network.method  # type: ignore[attr-defined]
    assert all(parameter.grad is None for parameter in method.models.parameters())


def test_bad_input_is_told(model: avsl_train.Model, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainInputError, match="size is 'image': it is 'frame' or 'map'"):
        model.localize(frame(), sound(1), sample_rate=RATE, size="image")  # type: ignore[arg-type]
    with pytest.raises(TrainInputError, match=r"did you mean frame\.transpose"):
        model.localize(frame().transpose(2, 0, 1), sound(1), sample_rate=RATE)
    with pytest.raises(TrainInputError, match="no samples"):
        model.localize(frame(), np.zeros(0), sample_rate=RATE)
    with pytest.raises(TypeError, match="sample_rate"):
        model.localize(frame(), sound(1))  # type: ignore[call-arg]
    with pytest.raises(TrainInputError, match=r"no checkpoint .*none\.pt"):
        avsl_train.load_model(tmp_path / "none.pt")
    with pytest.raises(TrainInputError, match=r"is no exported model, it has no config\.json"):
        avsl_train.load_model(checkpoint.parent)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(TrainInputError, match="cannot be read as a checkpoint"):
        avsl_train.load_model(tmp_path / "text.pt")
    torch.save({"format": "avsl-imported/9"}, tmp_path / "later.pt")
    with pytest.raises(TrainInputError, match="'avsl-imported/9', this program reads 'avsl-imported/1'"):
        avsl_train.load_model(tmp_path / "later.pt")


def test_weights_of_another_configuration_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    values = torch.load(checkpoint, weights_only=True)
    values["config"]["model"]["dim"] = 24
    torch.save(values, tmp_path / "changed.pt")
    with pytest.raises(TrainInputError, match="the weights are not those of its configuration"):
        avsl_train.load_model(tmp_path / "changed.pt")


def test_a_missing_file_is_not_sought_on_the_hub() -> None:
    with pytest.raises(TrainInputError, match=r"no checkpoint runs/gone\.pt: train one"):
        avsl_train.load_model("runs/gone.pt")


def test_the_published_weights_that_a_training_began_with_may_be_gone(tmp_path: Path) -> None:
    method = make_method(make_config({"name": "ezvsl", "network": "localizer"}))
    config = method.config.model_dump(mode="json")
    config["method"]["start"] = str(tmp_path / "gone.pth")
    checkpoint = Checkpoint.fresh(config, "0" * 16, 0, "")
    checkpoint.models = dict(method.models.state_dict())
    save_checkpoint(checkpoint, tmp_path / "checkpoint.pt")
    found = avsl_train.load_model(tmp_path / "checkpoint.pt")
    assert found.localize(frame(), sound(1), sample_rate=RATE, size="map").shape == (8, 8)
    assert found.values.name == "cosine/0.03"


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, avsl_train; print('torch' in sys.modules, 'load_model' in dir(avsl_train))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False True\n"
    with pytest.raises(AttributeError, match="no attribute 'lod_model'"):
        avsl_train.lod_model  # noqa: B018
