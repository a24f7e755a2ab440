"""The real configuration: ResNet-18 at 224 pixels and EZ-VSL's front end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from avsl_train.config import ExperimentConfig, ModelConfig, parse_config
from avsl_train.encoders.resnet import ResNet18Audio, ResNetVisual
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.localizer import Localizer
from avsl_train.methods import XPL
from avsl_train.predict import write_predictions
from tests.train.conftest import World, gradient, make_batch, make_method


def real_config(method: dict[str, Any], **over: Any) -> ExperimentConfig:
    """Return the defaults, with tiny batches and the short clips of these tests."""
    values: dict[str, Any] = {
        "method": method,
        "data": {"clip_s": 1.0, "audio_s": 1.0, "workers": 0},
        "optim": {"steps": 1, "batch_labeled": 1, "batch_unlabeled": 1},
        "device": "cpu",
        **over,
    }
    return parse_config(values, "a test")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state_dict of torchvision's ResNet-18."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def test_the_real_configuration_trains_and_predicts_7x7(world: World, weights: Path, tmp_path: Path) -> None:
    config = real_config({"name": "supervised", "lambda_con": 1.0}, model={"weights": str(weights)})
    clips = read_training_clips(config, [world.shards], world.split)
    fit(config, clips, 0, tmp_path, threads=1)
    write_predictions(tmp_path / "checkpoint.pt", [world.shards], world.test[:1], tmp_path / "p.npz", None)
    assert np.load(tmp_path / "p.npz")["heatmap"].shape == (1, 7, 7)
    for path in tmp_path.glob("*.pt"):
        path.unlink()  # some hundred megabytes


def test_xpl_at_14x14_makes_labels_and_trains_both_models() -> None:
    method_config = {"name": "xpl", "warmup": 0.0, "curriculum": False}
    config = real_config(method_config, model={"stride": 16})
    batch = make_batch(config, 1, 1)
    method = make_method(config, 1)
    assert isinstance(method, XPL)
    method.models.train()
    method.begin_epoch(0, lambda: iter([batch.clips[torch.tensor([1])]]))
    assert method.size == 14
    terms = method.losses(batch, 0)
    assert all(gradient(terms["cross"], method.models[name]).abs().max() > 0 for name in "ab")


def test_the_trunk_is_torchvisions_up_to_the_last_block(weights: Path) -> None:
    network = resnet18(weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    found: dict[str, torch.Tensor] = {}
    network.layer4.register_forward_hook(lambda _, __, output: found.update(wanted=output))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    visual = ResNetVisual(18, 32, str(weights))
    with torch.no_grad():
        network.eval()(image)
        torch.testing.assert_close(visual.eval()(image), found["wanted"])


def test_stride_16_has_the_same_weights_and_twice_the_map(weights: Path) -> None:
    coarse, fine = (ResNetVisual(18, stride, str(weights)).eval() for stride in (32, 16))
    assert {key: value.shape for key, value in coarse.state_dict().items()} == {
        key: value.shape for key, value in fine.state_dict().items()
    }
    with torch.no_grad():
        image = torch.rand(1, 3, 224, 224)
        assert coarse(image).shape == (1, 512, 7, 7)
        assert fine(image).shape == (1, 512, 14, 14)


def test_the_audio_trunk_starts_as_the_originals() -> None:
    """Convolutions: normal with deviation sqrt(2 / (outputs * kernel area)) [code EZ-VSL]."""
    torch.manual_seed(0)
    audio = ResNet18Audio()
    convolutions = [module for module in audio.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 20
    assert convolutions[0].weight.shape == (64, 1, 7, 7)
    for conv in convolutions:
        wanted = math.sqrt(2 / (conv.out_channels * math.prod(conv.kernel_size)))
        assert conv.weight.std().item() == pytest.approx(wanted, rel=0.05)
    assert audio(torch.rand(2, 1, 257, 64)).shape == (2, 512)


@pytest.mark.parametrize(("frontend", "audio"), [("ezvsl", "tiny"), ("logmel", "resnet18")])
def test_every_audio_encoder_takes_every_front_end(frontend: str, audio: str) -> None:
    config = real_config(
        {"name": "supervised"},
        model={"visual": "tiny", "audio": audio},
        data={"frontend": frontend, "clip_s": 1.0, "audio_s": 1.0, "image_size": 32},
    )
    method = make_method(config)
    assert method.losses(make_batch(config, 2, 0), 0)["sup"].isfinite()


def test_unsuitable_weights_are_told(tmp_path: Path, weights: Path) -> None:
    model = ModelConfig(weights=str(tmp_path / "none.pt"), audio="tiny")
    data = real_config({"name": "supervised"}).data
    with pytest.raises(TrainInputError, match=r"model\.weights: no file .*none\.pt; use `imagenet`"):
        Localizer(model, data)
    (tmp_path / "none.pt").write_bytes(weights.read_bytes()[:10000])
    with pytest.raises(TrainInputError, match=r"none\.pt cannot be read as a state_dict"):
        Localizer(model, data)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "none.pt")
    with pytest.raises(
        TrainInputError, match=r"none\.pt is no state_dict of torchvision's resnet18"
    ) as caught:
        Localizer(model, data)
    assert "\n" not in str(caught.value)
