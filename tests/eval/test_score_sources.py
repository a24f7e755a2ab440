"""Several sources per clip from files to numbers: the command `sources`."""

from __future__ import annotations

import csv
import json
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval.__main__ import main
from avsl_eval.bootstrap import mean_intervals, ratio_intervals
from avsl_eval.errors import EvalInputError
from avsl_eval.evaluate_sources import evaluate_sources
from avsl_eval.predictions import Predictions

LEFT, TOP_RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 0.5]
DUET = {
    "clip_id": "duet_000001",
    "label": "duet",
    "sources": [{"label": "violin", "boxes": [LEFT]}, {"label": "cello", "boxes": [TOP_RIGHT]}],
}


def duet_maps() -> np.ndarray:
    """Draw maps [2, 224, 224] whose every score is counted by hand in `HAND`.

    The first takes the left quarter as its mask (IoU 1/2 with LEFT) and ranks all of LEFT first (AP 1). The
    second takes the whole image (IoU 1/4 with TOP_RIGHT), of which three quarters are ranked first (AP 1/3).
    """
    maps = np.zeros((2, 224, 224), np.float32)
    maps[0, :, :56], maps[0, :, 56:112] = 1.0, 0.2
    maps[1], maps[1, :, :56] = 0.6, 0.5
    return maps


HAND = {
    "ciou@0.3": 1 / 2,
    # Both reach 0 to 0.25, one reaches up to 0.5: trapezoids of 1, 1/2 and 0 with steps of 0.05.
    "auc": 5 * 0.05 * 1 + 0.05 * 0.75 + 4 * 0.05 * 0.5 + 0.05 * 0.25,
    "cap": (1 + 1 / 3) / 2,
    # The sum is 1.5, 0.8 and 0.6 on the quarters' columns 0, 1 and 2-3; the union covers 3/4 of the image.
    "piap": 2 / 3 + 1 / 3 * 3 / 4,
}


def write_annotations(path: Path, clips: list[dict[str, Any]], **fields: Any) -> Path:
    path.write_text(json.dumps({"schema": "avsl-annotations/1", "truth": "union", "clips": clips, **fields}))
    return path


def write_folder(path: Path, maps: dict[str, np.ndarray]) -> Path:
    path.mkdir()
    for clip_id, heatmap in maps.items():
        np.save(path / f"{clip_id}.npy", heatmap)
    return path


@pytest.fixture
def duet(tmp_path: Path) -> Path:
    return write_annotations(tmp_path / "duet.json", [DUET])


def score(
    predictions: Path, annotations: Path, out: Path, *more: str, rule: str = "fixed"
) -> tuple[int, dict[str, Any]]:
    status = main(
        [
            *("sources", "--predictions", str(predictions), "--annotations", str(annotations)),
            *("--protocol", rule, "--out", str(out), *more),
        ]
    )
    return status, json.loads(out.read_text()) if out.exists() else {}


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))


def values(content: dict[str, Any]) -> dict[str, float]:
    return {name: found["value"] for name, found in content["metrics"].items()}


