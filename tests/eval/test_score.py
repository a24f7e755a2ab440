"""The command ``score``, its two files, and what outside users rely on."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avsl_eval
from tests.eval.conftest import BOXES

HEAVY = ("torch", "pyarrow", "datasets", "snakemake", "PIL", "pandas", "avsl_data", "avsl_train")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_a_score(tmp_path: Path, annotations: Path, predictions: Path, command: Any) -> None:
    out, table = tmp_path / "o" / "scores.json", tmp_path / "o" / "per_clip.csv"
    done = command(
        "score",
        "--predictions",
        predictions,
        "--annotations",
        annotations,
        "--protocol",
        "ezvsl",
        "--out",
        out,
        "--per-clip",
        table,
    )
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(out.read_text())
    assert content["schema"] == "avsl-scores/2"
    assert (content["name"], content["extra"], content["per_clip"]) == (None, [], "per_clip.csv")
    assert content["testset"].items() >= {"n_clips": 3, "n_silent": 0, "truth": "union"}.items()
    assert len(content["testset"]["sha256"]) == 64
    assert content["protocols"].keys() == {"ezvsl"}
    found = content["protocols"]["ezvsl"]
    assert found["rule"] == avsl_eval.get_protocol("ezvsl").to_dict()
    assert (found["n_expected"], found["n_scored"], found["missing"]) == (3, 3, [])
    names = {"ciou@0.5", "auc", "mean_iou", "pointing"}
    assert found["metrics"].keys() == names
    assert found["context"].keys() == {"ceiling", "center_prior", "mean_truth_prior", "whole_image"}
    for metric in found["metrics"].values():
        low, high = metric["ci95"]
        assert 0 <= low <= metric["value"] <= high <= 1
    assert len(found["curve"]["thresholds"]) == len(found["curve"]["share"]) == 21
    assert found["curve"]["share"][10] == found["metrics"]["ciou@0.5"]["value"]
    assert found["tied"]["clips"] == ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040"]  # the symmetric ones
    assert [row["name"] for row in found["breakdown"]["n_boxes"]] == ["1", "2"]
    for answer in found["context"].values():
        assert answer.keys() == names
        assert all(0 <= metric["value"] <= 1 for metric in answer.values())
    assert content["inputs"]["predictions"]["sha256"] == hashlib.sha256(predictions.read_bytes()).hexdigest()
    assert content["inputs"]["annotations"]["sha256"] == hashlib.sha256(annotations.read_bytes()).hexdigest()
    assert "numpy" in content["versions"]
    rows = read(table)
    assert list(rows[0])[:7] == ["protocol", "clip_id", "label", "ciou", "n_boxes", "gt_area", "status"]
    assert [row["clip_id"] for row in rows] == [
        "aaaaaaaaaaa_000030",
        "-bb_bbbbbbb_000040",
        "ccccccccccc_000000",
    ]
    assert [row["label"] for row in rows][1] == "label, of -"
    assert [float(row["gt_area"]) for row in rows] == [0.5, 0.25, 0.3125]
    assert float(rows[0]["ciou"]) == 1.0
    assert f"{100 * found['metrics']['ciou@0.5']['value']:.2f}" in done.stdout
    assert "mean truth" in done.stdout
    assert {p.name for p in out.parent.iterdir()} == {"scores.json", "per_clip.csv"}


def test_the_function_gives_what_the_command_gives(
    annotations: Path, predictions: Path, maps: dict[str, np.ndarray], tmp_path: Path
) -> None:
    scores = avsl_eval.evaluate(predictions, annotations)
    assert scores.protocol.name == "ezvsl"
    assert scores.per_clip.index.name == "clip_id"
    assert scores.per_clip.loc["aaaaaaaaaaa_000030", "ciou"] == 1.0
    folder = tmp_path / "maps"
    folder.mkdir()
    for clip_id, heatmap in maps.items():
        np.save(folder / f"{clip_id}.npy", np.asfortranarray(heatmap))
    fortran = tmp_path / "f.npz"
    np.savez(
        fortran,
        clip_id=np.array([i.encode() for i in maps]),
        heatmap=np.asfortranarray(np.stack(list(maps.values()))),
    )
    for other in (maps, folder, fortran):
        assert avsl_eval.evaluate(other, annotations).metrics == scores.metrics
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.iterdir())]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert avsl_eval.evaluate(folder, annotations).inputs["predictions"]["sha256"] == digest


def test_missing_and_extra_clips(
    annotations: Path, maps: dict[str, np.ndarray], tmp_path: Path, command: Any
) -> None:
    gone = "-bb_bbbbbbb_000040"
    given = {i: m for i, m in maps.items() if i != gone} | {"zzz_000001": maps[gone]}
    path = tmp_path / "p.npz"
    meta = json.dumps({"excluded": {gone: "no_audio"}, "checkpoint_sha256": "ab"})
    np.savez(
        path,
        clip_id=np.array(list(given)),
        heatmap=np.stack(list(given.values())),
        meta=np.array(meta),
        x=np.arange(3),
    )
    out, table = tmp_path / "s.json", tmp_path / "s.csv"
    done = command(
        "score",
        "--predictions",
        path,
        "--annotations",
        annotations,
        "--protocol",
        "fixed",
        "--missing",
        "zero",
        "--out",
        out,
        "--per-clip",
        table,
    )
    assert done.returncode == 0
    assert "1 predictions are of no clip of the test set" in done.stderr
    assert "1 others count as 0" in done.stdout
    content = json.loads(out.read_text())
    found = content["protocols"]["fixed"]
    assert (found["n_expected"], found["n_scored"], found["missing"]) == (3, 2, [gone])
    assert content["extra"] == ["zzz_000001"]
    assert found["rule"]["missing"] == "zero"
    assert content["predictions_meta"]["checkpoint_sha256"] == "ab"
    row = read(table)[1]
    assert (row["clip_id"], row["ciou"], row["status"], row["reason"], row["gt_area"]) == (
        gone,
        "0.0",
        "missing",
        "no_audio",
        "0.25",
    )
    scored = [float(r["ciou"]) for r in read(table)]
    assert found["metrics"]["mean_iou"]["value"] == pytest.approx(sum(scored) / 3)


def test_what_json_cannot_say_is_spelt_out(
    annotations: Path, maps: dict[str, np.ndarray], tmp_path: Path
) -> None:
    content = json.loads(annotations.read_text())
    content["dropped"] = [{"clip_id": "ccccccccccc_000000", "box": [None, float("nan"), "x", 1], "why": "w"}]
    annotations.write_text(json.dumps(content))
    path = tmp_path / "p.npz"
    arrays = {"clip_id": np.array(list(maps)), "heatmap": np.stack(list(maps.values()))}
    np.savez(path, **arrays, meta=np.array('{"loss": NaN}'))
    found = json.loads(avsl_eval.evaluate(path, annotations).to_json(), parse_constant=pytest.fail)
    assert found["predictions_meta"] == {"loss": "NaN"}
    assert found["dropped_boxes"][0]["box"] == ["None", "nan", "x", 1]


def test_constant_maps_are_counted(
    annotations: Path, maps: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    avsl_eval.evaluate(maps | {"ccccccccccc_000000": np.full((7, 7), 0.3)}, annotations)
    assert "1 heatmaps are constant" in caplog.text


def test_probabilities_may_miss_their_bounds_by_rounding(
    annotations: Path, maps: dict[str, np.ndarray]
) -> None:
    avsl_eval.evaluate({i: m + np.float32(5e-7) for i, m in maps.items()}, annotations, "fixed")


def test_the_same_input_gives_the_same_bytes(annotations: Path, predictions: Path) -> None:
    one, two = (avsl_eval.evaluate(predictions, annotations) for _ in range(2))
    assert (one.to_json(), one.to_csv()) == (two.to_json(), two.to_csv())


@pytest.mark.parametrize("code", ["", "avsl_eval.__main__.main(sys.argv[1:])"])
def test_nothing_heavy_is_imported(code: str, tmp_path: Path, annotations: Path, predictions: Path) -> None:
    program = (
        f"import sys, avsl_eval, avsl_eval.__main__\n{code}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    arguments = [
        "score",
        "--predictions",
        predictions,
        "--annotations",
        annotations,
        "--protocol",
        "lvs",
        "--out",
        tmp_path / "s.json",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_protocols_are_listed(command: Any) -> None:
    done = command("protocols")
    assert done.returncode == 0
    assert all(name in done.stdout for name in avsl_eval.PROTOCOLS)


def test_every_command_has_help_with_an_example(command: Any) -> None:
    for name in ("score", "protocols", "collect", "summary", "gallery", "report"):
        done = command(name, "--help")
        assert done.returncode == 0
        assert f"example: avsl-eval {name}" in " ".join(done.stdout.split())


def test_the_example_runs(tmp_path: Path, annotations: Path, repository: Path) -> None:
    script = repository / "examples" / "score_your_method.py"
    done = subprocess.run(
        [sys.executable, script, annotations],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ezvsl", "fixed"]


def test_code_of_the_guide_runs(
    tmp_path: Path,
    annotations: Path,
    maps: dict[str, np.ndarray],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (repository / "docs" / "score-your-method.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vggss.json").write_bytes(annotations.read_bytes())
    batch = np.stack(list(maps.values()))
    names: dict[str, Any] = {
        "ids": list(maps),
        "maps": list(batch),
        "loader": [(batch, None, [BOXES[i] for i in maps], list(maps))],
        "model": lambda images, _: images,
    }
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "ezvsl.csv").exists()
