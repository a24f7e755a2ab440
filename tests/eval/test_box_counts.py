"""Pixels of a few boxes, counted without drawing them: equal to those that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval.box_counts import FEW, BoxCounts
from avsl_eval.drawn import Drawer
from avsl_eval.truth import AnnotatedClip, Truth

N = 24


def drawn_clips(seed: int) -> list[AnnotatedClip]:
    """Return clips of 0 to 6 boxes; some boxes are reversed, which covers nothing."""
    rng = np.random.default_rng(seed)
    clips = []
    for k in range(N):
        boxes = rng.uniform(-0.2, 1.2, (int(rng.integers(0, 7)), 2, 2))
        ordered = np.where(rng.random((len(boxes), 1, 1)) < 0.9, np.sort(boxes, axis=1), boxes)
        clips.append(AnnotatedClip(f"c{k:02}", "", ordered.reshape(-1, 4)))
    return clips


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([3, 8, 30]), n_maps=st.integers(1, 4))
@pytest.mark.parametrize("truth", ["union", "consensus"])
def test_counts_are_those_of_drawn_boxes(seed: int, size: int, n_maps: int, truth: Truth) -> None:
    rng, clips = np.random.default_rng(seed), drawn_clips(seed)
    drawer, wanted = Drawer(clips, truth, [size]), rng.random(N) < 0.9
    drawer.boxed[5] = False  # as if it had a mask
    counts = BoxCounts(drawer, size, wanted)
    few = wanted & (np.array([len(clip.boxes) for clip in clips]) <= FEW)
    few[5] = False
    np.testing.assert_array_equal(counts.few, few)

    masks, which = rng.random((n_maps, size, size)) < 0.5, rng.integers(0, n_maps, N)
    levels = np.stack([clip.levels(size, truth) for clip in clips]) * few[:, None, None]
    inside, double = levels > 0, levels > 1
    for found, expected in zip(counts.pixels(), (inside, double), strict=True):
        np.testing.assert_array_equal(found, expected.sum(axis=(1, 2)))
    for found, expected in zip(counts.shared(masks, which), (inside, double), strict=True):
        np.testing.assert_array_equal(found, (expected & masks[which]).sum(axis=(1, 2)))
    parts = rng.integers(0, 3, N)
    sums = np.stack([levels[parts == part].sum(axis=0) for part in range(3)])
    np.testing.assert_array_equal(counts.sums_of_levels(parts, 3), sums)
