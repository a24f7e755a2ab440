"""The commands check and export, as a user runs them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from avsl_eval.__main__ import main
from avsl_eval.errors import EvalInputError
from avsl_eval.export import coco_results
from avsl_eval.maps import binarise, to_probability
from avsl_eval.masks import Mask
from avsl_eval.predictions import open_predictions
from avsl_eval.protocol_table import PROTOCOLS

IDS = ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040", "ccccccccccc_000000"]


def test_check_of_good_predictions(predictions: Path, annotations: Path, capsys: Any) -> None:
    assert main(["check", str(predictions), "--annotations", str(annotations)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "3 clips, the first is aaaaaaaaaaa_000030" in out
    assert "14 x 14 (3)" in out
    assert "3 of the 3 annotated clips of t have a prediction" in out
    fitting = next(line for line in out.splitlines() if line.startswith("protocols that fit:"))
    assert {"lvs", "ezvsl"} <= set(fitting.removeprefix("protocols that fit: ").split(", "))
    assert out.endswith("no problem found\n")


def test_check_names_every_problem(tmp_path: Path, annotations: Path, capsys: Any) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    np.save(folder / f"{IDS[0]}.npy", np.full((7, 7), np.nan))
    np.save(folder / f"{IDS[1]}.npy", np.zeros((7, 7, 2, 2)))
    np.save(folder / "ccccccccccc_0_10000.npy", np.full((7, 7), 0.25))
    np.save(folder / "x.npy", np.full((7, 7), np.nan))
    np.save(folder / "y.npy", np.arange(49.0).reshape(7, 7) / 255)
    (folder / "z.npy").write_bytes(b"nothing")
    assert main(["check", str(folder), "--annotations", str(annotations)]) == 2
    out, err = capsys.readouterr()
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 4
    text = "\n".join(problems)
    assert "clip aaaaaaaaaaa_000030 has 49 values that are NaN" in text
    assert "(so it is with x)" in text
    assert f"clip {IDS[1]}" in text
    assert "(7, 7, 2, 2)" in text
    assert "clip z" in text
    assert "1 annotated clips have no prediction" in text
    assert "the same clip seems to be 'ccccccccccc_0_10000'" in text
    assert "warning: 1 of 2 heatmaps are constant" in out
    assert "warning: 1 of 2 heatmaps have at most 256 different values" in out
    assert "4 predictions are of no clip of the test set" in out
    assert err.splitlines() == [
        f"avsl-eval: error: {folder} cannot be scored as it is: 4 problems, named above"
    ]


def test_check_names_every_problem_of_an_npz(tmp_path: Path, capsys: Any) -> None:
    np.savez(
        tmp_path / "p.npz",
        clip_id=np.array(["a", "a", "../x"]),
        heatmap=np.zeros((2, 7, 7), complex),
        confidence=np.array([1, np.nan, 2]),
        meta=np.array("{"),
    )
    assert main(["check", str(tmp_path / "p.npz")]) == 2
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    for part in ("'../x' is empty, a path", "more than once: a", "complex128", "meta is not JSON"):
        assert sum(part in problem for problem in problems) == 1, problems


@pytest.mark.parametrize(
    ("scale", "offset", "outside"), [(1.0, 0.0, False), (2.0, -1.0, True), (255.0, 0.0, True)]
)
def test_check_says_which_protocols_fit(
    scale: float, offset: float, outside: bool, tmp_path: Path, capsys: Any
) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "p.npz", clip_id=np.array(["a"]), heatmap=scale * rng.random((1, 9, 9)) + offset)
    assert main(["check", str(tmp_path / "p.npz")]) == 0
    said = "fixed (needs [0, 1]); nor does the suite strict, which holds it" in capsys.readouterr().out
    assert said == outside


def coco_file(path: Path, boxes: dict[str, Any], width: int = 50, height: int = 30) -> Path:
    images = [
        {"id": 100 + k, "file_name": f"{i}.jpg", "width": width, "height": height}
        for k, i in enumerate(boxes)
    ]
    annotations = []
    for image, (x0, y0, x1, y1) in zip(images, boxes.values(), strict=True):
        pixels = np.zeros((height, width), np.uint8)
        pixels[int(y0 * height) : int(y1 * height), int(x0 * width) : int(x1 * width)] = 1
        rle = Mask.from_array(pixels)
        box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": 1,
                "iscrowd": 0,
                "bbox": box,
                "area": int(pixels.sum()),
                "segmentation": {"size": [height, width], "counts": rle.counts.decode()},
            }
        )
    content = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "o"}],
    }
    path.write_text(json.dumps(content))
    return path


BOXES = {IDS[0]: (0.0, 0.0, 0.5, 1.0), IDS[1]: (0.2, 0.2, 0.8, 0.8), IDS[2]: (0.5, 0.5, 1.0, 1.0)}


def test_export_is_read_by_pycocotools(tmp_path: Path, predictions: Path, capsys: Any) -> None:
    truth = coco_file(tmp_path / "coco.json", BOXES)
    out = tmp_path / "results.json"
    arguments = ["export", "--predictions", predictions, "--protocol", "adaptive", "--annotations", truth]
    assert main([*map(str, arguments), "--format", "coco", "--out", str(out)]) == 0
    assert "3 masks; 0 clips have an empty one" in capsys.readouterr().out
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(str(truth))
        found = ground.loadRes(str(out))
        scored = COCOeval(ground, found, "segm")
        scored.params.useCats = 0
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    assert sorted(a["image_id"] for a in found.loadAnns(found.getAnnIds())) == [100, 101, 102]
    # The first map is exactly its box under the adaptive rule, at whatever size.
    first = found.loadAnns(found.getAnnIds(imgIds=[100]))[0]
    assert first["bbox"] == [0, 0, 25, 30]
    assert first["area"] == 25 * 30
    assert scored.stats[1] > 0.3  # AP at IoU 0.5


def test_export_without_annotations(tmp_path: Path, predictions: Path, maps: dict[str, np.ndarray]) -> None:
    out = tmp_path / "results.json"
    assert main(["export", "--predictions", str(predictions), "--protocol", "fixed", "--out", str(out)]) == 0
    results = {row["image_id"]: row for row in json.loads(out.read_text())}
    rule = PROTOCOLS["fixed"]
    for clip_id, heatmap in maps.items():
        p = to_probability(heatmap[None], rule)
        mask = binarise(p, rule, [0])[0]
        row = results[clip_id]
        np.testing.assert_array_equal(Mask.from_rle(row["segmentation"], "t").to_array(), mask)
        assert row["score"] == pytest.approx(float(p[0][mask].mean()))
        ys, xs = np.nonzero(mask)
        x, y, width, height = row["bbox"]
        assert (x, y, x + width, y + height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_export_scores_by_confidence(tmp_path: Path, maps: dict[str, np.ndarray]) -> None:
    path = tmp_path / "p.npz"
    heatmaps = np.stack([*list(maps.values())[:2], np.full((14, 14), 0.1)])
    np.savez(path, clip_id=np.array(IDS), heatmap=heatmaps, confidence=np.array([0.5, -3, 7]))
    results = coco_results(open_predictions(path), PROTOCOLS["fixed"])
    assert [(row["image_id"], row["score"]) for row in results] == [(IDS[0], 0.5), (IDS[1], -3.0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "adaptive"], "thresholds by the size of the truth"),
        (["--protocol", "acl"], "choose one by --threshold"),
        (["--protocol", "acl", "--threshold", "nan"], "not a finite number"),
        (["--protocol", "ezvsl", "--format", "voc"], "unknown format 'voc'"),
        (["--protocol", "ezvls"], "did you mean 'ezvsl'"),
        (["--protocol", "ezvsl", "--out", "predictions.npz"], "named twice"),
        (["--protocol", "ezvsl", "--annotations", "coco.json"], "no clip in common"),
    ],
)
def test_export_that_cannot_be(
    arguments: list[str], message: str, tmp_path: Path, predictions: Path, capsys: Any, monkeypatch: Any
) -> None:
    coco_file(tmp_path / "coco.json", {"x": (0.1, 0.1, 0.5, 0.5)})
    monkeypatch.chdir(tmp_path)
    before = predictions.read_bytes()
    assert main(["export", "--predictions", predictions.name, "--out", "r.json", *arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert message in err[0]
    assert not (tmp_path / "r.json").exists()
    assert predictions.read_bytes() == before


def test_a_threshold_makes_a_sweep_a_rule(predictions: Path) -> None:
    low, high = (
        coco_results(open_predictions(predictions), PROTOCOLS["acl"], threshold=t) for t in (0.55, 0.7)
    )
    areas = [
        sum(Mask.from_rle(r["segmentation"], "t").to_array().sum() for r in found) for found in (low, high)
    ]
    assert areas[0] > areas[1] > 0


def test_images_must_list_every_clip(predictions: Path, tmp_path: Path) -> None:
    from avsl_eval.annotations.coco import coco_images

    images = coco_images(coco_file(tmp_path / "c.json", {IDS[0]: BOXES[IDS[0]]}))
    with pytest.raises(EvalInputError, match="list no size of"):
        coco_results(open_predictions(predictions), PROTOCOLS["ezvsl"], None, images)
