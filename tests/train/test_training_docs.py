"""The example of docs/training.md trains, and its table of messages quotes messages that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from avsl_train.config import HOW_IT_RUNS, parse_config


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs/training.md").read_text(encoding="utf-8")


def test_the_example_is_a_configuration(text: str) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert parse_config(yaml.safe_load(block), "docs/training.md").optim.choose == "best"


def test_keys_that_may_change_are_all_named(text: str) -> None:
    section = text.partition("## Going on")[2].partition("##")[0]
    keys = [
        f"{key}.{part}" if isinstance(parts, dict) else key
        for key, parts in HOW_IT_RUNS.items()
        for part in (parts if isinstance(parts, dict) else [""])
    ]
    assert [key for key in keys if f"`{key}`" not in section] == []


def test_messages_are_those_of_the_program(text: str, repository: Path) -> None:
    table = text.partition("## When something goes wrong")[2]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(quoted) == 9
    source = " ".join(path.read_text(encoding="utf-8") for path in (repository / "avsl_train").glob("*.py"))
    source = re.sub(r'"\s+f?"', "", source)  # a message over several lines is one
    for message in quoted:
        parts = [part.strip() for part in message.split("...") if part.strip()]
        assert [part for part in parts if part not in source and "1" not in part] == [], message
