"""Maps over pictures: colours, opacity, outline, layout."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsl_train.cli_localize import COLOURS as OFFERED
from avsl_train.errors import TrainInputError
from avsl_train.overlay import COLOURS, Style, draw, even, outline

GREY = np.full((4, 6, 3), 100, np.uint8)


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    for colours in COLOURS:
        np.testing.assert_array_equal(draw(GREY, np.zeros((4, 6), np.float32), Style(colours), 0, 1), GREY)


@pytest.mark.parametrize("colours", COLOURS)
@given(value=st.floats(0, 1), alpha=st.floats(0, 1))
def test_a_value_is_mixed_by_its_opacity(colours: str, value: float, alpha: float) -> None:
    stops = [[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in COLOURS[colours]]
    level = round(value * 255) / 255
    place = level * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    share = place - first
    wanted = [
        (1 - alpha * level) * 100 + alpha * level * ((1 - share) * a + share * b)
        for a, b in zip(stops[first], stops[first + 1], strict=True)
    ]
    found = draw(GREY, np.full((4, 6), value, np.float32), Style(colours, alpha), 0, 1)
    assert np.abs(found - np.array(wanted)).max() <= 2  # 8 bits twice


def test_the_range_says_what_gets_the_first_and_last_colour() -> None:
    heatmap = np.float32([[-3, -1, 0, 1, 3, 9]]).repeat(4, 0)
    found = draw(GREY, heatmap, Style("red", alpha=1.0), -1, 3)[0]
    assert found[:2].tolist() == [[100] * 3] * 2
    assert found[4].tolist() == found[5].tolist() == [255, 32, 0]
    reds = found[:, 0].tolist()
    assert all(a <= b for a, b in pairwise(reds))
    assert draw(GREY, np.zeros((4, 6), np.float32), Style(), 0, 0).tolist() == GREY.tolist()


def test_the_outline_follows_the_value() -> None:
    heatmap = np.zeros((40, 60), np.float32)
    heatmap[10:20, 15:30] = 0.6
    picture = np.zeros((40, 60, 3), np.uint8)
    white = (draw(picture, heatmap, Style(alpha=0, contour=0.5), 0, 1) == 255).all(2)
    wanted = np.zeros((40, 60), bool)
    wanted[10:20, 15:30] = True
    wanted[11:19, 16:29] = False
    np.testing.assert_array_equal(white, wanted)
    assert not (draw(picture, heatmap, Style(alpha=0, contour=0.7), 0, 1)).any()
    large = draw(
        np.zeros((480, 640, 3), np.uint8), np.pad(heatmap, ((0, 440), (0, 580))), Style(contour=0.5), 0, 1
    )
    assert (large[14, :20] == 255).all(1).sum() == 2  # thicker in a larger picture


def test_the_border_of_the_picture_is_no_edge() -> None:
    assert not outline(np.ones((5, 5), bool), 2).any()


def test_side_by_side_keeps_the_original_on_the_left() -> None:
    heatmap = np.ones((4, 6), np.float32)
    found = draw(GREY, heatmap, Style(side_by_side=True), 0, 1)
    assert found.shape == (4, 12, 3)
    np.testing.assert_array_equal(found[:, :6], GREY)
    np.testing.assert_array_equal(found[:, 6:], draw(GREY, heatmap, Style(), 0, 1))


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 6), (4, 7), (5, 7)])
def test_sides_become_even(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = even(pixels)
    assert found.shape[0] - height == height % 2
    assert found.shape[1] - width == width % 2
    np.testing.assert_array_equal(found[:height, :width], pixels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colours": "magma"}, r"no colours 'magma' \(there are: inferno, viridis, jet, red\)"),
        ({"alpha": 1.5}, r"alpha is 1\.5: it lies between 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"low": 1.0, "high": 0.0}, "the range 1 to 0 is empty"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(TrainInputError, match=message):
        Style(**arguments)  # type: ignore[arg-type]


def test_the_command_offers_every_colour_map() -> None:
    assert tuple(COLOURS) == OFFERED
