"""The published evaluators' own outputs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval import PROTOCOLS, Protocol, evaluate
from avsl_eval.ciou import METRICS, metrics
from avsl_eval.context import context_ciou
from avsl_eval.maps import binarise, normalise, to_probability
from avsl_eval.resizing import resize
from avsl_eval.truth import Annotations, rasterise, read_annotations

PER_CLIP, BICUBIC, SCORE = 2e-5, 6e-5, 6e-5
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

    def objects(self, name: str) -> np.ndarray:
        """Return object maps at 7 x 7, or upsampled bilinearly where the other maps have full size."""
        maps = np.load(self.folder / "inputs_lowres.npz")["obj7"]
        if name.endswith("full224"):
            maps = resize(maps, 224, "bilinear", False)
        return maps[: len(self.flickr_ids)] if name.startswith("flickr") else maps

    def evaluate(self, name: str, maps: np.ndarray, protocol: str | Protocol) -> Any:
        flickr = name.startswith("flickr")
        ids = self.flickr_ids if flickr else self.ids
        return evaluate(
            dict(zip(ids, maps, strict=True)), self.folder / "flickr_xml" if flickr else self.boxes, protocol
        )


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return Golden(shared / "golden" / "eval")


COVERED = {
    "gt": "here",
    "lvs": "here",
    "ezvsl_test": "here",
    "fnac_validate2": "here",
    "ezvsl_train_validate": "here",
    "slavc": "here (clips, and detection through the scorer); test_detection (metrics)",
    "htf": "here",
    "sspl": "here",
    "sslalignment": "here (clips); test_groups (IIoU, IAUC)",
    "acl_vggss_sweep": "here",
    "rethinking_vsl": "here",
    "edge_cases": "here",
    "acl_avsbench": "test_segmentation",
    "avsbench_official": "test_segmentation",
    "acl_extended": "test_detection",
    "vssl_eval": "test_negatives",
}


def check(scores: Any, expected: Mapping[str, Any], per_clip: float = PER_CLIP) -> None:
    wanted = expected.get("per_sample", expected.get("per_sample_cIoU"))
    if wanted is not None:
        np.testing.assert_allclose(
            scores.per_clip["ciou"].to_numpy(), np.array(wanted, dtype=float), rtol=0, atol=per_clip
        )
    names = {"cIoU@0.5": "ciou@0.5", "AP50(cIoU@0.5)": "ciou@0.5", "AUC": "auc", "Avg-cIoU": "mean_iou"}
    found = {theirs: scores.metrics[ours] for theirs, ours in names.items() if theirs in expected}
    assert {"AUC"} < found.keys()
    for theirs, value in found.items():
        assert value == pytest.approx(expected[theirs], abs=SCORE), theirs


def test_every_golden_value_is_reproduced_somewhere(golden: Golden) -> None:
    assert {key for key in golden.expected if not key.startswith("_")} == COVERED.keys()
    here = Path(__file__)
    for key, where in COVERED.items():
        name = where.split(" ")[0].rstrip(";")
        text = here.read_text() if name == "here" else here.with_name(f"{name}.py").read_text()
        assert text.count(f'"{key}"') >= (2 if name == "here" else 1), key


def cases(golden: Golden, key: str) -> list[tuple[str, str, Any]]:
    return [
        (name, model, expected)
        for name, models in golden.expected[key].items()
        if name != "rule"
        for model, expected in models.items()
    ]


def test_lvs(golden: Golden) -> None:
    assert golden.expected["lvs"].keys() - {"rule"} == golden.maps.keys()
    for name, maps in golden.maps.items():
        check(golden.evaluate(name, maps, "lvs"), golden.expected["lvs"][name])


@pytest.mark.parametrize(("key", "protocol"), [("ezvsl_test", "ezvsl"), ("fnac_validate2", "ezvsl-val")])
def test_ezvsl_and_fnac(golden: Golden, key: str, protocol: str) -> None:
    compared = cases(golden, key)
    assert len(compared) == 9 if key == "ezvsl_test" else 6
    rule = PROTOCOLS[protocol]
    for name, model, expected in compared:
        maps, objects = golden.maps[name] / TAU, golden.objects(name)
        tolerance = PER_CLIP if model == "obj" or protocol == "ezvsl" else BICUBIC
        if model == "av":
            scores = golden.evaluate(name, maps, rule)
        elif model == "obj":  # both upsample the object map bilinearly
            scores = golden.evaluate(name, objects, "ezvsl")
        else:
            mixed = 0.4 * to_probability(maps, rule) + 0.6 * to_probability(objects, PROTOCOLS["ezvsl"])
            scores = golden.evaluate(name, normalise(mixed.astype(np.float32), "minmax"), rule)
        check(scores, expected, tolerance)


def test_ezvsl_validation(golden: Golden) -> None:
    expected = golden.expected["ezvsl_train_validate"]
    assert len(expected) == 3
    for name in expected.keys() - {"rule"}:
        check(golden.evaluate(name, golden.maps[name] / TAU, "ezvsl-val"), expected[name])


SLAVC_CASE = re.compile(r"(vggss|flickr)(_plus_silent)?_(low7|full224)_(relative|absolute0.5)_alpha(0.\d)")


def test_slavc(golden: Golden) -> None:
    compared = cases(golden, "slavc")
    assert len(compared) == 18
    for name, model, expected in compared:
        match = SLAVC_CASE.fullmatch(name)
        assert match, name
        source, silent, resolution, prediction, alpha = match.groups()
        maps = golden.maps[f"{source}_{resolution}"]
        objects = golden.objects(f"{source}_{resolution}")
        boxes = golden.boxes if source == "vggss" else golden.folder / "flickr_xml"
        ids = golden.ids if source == "vggss" else golden.flickr_ids
        if silent:
            more = np.load(golden.folder / "inputs_lowres.npz")
            maps, objects = (
                np.concatenate([a, b]) for a, b in ((maps, more["sil7"]), (objects, more["silobj7"]))
            )
            silent_ids = [f"silent{k:02}" for k in range(len(more["sil7"]))]
            ids, boxes = ids + silent_ids, boxes | {i: [] for i in silent_ids}
        rule = PROTOCOLS["slavc" if prediction == "relative" else "slavc-absolute"]
        plain = dataclasses.replace(rule, scale=1.0, offset=0.0)
        s_av = resize(maps / TAU, 224, "bicubic", True) * rule.scale + rule.offset
        s_obj = resize(objects, 224, "bicubic", True) * rule.object_scale
        given = {
            "av": (maps / TAU, rule),
            "obj": (objects, dataclasses.replace(rule, scale=rule.object_scale, offset=0.0)),
            "av_obj": (float(alpha) * s_av + (1 - float(alpha)) * s_obj, plain),
        }[model]
        scores = evaluate(dict(zip(ids, given[0], strict=True)), boxes, given[1])
        sounding = np.array(expected["n_boxes"]) > 0
        table = scores.per_clip
        assert ((table["status"] != "silent").to_numpy() == sounding).all()
        wanted = np.array(expected["per_sample_cIoU"], dtype=float)[sounding]
        found = table["ciou"].to_numpy()[sounding]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=BICUBIC, err_msg=f"{name} {model}")
        np.testing.assert_allclose(table["confidence"], expected["confidence"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(table["gt_area"] * 224**2, expected["gt_area"], rtol=1e-12)
        detection = scores.sections["detection"]
        for subset in ("all", "visible", "huge"):
            assert detection[subset]["ap@0.5"] == pytest.approx(
                expected["metrics"][f"AP-{subset}@50"], abs=1e-9
            )
        assert detection["visible"]["precision@0.5"] == expected["metrics"]["Precision-visible@50"]


@pytest.mark.parametrize("name", ["vggss_low7", "flickr_low7"])
def test_htf(golden: Golden, name: str) -> None:
    check(golden.evaluate(name, golden.maps[name], "htf"), golden.expected["htf"][name], BICUBIC)


def test_sspl(golden: Golden) -> None:
    expected = golden.expected["sspl"]
    fixed = PROTOCOLS["sspl"]
    median = dataclasses.replace(fixed, name="m", threshold="median", threshold_value=None, constant="keep")
    rules = {"vggss_low14_thr0.5": fixed, "vggss_low14_median": median, "flickr_low14_thr0.5": fixed}
    assert expected.keys() - {"rule"} == rules.keys()
    for key, rule in rules.items():
        name = key.rsplit("_", 1)[0]
        check(golden.evaluate(name, golden.maps[name], rule), expected[key])


def test_sslalignment(golden: Golden) -> None:
    expected = golden.expected["sslalignment"]
    objects = golden.objects("vggss_low7")
    for protocol, rule_name, suffix in (("sslalignment", "median", ""), ("adaptive", "adaptive", "_adap")):
        rule = PROTOCOLS[protocol]
        scores = golden.evaluate("vggss_low7", golden.maps["vggss_low7"], rule)
        wanted = {
            "per_sample": expected[f"per_sample_{rule_name}"],
            "AUC": expected[f"AUC{suffix}"],
            "cIoU@0.5": expected[f"cIoU{suffix}"],
        }
        check(scores, wanted)
        av, obj = (to_probability(m, rule) for m in (golden.maps["vggss_low7"], objects))
        mixed = normalise((0.4 * av + 0.6 * obj).astype(np.float32), "minmax")
        found = golden.evaluate("vggss_low7", mixed, rule).per_clip["ciou"]
        np.testing.assert_allclose(
            found, expected[f"OGL_alpha0.4_{rule_name}"], rtol=0, atol=PER_CLIP, err_msg=rule_name
        )


def test_acl_sweep(golden: Golden) -> None:
    logits = (golden.maps["vggss_full224"] - 0.3) / 0.1
    scores = golden.evaluate("vggss_full224", logits, "acl")
    by_thr = golden.expected["acl_vggss_sweep"]["by_thr"]
    sweep = scores.sections["sweep"]
    assert len(by_thr) == len(sweep["rows"]) == 19
    for row in sweep["rows"]:
        expected = by_thr[f"{row['threshold']:.2f}"]
        assert 100 * row["metrics"]["ciou@0.5"] == pytest.approx(expected["cIoU"], abs=100 * SCORE)
        assert 100 * row["metrics"]["auc"] == pytest.approx(expected["AUC"], abs=100 * SCORE)
    assert sweep["chosen"] == 0.15
    assert 100 * scores.metrics["ciou@0.5"] == max(expected["cIoU"] for expected in by_thr.values())
    table = scores.per_clip["ciou"]
    assert (table >= 0.5).mean() == scores.metrics["ciou@0.5"]


def test_rethinking(golden: Golden) -> None:
    expected = golden.expected["rethinking_vsl"]["vggss_full224"]
    check(golden.evaluate("vggss_full224", golden.maps["vggss_full224"], "rethinking"), expected)


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
    """Build maps such as the golden file names; of the ramps only the outline is known."""
    x = np.zeros((224, 224), np.float32)
    if name.startswith("const"):
        x[:] = float(name.split("_")[2]) if name != "const_zero" else 0
    elif name == "saturated_67pct_at_max":
        x[:150] = 1
        x[150:] = np.linspace(0.4, 0, 74)[:, None]
    elif name == "ties_64pct_at_min":
        x[:80] = np.linspace(1, 0.6, 80)[:, None]
    else:
        x[0, 0] = 1
    return x


EDGE_RULES = {
    "lvs": "lvs",
    "ezvsl": "ezvsl",
    "slavc_relative": "slavc",
    "slavc_absolute": "slavc-absolute",
    "htf": "htf",
    "sspl_thr0.5": "sspl",
}


def test_edge_cases(golden: Golden) -> None:
    expected = golden.expected["edge_cases"]
    clip_id = expected["gt_id"]
    cases = expected["cases"]
    assert len(cases) == 6
    for name, values in cases.items():
        assert values.keys() == EDGE_RULES.keys()
        for key, protocol in EDGE_RULES.items():
            for shape in (224, 112) if name.startswith("const") else (224,):
                maps = {clip_id: edge_map(name)[:shape, :shape]}
                scores = evaluate(maps, {clip_id: golden.boxes[clip_id]}, protocol)
                assert scores.metrics["mean_iou"] == pytest.approx(values[key], abs=1e-12), (name, key)
    assert expected["full_mask_value"] == scores.context["whole_image"]["mean_iou"]
    assert expected["gt_area"] == scores.per_clip["gt_area"].item() * 224**2


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


def percent(annotations: Annotations, protocol: str) -> dict[str, tuple[float, float]]:
    found = context_ciou(annotations, PROTOCOLS[protocol])
    return {name: tuple(100 * metrics(ciou)[m] for m in METRICS[:2]) for name, ciou in found.items()}


def test_context_of_vggss_under_a_mask_of_half_of_the_image(shared: Path) -> None:
    # Published figures put the ceiling's AUC at 49.48. It is 49.474 with the thresholds that the published
    # code has, float products of 0.05: clips at exactly 0.15, 0.3, ... fall below 0.05 * 3 and 0.05 * 6.
    found = percent(read_annotations(vggss(shared)), "ezvsl")
    assert found["ceiling"] == pytest.approx((50.54, 49.474), abs=0.005)
    assert found["center_prior"] == pytest.approx((34.02, 37.44), abs=0.005)
    assert found["whole_image"] == pytest.approx((21.95, 31.25), abs=0.005)
    assert found["mean_truth_prior"] == pytest.approx((34.51, 37.76), abs=0.3)


def test_context_of_vggss_under_a_strict_comparison(shared: Path) -> None:
    # p > t leaves t's own pixel out: 25087 pixels, one too few for the clips whose truth is the whole image.
    found = percent(read_annotations(vggss(shared)), "lvs")
    assert found["ceiling"] == pytest.approx((50.48, 49.47), abs=0.005)
    assert found["center_prior"] == pytest.approx((33.95, 37.43), abs=0.005)
    assert found["whole_image"] == pytest.approx((21.95, 31.25), abs=0.005)


def test_the_mean_truth_prior_of_the_same_clips(shared: Path) -> None:
    # Not cross-validated, as the figures are that go round: 34.51 / 37.76.
    annotations = read_annotations(vggss(shared))
    size, rule = 224, PROTOCOLS["ezvsl"]
    levels = np.stack([clip.levels(size, "union") for clip in annotations.clips])
    (mask,) = binarise(normalise(levels.mean(axis=0, dtype=np.float32)[None], "minmax"), rule, [0])
    inside = (levels & mask).sum(axis=(1, 2))
    ciou = inside / (levels.sum(axis=(1, 2)) + mask.sum() - inside)
    found = metrics(ciou)
    assert (100 * found["ciou@0.5"], 100 * found["auc"]) == pytest.approx((34.51, 37.76), abs=0.005)


@pytest.mark.parametrize(("subset", "ceiling", "disc"), [("heard", 48.36, 32.14), ("unheard", 52.39, 35.65)])
def test_context_of_the_heard_and_unheard_subsets(
    shared: Path, subset: str, ceiling: float, disc: float
) -> None:
    (path,) = (shared / "mirror").glob(f"*/stoneMo/EZ-VSL/*/metadata/vggss_{subset}_test.csv")
    found = percent(read_annotations(vggss(shared), only=path), "ezvsl")
    assert (found["ceiling"][0], found["center_prior"][0]) == pytest.approx((ceiling, disc), abs=0.005)


def test_vggss_has_two_clips_without_truth(shared: Path) -> None:
    annotations = read_annotations(vggss(shared))
    empty = {clip.clip_id for clip in annotations.clips if not len(clip.boxes)}
    assert empty == {"M1P1xla8rg0_000000", "MKC9LvRivTM_000030"}
    assert (len(annotations.clips), len(annotations.dropped)) == (5158, 18)
    assert sum(box.why == "corrupt coordinate" for box in annotations.dropped) == 12
