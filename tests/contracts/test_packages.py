"""What the packages import, and the commands that they install."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

COMMANDS = {
    "avsl-data": ("render", "catalog", "annotations", "download", "preprocess", "split", "frames"),
    "avsl-train": ("resolve", "fit", "predict"),
    "avsl-eval": ("score", "protocols", "collect", "gallery", "report", "summary"),
}
SUBCOMMANDS = [(command, name) for command, names in COMMANDS.items() for name in names]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=cwd)


def test_import_contracts_hold(repository: Path) -> None:
    checked = run(str(Path(sys.executable).parent / "lint-imports"), cwd=repository)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_scoring_imports_nothing_heavy(repository: Path) -> None:
    heavy = ["torch", "pyarrow", "datasets", "snakemake", "PIL", "pydantic", "avsl_data", "avsl_train"]
    code = f"import avsl_eval, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run(sys.executable, "-c", code, cwd=repository).stdout.strip() == "[]"


def test_planning_imports_no_torch(repository: Path) -> None:
    code = "import avsl_train.plan, sys; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code, cwd=repository).stdout.strip() == "False"


def test_the_console_scripts_exist() -> None:
    installed = {script.name for script in entry_points(group="console_scripts")}
    assert installed >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_subcommand_and_gives_examples(command: str) -> None:
    helped = run(sys.executable, "-m", command.replace("-", "_"), "--help")
    assert helped.returncode == 0, helped.stderr
    assert "example" in helped.stdout.lower()
    assert [name for name in COMMANDS[command] if name not in helped.stdout] == []


@pytest.mark.parametrize(("command", "name"), SUBCOMMANDS)
def test_every_subcommand_has_help(command: str, name: str) -> None:
    helped = run(sys.executable, "-m", command.replace("-", "_"), name, "--help")
    assert helped.returncode == 0, helped.stderr
    assert f"{command} {name}" in helped.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_subcommand_is_refused(command: str) -> None:
    refused = run(sys.executable, "-m", command.replace("-", "_"), "nonsense")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
