"""Encoders: shapes, weights of the known files, freezing, initialisation, and their configuration."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.vgg import cfgs, make_layers

from avsl_train.config import DataConfig, ExperimentConfig, ModelConfig, parse_config
from avsl_train.encoders import Encoder, make_audio, make_visual
from avsl_train.encoders.encoder import published_init_
from avsl_train.encoders.resnet import ResNet18Audio, ResNetTrunk, ResNetVisual
from avsl_train.encoders.soundnet import SoundNet, SoundNetAudio, community_names
from avsl_train.encoders.vgg import VGG16Trunk, VGG16Visual, VGGish, VGGishAudio, convolutions
from avsl_train.errors import TrainInputError
from avsl_train.frontends import make_frontend
from tests.train.conftest import BASE, make_batch, make_config, make_method


def images(side: int = 64, count: int = 1) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "stride", "channels", "side"),
    [
        ("resnet18", 32, 512, 7),
        ("resnet18", 16, 512, 14),
        ("resnet50", 32, 2048, 7),
        ("resnet50", 16, 2048, 14),
        ("vgg16", 32, 512, 14),
        ("tiny", 32, 96, 56),
    ],
)
def test_every_visual_encoder_gives_a_grid(name: Any, stride: Any, channels: int, side: int) -> None:
    encoder = make_visual(ModelConfig(visual=name, stride=stride)).eval()
    with torch.no_grad():
        found = encoder(images(224))
    assert found.shape == (1, encoder.channels, side, side) == (1, channels, side, side)


@pytest.mark.parametrize(
    ("audio", "frontend", "channels"),
    [
        ("resnet18", "ezvsl", 512),
        ("resnet18", "ssltie", 512),
        ("vggish", "vggish", 512),
        ("vggish", "sspl", 512),
        ("soundnet", "waveform", 1000),
        ("tiny", "logmel", 640),
    ],
)
def test_every_audio_encoder_gives_a_vector_per_clip(audio: Any, frontend: Any, channels: int) -> None:
    data = DataConfig(frontend=frontend)
    encoder = make_audio(ModelConfig(audio=audio), data).eval()
    waves = torch.rand(2, 2 * 16000, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        heard = make_frontend(data)(waves)
        found = encoder(heard)
        assert found.shape == (2, encoder.channels) == (2, channels)
        torch.testing.assert_close(found[1:], encoder(heard[1:]), rtol=1e-4, atol=1e-5)


def test_a_vggish_vector_is_made_of_the_mean_over_the_patches() -> None:
    encoder = VGGishAudio().eval()
    patches = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        apart = [encoder.trunk(patches[:, [number]]) for number in range(3)]
        wanted = encoder.head(torch.stack(apart).mean(0))
        torch.testing.assert_close(encoder(patches), wanted)


def test_soundnet_is_made_of_its_published_layers() -> None:
    """An independent stack of convolutions over images one pixel wide, as the original's."""
    plan = [(16, 64, 8), (32, 32, 8), (64, 16, 0), (128, 8, 0), (256, 4, 4), (512, 4, 0), (1024, 4, 0)]
    layers: list[nn.Module] = []
    inputs = 1
    for channels, kernel, pool in plan:
        layers += [nn.Conv2d(inputs, channels, (kernel, 1), (2, 1), (kernel // 2, 0))]
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.MaxPool2d((pool, 1), (pool, 1))] if pool else []
        inputs = channels
    original = nn.Sequential(*layers, nn.Conv2d(1024, 1000, (8, 1), (2, 1))).eval()
    ours = SoundNet().eval()
    given = list(original.state_dict().values())
    names = list(ours.state_dict())
    shaped = {n: v.squeeze(-1) if v.ndim == 4 else v for n, v in zip(names, given, strict=True)}
    ours.load_state_dict(shaped)
    wave = 100 * torch.randn(1, 1, 20 * 22050, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = ours(wave)
        assert found.shape == (1, 1000, 4)  # the four steps of 20 s that SoundNet was trained with
        torch.testing.assert_close(found, original(wave[..., None])[..., 0], rtol=1e-4, atol=1e-4)


def test_too_short_a_sound_for_soundnet_is_told() -> None:
    with pytest.raises(ValueError, match=r"sees 8 steps, a sound of 66150 samples has 3: use data\.frontend"):
        SoundNet()(torch.zeros(1, 1, 66150))


def port_names(layout: str) -> dict[str, Tensor]:
    """Return random weights as one of the two ports stores them."""
    state: dict[str, Tensor] = {}
    for name, value in {**SoundNet().state_dict(), "conv8_scns.weight": torch.ones(401, 1024, 8)}.items():
        layer, rest = name.split(".", 1)
        kernel = value[..., None] if value.ndim == 3 else value
        number = layer.removeprefix("conv").removeprefix("batchnorm")
        if layout == "sequential":
            layer = {"conv8_objs": "conv8.0", "conv8_scns": "conv8_2.0"}.get(
                layer, f"conv{number}.{int(layer.startswith('batchnorm'))}"
            )
        state[f"{layer}.{rest}"] = kernel
    state[next(name for name in state if name.endswith("running_mean"))] += 0.5
    return state


@pytest.mark.parametrize("layout", ["named", "sequential"])
def test_both_ports_of_soundnet_are_read(tmp_path: Path, layout: str) -> None:
    state = port_names(layout)
    torch.save(state, tmp_path / "soundnet8.pth")
    found = SoundNet(str(tmp_path / "soundnet8.pth")).state_dict()
    wanted = community_names(state)
    assert set(wanted) - set(found) == {"conv8_scns.weight"}
    assert all(torch.equal(found[name], wanted[name]) for name in found)


def test_a_soundnet_without_batchnorm_statistics_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = port_names("named")
    state["batchnorm1.running_mean"] = torch.zeros(16)
    torch.save(state, tmp_path / "s.pth")
    with caplog.at_level(logging.WARNING):
        SoundNet(str(tmp_path / "s.pth"))
    assert "BatchNorm statistics as before any training" in caplog.text
    caplog.clear()
    torch.save(port_names("named"), tmp_path / "s.pth")
    SoundNet(str(tmp_path / "s.pth"))
    assert caplog.text == ""


def test_unsuitable_audio_weights_are_told(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(
        TrainInputError, match=r"model\.audio_weights: .*a\.pth is no file of SoundNet .*: 0 of 51 names fit"
    ):
        SoundNetAudio(str(tmp_path / "a.pth"))
    with pytest.raises(
        TrainInputError, match=r"is no file of VGGish .*vggish-10086976\.pth.*: 0 of 18 names fit"
    ):
        VGGishAudio(str(tmp_path / "a.pth"))
    with pytest.raises(
        TrainInputError, match=r"model\.weights: .* is no state_dict of torchvision's vgg16: 0 of"
    ):
        VGG16Visual(str(tmp_path / "a.pth"))


@pytest.fixture(scope="module")
def vggish_port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return random weights under the port's names, with the whitening that its file may carry."""
    path = tmp_path_factory.mktemp("vggish") / "vggish.pth"
    torch.manual_seed(0)
    embeddings = nn.Sequential(
        *(
            nn.Linear(12288, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 128),
            nn.ReLU(),
        )
    )
    features: list[nn.Module] = []
    inputs = 1
    for channels in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0):
        features += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()] if channels else [nn.MaxPool2d(2)]
        inputs = channels or inputs
    state = nn.ModuleDict({"features": nn.Sequential(*features), "embeddings": embeddings}).state_dict()
    torch.save({**state, "pproc.pca_means": torch.ones(128, 1)}, path)
    return path


def test_vggish_reads_the_port_and_flattens_in_its_order(vggish_port: Path) -> None:
    network = VGGish(str(vggish_port)).eval()
    patches = torch.randn(2, 1, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network.features(patches)
        assert maps.shape == (2, 512, 6, 4)
        # time, mel, channel: as a network of channels-last tensors flattens
        order = [maps[:, c, t, m] for t in range(6) for m in range(4) for c in range(512)]
        torch.testing.assert_close(network(patches), network.embeddings(torch.stack(order, 1)))
    vggish_port.unlink()  # three hundred megabytes


def test_vgg16_is_torchvisions_up_to_the_last_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = make_layers(cfgs["D"], batch_norm=False).eval()
    state = {f"features.{name}": value for name, value in original.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.ones(1)}, tmp_path / "vgg16.pth")
    trunk = VGG16Trunk(str(tmp_path / "vgg16.pth"))
    (tmp_path / "vgg16.pth").unlink()
    with torch.no_grad():
        found, wanted = trunk(images()), original[:29](images())
    torch.testing.assert_close(found, wanted)
    assert found.min() < 0
    assert len(convolutions(3, (8, 0, 8))) == 5


def test_resnet50_is_torchvisions_up_to_the_last_block(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnet50(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "r50.pth")
    found: dict[str, Tensor] = {}
    network.layer4.register_forward_hook(lambda _, __, output: found.update(wanted=output))
    with torch.no_grad():
        network(images())
        visual = ResNetVisual(50, 32, str(tmp_path / "r50.pth")).eval()
        torch.testing.assert_close(visual(images()), found["wanted"])
        assert ResNetVisual(50, 16, str(tmp_path / "r50.pth")).eval()(images()).shape == (1, 2048, 4, 4)
    with pytest.raises(
        TrainInputError, match=r"is no state_dict of torchvision's resnet18: \d+ of 120 names fit"
    ):
        ResNetVisual(18, 32, str(tmp_path / "r50.pth"))
    (tmp_path / "r50.pth").unlink()


def test_a_trunk_with_other_inputs_keeps_the_weights_behind_its_stem(tmp_path: Path) -> None:
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "r.pth")
    given = torch.load(tmp_path / "r.pth", weights_only=True)
    state = ResNetTrunk(18, inputs=2, weights=str(tmp_path / "r.pth")).state_dict()
    (tmp_path / "r.pth").unlink()
    assert state["conv1.weight"].shape == (64, 2, 7, 7)
    assert all(torch.equal(value, given[name]) for name, value in state.items() if name != "conv1.weight")


def has_batchnorm_changed(encoder: Encoder) -> bool:
    before = [b.clone() for name, b in encoder.trunk.named_buffers() if name.endswith("running_mean")]
    encoder(images(64, 2))
    after = [b for name, b in encoder.trunk.named_buffers() if name.endswith("running_mean")]
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def trains(encoder: Encoder) -> bool:
    flags = {parameter.requires_grad for parameter in encoder.trunk.parameters()}
    assert len(flags) == 1
    return flags.pop()


def test_a_frozen_trunk_stays_as_it_is() -> None:
    encoder = ResNetVisual(18).train()
    assert trains(encoder)
    assert has_batchnorm_changed(encoder)
    encoder.freeze()
    assert not trains(encoder)
    assert not has_batchnorm_changed(encoder)
    encoder.train()  # as a training loop does
    assert encoder.training
    assert not encoder.trunk.training
    assert not has_batchnorm_changed(encoder)
    encoder.begin_epoch(1000)
    assert encoder.frozen


def test_batchnorm_of_a_frozen_trunk_may_go_on_training() -> None:
    """HTF's published training does so."""
    encoder = ResNetVisual(18).train().freeze(batchnorm="train")
    assert not trains(encoder)
    assert has_batchnorm_changed(encoder)
    encoder.eval()
    assert not has_batchnorm_changed(encoder)


def test_a_trunk_is_let_go_after_its_epochs() -> None:
    encoder = ResNetVisual(18).train().freeze(epochs=2)
    for epoch, frozen in ((0, True), (1.9, True), (2, False), (3, False)):
        encoder.begin_epoch(epoch)
        assert encoder.frozen is frozen
        assert trains(encoder) is not frozen
        assert encoder.trunk.training is not frozen


def test_what_is_not_the_trunk_is_trained() -> None:
    encoder = SoundNetAudio().freeze().train()
    wave = torch.randn(2, 1, 1, 220500, generator=torch.Generator().manual_seed(0))
    encoder(wave).sum().backward()
    assert {name.split(".")[0] for name, p in encoder.named_parameters() if p.grad is not None} == {"head"}


def test_the_published_initialisation() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(512), nn.Linear(256, 256))
    default = module[2].weight.std().item()
    published_init_(module)
    assert module[0].weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.03)
    assert module[1].weight.mean().item() == pytest.approx(1, abs=0.005)
    assert module[1].weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert module[2].weight.std().item() == default
    published_init_(module, linear_std=0.01)
    assert module[2].weight.std().item() == pytest.approx(0.01, rel=0.03)
    audio = ResNet18Audio().trunk.get_submodule("layer4.0.bn1")
    assert audio.weight.std().item() == pytest.approx(0.02, rel=0.2)  # type: ignore[union-attr]