def test_a_clip_by_hand(tmp_path: Path, duet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = tmp_path / "p.npz"
    np.savez(predictions, clip_id=np.array(["duet_000001"]), heatmap=duet_maps()[None])
    status, found = score(predictions, duet, tmp_path / "o" / "s.json", "--name", "mine")
    assert status == 0
    assert values(found) == pytest.approx(HAND)
    assert {k: found[k] for k in ("schema", "name", "n_expected", "n_scored", "n_sources", "n_extra")} == {
        "schema": "avsl-sources/1",
        "name": "mine",
        "n_expected": 1,
        "n_scored": 1,
        "n_sources": 2,
        "n_extra": 0,
    }
    whole = {name: v["value"] for name, v in found["context"]["whole_image"].items()}
    assert (whole["ciou@0.3"], whole["cap"], whole["piap"]) == (0.5, 0.375, 0.75)
    assert {v["value"] for v in found["context"]["ceiling"].values()} == {1.0}
    assert all(v["ci95"] == pytest.approx([v["value"]] * 2) for v in found["metrics"].values())  # of one clip
    assert found["rule"]["name"] == "fixed"
    assert found["inputs"]["predictions"]["path"] == str(predictions)
    assert len(found["inputs"]["predictions"]["sha256"]) == 64
    assert found["curve"]["share"][:12] == [1.0] * 6 + [0.5] * 5 + [0.0]
    assert found["breakdown"]["n_sources"][0]["n"] == 1
    (row,) = rows_of(tmp_path / "o" / found["per_clip"])
    assert (row["status"], row["n_found"], row["sources"]) == ("scored", "1", '["violin", "cello"]')
    assert (json.loads(row["maps"]), json.loads(row["iou"])) == ([0, 1], [0.5, 0.25])
    printed = capsys.readouterr().out
    assert "2 true sources, 2 predicted; 0 of them match none" in printed
    assert "ciou@0.3    50.00  [50.00, 50.00]      100.00       50.00" in printed


def test_the_order_of_maps_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    quarters = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1]]
    clips = [
        {"clip_id": f"c{k}", "sources": [{"label": str(n), "boxes": [b]} for n, b in enumerate(quarters)]}
        for k in range(4)
    ]
    annotations = write_annotations(tmp_path / "a.json", clips)
    maps = rng.random((4, 3, 9, 9), dtype=np.float32)
    found = []
    for name, order in (("p", [0, 1, 2]), ("q", [2, 0, 1])):
        np.savez(
            tmp_path / f"{name}.npz", clip_id=np.array([c["clip_id"] for c in clips]), heatmap=maps[:, order]
        )
        status, content = score(tmp_path / f"{name}.npz", annotations, tmp_path / f"{name}.json", rule="htf")
        assert status == 0
        found.append({k: content[k] for k in ("metrics", "context", "curve", "breakdown", "warnings")})
    assert found[0] == found[1]
    assert 0 < found[0]["metrics"]["cap"]["value"] < 1


