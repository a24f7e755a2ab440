"""The published trainings in config/experiments: optimiser, rate, batch and length as their code has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from avsl_train.config import parse_config
from avsl_train.method_config_self import STRUCTURES, SelfConfig
from avsl_train.study import merge

CLIPS = 144_000
PUBLISHED = {
    # optimiser, learning rate, weight decay, batch, epochs
    "ezvsl": ("adam", 1e-4, 0.0, 128, 20),
    "slavc": ("adam", 1e-4, 0.0, 128, 20),
    "fnac": ("adam", 1e-4, 1e-4, 256, 30),
    "lvs": ("adam", 1e-4, 1e-4, 32, 100),
    "ssltie": ("adam", 1e-4, 1e-4, 32, 100),
    "alignment": ("adam", 1e-4, 1e-4, 16, 80),
    "htf": ("adam", 1e-3, 0.0, 128, 100),
    "sspl": ("adamw", 2e-5, 1e-4, 256, 20),
    "sspl-no-pcm": ("adamw", 5e-4, 1e-4, 256, 100),
    "attention10k": ("adam", 1e-4, 0.0, 30, 10),
}


@pytest.fixture(scope="module")
def experiments(repository: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in (repository / "config/experiments").glob("*.yaml"):
        found |= yaml.safe_load(path.read_text(encoding="utf-8")).get("experiments", {})
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_training_is_as_published(experiments: dict[str, Any], name: str) -> None:
    optimizer, rate, decay, batch, epochs = PUBLISHED[name]
    config = parse_config(experiments[name], name)
    assert isinstance(config.method, SelfConfig)
    assert config.method.network == "published"
    assert config.method.views == "published"
    optim = config.optim
    assert (optim.optimizer, optim.lr, optim.weight_decay) == (optimizer, rate, decay)
    assert (optim.batch_unlabeled, optim.schedule, optim.clip_norm) == (batch, "constant", None)
    assert optim.steps == epochs * (CLIPS // batch)


def test_every_method_is_there_also_on_a_localizer(experiments: dict[str, Any]) -> None:
    assert set(STRUCTURES) <= set(PUBLISHED)
    for name in STRUCTURES:
        config = parse_config(experiments[f"{name}-localizer"], name)
        assert isinstance(config.method, SelfConfig)
        assert (config.method.name, config.method.network) == (name, "localizer")


def test_the_semi_supervised_form_has_the_same_batch_and_epochs(experiments: dict[str, Any]) -> None:
    config = parse_config(experiments["attention10k+sup"], "a test")
    assert config.optim.batch_labeled + config.optim.batch_unlabeled == 30
    assert config.optim.steps == 10 * (CLIPS // config.optim.batch_unlabeled)
    assert config.method.lambda_sup == 1  # type: ignore[union-attr]


def test_a_training_set_does_not_change_a_published_training(experiments: dict[str, Any]) -> None:
    """An experiment says all that matters, so that the training set's recipe adds nothing to it."""
    recipe = {
        "model": {"visual": "tiny", "audio": "tiny", "dim": 64, "stride": 16},
        "data": {"frame_size": 64, "image_size": 56, "clip_s": 2.0, "audio_s": 1.8, "frontend": "logmel"},
        "optim": {"steps": 1300, "batch_unlabeled": 28, "lr": 0.002, "weight_decay": 0.1},
    }
    for name in PUBLISHED:
        found, alone = (
            parse_config(values, name) for values in (merge(recipe, experiments[name]), experiments[name])
        )
        different = {
            key
            for key in ("model", "data", "optim")
            for inner, value in getattr(alone, key).model_dump().items()
            if getattr(found, key).model_dump()[inner] != value and inner not in {"stride", "dim"}
        }
        assert not different, name
