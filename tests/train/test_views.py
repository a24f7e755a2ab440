"""Views: functions of clip and draws alone, and the front end of the model that hears them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avsl_train.augment import crop
from avsl_train.config import AugmentConfig, DataConfig, ExperimentConfig, FrontendName
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.errors import TrainInputError
from avsl_train.frontends import make_frontend
from avsl_train.localizer import normalised
from avsl_train.methods import XPL
from avsl_train.methods.method import predicting
from avsl_train.views import View, Viewer
from tests.train.conftest import BASE, CPU, make_clips, make_config, make_method

CONFIG = DataConfig(**{**BASE["data"], "clip_s": 2.0, "audio_s": 1.5})
STRONGEST = AugmentConfig(jitter=1, gray=0.5, blur=1, freq_mask=0.3, time_mask=0.3)
PARTS = ("image", "spectrogram")


def views(clips: Clips, draws: Draws, frontend: FrontendName | None = None) -> tuple[View, View]:
    viewer = Viewer(CONFIG, CPU)
    return viewer.weak(clips, STRONGEST, draws, frontend), viewer.strong(clips, STRONGEST, draws, frontend)


@pytest.mark.parametrize("order", [[4], [5, 0, 4], [2, 4, 1, 0, 5, 3]])
def test_a_view_does_not_depend_on_the_other_clips_nor_their_order(order: list[int]) -> None:
    clips = make_clips(6, CONFIG)
    chosen = torch.tensor(order)
    for whole, some in zip(
        views(clips, Draws(0, "a", 1)), views(clips[chosen], Draws(0, "a", 1)), strict=True
    ):
        assert torch.equal(whole.geometry.box[chosen], some.geometry.box)
        assert torch.equal(whole.geometry.flip[chosen], some.geometry.flip)
        for part in PARTS:
            torch.testing.assert_close(getattr(whole, part)[chosen], getattr(some, part))


def test_each_step_clip_and_purpose_has_a_view_of_its_own() -> None:
    clips = make_clips(1, CONFIG)
    twins = Clips.join([clips, clips])
    twins.key[1] += 1
    for first, other in zip(views(twins, Draws(0, "a", 1)), views(twins, Draws(0, "a", 2)), strict=True):
        for part in PARTS:
            assert not torch.equal(getattr(first, part)[0], getattr(first, part)[1])
            assert not torch.equal(getattr(first, part), getattr(other, part))


def test_every_part_of_the_sound_is_heard_alike() -> None:
    """The sound counts its samples, so its first heard one tells where the part lies."""
    config = CONFIG.model_copy(update={"frontend": "waveform"})
    rate, room = config.sample_rate, round(0.5 * config.sample_rate)
    clips = make_clips(2000, config.model_copy(update={"frame_size": 8, "image_size": 8}))
    waves = torch.arange(2 * rate, dtype=torch.int16).expand(2000, -1)
    clips = Clips(clips.index, clips.frames, waves, clips.boxes, clips.key)
    wave = Viewer(config, CPU).weak(clips, AugmentConfig(), Draws(3)).wave
    assert wave is not None
    start = wave[:, 0]
    assert start.min() >= 0
    assert start.max() <= room
    counts = torch.histc(start.float(), bins=10, min=0, max=room)
    assert (counts - 200).abs().max() < 4 * 200**0.5


@pytest.mark.parametrize(
    "frontend", ["lvs", "alignment", "ssltie", "htf", "vggish", "sspl", "waveform", "ezvsl"]
)
def test_a_view_is_heard_by_the_front_end_that_is_asked_for(frontend: FrontendName) -> None:
    clips = make_clips(2, CONFIG)
    viewer = Viewer(CONFIG, CPU)
    plain = viewer.plain(clips, frontend)
    assert plain.frontend == frontend
    middle = clips.waves[:, 4000:28000]
    torch.testing.assert_close(plain.spectrogram, make_frontend(CONFIG, frontend)(middle))
    again = viewer.heard(viewer.plain(clips), frontend)
    assert torch.equal(again.spectrogram, plain.spectrogram)
    assert torch.equal(again.image, plain.image)
    strong = viewer.strong(clips, STRONGEST, Draws(0), frontend)
    assert strong.spectrogram.shape == plain.spectrogram.shape
    assert strong.frontend == frontend
    with pytest.raises(ValueError, match=rf"for the front end {frontend} cannot be heard by logmel"):
        viewer.heard(strong, None)


def test_a_strong_view_of_a_waveform_is_silent_for_a_while_before_it_is_repeated() -> None:
    clips = make_clips(4, CONFIG)
    plain = Viewer(CONFIG, CPU).plain(clips, "waveform")
    config = CONFIG.model_copy(update={"clip_s": 1.5})  # no other part of the sound can be heard
    clips = Clips(clips.index, clips.frames, clips.waves[:, 4000:28000], clips.boxes, clips.key)
    strong = Viewer(config, CPU).strong(clips, STRONGEST, Draws(1), "waveform")
    changed = ((strong.spectrogram - plain.spectrogram).abs() > 1e-3)[:, 0, 0]
    period = round(1.5 * 22050)
    assert changed[:, :period].any()
    assert (changed[:, :period] == changed[:, period : 2 * period]).float().mean() > 0.99


def two_front_ends(**b: Any) -> ExperimentConfig:
    """Return XPL whose A hears EZ-VSL's spectrogram and whose B, unless told otherwise, that of the data."""
    return make_config({"name": "xpl", "model_b": {"frontend": None, **b}}, model={"frontend": "ezvsl"})


