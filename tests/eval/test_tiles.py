"""Tiles: masks as words of bits, and maps that are known by bounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval import PROTOCOLS, Protocol, tiled_chunk
from avsl_eval.box_counts import BoxCounts
from avsl_eval.drawn import Drawer, DrawnTruths
from avsl_eval.engine import Engine
from avsl_eval.maps import at_threshold, binarise, rescale, to_probability
from avsl_eval.neighbourhood import neighbourhood, sorted_middles
from avsl_eval.pointing import pointing
from avsl_eval.priors import mean_truth_maps
from avsl_eval.resizing import resize
from avsl_eval.tiled import TiledMaps, pays
from avsl_eval.tiles import (
    count_bits,
    divided,
    pixels_of_words,
    tiles_of_pixels,
    words_of_boxes,
    words_of_pixels,
)
from avsl_eval.truth import AnnotatedClip, rasterise

SQUEEZED = dataclasses.replace(
    PROTOCOLS["sspl"], name="squeezed", scale=0.015, offset=0.5, constant="keep", comparison=">"
)
KINDS = (
    *("squeezed", "noise", "smooth", "levels", "peak", "relu"),
    *("offset", "tiny", "huge", "ramp", "close", "saturated"),
)
WAYS = [(name, aligned) for name in ("bilinear", "bicubic") for aligned in (False, True)]


def draw_maps(kind: str, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = shape[1:]
    x = rng.normal(0, 1, shape).astype(np.float32)
    y, z = np.indices((height, width)) / max(height, width)
    bump = np.exp(-3 * ((y - rng.random()) ** 2 + (z - rng.random()) ** 2)).astype(np.float32)
    return {
        "noise": x,
        "squeezed": np.float32(30) + rng.integers(0, 2, shape).astype(np.float32) * np.float32(2**-19),
        "smooth": bump + np.float32(0.05) * x,
        "levels": np.rint(x),
        "peak": (x > 2).astype(np.float32) + (np.arange(height * width) == 1).reshape(height, width),
        "relu": np.maximum(x, 0),
        "offset": np.float32(1000) + np.float32(1e-3) * x,
        "tiny": x * np.float32(1e-38),
        "huge": x * np.float32(2e29),
        "ramp": np.broadcast_to(y + z, shape).astype(np.float32),
        "close": np.float32(0.5) + rng.integers(0, 4, shape).astype(np.float32) * np.float32(2**-24),
        "saturated": np.clip(bump * 2 + x * np.float32(0.1), 0, 1),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("size", [8, 13, 24, 224])
def test_words_are_the_pixels_of_masks(size: int) -> None:
    masks = np.random.default_rng(size).random((3, size, size)) < 0.4
    words = words_of_pixels(masks)
    np.testing.assert_array_equal(pixels_of_words(words, size), masks)
    np.testing.assert_array_equal(count_bits(words), masks.sum(axis=(1, 2)))


def test_bits_are_counted_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (3, 50)).astype(np.uint64)
    expected = [sum(bin(word).count("1") for word in row) for row in words.tolist()]
    assert count_bits(words).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert count_bits(words).tolist() == expected


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw boxes, some of which leave the image, cover nothing or have their corners swapped."""
    boxes = rng.random((n, 2, 2)) * 1.4 - 0.2
    return np.where(rng.random((n, 1, 1)) < 0.9, np.sort(boxes, axis=1), boxes).reshape(n, 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([8, 12, 40, 224]), masks=st.booleans())
def test_truths_are_drawn_as_one_by_one(seed: int, size: int, masks: bool) -> None:
    rng = np.random.default_rng(seed)
    clips = [AnnotatedClip(f"c{k}", "", random_boxes(rng, int(rng.integers(0, 7)))) for k in range(9)]
    for truth, unit in (("union", 1), ("consensus", 2)):
        levels = np.stack([clip.levels(size, truth) for clip in clips])  # type: ignore[arg-type]
        drawer = Drawer(clips, truth, [size])  # type: ignore[arg-type]
        if masks:
            drawer.boxed[3] = False  # as if it had a mask
        found = drawer.draw(range(9), size)
        for k in range(9):
            one = found[k]
            np.testing.assert_array_equal(one.inside, (levels[k] > 0).ravel())
            if unit == 2:
                assert one.double is not None
                np.testing.assert_array_equal(one.double, (levels[k] > 1).ravel())
        np.testing.assert_array_equal(found.total, levels.sum(axis=(1, 2)) / unit)
        assert [found[k].total for k in range(9)] == found.total.tolist()


