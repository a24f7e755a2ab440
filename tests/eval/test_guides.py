"""The commands of the guides run as they are printed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import avsl_eval
from avsl_eval.__main__ import main
from tests.eval.handmade import write_scores


def test_commands_of_the_guide_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rules = ("strict-median", "strict-adaptive", "fixed", "ezvsl")
    for name in ("mine", "theirs", "third"):
        write_scores(tmp_path / f"{name}.json", {rule: rng.random(30).tolist() for rule in rules})
    monkeypatch.chdir(tmp_path)
    commands = commands_of(repository / "docs" / "compare.md")
    assert len(commands) == 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "avsl-eval"
        assert main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "comparison.json").exists()
    assert (tmp_path / "table.tex").read_text().startswith("% needs")


def commands_of(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_a_method_is_scored_by_the_guide(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    ids = [f"aaaaaaaaaaa_{k:06d}" for k in range(12)]
    clips = [{"file": i, "class": "dog", "bbox": [[0.1, 0.1, 0.6, 0.7]]} for i in ids]
    (tmp_path / "vggss.json").write_text(json.dumps(clips))
    np.savez(tmp_path / "predictions.npz", clip_id=np.array(ids), heatmap=rng.random((12, 14, 14)))
    monkeypatch.chdir(tmp_path)
    rules = ["strict", "lvs", "ezvsl"]
    theirs = avsl_eval.evaluate_all(
        dict(zip(ids, rng.random((12, 7, 7)), strict=True)), "vggss.json", rules, name="theirs"
    )
    avsl_eval.save_scores(theirs, "theirs.json")
    page = repository / "docs" / "score-your-method.md"
    commands = commands_of(page)
    assert [command.split()[1] for command in commands] == [
        *("check", "score", "compare", "table", "report", "published")
    ]
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "avsl-eval"
        assert main(arguments) == 0, capsys.readouterr().err
    assert "success curve" in (tmp_path / "report.html").read_text().lower()
