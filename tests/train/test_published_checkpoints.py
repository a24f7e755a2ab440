"""Published checkpoints are loaded from the layouts that their trainings wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avsl_train.config import DataConfig, ModelConfig
from avsl_train.errors import TrainInputError
from avsl_train.frontends import published
from avsl_train.localizer import Localizer
from avsl_train.published import (
    EZVSL,
    HTF,
    LVS,
    SOURCES,
    SSLTIE,
    images,
    load_published,
    localizer_state,
)

State = dict[str, Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


@pytest.fixture(scope="module")
def ezvsl() -> EZVSL:
    torch.manual_seed(0)
    return EZVSL().eval()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_ezvsls_file_is_loaded_and_localizes(tmp_path: Path, ezvsl: EZVSL, prefix: str) -> None:
    """From a whole clip and a frame as they are stored to the map of the original."""
    path = tmp_path / "best.pth"
    weights = prefixed(ezvsl.state_dict(), prefix)
    torch.save({"model": weights, "epoch": 3, "best_cIoU": np.float64(0.4), "optimizer": {"state": {}}}, path)
    network: Any = load_published("ezvsl", path)
    assert not network.training
    from PIL import Image

    draw = np.random.default_rng(0)
    frame = Image.fromarray(draw.integers(0, 256, (90, 160, 3), np.uint8))
    sound = torch.from_numpy(draw.integers(-9000, 9000, 160000).astype(np.int16))
    inputs = images.ezvsl(frame)[None], published("ezvsl")(sound)[None]
    with torch.no_grad():
        found, wanted = network.localize(*inputs), ezvsl.localize(*inputs)
    assert found.shape == (1, 1, 7, 7)
    assert torch.equal(found, wanted)
    path.unlink()


@pytest.mark.parametrize(
    ("name", "network", "wrapper", "prefix"),
    [
        ("lvs", LVS, "model_state_dict", "module."),
        ("ssltie", SSLTIE, "state_dict", ""),
        ("htf", HTF, "model", ""),
        ("htf", HTF, "state_dict", "model."),
    ],
)
def test_every_layout_is_understood(
    tmp_path: Path, name: str, network: Any, wrapper: str, prefix: str
) -> None:
    torch.manual_seed(0)
    original = network().state_dict()
    path = tmp_path / "checkpoint"
    torch.save({wrapper: prefixed(original, prefix), "epoch": 1}, path)
    found = load_published(name, path).state_dict()
    assert list(found) == list(original)
    assert all(torch.equal(found[key], value) for key, value in original.items())
    path.unlink()


def test_a_localizer_goes_on_from_ezvsls_weights(ezvsl: EZVSL) -> None:
    localizer = Localizer(ModelConfig(), DataConfig()).eval()
    missing, unknown = localizer.load_state_dict(localizer_state("ezvsl", ezvsl.state_dict()), strict=False)
    assert (set(missing), unknown) == ({"scale", "bias"}, [])
    frame, sound = torch.rand(2, 3, 224, 224), torch.rand(2, 1, 257, 200) - 1.2
    with torch.no_grad():
        output = localizer(frame, sound)
        found = (output.logit - localizer.bias) / localizer.scale
        wanted = ezvsl(torch.stack([images.normalised(one) for one in frame]), sound)
    torch.testing.assert_close(found, wanted.own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.visual, wanted.visual, rtol=1e-4, atol=1e-5)
    with pytest.raises(TrainInputError, match="only ezvsl and fnac"):
        localizer_state("lvs", {})


def test_the_file_of_another_network_is_told(tmp_path: Path, ezvsl: EZVSL) -> None:
    path = tmp_path / "best.pth"
    torch.save({"model": ezvsl.state_dict()}, path)
    with pytest.raises(
        TrainInputError,
        match=r"best\.pth is no checkpoint of lvs \(a file with model_state_dict\): \d+ of 248 names fit; "
        r"missing: imgnet\.conv1_a\.weight, .* more; unknown: img_proj\.weight, .*of another network\?",
    ):
        load_published("lvs", path)
    with pytest.raises(
        TrainInputError, match=r"no file .*none\.pth: the checkpoints of htf are \*\.pth; best"
    ):
        load_published("htf", tmp_path / "none.pth")
    known = re.escape(", ".join(SOURCES))
    with pytest.raises(TrainInputError, match=rf"no published network 'ezvls' \(there are: {known}\)"):
        load_published("ezvls", path)
    path.unlink()