@pytest.mark.parametrize(("truth", "unit"), [("union", 1), ("consensus", 2)])
def test_the_mean_truth_is_that_of_the_drawn_levels(truth: Any, unit: int) -> None:
    rng = np.random.default_rng(5)
    clips = [AnnotatedClip(f"c{k}", "", random_boxes(rng, k % 7)) for k in range(70)]
    folds = rng.integers(-1, 4, 70)
    drawer = Drawer(clips, truth, [30])
    drawer.boxed[11] = False  # as if it had a mask
    levels = np.stack([clip.levels(30, truth) for clip in clips]).astype(np.int64)
    found = mean_truth_maps(drawer, BoxCounts(drawer, 30, folds >= 0), folds)
    for fold in range(4):
        others = (folds >= 0) & (folds != fold)
        expected = (levels[others].sum(axis=0) / (unit * others.sum())).astype(np.float32)
        np.testing.assert_array_equal(found[fold], expected)


def test_a_box_is_drawn_as_its_slice() -> None:
    corners = np.array([[3, 0, 13, 9], [0, 0, 24, 24], [5, 5, 5, 9], [9, 2, 4, 7]])
    expected = np.zeros((4, 24, 24), bool)
    for mask, (x0, y0, x1, y1) in zip(expected, corners.tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(pixels_of_words(words_of_boxes(corners, 24), 24), expected)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from(
        [(3, 7, 7), (2, 14, 14), (1, 2, 3), (2, 3, 2), (2, 5, 12), (1, 16, 16), (2, 28, 28)]
    ),
    size=st.sampled_from([112, 224, 100, 225]),
    way=st.sampled_from(WAYS),
)
def test_bounds_hold_and_pixels_are_those_of_the_resize(
    seed: int, kind: str, shape: tuple[int, int, int], size: int, way: tuple[Any, bool]
) -> None:
    if not pays(*shape[1:], size):
        return
    rng = np.random.default_rng(seed)
    x = draw_maps(kind, shape, rng)
    maps = TiledMaps(x, size, *way)
    pixels = tiles_of_pixels(resize(x, size, *way), np.nan)
    if (x.min(axis=(1, 2)) < x.max(axis=(1, 2))).all():
        assert (np.nanmin(pixels, axis=2) >= maps.lower).all()
        assert (np.nanmax(pixels, axis=2) <= maps.upper).all()
        low, high, _ = maps.extremes()
        np.testing.assert_array_equal(low, np.nanmin(pixels, axis=(1, 2)))
        np.testing.assert_array_equal(high, np.nanmax(pixels, axis=(1, 2)))
        cuts = np.float32(np.nanquantile(pixels, rng.random(), axis=(1, 2)))
        for begin, end in ((cuts, cuts), (np.full_like(cuts, -np.inf), np.full_like(cuts, np.inf))):
            level = maps.between(begin, end)
            by_column = level.values.transpose(1, 2, 0).reshape(-1, 64)
            np.testing.assert_array_equal(by_column, pixels[level.clip, level.tile])
            expected = (pixels >= cuts[:, None, None]).sum(axis=(1, 2))
            assert level.count(cuts).tolist() == count_bits(level.masks(cuts)).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    size=st.sampled_from([56, 112, 100]),
    way=st.sampled_from(WAYS),
    share=st.floats(0, 1),
)
def test_a_neighbourhood_is_a_part_of_the_sorted_values(
    seed: int, kind: str, size: int, way: tuple[Any, bool], share: float
) -> None:
    x = draw_maps(kind, (3, 7, 7), np.random.default_rng(seed))
    x[:, 0, 0] = np.nextafter(x.max(axis=(1, 2)), np.float32(np.inf))  # not constant
    maps = TiledMaps(x, size, *way)
    low, high, _ = maps.extremes()
    last = size * size - 1
    ranks = np.array([round(share * last), 0, last])
    found = neighbourhood(maps, sorted_middles(maps), ranks, low, high)
    ordered = np.sort(resize(x, size, *way).reshape(3, -1), axis=1)
    for k in np.flatnonzero(found.known).tolist():
        values = found.values[found.first[k] : found.first[k] + found.count[k]]
        below = int(found.below[k])
        np.testing.assert_array_equal(values, ordered[k, below : below + len(values)])
        assert found.values[found.wanted[k]] == ordered[k, ranks[k]]


def test_most_smooth_maps_are_settled_by_tiles() -> None:
    x = draw_maps("smooth", (40, 14, 14), np.random.default_rng(0))
    truths = DrawnTruths.of_levels(np.zeros((40, 224, 224), np.uint8), 1)
    engine = Engine([PROTOCOLS[name] for name in ("lvs", "ssltie", "strict-median", "rethinking")], 40)
    in_full = []
    engine._score_in_full = lambda _key, maps, *_: in_full.append(len(maps))  # type: ignore[method-assign]
    engine.score(x, range(40), {224: truths})
    assert sum(in_full) <= 2


