"""Two models that hear differently, as in DMT's and XPL's papers: A by VGGish, B by SoundNet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from avsl_train.config import ExperimentConfig, parse_config
from avsl_train.data import Clips
from avsl_train.encoders.soundnet import SoundNet
from avsl_train.encoders.vgg import VGGish
from avsl_train.methods.method import Method, predicting
from tests.train.conftest import BASE, make_batch, make_clips, make_config, make_method

N = 3
EXAMPLE = """
method: {name: xpl, model_b: {audio: soundnet, frontend: waveform, audio_weights: SOUNDNET}}
model: {audio: vggish, frontend: vggish, audio_weights: VGGISH}
"""
"""The keys that docs/methods.md shows."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Return files of random weights under the published names; removed at once, VGGish's has 288 MB."""
    folder = tmp_path_factory.mktemp("weights")
    files = {"vggish": folder / "vggish.pth", "soundnet": folder / "soundnet.pth"}
    torch.manual_seed(0)
    torch.save(VGGish().state_dict(), files["vggish"])
    sound = SoundNet()
    sound.batchnorm1.running_mean.fill_(0.1)  # type: ignore[union-attr,operator]  # a zero is warned of
    torch.save(sound.state_dict(), files["soundnet"])
    yield files
    for file in files.values():
        file.unlink()


def config_of(name: str, weights: dict[str, Path]) -> ExperimentConfig:
    """Return a training of two models, one second of sound each, whose VGGish stays as it is."""
    second = {"audio": "soundnet", "frontend": "waveform", "audio_weights": str(weights["soundnet"])}
    own: dict[str, Any] = {"xpl": {"curriculum": False}, "dmt": {"tau": 0.0}}[name]
    first = {"audio": "vggish", "frontend": "vggish", "audio_weights": str(weights["vggish"])}
    return make_config(
        {"name": name, "warmup": 0.0, "model_b": second, **own},
        model={**BASE["model"], **first, "freeze_audio": True},
        data={**BASE["data"], "clip_s": 1.2, "audio_s": 1.0},
    )


def step(method: Method) -> dict[str, torch.Tensor]:
    """Train one step and return its terms."""
    clips = make_clips(N, method.config.data, 2)

    def sweep() -> Iterator[Clips]:
        yield clips

    method.models.train()
    method.begin_epoch(0, sweep)
    optimizer = torch.optim.SGD((p for p in method.students() if p.requires_grad), lr=0.01)
    terms = method.losses(make_batch(method.config, 2, N), 0)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    method.after_step(0)
    return {key: term.detach() for key, term in terms.items()}


@pytest.mark.parametrize(("name", "term"), [("xpl", "cross"), ("dmt", "ipl")])
def test_models_that_hear_differently_train_a_step_and_predict(
    name: str, term: str, weights: dict[str, Path]
) -> None:
    config = config_of(name, weights)
    method = make_method(config, N)
    loaded = torch.load(weights["soundnet"], weights_only=True)
    trunk = method.models["b"].audio.trunk.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(trunk[key], value) for key, value in loaded.items())
    heads = {model: method.models[model].audio.head[-2].weight.clone() for model in "ab"}  # type: ignore[union-attr,index]
    terms = step(method)
    assert set(terms) == {"sup", "con", term}
    assert all(value.isfinite() for value in terms.values())
    for model in "ab":
        moved = method.models[model].audio.head[-2].weight  # type: ignore[union-attr,index]
        assert not torch.equal(moved, heads[model])
    view = method.viewer.plain(make_clips(2, config.data))
    with predicting(method.models):
        found = method.localize(view)
        parts = [
            method.forward(model, method.viewer.plain(make_clips(2, config.data), method.frontend(model)))
            for model in {"xpl": ("a", "b"), "dmt": ("teacher_a", "teacher_b")}[name]
        ]
    assert found.shape == (2, 1, 8, 8)
    torch.testing.assert_close(found, (parts[0].probability + parts[1].probability) / 2)
    assert not torch.equal(parts[0].probability, parts[1].probability)
    assert set(method.pictures()) >= {"frame", "prediction"}


def test_the_example_of_the_document_is_a_configuration(repository: Path) -> None:
    import yaml

    assert EXAMPLE.strip() in (repository / "docs" / "methods.md").read_text(encoding="utf-8")
    config = parse_config(yaml.safe_load(EXAMPLE), "the document")
    assert config.model.hears(config.data) == "vggish"
    second = config.model_b()
    assert (second.audio, second.hears(config.data), second.visual) == ("soundnet", "waveform", "resnet18")
