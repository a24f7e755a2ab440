"""Images of the published test loaders against the originals' pixels and tensors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avsl_train.published import SOURCES, images

Array = np.ndarray[Any, Any]
KEYS = {
    "lvs_eval.uint8",
    "lvs_eval.tensor_stride8",
    "ezvsl_eval.uint8",
    "ezvsl_eval.tensor_stride8",
    "sslalignment_eval.float16",
    "sslalignment_eval.tensor_stride8",
    "sslalignment_eval_noantialias.tensor_stride8",
}


@pytest.fixture(scope="module")
def stored(shared: Path) -> dict[str, Any]:
    """Return the arrays of the originals."""
    with np.load(shared / "golden/models/images.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    """Return what is known of the originals' arrays."""
    found: dict[str, Any] = json.loads((shared / "golden/models/images.json").read_text())
    return found


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """Return the vectors' image, 360 x 640, of integer arithmetic only."""
    draw = np.random.default_rng(77)
    blocks = np.kron(draw.integers(0, 256, (9, 16, 3)), np.ones((40, 40, 1), np.int64))
    pixels = np.clip(blocks + draw.integers(-8, 9, (360, 640, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def compare(facts: dict[str, Any], key: str, found: Array) -> None:
    known = facts[key]
    assert list(found.shape) == known["shape"]
    assert found.dtype == np.float32
    for name in ("mean", "std", "min", "max"):
        assert getattr(found.astype(np.float64), name)() == pytest.approx(known[name], abs=1e-5)
    weights = np.random.default_rng(9).standard_normal(found.size)
    projection = (found.ravel() * weights).sum() / math.sqrt(found.size)
    assert projection == pytest.approx(known["projection"], abs=1e-4)


def test_the_image_is_the_one_of_the_vectors(facts: dict[str, Any], image: Image.Image) -> None:
    pixels = np.asarray(image)
    assert int(pixels.sum()) == facts["image"]["sum"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == facts["image"]["sha256_16"]


def test_every_stored_array_is_compared(stored: dict[str, Any]) -> None:
    assert set(stored) == KEYS


@pytest.mark.parametrize("name", ["lvs", "ezvsl"])
def test_pixels_and_tensors_equal_the_original(
    stored: dict[str, Any], facts: dict[str, Any], image: Image.Image, name: str
) -> None:
    pixels: Callable[[Image.Image], Image.Image] = getattr(images, f"{name}_pixels")
    np.testing.assert_array_equal(np.asarray(pixels(image)), stored[f"{name}_eval.uint8"])
    found = getattr(images, name)(image).numpy()
    np.testing.assert_allclose(found[:, ::8, ::8], stored[f"{name}_eval.tensor_stride8"], atol=2e-6)
    compare(facts, f"{name}_eval", found)


def test_slavcs_images_are_ezvsls(facts: dict[str, Any]) -> None:
    assert facts["slavc_eval_equals_ezvsl_eval"]
    assert SOURCES["slavc"].images == SOURCES["ezvsl"].images == "ezvsl"


@pytest.mark.parametrize("antialias", [True, False])
def test_a_resized_tensor_equals_the_original(
    stored: dict[str, Any], facts: dict[str, Any], image: Image.Image, antialias: bool
) -> None:
    key = "sslalignment_eval" if antialias else "sslalignment_eval_noantialias"
    found = images.sslalignment(image, antialias).numpy()
    np.testing.assert_allclose(found[:, ::8, ::8], stored[f"{key}.tensor_stride8"], atol=2e-5)
    compare(facts, key, found)
    if antialias:
        np.testing.assert_allclose(found, stored[f"{key}.float16"], atol=2e-3)


def test_antialiasing_differs_by_what_is_documented(facts: dict[str, Any], image: Image.Image) -> None:
    difference = (images.sslalignment(image) - images.sslalignment(image, antialias=False)).abs().max().item()
    known = facts["sslalignment_eval_noantialias"]["max_abs_diff_to_antialias"]
    assert difference == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (224, 224), (225, 500), (301, 227), (50, 60)])
def test_the_middle_square_is_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    original = Compose([Resize(224, InterpolationMode.BICUBIC), CenterCrop(224)])
    picture = Image.fromarray(noise)
    np.testing.assert_array_equal(np.asarray(images.lvs_pixels(picture)), np.asarray(original(picture)))


def test_every_network_has_images_and_sound_that_exist() -> None:
    from avsl_train.frontends import PUBLISHED

    for source in SOURCES.values():
        assert not source.images or callable(getattr(images, source.images))
        assert not source.frontend or source.frontend in PUBLISHED
        assert source.images or source.frontend
