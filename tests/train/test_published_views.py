"""Views of the published trainings: places, masks, colours, and what they depend on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsl_train.augment import CROP_DRAWS
from avsl_train.config import DataConfig
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.published_views import (
    CROP,
    PublishedViewer,
    Spans,
    crop_geometry,
    darkened,
    fnac_spans,
    mask_limits,
    quarter_turned,
    shifted,
    ssltie_spans,
)
from tests.train.conftest import CPU, make_clips

DATA = DataConfig(frame_size=40, image_size=32, clip_s=1.0, audio_s=0.5, frontend="logmel", mels=16)


@pytest.fixture
def viewer() -> PublishedViewer:
    return PublishedViewer(DATA, CPU)


@pytest.fixture
def clips() -> Clips:
    return make_clips(6, DATA)


# ---- FNAC


def test_masks_are_the_originals(shared: Path) -> None:
    """Python's generator draws what the original drew, for six seeds."""
    known = json.loads((shared / "golden/models/frontends.json").read_text())["fnac_masks"]
    assert len(known) == 6
    for fact in known:
        draw = random.Random(fact["python_random_seed"])
        limits = mask_limits(257, 200, limit=10, swapped=True)
        mask = fnac_spans(torch.tensor([[draw.randrange(0, limit) for limit in limits]])).mask(257, 200)[0, 0]
        assert torch.nonzero(mask.all(1))[:, 0].tolist() == fact["masked_freq_rows"]
        assert torch.nonzero(mask.all(0))[:, 0].tolist() == fact["masked_time_cols"]


def test_a_mask_begins_within_its_own_axis_unless_it_is_the_published_one() -> None:
    assert mask_limits(257, 200, 10, swapped=False) == (257, 10, 200, 10)
    assert mask_limits(257, 200, 10, swapped=True) == (200, 10, 257, 10)


def test_masked_sound_is_0_and_the_rest_is_untouched(viewer: PublishedViewer, clips: Clips) -> None:
    draws = Draws(0, "a")
    plain, masked = viewer.cropped(clips, draws), viewer.masked(clips, draws, limit=6, swapped=False)
    torch.testing.assert_close(masked.image, plain.image)
    changed = masked.spectrogram != plain.spectrogram
    assert changed.any()
    assert (masked.spectrogram[changed] == 0).all()
    unmasked = viewer.masked(clips, draws, limit=1, swapped=False)
    torch.testing.assert_close(unmasked.spectrogram, plain.spectrogram)


