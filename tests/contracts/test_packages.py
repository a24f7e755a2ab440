"""What the packages import, and the commands that they install."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

COMMANDS = {
    "avsl-data": ("render", "catalog", "annotations", "download", "preprocess", "split", "frames"),
    "avsl-train": ("resolve", "fit", "predict", "localize", "export", "import"),
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


@pytest.fixture(scope="module")
def helped() -> Callable[..., str]:
    """Return a function that returns the help of a command or of its subcommand."""

    @functools.cache
    def text(command: str, *name: str) -> str:
        asked = run(sys.executable, "-m", command.replace("-", "_"), *name, "--help")
        assert asked.returncode == 0, asked.stderr
        return asked.stdout

    return text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_subcommand(helped: Callable[..., str], command: str) -> None:
    assert [name for name in COMMANDS[command] if name not in helped(command)] == []


@pytest.mark.parametrize(("command", "name"), SUBCOMMANDS)
def test_every_subcommand_has_help_and_an_example(
    helped: Callable[..., str], command: str, name: str
) -> None:
    own = helped(command, name)
    assert own.startswith(f"usage: {command} {name}")
    assert "example" in (own + helped(command)).lower()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_subcommand_is_refused(command: str) -> None:
    refused = run(sys.executable, "-m", command.replace("-", "_"), "nonsense")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