def test_the_two_models_of_xpl_hear_with_their_own_front_ends() -> None:
    config = two_front_ends()
    method = make_method(config)
    assert isinstance(method, XPL)
    assert method.frontend("a") == "ezvsl"
    assert method.frontend("b") is None
    clips = make_clips(2, config.data)
    with predicting(method.models):
        p_a, p_b = (method.forward(name, method.viewer.plain(clips)).probability for name in "ab")
        found = method.localize(method.viewer.plain(clips))
    assert torch.equal(found, (p_a + p_b) / 2)


def test_a_model_that_cannot_hear_its_front_end_is_told() -> None:
    with pytest.raises(TrainInputError, match=r"soundnet hears frontend waveform, not ezvsl"):
        two_front_ends(audio="soundnet", frontend="ezvsl")
    with pytest.raises(TrainInputError, match=r"vggish hears data\.frontend vggish or sspl, not logmel"):
        two_front_ends(audio="vggish")
    with pytest.raises(TrainInputError, match=r"0\.5 is shorter than a patch of 0\.975 s"):
        two_front_ends(audio="vggish", frontend="vggish")
    own = make_config("supervised", model={"audio": "soundnet", "frontend": "waveform"})
    assert own.model.hears(own.data) == "waveform"


@pytest.mark.parametrize(("side", "size", "batch"), [(256, 224, 3), (64, 56, 45)])
def test_images_made_a_few_at_a_time_are_those_of_the_whole_batch(side: int, size: int, batch: int) -> None:
    """To the bit: how many are made at a time is a matter of speed alone."""
    config = CONFIG.model_copy(update={"frame_size": side, "image_size": size})
    clips, draws = make_clips(batch, config), Draws(0, "a", 1)
    view = Viewer(config, CPU).weak(clips, STRONGEST, draws)
    wanted = crop(clips.frames.float(), view.geometry, size) / 255
    assert torch.equal(view.image, wanted)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_normalised_images_are_those_of_the_formula(memory_format: torch.memory_format) -> None:
    images, mean, std = torch.rand(5, 3, 7, 7), torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1) + 0.5
    found = normalised(images, mean, std, memory_format)
    assert torch.equal(found, (images - mean) / std)
    assert found.is_contiguous(memory_format=memory_format)
    with_gradient = normalised(images.clone().requires_grad_(), mean, std, memory_format)
    assert torch.equal(with_gradient, found)
    assert with_gradient.requires_grad