def test_the_configuration_knows_which_encoder_hears_what() -> None:
    for audio, frontend in (
        ("vggish", "ezvsl"),
        ("soundnet", "vggish"),
        ("resnet18", "waveform"),
        ("tiny", "sspl"),
    ):
        values = {"method": {"name": "supervised"}, "model": {"audio": audio}, "data": {"frontend": frontend}}
        with pytest.raises(TrainInputError, match=rf"{audio} hears data\.frontend .*, not {frontend}"):
            parse_config(values, "a test")
    method = {"name": "xpl", "model_b": {"audio": "soundnet"}}
    with pytest.raises(TrainInputError, match=r"soundnet hears data\.frontend waveform, not ezvsl"):
        parse_config({"method": method}, "a test")


def test_sound_too_short_for_a_patch_is_told_before_any_training() -> None:
    values: dict[str, Any] = {"method": {"name": "supervised"}, "model": {"audio": "vggish"}}
    for seconds, fits in ((0.974, False), (0.975, True)):
        data = {"frontend": "vggish", "audio_s": seconds}
        if fits:
            config = parse_config({**values, "data": data}, "a test").data
            assert make_frontend(config)(torch.zeros(1, round(seconds * 16000))).shape == (1, 1, 96, 64)
        else:
            with pytest.raises(
                TrainInputError, match=r"data\.audio_s 0\.974 is shorter than a patch of 0\.975"
            ):
                parse_config({**values, "data": data}, "a test")


