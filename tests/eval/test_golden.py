"""The published evaluators' own outputs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval import PROTOCOLS, evaluate
from avsl_eval.ciou import METRICS, metrics
from avsl_eval.context import context_ciou
from avsl_eval.maps import normalise, resize, to_probability
from avsl_eval.truth import rasterise, read_annotations

PER_CLIP, SCORE = 2e-5, 6e-5
TAU = 0.03


class Golden:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        self.boxes = json.loads((folder / "vggss_boxes.json").read_text())
        low = np.load(folder / "inputs_lowres.npz")
        full = np.load(folder / "inputs_full224.npz")
        flickr = np.load(folder / "inputs_flickr_lowres.npz")
        self.ids = low["ids"].tolist()
        self.flickr_ids = flickr["ids"].tolist()
        self.maps = {
            "vggss_low7": low["low7"],
            "vggss_low14": low["low14"],
            "vggss_full224": full["full224"],
            "flickr_low7": flickr["fl7"],
            "flickr_low14": flickr["fl14"],
        }

    def evaluate(self, name: str, maps: np.ndarray, protocol: str) -> Any:
        flickr = name.startswith("flickr")
        ids = self.flickr_ids if flickr else self.ids
        return evaluate(
            dict(zip(ids, maps, strict=True)), self.folder / "flickr_xml" if flickr else self.boxes, protocol
        )


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return Golden(shared / "golden" / "eval")


def check(scores: Any, expected: Mapping[str, Any]) -> None:
    wanted = expected.get("per_sample", expected.get("per_sample_cIoU"))
    np.testing.assert_allclose(
        scores.per_clip["ciou"].to_numpy(), np.array(wanted, dtype=float), rtol=0, atol=PER_CLIP
    )
    names = {"cIoU@0.5": "ciou@0.5", "AP50(cIoU@0.5)": "ciou@0.5", "AUC": "auc", "Avg-cIoU": "mean_iou"}
    found = {theirs: scores.metrics[ours] for theirs, ours in names.items() if theirs in expected}
    assert {"AUC"} < found.keys()
    for theirs, value in found.items():
        assert value == pytest.approx(expected[theirs], abs=SCORE), theirs


def test_the_list_of_golden_values_is_not_empty(golden: Golden) -> None:
    assert {"gt", "lvs", "ezvsl_test", "sslalignment", "edge_cases"} <= golden.expected.keys()
    assert set(golden.expected["lvs"]) - {"rule"} == golden.maps.keys()


@pytest.mark.parametrize(
    "name", ["vggss_low7", "vggss_low14", "vggss_full224", "flickr_low7", "flickr_low14"]
)
def test_lvs(golden: Golden, name: str) -> None:
    check(golden.evaluate(name, golden.maps[name], "lvs"), golden.expected["lvs"][name])


@pytest.mark.parametrize("name", ["vggss_low7", "vggss_full224", "flickr_low7"])
def test_ezvsl(golden: Golden, name: str) -> None:
    check(golden.evaluate(name, golden.maps[name] / TAU, "ezvsl"), golden.expected["ezvsl_test"][name]["av"])


def test_ezvsl_with_object_maps(golden: Golden) -> None:
    name = "vggss_low7"
    objects = np.load(golden.folder / "inputs_lowres.npz")["obj7"]
    check(golden.evaluate(name, objects, "ezvsl"), golden.expected["ezvsl_test"][name]["obj"])
    rule = PROTOCOLS["ezvsl"]
    mixed = 0.4 * to_probability(golden.maps[name] / TAU, rule) + 0.6 * to_probability(objects, rule)
    scores = golden.evaluate(name, normalise(mixed.astype(np.float32), "minmax"), "ezvsl")
    check(scores, golden.expected["ezvsl_test"][name]["av_obj_alpha0.4"])


def test_adaptive(golden: Golden) -> None:
    expected = golden.expected["sslalignment"]
    scores = golden.evaluate("vggss_low7", golden.maps["vggss_low7"] / TAU, "adaptive")
    check(
        scores,
        {
            "per_sample": expected["per_sample_adaptive"],
            "AUC": expected["AUC_adap"],
            "cIoU@0.5": expected["cIoU_adap"],
        },
    )


def test_median_without_rescue_is_a_protocol_too(golden: Golden) -> None:
    rule = dataclasses.replace(PROTOCOLS["ezvsl"], name="mine", comparison=">")
    scores = evaluate(dict(zip(golden.ids, golden.maps["vggss_low7"] / TAU, strict=True)), golden.boxes, rule)
    expected = golden.expected["sslalignment"]
    check(
        scores,
        {"per_sample": expected["per_sample_median"], "AUC": expected["AUC"], "cIoU@0.5": expected["cIoU"]},
    )


def test_ground_truth_maps(golden: Golden) -> None:
    stored = np.load(golden.folder / "gt_vggss.npz")
    ours = [rasterise(np.array(golden.boxes[i]), 224, "union") for i in stored["ids"]]
    np.testing.assert_array_equal(ours, stored["gt"])
    assert [float(g.sum()) for g in ours] == golden.expected["gt"]["vggss_area_px"]
    stored = np.load(golden.folder / "gt_flickr.npz")
    annotations = read_annotations(golden.folder / "flickr_xml")
    assert [clip.clip_id for clip in annotations.clips] == stored["ids"].tolist()
    levels = [rasterise(clip.boxes, 224, annotations.truth) for clip in annotations.clips]
    np.testing.assert_array_equal(levels, stored["gt_times2"])
    assert [g.sum() / 2 for g in levels] == golden.expected["gt"]["flickr_mass"]


@pytest.mark.parametrize("size", [(100, 224), (224, 64)])
def test_dropping_boxes_changes_no_map(golden: Golden, size: tuple[int, int]) -> None:
    annotations = read_annotations(golden.boxes)
    assert annotations.dropped
    for clip in annotations.clips:
        for side in size:
            everything = rasterise(np.array(golden.boxes[clip.clip_id]), side, "union")
            np.testing.assert_array_equal(rasterise(clip.boxes, side, "union"), everything)


def edge_map(name: str) -> np.ndarray:
    """Build the maps whose names the golden file lists."""
    x = np.zeros((224, 224), np.float32)
    if name.startswith("const"):
        x[:] = float(name.split("_")[2]) if name != "const_zero" else 0
    elif name == "saturated_67pct_at_max":
        x[:150] = 1
        x[150:] = np.linspace(0.9, 0, 74)[:, None]
    elif name == "ties_64pct_at_min":
        x[:80] = np.linspace(1, 0.1, 80)[:, None]
    else:
        x[0, 0] = 1
    return x


def test_edge_cases(golden: Golden) -> None:
    expected = golden.expected["edge_cases"]
    clip_id = expected["gt_id"]
    cases = expected["cases"]
    assert len(cases) == 6
    for name, values in cases.items():
        for protocol in ("lvs", "ezvsl"):
            for shape in (224, 112) if name.startswith("const") else (224,):
                maps = {clip_id: edge_map(name)[:shape, :shape]}
                scores = evaluate(maps, {clip_id: golden.boxes[clip_id]}, protocol)
                assert scores.metrics["mean_iou"] == pytest.approx(values[protocol], abs=1e-12), (
                    name,
                    protocol,
                )


@pytest.mark.parametrize(
    ("stored", "interpolation", "align_corners"),
    [
        ("cv2_linear", "bilinear", False),
        ("cv2_cubic", "bicubic", False),
        ("torch_bilinear_ac0", "bilinear", False),
        ("torch_bilinear_ac1", "bilinear", True),
        ("torch_bicubic_ac0", "bicubic", False),
        ("torch_bicubic_ac1", "bicubic", True),
    ],
)
def test_upsamplers(golden: Golden, stored: str, interpolation: Any, align_corners: bool) -> None:
    vectors = np.load(golden.folder / "upsample.npz")
    ours = resize(vectors["src"], 224, interpolation, align_corners)
    np.testing.assert_allclose(ours, vectors[stored], rtol=0, atol=1e-6)


def vggss(shared: Path) -> Path:
    (path,) = (shared / "mirror").glob("*/hche11/Localizing*/*/metadata/vggss.json")
    return path


def percent(shared: Path, protocol: str) -> dict[str, tuple[float, float]]:
    found = context_ciou(read_annotations(vggss(shared)), PROTOCOLS[protocol])
    return {name: tuple(100 * metrics(ciou)[m] for m in METRICS[:2]) for name, ciou in found.items()}


def test_context_of_vggss_under_a_mask_of_half_of_the_image(shared: Path) -> None:
    found = percent(shared, "ezvsl")
    assert found["ceiling"] == pytest.approx((50.54, 49.48), abs=0.01)
    assert found["center_prior"] == pytest.approx((34.02, 37.44), abs=0.01)
    assert found["whole_image"] == pytest.approx((21.95, 31.25), abs=0.01)


def test_context_of_vggss_under_a_strict_comparison(shared: Path) -> None:
    # p > t leaves t's own pixel out: 25087 pixels, one too few for the clips whose truth is the whole image.
    found = percent(shared, "lvs")
    assert found["ceiling"] == pytest.approx((50.48, 49.47), abs=0.01)
    assert found["center_prior"] == pytest.approx((33.95, 37.43), abs=0.01)
    assert found["whole_image"] == pytest.approx((21.95, 31.25), abs=0.01)


def test_vggss_has_two_clips_without_truth(shared: Path) -> None:
    annotations = read_annotations(vggss(shared))
    empty = {clip.clip_id for clip in annotations.clips if not len(clip.boxes)}
    assert empty == {"M1P1xla8rg0_000000", "MKC9LvRivTM_000030"}
    assert (len(annotations.clips), len(annotations.dropped)) == (5158, 18)
    assert sum(box.why == "corrupt coordinate" for box in annotations.dropped) == 12