def plain(rule: Protocol, x: np.ndarray, levels: np.ndarray, unit: int) -> tuple[list[float], ...]:
    """Return intersections and false positives by the definition: process, binarise, count."""
    p = to_probability(x[None], rule)
    values = rule.thresholds or ((rule.threshold_value,) if rule.threshold == "universal" else ())
    singles = [at_threshold(rule, v) for v in values] or [rule]
    masks = [binarise(p, single, [int((levels > 0).sum())])[0] for single in singles]
    return [float((m * levels).sum() / unit) for m in masks], [
        float((m & (levels == 0)).sum()) for m in masks
    ]


def ties_of(rule: Protocol, x: np.ndarray, levels: np.ndarray) -> int:
    p = np.sort(to_probability(x[None], rule).ravel())
    k = int((levels > 0).sum())
    rank = p.size - k if rule.threshold == "adaptive" and k else p.size // 2
    return 0 if np.isnan(p[rank]) else int((p == p[rank]).sum()) - 1


def rules_of(size: int) -> list[Protocol]:
    found = [dataclasses.replace(rule, map_size=size) for rule in (*PROTOCOLS.values(), SQUEEZED)]
    return [dataclasses.replace(r, threshold_value=0.25) if r.threshold == "universal" else r for r in found]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([*KINDS, "constant"]),
    shape=st.sampled_from([(3, 7, 7), (2, 6, 7), (2, 2, 5)]),
    size=st.sampled_from([56, 60, 64]),
    unit=st.sampled_from([1, 2]),
)
def test_every_rule_is_its_definition(
    seed: int, kind: str, shape: tuple[int, int, int], size: int, unit: int
) -> None:
    rng = np.random.default_rng(seed)
    x = np.full(shape, 0.5, np.float32) if kind == "constant" else draw_maps(kind, shape, rng)
    n = len(x)
    truth: Any = "union" if unit == 1 else "consensus"
    levels = np.stack([rasterise(random_boxes(rng, int(rng.integers(0, 4))), size, truth) for _ in range(n)])
    rules = rules_of(size)
    engine = Engine(rules, n)
    engine.score(x, range(n), {size: DrawnTruths.of_levels(levels, unit)})
    for rule in rules:
        found = engine.statistics[rule.name]
        for row in range(n):
            with np.errstate(over="ignore", invalid="ignore"):
                expected = plain(rule, x[row], levels[row], unit)
            counted = found.intersection[row].tolist(), found.false_positive[row].tolist()
            assert counted == expected, (rule.name, row)
            if rule.is_rank_rule:
                assert found.ties[row] == ties_of(rule, x[row], levels[row]), (rule.name, row)
        upsampled = resize(x, size, rule.interpolation, rule.align_corners)
        np.testing.assert_array_equal(engine.pointing_of(rule), pointing(levels > 0, upsampled))
        s = np.sort(rescale(upsampled, rule).reshape(n, -1), axis=1)
        if rule.confidence == "max":
            np.testing.assert_array_equal(found.confidence, s[:, -1])
        elif rule.confidence == "top_quarter":
            mean = s[:, -(size * size // 4) :].mean(axis=1, dtype=np.float64)
            np.testing.assert_allclose(found.confidence, mean, rtol=1e-12)


def test_a_cut_is_found_wherever_the_guess_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = draw_maps("offset", (3, 7, 7), rng)
    levels = rng.integers(0, 2, (3, 56, 56)).astype(np.uint8)
    rules = [dataclasses.replace(PROTOCOLS[name], map_size=56) for name in ("sspl", "rethinking")]
    found = []
    for window in (tiled_chunk._WINDOW, 1):
        monkeypatch.setattr(tiled_chunk, "_WINDOW", window)
        engine = Engine(rules, 3)
        engine.score(x, range(3), {56: DrawnTruths.of_levels(levels, 1)})
        found.append([engine.statistics[rule.name].intersection.tolist() for rule in rules])
    assert (
        found[0]
        == found[1]
        == [[plain(r, m, g, 1)[0] for m, g in zip(x, levels, strict=True)] for r in rules]
    )


def test_chunks_change_no_result() -> None:
    x = draw_maps("smooth", (70, 14, 14), np.random.default_rng(2))
    levels = np.random.default_rng(3).integers(0, 2, (70, 224, 224)).astype(np.uint8)
    truths = DrawnTruths.of_levels(levels, 1)
    rules = [PROTOCOLS[name] for name in ("lvs", "slavc", "strict-adaptive", "acl")]
    together, alone = Engine(rules, 70), Engine(rules, 70)
    together.score(x, range(70), {224: truths})
    for row in range(70):
        alone.score(x[row : row + 1], [row], {224: truths.some(np.array([row]))})
    for rule in rules:
        for one, other in zip(
            dataclasses.astuple(together.statistics[rule.name]),
            dataclasses.astuple(alone.statistics[rule.name]),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(by=st.integers(1, 10**6), seed=st.integers(0, 2**32 - 1))
def test_division_has_the_remainder_of_divmod(by: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 2**40, 50)
    for found, expected in zip(divided(numbers, by), np.divmod(numbers, by), strict=True):
        np.testing.assert_array_equal(found, expected)