def test_missing_clips_and_clips_without_a_source(
    tmp_path: Path, duet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = write_annotations(tmp_path / "both.json", [DUET, {**DUET, "clip_id": "duet_000002"}])
    one = write_folder(tmp_path / "one", {"duet_000001": duet_maps()})
    out = tmp_path / "s.json"
    assert score(one, both, out) == (2, {})
    assert "1 of 2 annotated clips have no prediction: duet_000002" in capsys.readouterr().err
    status, found = score(one, both, out, "--missing", "zero")
    # No source of a clip that counts 0 reaches any threshold but the first, 0.
    half = {name: value / 2 for name, value in HAND.items()} | {"auc": HAND["auc"] / 2 + 0.025 / 2}
    assert (status, values(found), found["missing"]) == (0, pytest.approx(half), ["duet_000002"])
    low, high = found["metrics"]["cap"]["ci95"]
    assert (low, high) == pytest.approx((0, HAND["cap"]))
    silent = {"duet_000001": duet_maps(), "duet_000002": np.zeros((0, 224, 224), np.float32)}
    status, found = score(write_folder(tmp_path / "empty", silent), both, out)
    assert (status, values(found), found["missing"]) == (0, pytest.approx(half), [])
    assert found["unanswered"] == ["duet_000002"]
    assert any("1 clips have no predicted source" in w for w in found["warnings"])
    rows = rows_of(tmp_path / "s.csv")
    assert [(r["status"], r["n_predicted"]) for r in rows] == [("scored", "2"), ("unanswered", "0")]
    assert json.loads(rows[1]["maps"]) == [None, None]


@pytest.mark.parametrize(
    ("rule", "value", "ciou"),
    [("fixed", 0.7, 0.5), ("fixed", 0.3, 0.0), ("rethinking", 0.7, 0.0)],  # the whole image, or nothing
)
def test_constant_maps_are_what_the_rule_makes_of_them(
    tmp_path: Path, duet: Path, rule: str, value: float, ciou: float
) -> None:
    maps = write_folder(tmp_path / "p", {"duet_000001": np.full((2, 14, 14), value, np.float32)})
    status, found = score(maps, duet, tmp_path / "s.json", rule=rule)
    whole = {name: v["value"] for name, v in found["context"]["whole_image"].items()}
    assert (status, values(found)["ciou@0.3"]) == (0, ciou)
    assert (values(found)["cap"], values(found)["piap"]) == pytest.approx((whole["cap"], whole["piap"]))
    assert any(w.startswith("2 heatmaps are constant") for w in found["warnings"])


def test_further_predictions_cost_nothing_but_are_counted(tmp_path: Path, duet: Path) -> None:
    more = np.concatenate([np.zeros((1, 224, 224), np.float32), duet_maps()])
    status, found = score(
        write_folder(tmp_path / "p", {"duet_000001": more}), duet, tmp_path / "s.json", "--per-clip",
        str(tmp_path / "t.csv"),
    )  # fmt: skip
    assert (status, values(found), found["n_extra"]) == (0, pytest.approx(HAND), 1)
    (row,) = rows_of(tmp_path / "t.csv")
    assert (row["maps"], found["per_clip"]) == ("[1, 2]", "t.csv")


def test_the_ceiling_is_what_the_size_of_masks_allows(tmp_path: Path) -> None:
    small = {"label": "b", "boxes": [[0.5, 0.5, 0.75, 0.75]]}  # 1/16 of the image, and masks cover 1/2
    clip = {"clip_id": "c", "sources": [{"label": "a", "boxes": [LEFT]}, small]}
    annotations = write_annotations(tmp_path / "a.json", [clip])
    left = np.tile(np.linspace(1, 0, 224, dtype=np.float32), (224, 1))
    perfect = np.stack([left, left.T])
    perfect[1, 112:168, 112:168] = 2
    maps = write_folder(tmp_path / "p", {"c": perfect})
    _, found = score(maps, annotations, tmp_path / "s.json", rule="strict-median")
    ceiling = {name: v["value"] for name, v in found["context"]["ceiling"].items()}
    assert (ceiling["ciou@0.3"], ceiling["cap"], ceiling["piap"]) == (0.5, 1, 1)
    assert values(found)["ciou@0.3"] == 0.5
    assert values(found)["auc"] == pytest.approx(ceiling["auc"])


def test_categories_of_coco_are_sources(tmp_path: Path) -> None:
    rows = [(1, [0, 0, 50, 80]), (2, [50, 0, 50, 40])]
    content = {
        "images": [{"id": 7, "file_name": "duet_000001.jpg", "width": 100, "height": 80}],
        "annotations": [{"image_id": 7, "category_id": c, "bbox": b} for c, b in rows],
        "categories": [{"id": 1, "name": "violin"}, {"id": 2, "name": "cello"}],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    maps = write_folder(tmp_path / "p", {"duet_000001": duet_maps()})
    assert values(score(maps, path, tmp_path / "s.json")[1]) == pytest.approx(HAND)


def test_what_a_reader_has_to_know(tmp_path: Path) -> None:
    nothing = {"label": "x", "boxes": [[0.5, 0.5, 0.501, 0.501]]}  # less than a pixel
    clips = [
        {**DUET, "sources": [DUET["sources"][0], nothing]},  # type: ignore[index]
        {"clip_id": "still", "silent": True},
    ]
    annotations = write_annotations(tmp_path / "a.json", clips)
    more = {"duet_000001": duet_maps(), "still": duet_maps(), "stranger": duet_maps()}
    status, found = score(write_folder(tmp_path / "p", more), annotations, tmp_path / "s.json")
    assert (status, found["n_expected"], found["extra"]) == (0, 1, ["stranger"])
    assert found["testset"]["n_silent"] == 1
    told = " | ".join(found["warnings"])
    assert "nothing sounds in 1 clips; they are left out" in told
    assert "1 clips have a source that covers no pixel and cannot be found (duet_000001)" in told
    assert "1 predictions are of no clip of the test set and are ignored (stranger)" in told


def bad(tmp_path: Path, what: str) -> tuple[Path, Path, str]:
    """Make input of one fault: predictions, annotations, rule."""
    clips: list[dict[str, Any]] = [DUET]
    maps, rule = duet_maps(), "fixed"
    if what == "single npz":
        path = tmp_path / "p.npz"
        np.savez(path, clip_id=np.array(["duet_000001"]), heatmap=maps[:1])
        return path, write_annotations(tmp_path / "a.json", clips), rule
    if what == "single":
        maps = maps[0]
    elif what == "last axis":
        maps = np.moveaxis(maps, 0, -1)
    elif what == "many":
        maps = np.zeros((101, 4, 4), np.float32)
    elif what == "five":
        maps = maps[None, None]
    elif what == "nan":
        maps[1, 3, 3] = np.nan
    elif what == "range":
        maps[0] *= 5
    elif what == "no sources":
        clips = [{"clip_id": "duet_000001", "boxes": [LEFT]}]
    elif what == "some sources":
        clips = [DUET, {"clip_id": "solo", "boxes": [LEFT]}]
    elif what == "silent":
        clips = [{"clip_id": "duet_000001", "silent": True}]
    elif what == "strangers":
        clips = [{**DUET, "clip_id": "another"}]
    else:
        rule = what
    folder = write_folder(tmp_path / "p", {"duet_000001": maps})
    return folder, write_annotations(tmp_path / "a.json", clips), rule


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "single npz",
            "heatmap has shape (1, 224, 224); one map per clip, but several sources need [K, h, w]",
        ),
        ("single", "score one map per clip: avsl-eval score"),
        ("last axis", "are the sources its last axis"),
        ("many", "101 sources; at most 100"),
        ("five", "has shape (1, 1, 2, 224, 224); expected"),
        ("nan", "has 1 values that are NaN"),
        ("range", "lies in [0, 5], but protocol fixed thresholds values in [0, 1]"),
        ("no sources", 'do not tell the sources of a clip apart; write "sources" in our JSON'),
        ("some sources", "1 of 2 clips have boxes or a mask but no sources (solo)"),
        ("silent", "nothing sounds in any of the 1 clips"),
        ("strangers", "no clip in common"),
        ("fixd", "unknown protocol 'fixd'; did you mean 'fixed'?"),
        ("strict-adaptive", "of the size of the true source, which is known only after the matching"),
        ("acl", "chooses its threshold on the test set; several sources need a rule of one map alone: lvs,"),
        ("vssl-eval", "takes its threshold from maps of negative audio"),
        ("strict", "strict is a suite of rules; name one of them: strict-median, strict-adaptive, fixed"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, message: str
) -> None:
    predictions, annotations, rule = bad(tmp_path, what)
    before = set(tmp_path.iterdir())
    assert score(predictions, annotations, tmp_path / "s.json", rule=rule) == (2, {})
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "warning" not in x]
    assert line.startswith("avsl-eval: error: ")
    assert message in line
    assert set(tmp_path.iterdir()) == before


