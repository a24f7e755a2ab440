"""Examples in docstrings run, and docs/methods.md lists every key of the configuration."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import avsl_train
from avsl_train.config import ExperimentConfig
from avsl_train.config_table import SOURCES, main, rows, tables

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(avsl_train.__path__, "avsl_train.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = {"config", "frontends", "losses", "pseudo_labels", "seeding", "selection"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.failed == 0
    assert tried.attempted > 0 or name.removeprefix("avsl_train.") not in WITH_EXAMPLES


def test_the_table_in_the_docs_is_generated(repository: Path) -> None:
    text = (repository / "docs/methods.md").read_text(encoding="utf-8")
    assert tables() in text, (
        "run python -m avsl_train.config_table --into docs/methods.md: the configuration has changed"
    )


def test_every_key_has_a_source() -> None:
    assert [key for key, _, source, _ in rows(ExperimentConfig) if not source] == []
    assert {source.split(maxsplit=1)[0].rstrip(":") for _, _, source, _ in rows(ExperimentConfig)} <= set(
        SOURCES
    )


def test_every_key_of_a_resolved_configuration_is_listed() -> None:
    listed = {key for key, *_ in rows(ExperimentConfig)}
    for name in ("supervised", "hard-pl", "xpl"):
        resolved = ExperimentConfig.model_validate({"method": {"name": name}}).model_dump()
        for section, value in resolved.items():
            prefix = f"method[{name}]" if section == "method" else section
            keys = [f"{prefix}.{key}" for key in value] if isinstance(value, dict) else [prefix]
            assert [key for key in keys if key not in listed and not key.endswith(".name")] == []


def test_the_command_prints_or_replaces_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == tables()
    path = tmp_path / "docs.md"
    path.write_text("before\n<!-- configuration -->\nold\n<!-- end -->\nafter\n")
    main(["--into", str(path)])
    assert path.read_text() == f"before\n<!-- configuration -->\n{tables()}<!-- end -->\nafter\n"
    path.write_text("no marks")
    with pytest.raises(SystemExit):
        main(["--into", str(path)])
