"""The commands of docs/compare.md run as they are printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

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
    text = (repository / "docs" / "compare.md").read_text()
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) == 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "avsl-eval"
        assert main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "comparison.json").exists()
    assert (tmp_path / "table.tex").read_text().startswith("% needs")
