"""The shipped configuration, its schema and its comments agree with the models."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from avsl_train.study import load_study, schema_text

KEY = re.compile(r"^ *[\w+.-]+:(?P<rest>.*)$")


def test_the_shipped_configuration_is_legal(repository: Path) -> None:
    load_study(yaml.safe_load((repository / "config/config.yaml").read_text()))


def test_the_schema_is_generated_from_the_models(repository: Path) -> None:
    stored = (repository / "schemas/config.schema.json").read_text()
    assert stored == schema_text(), (
        "run python -m avsl_train.study --schema > schemas/config.schema.json: the models have changed"
    )


def test_every_key_of_the_shipped_configurations_has_a_comment(repository: Path) -> None:
    for file in ("config/config.yaml", "profiles/default/config.yaml"):
        above = ""
        bare = []
        for number, line in enumerate((repository / file).read_text().splitlines(), start=1):
            found = KEY.match(line)
            if found and "#" not in found["rest"] and not above.lstrip().startswith("#"):
                bare.append(f"{file}:{number}: {line.strip()}")
            above = line
        assert bare == []