def test_a_span_covers_so_many_rows_from_its_first_one() -> None:
    spans = Spans(torch.tensor([[1, 2], [3, 0]]), torch.tensor([[0, 0], [1, 1]]))
    first, second = spans.mask(4, 3)[:, 0].int().tolist()
    assert first == [[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert second == [[0, 1, 0]] * 4


# ---- SSL-TIE


def test_ssltie_masks_are_as_wide_as_torchaudio_makes_them() -> None:
    u = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    spans = ssltie_spans(u, 257, 670, probability=0.8)
    for span, length, widest in ((spans.rows, 257, 35), (spans.columns, 670, 180)):
        on = span[:, 1] > 0
        assert 0.7 < on.float().mean() < 0.8  # a drawn width may be cut to 0
        assert span[:, 1].max() == widest - 1
        assert (span.sum(1) <= length).all()
        assert span[on, 1].float().mean() == pytest.approx(widest / 2, rel=0.1)
    assert (ssltie_spans(u, 257, 670, probability=0.0).columns[:, 1] == 0).all()


def test_ssltie_changes_colours_and_masks_with_the_lowest_value(
    viewer: PublishedViewer, clips: Clips
) -> None:
    view = viewer.contrasted(clips, Draws(0, "a"), spec_mask=1.0)
    whole = viewer.contrasted(clips, Draws(0, "a"), spec_mask=0.0)
    torch.testing.assert_close(view.image, whole.image)
    changed = view.spectrogram != whole.spectrogram
    lowest = whole.spectrogram.amin((-2, -1), keepdim=True).expand_as(changed)
    assert changed.any()
    torch.testing.assert_close(view.spectrogram[changed], lowest[changed])
    area = (view.geometry.box[:, 2:] - view.geometry.box[:, :2]).prod(1)
    assert (area >= 0.3 - 1e-5).all()
    assert (view.image >= 0).all()
    assert (view.image <= 1).all()


# ---- Alignment


def test_the_second_view_of_alignment_is_another_picture_of_another_sound(
    viewer: PublishedViewer, clips: Clips
) -> None:
    first, second = viewer.cropped(clips, Draws(0, "a")), viewer.disturbed(clips, Draws(0, "b"))
    assert second.image.shape == first.image.shape
    assert not torch.equal(second.spectrogram, first.spectrogram)
    assert second.image.isfinite().all()
    dimmed = viewer.disturbed(clips, Draws(0, "b"), dimmed=True)
    assert dimmed.image.mean() < 0.8 * second.image.mean()
    torch.testing.assert_close(dimmed.spectrogram, second.spectrogram)


def test_quarters_turn_each_image_by_its_own_number() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(4, 3, 2, 2)
    found = quarter_turned(image, torch.arange(4))[:, 0]
    assert found.tolist() == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


def test_shifts_are_whole_pixels_that_leave_black() -> None:
    image = torch.arange(1.0, 17).view(1, 1, 4, 4).expand(3, 3, 4, 4)
    shift = torch.tensor([[0.25, 0.0], [0.0, -0.25], [0.0, 0.0]])
    found = shifted(image, shift, torch.tensor([False, False, True]))[:, 0]
    wanted = torch.zeros(3, 4, 4)
    wanted[0, :, 1:] = image[0, 0, :, :-1]
    wanted[1, :-1] = image[0, 0, 1:]
    wanted[2] = image[0, 0].flip(0)
    torch.testing.assert_close(found, wanted)


def test_what_is_upside_down_is_shifted_like_the_rest() -> None:
    image = torch.arange(1.0, 17).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    found = shifted(image, torch.tensor([[0.0, 0.25]]), torch.tensor([True]))[0, 0]
    torch.testing.assert_close(found[1:], image[0, 0].flip(0)[:-1])
    assert (found[0] == 0).all()


def test_darkening_multiplies_brightness_contrast_and_saturation() -> None:
    image = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    same = darkened(image, torch.ones(1, 3))
    torch.testing.assert_close(same, image)
    gray = darkened(image, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(gray, torch.full_like(image, 0.299))
    half = darkened(image, torch.tensor([[0.5, 1.0, 1.0]]))
    torch.testing.assert_close(half, image / 2)


# ---- all


def test_the_crop_is_224_of_246_anywhere() -> None:
    geometry = crop_geometry(torch.rand(2000, CROP_DRAWS, generator=torch.Generator().manual_seed(0)))
    assert pytest.approx(224 / 246) == CROP
    torch.testing.assert_close(geometry.box[:, 2:] - geometry.box[:, :2], torch.full((2000, 2), CROP))
    assert (geometry.box >= 0).all()
    assert (geometry.box <= 1 + 1e-6).all()
    assert geometry.box[:, :2].amax() == pytest.approx(1 - CROP, abs=1e-3)
    assert geometry.flip.float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("make", ["cropped", "masked", "contrasted", "disturbed"])
def test_a_view_depends_on_its_clip_alone(viewer: PublishedViewer, clips: Clips, make: str) -> None:
    extra: dict[str, tuple[Any, ...]] = {"masked": (6, False), "contrasted": (0.8,)}

    def view(some: Clips, step: int) -> tuple[Tensor, Tensor]:
        found = getattr(viewer, make)(some, Draws(0, "a", step), *extra.get(make, ()))
        return found.image, found.spectrogram

    rows = torch.tensor([4, 1])
    for whole, part, later in zip(view(clips, 0), view(clips[rows], 0), view(clips, 1), strict=True):
        torch.testing.assert_close(part, whole[rows])
        assert later.shape == whole.shape
    assert not torch.equal(view(clips, 0)[0], view(clips, 1)[0])


@pytest.mark.parametrize("frontend", ["vggish", "waveform"])
def test_what_is_no_spectrogram_is_not_masked(clips: Clips, frontend: Any) -> None:
    data = DATA.model_copy(update={"audio_s": 1.0})
    viewer = PublishedViewer(data, CPU)
    plain = viewer.cropped(clips, Draws(0, "a"), frontend).spectrogram
    torch.testing.assert_close(viewer.masked(clips, Draws(0, "a"), 10, False, frontend).spectrogram, plain)
    torch.testing.assert_close(viewer.contrasted(clips, Draws(0, "a"), 1.0, frontend).spectrogram, plain)