def test_other_bad_arguments(tmp_path: Path, duet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = write_folder(tmp_path / "p", {"duet_000001": duet_maps()})
    assert score(maps, duet, tmp_path / "s.json", "--missing", "skip")[0] == 2
    assert "unknown policy for missing clips 'skip'" in capsys.readouterr().err
    assert score(maps, duet, duet)[0] == 2
    assert "named twice" in capsys.readouterr().err
    assert json.loads(duet.read_text())["clips"] == [DUET]


class Counted(Predictions):
    """Make the maps of each clip when they are read, and count how many are alive."""

    def __init__(self, n: int) -> None:
        self.clip_ids = tuple(f"c{k}" for k in range(n))
        self.path, self.meta = None, {}
        self._alive: list[weakref.ref[np.ndarray]] = []
        self.most = 0

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        rng = np.random.default_rng(0)
        for clip_id in (i for i in self.clip_ids if i in wanted):
            maps = rng.random((2, 30, 30), dtype=np.float32)
            self._alive = [ref for ref in self._alive if ref() is not None] + [weakref.ref(maps)]
            self.most = max(self.most, len(self._alive))
            yield clip_id, maps


def test_maps_are_read_one_clip_at_a_time(tmp_path: Path) -> None:
    from avsl_eval.truth import read_annotations

    clips = [{**DUET, "clip_id": f"c{k}"} for k in range(30)]
    maps = Counted(30)
    calls: list[tuple[int, int]] = []
    scores = evaluate_sources(
        maps,
        read_annotations(write_annotations(tmp_path / "a.json", clips)),
        "ezvsl",
        progress=lambda done, n: calls.append((done, n)),
    )
    assert maps.most <= 3
    assert calls == [(k, 30) for k in range(1, 31)]
    assert scores.n_scored == 30


def test_intervals_of_ratios() -> None:
    rng = np.random.default_rng(0)
    above = rng.random((40, 2))
    assert ratio_intervals(above, np.ones((40, 2))) == pytest.approx(mean_intervals(above))
    below = rng.integers(1, 4, (40, 2)).astype(float)
    same = np.random.default_rng(0)
    drawn = [same.integers(0, 40, size=40, dtype=np.int32) for _ in range(2000)]
    ratios = np.array([above[rows].sum(axis=0) / below[rows].sum(axis=0) for rows in drawn])
    expected = np.quantile(ratios, [0.025, 0.975], axis=0).T
    assert ratio_intervals(above, below) == pytest.approx(expected)


def test_the_call_from_python_refuses_likewise() -> None:
    with pytest.raises(EvalInputError, match="do not tell the sources of a clip apart"):
        evaluate_sources({"a_000001": np.zeros((2, 4, 4))}, {"a_000001": [LEFT]}, "fixed")  # type: ignore[arg-type]
