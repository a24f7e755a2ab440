"""What a score has besides protocols: suites, subsets, groups, negatives, segmentation, warnings."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avsl_eval
from avsl_eval import PROTOCOLS, SUITES, evaluate, evaluate_all, read_scores, save_scores
from avsl_eval.errors import EvalInputError
from avsl_eval.protocol_table import expand
from avsl_eval.resizing import resize
from avsl_eval.truth import read_annotations

IDS = [f"scene{k // 2:02}_{'ab'[k % 2]}" for k in range(24)]


def box(seed: int) -> list[float]:
    corner, side = np.random.default_rng(seed).random((2, 2)) / 2
    return [*corner.tolist(), *(corner + side / 1.5 + 0.1).tolist()]


BOXES = {clip_id: [box(k)] for k, clip_id in enumerate(IDS)}


def write_annotations(path: Path, silent: int = 0, **fields: Any) -> Path:
    labels = ["dog, barking" if k % 3 else "cat" for k in range(len(IDS))]
    clips = [{"clip_id": i, "label": label, "boxes": BOXES[i]} for i, label in zip(IDS, labels, strict=True)]
    clips += [{"clip_id": f"silent{k}", "label": "", "boxes": []} for k in range(silent)]
    path.write_text(json.dumps({"schema": "avsl-annotations/1", "truth": "union", "clips": clips, **fields}))
    return path


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    return write_annotations(tmp_path / "a.json")


def maps(n_silent: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    ids = [*IDS, *(f"silent{k}" for k in range(n_silent))]
    return {i: rng.random((9, 9), dtype=np.float32) for i in ids}


def write_maps(path: Path, found: dict[str, np.ndarray], **more: Any) -> Path:
    np.savez(path, clip_id=np.array(list(found)), heatmap=np.stack(list(found.values())), **more)
    return path


def test_suites_are_made_of_protocols() -> None:
    assert SUITES.keys() == {"strict", "published", "all"}
    assert SUITES["strict"].protocols == ("strict-median", "strict-adaptive", "fixed")
    assert SUITES["all"].protocols == tuple(PROTOCOLS)
    assert {"vssl-eval", "avsbench", "fixed", "strict-median"}.isdisjoint(SUITES["published"].protocols)
    assert all(PROTOCOLS.keys() >= set(suite.protocols) for suite in SUITES.values())
    assert list(expand(["fixed", "strict"])) == ["fixed", "strict-median", "strict-adaptive"]
    with pytest.raises(EvalInputError, match="did you mean 'strict'"):
        expand(["strikt"])
    with pytest.raises(EvalInputError, match="two different protocols are named 'lvs'"):
        expand(["lvs", dataclasses.replace(PROTOCOLS["lvs"], comparison=">=")])


def test_the_suite_all_leaves_out_what_does_not_fit(annotated: Path) -> None:
    cosines = {i: 2 * m - 1 for i, m in maps().items()}
    found = evaluate_all(cosines, annotated, "all")
    assert PROTOCOLS.keys() - found.keys() == {"vssl-eval", "avsbench", "fixed"}
    warnings = found["lvs"].warnings
    assert any(w.startswith("fixed is left out: heatmap of clip") for w in warnings)
    assert any(w.startswith("vssl-eval is left out: protocol vssl-eval needs") for w in warnings)
    assert any(w.startswith("avsbench is left out: it compares masks") for w in warnings)
    assert "avsbench" in evaluate_all(cosines, annotated, ["all", "avsbench"])
    assert "avsbench" in evaluate_all(cosines, read_annotations(annotated).drawn_as("mask"), "all")
    with pytest.raises(
        EvalInputError, match=r"cosine similarities.*; strict-median and strict-adaptive take any"
    ):
        evaluate_all(cosines, annotated, "strict")
    with pytest.raises(EvalInputError, match="cosine similarities"):
        evaluate_all(cosines, annotated, ["lvs", "fixed"])
    with pytest.raises(EvalInputError, match="does not allow missing clips to count as 0"):
        evaluate_all(maps(), annotated, "strict", "zero")


def test_workers_change_no_result(annotated: Path) -> None:
    rules = [name for name in PROTOCOLS if name != "vssl-eval"]
    one, three = (evaluate_all(maps(), annotated, rules, workers=t) for t in (1, 3))
    assert {n: s.to_csv() for n, s in one.items()} == {n: s.to_csv() for n, s in three.items()}
    assert {n: s.to_json() for n, s in one.items()} == {n: s.to_json() for n, s in three.items()}


def test_what_is_written_is_read(tmp_path: Path, annotated: Path) -> None:
    scores = evaluate_all(maps(), annotated, ["lvs", "strict"], name="mine")
    save_scores(scores, tmp_path / "o" / "scores.json", tmp_path / "tables" / "clips.csv")
    file = read_scores(tmp_path / "o" / "scores.json")
    assert list(file.protocols) == ["lvs", "strict-median", "strict-adaptive", "fixed"]
    assert file.content["name"] == "mine"
    assert file.per_clip.resolve() == (tmp_path / "tables" / "clips.csv").resolve()
    rows = file.per_clip.read_text().splitlines()
    assert len(rows) == 1 + 4 * len(IDS)
    assert rows[0] == (
        "protocol,clip_id,label,ciou,n_boxes,gt_area,status,reason,n_dropped_boxes,intersection,false_positive,"
        "pointing,confidence"
    )
    for name, entry in file.protocols.items():
        assert {m: v["value"] for m, v in entry["metrics"].items()} == scores[name].metrics
    file.path.write_text(json.dumps({**file.content, "protocols": {"lvs": {"rule": {}}}}))
    with pytest.raises(EvalInputError, match="lacks"):
        read_scores(file.path)
    file.path.write_text('{"schema": "avsl-scores/1"}')
    with pytest.raises(EvalInputError, match="avsl-scores/2"):
        read_scores(file.path)


def test_silent_clips_count_in_detection_only(tmp_path: Path, annotated: Path) -> None:
    extended = write_annotations(tmp_path / "e.json", silent=6)
    plain, more = evaluate(maps(), annotated, "slavc"), evaluate(maps(6), extended, "slavc")
    assert (more.metrics, more.intervals, more.context) == (plain.metrics, plain.intervals, plain.context)
    assert more.evaluation.testset["n_silent"] == 6
    assert (more.per_clip["status"] == "silent").sum() == 6
    assert more.sections["detection"]["all"]["n"] == 30
    assert more.sections["detection"]["visible"]["n"] == 24
    with pytest.raises(EvalInputError, match="none of the 1 annotated clips has a box"):
        evaluate({"a": np.eye(3)}, {"a": []}, "lvs")


def test_stored_confidences_rank_clips(annotated: Path, tmp_path: Path) -> None:
    found = maps()
    path = write_maps(tmp_path / "p.npz", found, confidence=np.linspace(0, 1, len(found)))
    scores = evaluate_all(path, annotated, ["lvs", "slavc"])
    assert scores["lvs"].per_clip["confidence"].tolist() == np.linspace(0, 1, len(found)).tolist()
    assert "detection" in scores["lvs"].sections
    assert "detection" not in evaluate(found, annotated, "lvs").sections
    assert scores["slavc"].per_clip["confidence"].tolist() != scores["lvs"].per_clip["confidence"].tolist()


def test_groups_and_subsets(annotated: Path) -> None:
    heard = IDS[:10]
    scores = evaluate_all(
        maps(), annotated, "lvs", subsets={"heard": heard, "cats": ["cat"]}, group_by="last-underscore"
    )["lvs"]
    rows = scores.breakdown["subset"]
    assert [(row["name"], row["n"]) for row in rows] == [("heard", 10), ("cats", 8)]
    ciou = scores.per_clip["ciou"]
    assert rows[0]["metrics"]["mean_iou"] == pytest.approx(ciou[heard].mean())
    assert [row["name"] for row in scores.breakdown["class"]] == ["dog, barking", "cat"]
    groups = scores.sections["groups"]
    assert (groups["n_groups"], groups["expected_size"], groups["incomplete"]) == (12, 2, [])
    both = np.minimum(ciou.to_numpy()[::2], ciou.to_numpy()[1::2])
    assert groups["iiou@0.5"] == (both >= 0.5).mean()
    with pytest.raises(EvalInputError, match="unknown way to group clips 'x'"):
        evaluate_all(maps(), annotated, "lvs", group_by="x")
    with pytest.raises(EvalInputError, match="subset 'none' has no clip"):
        evaluate_all(maps(), annotated, "lvs", subsets={"none": ["zzz"]})


def test_negative_audio_sets_a_universal_threshold(annotated: Path) -> None:
    found = maps()
    quiet = {i: m * 0.5 for i, m in found.items()}
    negatives = {"silence": quiet, "noise": dict(list(quiet.items())[:5])}
    stacked = np.stack([m for given in negatives.values() for m in given.values()])
    tops = resize(stacked, 224, "bilinear", False).max(axis=(1, 2))
    wanted = {"max": tops.max(), "1.1max": 1.1 * tops.max(), "q3": np.quantile(tops, 0.75)}
    for universal, expected in wanted.items():
        (scores,) = evaluate_all(
            found, annotated, "vssl-eval", negatives=negatives, universal=universal
        ).values()
        section = scores.sections["negatives"]
        assert section["threshold"] == pytest.approx(float(expected), rel=1e-6)
        assert list(section["kinds"]) == ["silence", "noise", "all"]
        assert (section["kinds"]["silence"]["pia"] == 0) == (universal != "q3")
    fixed = dataclasses.replace(PROTOCOLS["fixed"], name="f", threshold_value=0.25, comparison=">")
    given = evaluate_all(found, annotated, ["vssl-eval", fixed], negatives=negatives, universal=0.25)
    assert given["vssl-eval"].metrics == given["f"].metrics
    assert given["vssl-eval"].sections["negatives"]["kinds"]["all"]["n"] == 29
    with pytest.raises(EvalInputError, match="--negative silence=FILE"):
        evaluate(found, annotated, "vssl-eval")
    with pytest.raises(EvalInputError, match="unknown universal threshold 'q4'; did you mean 'q3'"):
        evaluate_all(found, annotated, "vssl-eval", negatives=negatives, universal="q4")


def test_segmentation_beside_boxes(annotated: Path) -> None:
    logits = {i: 8 * m - 4 for i, m in maps().items()}
    scores = evaluate_all(logits, annotated, ["avsbench", "lvs"], official_batch=5)
    section = scores["avsbench"].sections["segmentation"]
    assert section["n"] == 24
    assert section["miou"] == pytest.approx(scores["avsbench"].metrics["mean_iou"], abs=1e-6)
    assert section["batch_size"] == 5
    assert section["f_official"] >= section["f"] - 1e-9
    assert "segmentation" not in scores["lvs"].sections
    without = evaluate(dict(list(logits.items())[:12]), annotated, "avsbench", "zero")
    assert without.sections["segmentation"]["miou"] == pytest.approx(without.metrics["mean_iou"], abs=1e-6)


def test_what_a_reader_has_to_know_is_said(annotated: Path, tmp_path: Path) -> None:
    found = maps()

    def said(given: dict[str, np.ndarray], rules: Any = ("lvs",), where: Any = annotated) -> str:
        return " | ".join(next(iter(evaluate_all(given, where, list(rules)).values())).warnings)

    assert said(found) == ""
    whole = {i: np.rint(255 * m) for i, m in found.items()}
    assert "24 of 24 heatmaps have at most 256 values" in said(whole)
    pictures = {i: np.rint(255 * m).astype(np.uint8) for i, m in found.items()}
    assert "have at most 256 values" in said(pictures)
    assert "have at most 256 values" in said({i: (p / 255).astype(np.float32) for i, p in pictures.items()})
    assert "1 heatmaps are constant" in said(found | {IDS[0]: np.full((9, 9), 0.25)})
    sparse = {i: np.where(m > 0.9, m, 0) for i, m in found.items()}
    assert "24 of 24 maps under lvs have more than 1 % of their pixels equal" in said(sparse)
    assert "slavc expect" in said({i: 2 * m - 1 for i, m in found.items()}, ["slavc"])
    assert "expect" not in said({i: 40 * m for i, m in found.items()}, ["slavc"])
    listed = [{"file": i, "class": "dog", "bbox": b} for i, b in BOXES.items()]
    named = tmp_path / "vggss.json"
    named.write_text(json.dumps(listed))
    assert "the test set has 24 clips, but scores on VGG-SS were published on 4655" in said(
        found, where=named
    )


def test_what_a_subset_lists_beyond_the_test_set_is_counted(annotated: Path) -> None:
    subsets = {
        "heard": [*IDS[:5], "zzz", "zzz", "yyy"],
        "classes": ["cat", "cow"],
        "whole": IDS,
        "cats": ["cat"],
    }
    warnings = evaluate_all(maps(), annotated, "lvs", subsets=subsets)["lvs"].warnings
    assert warnings == (
        "subset heard: 2 of its 7 ids are of no clip of the test set and are left out (zzz, yyy)",
        "subset classes: 1 of its 2 classes are of no clip of the test set and are left out (cow)",
    )


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["silence", "noise", "offscreen"], []),
        (["silence"], ["no negatives of kind noise, offscreen: the mean over kinds is over silence alone"]),
        (
            ["silence", "noise", "offscreen", "silnce"],
            [
                "papers report no negatives of kind 'silnce', but silence, noise, offscreen; is the name "
                "misspelt? The mean over kinds counts it"
            ],
        ),
    ],
)
def test_kinds_of_negatives_are_those_of_papers(
    kinds: list[str], expected: list[str], annotated: Path
) -> None:
    found = evaluate_all(maps(), annotated, ["vssl-eval", "lvs"], negatives=dict.fromkeys(kinds, maps()))
    assert list(found["vssl-eval"].warnings) == expected


def test_the_intervals_of_a_sweep_say_what_they_leave_out(annotated: Path) -> None:
    logits = {i: 2 * m - 1 for i, m in maps().items()}
    (warning,) = evaluate(logits, annotated, "acl").warnings
    assert "the intervals of acl hold the threshold fixed, which was chosen on this test set" in warning


def test_the_command_line(tmp_path: Path, annotated: Path, command: Any) -> None:
    path = write_maps(tmp_path / "p.npz", maps())
    quiet = write_maps(tmp_path / "q.npz", {i: m / 2 for i, m in maps().items()})
    heard = tmp_path / "heard.txt"
    heard.write_text("dog, barking\n")
    arguments = ["score", "--predictions", path, "--annotations", annotated, "--out", tmp_path / "s.json"]
    done: subprocess.CompletedProcess[str] = command(
        *arguments,
        *("--protocol", "lvs", "acl", "vssl-eval", "strict"),
        *("--subset", f"heard={heard}", "--group-by", "last-underscore", "--name", "mine"),
        *("--negative", f"silence={quiet}", "--universal", "q3", "--workers", "2"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.csv").exists()
    for fragment in (
        "lvs v1: half of the image",
        "mean truth",
        "was chosen on this test set, as published; the intervals hold it fixed",
        "heard: ciou@0.5",
        "groups: IIoU",
        "universal threshold",
        "silence: pIA",
        "strict-adaptive v1",
    ):
        assert fragment in done.stdout, fragment
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["name"] == "mine"
    assert content["inputs"].keys() == {"predictions", "annotations", "negative silence"}
    for wrong, fragment in (
        (["--subset", "heard"], "is not NAME=FILE"),
        (["--subset", f"heard={tmp_path / 'gone.txt'}"], "cannot read the subset"),
        (["--protocol", "vssl-eval"], "--negative silence=FILE"),
        (["--group-by", "first"], "unknown way to group clips 'first'"),
        (["--per-clip", tmp_path / "s.json"], "name them apart"),
        (["--workers", "0"], "whole number of at least 1"),
        (["--subset", f"heard={annotated}", "--out", annotated], "is named twice"),
    ):
        (tmp_path / "s.json").unlink(missing_ok=True)
        protocol = [] if "--protocol" in wrong else ["--protocol", "lvs"]
        failed = command(*arguments, *protocol, *wrong)
        assert failed.returncode == 2, wrong
        assert fragment in failed.stderr, failed.stderr
        assert not (tmp_path / "s.json").exists()


def test_every_protocol_is_explained(command: Any) -> None:
    done = command("protocols")
    assert done.returncode == 0
    for name, rule in PROTOCOLS.items():
        assert f"\n{name} v{rule.version}\n" in f"\n{done.stdout}"
    assert "strict v1, a suite: strict-median, strict-adaptive, fixed" in done.stdout
    one = command("protocols", "lvs").stdout
    assert all(field.name in one for field in dataclasses.fields(avsl_eval.Protocol))
    assert "strict-median" in command("protocols", "strict").stdout
    assert "*" not in command("protocols", "acl").stdout
    wrong = command("protocols", "lsv")
    assert (wrong.returncode, "did you mean 'lvs'" in wrong.stderr) == (2, True)
