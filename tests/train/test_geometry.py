"""Crops and flips: image, truth and pseudo-label of one view show the same part of the frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_train.augment import CROP_DRAWS, Geometry, crop, draw_strong, draw_weak, identity, uncrop
from avsl_train.config import AugmentConfig, DataConfig
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.frontends import make_frontend
from avsl_train.pseudo_labels import LabelStore
from avsl_train.views import Viewer, rasterise

SIZE = 64
NO_COLOURS = AugmentConfig(jitter=0, gray=0, blur=0, freq_mask=0, time_mask=0)
CONFIG = DataConfig(frame_size=SIZE, image_size=SIZE, clip_s=1, audio_s=0.5, frontend="logmel", mels=16)
KEYS = torch.arange(6)
RAMP = (torch.arange(SIZE)[:, None] * 2.0 + torch.arange(SIZE)[None, :] * 1.0)[None, None]
"""A map that no flip and no crop leaves alone."""


def geometry(x0: float, y0: float, x1: float, y1: float, flip: bool = False) -> Geometry:
    return Geometry(torch.tensor([[x0, y0, x1, y1]]), torch.tensor([flip]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(clips: int, seed: int = 0) -> torch.Tensor:
    """Return the uniform numbers of the crops of some clips."""
    return Draws(seed).uniform(torch.arange(clips), CROP_DRAWS)


def test_identity_is_exact() -> None:
    torch.testing.assert_close(crop(RAMP, identity(1), SIZE), RAMP, rtol=0, atol=1e-4)
    back, covered = uncrop(RAMP, identity(1), SIZE)
    torch.testing.assert_close(back, RAMP, rtol=0, atol=1e-4)
    assert covered.all()


def test_a_crop_is_a_slice() -> None:
    quarter = crop(RAMP, geometry(0.5, 0.25, 1.0, 0.75), SIZE // 2)
    torch.testing.assert_close(quarter, RAMP[..., 16:48, 32:64], rtol=0, atol=1e-4)
    mirrored = crop(RAMP, geometry(0.5, 0.25, 1.0, 0.75, flip=True), SIZE // 2)
    torch.testing.assert_close(mirrored, RAMP[..., 16:48, 32:64].flip(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
def test_uncrop_puts_a_map_where_it_was(flip: bool) -> None:
    view = geometry(0.25, 0.5, 0.75, 1.0, flip)
    back, covered = uncrop(crop(RAMP, view, SIZE // 2), view, SIZE)
    wanted = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    wanted[32:, 16:48] = True
    assert torch.equal(covered[0, 0], wanted)
    torch.testing.assert_close(back[0, 0][wanted], RAMP[0, 0][wanted], rtol=0, atol=1e-3)
    assert back[0, 0, 0, 16:48].tolist() == pytest.approx(back[0, 0, 32, 16:48].tolist())  # borders repeat


@given(seed=st.integers(0, 10_000), weak=st.booleans())
@settings(max_examples=25, deadline=None)
def test_uncrop_undoes_crop_where_covered(seed: int, weak: bool) -> None:
    view = (draw_weak if weak else draw_strong)(places(4, seed), AugmentConfig())
    back, covered = uncrop(crop(RAMP.expand(4, -1, -1, -1), view, SIZE), view, SIZE)
    assert covered.float().mean() > 0.25
    error = (back - RAMP).abs()[covered]
    assert error.max() <= 3  # at the border of the view: one pixel down and one across
    assert error.median() < 0.05


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_drawn_views_lie_inside_the_frame(seed: int) -> None:
    config = AugmentConfig()
    for view in (draw_weak(places(32, seed), config), draw_strong(places(32, seed), config)):
        x0, y0, x1, y1 = view.box.unbind(1)
        assert (view.box >= 0).all()
        assert (view.box <= 1 + 1e-6).all()
        assert ((x1 > x0) & (y1 > y0)).all()
    weak = draw_weak(places(32, seed), config).box
    assert (weak[:, 2] - weak[:, 0]).min() >= config.crop_weak - 1e-6
    torch.testing.assert_close(weak[:, 2] - weak[:, 0], weak[:, 3] - weak[:, 1])


def test_strong_crops_have_the_area_and_aspect_that_was_asked_for() -> None:
    box = draw_strong(places(4000), AugmentConfig(crop_scale=(0.3, 0.5))).box
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    assert (width * height).min() >= 0.3 - 1e-4
    assert (width * height).max() <= 0.5 + 1e-4
    assert (width / height).max() <= 4 / 3 + 1e-4
    assert (width / height).min() >= 3 / 4 - 1e-4


def test_a_quarter_of_the_clips_is_flipped_when_a_quarter_is_asked_for() -> None:
    flipped = draw_weak(places(4000), AugmentConfig(flip=0.25)).flip
    assert flipped.float().mean() == pytest.approx(0.25, abs=0.03)
    assert not draw_weak(places(100), AugmentConfig(flip=0)).flip.any()
    assert draw_strong(places(100), AugmentConfig(flip=1)).flip.all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_truth_equals_a_slow_oracle(seed: int) -> None:
    draw = np.random.default_rng(seed)
    boxes = np.sort(draw.uniform(size=(1, 2, 2, 2)), axis=2).reshape(1, 2, 4)  # x0 y0 x1 y1
    view = draw_strong(places(1, seed), AugmentConfig())
    x0, y0, x1, y1 = view.box[0].tolist()
    found = rasterise(torch.from_numpy(boxes).float(), view, 9)[0, 0]
    for row in range(9):
        for column in range(9):
            across = (8.5 - column if view.flip[0] else column + 0.5) / 9
            x, y = x0 + across * (x1 - x0), y0 + (row + 0.5) / 9 * (y1 - y0)
            inside = any(b[0] <= x < b[2] and b[1] <= y < b[3] for b in boxes[0])
            near = min(min(abs(x - b[0]), abs(x - b[2]), abs(y - b[1]), abs(y - b[3])) for b in boxes[0])
            assert near < 1e-6 or bool(found[row, column]) == inside


def test_a_box_without_area_covers_nothing() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.5, 0.2, 0.5, 0.9]]])
    assert rasterise(boxes, identity(1), 16).sum() == 0


def test_the_truth_is_the_union_of_the_boxes() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.5]]])
    assert rasterise(boxes, identity(1), 4)[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0] * 4, [0] * 4]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_image_truth_and_pseudo_label_of_a_view_coincide(seed: int) -> None:
    """Paint each clip's box white; all three must show it at the same place, whatever the view."""
    clips, corners = len(KEYS), torch.randint(0, 40, (6, 2), generator=generator(seed))
    ends = corners + torch.randint(8, 24, (6, 2), generator=generator(seed + 1))
    frames = torch.zeros(clips, 3, SIZE, SIZE, dtype=torch.uint8)
    for clip, ((x0, y0), (x1, y1)) in enumerate(zip(corners.tolist(), ends.tolist(), strict=True)):
        frames[clip, :, y0:y1, x0:x1] = 255
    boxes = torch.cat([corners, ends], dim=1)[:, None].float() / SIZE
    batch = Clips(torch.arange(clips), frames, torch.zeros(clips, 16000, dtype=torch.int16), boxes, KEYS)
    viewer = Viewer(CONFIG, torch.device("cpu"))
    store = LabelStore(clips, SIZE, beta=0.0)
    store.update(batch.index, frames[:, :1].float() / 255, torch.ones(clips, 1, SIZE, SIZE, dtype=torch.bool))
    for view in (
        viewer.strong(batch, NO_COLOURS, Draws(seed)),
        viewer.weak(batch, NO_COLOURS, Draws(seed)),
        viewer.plain(batch),
    ):
        truth = viewer.truth(batch, view.geometry)
        label = store.view(batch.index, view.geometry, SIZE)
        torch.testing.assert_close(view.image[:, :1], label, rtol=0, atol=1e-3)  # float16
        assert ((view.image[:, :1] >= 0.5) != truth.bool()).float().mean() < 0.005  # a border's rounding


def test_a_plain_view_is_the_frame_and_the_middle_of_the_sound() -> None:
    frames = torch.randint(0, 256, (1, 3, SIZE, SIZE), generator=generator(), dtype=torch.uint8)
    waves = torch.zeros(1, 16000, dtype=torch.int16)
    waves[:, 4000:12000] = torch.randint(-9000, 9000, (1, 8000), generator=generator(), dtype=torch.int16)
    viewer = Viewer(CONFIG, torch.device("cpu"))
    view = viewer.plain(Clips(torch.tensor([0]), frames, waves, torch.zeros(1, 0, 4), KEYS[:1]))
    torch.testing.assert_close(view.image, frames.float() / 255, rtol=0, atol=1e-5)
    middle = make_frontend(CONFIG)(waves[:, 4000:12000].float() / 32768)
    torch.testing.assert_close(view.spectrogram, middle)