def test_weights_that_an_encoder_has_no_use_for_are_told() -> None:
    with pytest.raises(
        TrainInputError, match=r"model\.weights is 'imagenet', but the visual encoder tiny starts"
    ):
        make_visual(ModelConfig(visual="tiny", weights="imagenet"))
    with pytest.raises(TrainInputError, match=r"model\.audio_weights is 'x', but the audio encoder resnet18"):
        make_audio(ModelConfig(audio_weights="x"), DataConfig())
    assert ModelConfig(weights="none", audio_weights="none") == ModelConfig()
    with pytest.raises(ValueError, match="freeze_audio has no use for the encoder tiny"):
        ModelConfig(audio="tiny", freeze_audio=True)


def test_a_training_step_with_frozen_soundnet_moves_only_what_it_should() -> None:
    config: ExperimentConfig = make_config(
        {"name": "supervised", "lambda_con": 1.0},
        model={**BASE["model"], "audio": "soundnet", "freeze_audio": True},
        data={**BASE["data"], "frontend": "waveform"},
    )
    method = make_method(config)
    method.models.train()
    sum(method.losses(make_batch(config), 0).values()).backward()  # type: ignore[union-attr]
    audio = method.models["a"].audio
    assert all(parameter.grad is None for parameter in audio.trunk.parameters())  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.any() for p in audio.head.parameters())  # type: ignore[union-attr]
