"""The tables of `docs/methods.md`: every key of a training configuration, its default and its source.

They are generated from the models of `avsl_train.config`, and a test keeps the document equal to them::

    python -m avsl_train.config_table --into docs/methods.md
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from avsl_train.config import ExperimentConfig

SOURCES: Final = ("paper", "code", "ours")
"""First words of a tag: stated by the paper, read from a published implementation, our choice."""
BEGIN: Final = "<!-- configuration -->\n"
END: Final = "<!-- end -->\n"
_TAG = re.compile(rf" ?\[((?:{'|'.join(SOURCES)})[^\]]*)\]")

Row = tuple[str, str, str, str]
"""Key, default, source and meaning."""


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    """Yield every key below a model; keys of a method are written ``method[<name>].<key>``."""
    for name, field in model.model_fields.items():
        sections = _sections(field)
        for section in sections:
            tag = f"[{_name_of(section)}]" if len(sections) > 1 else ""
            yield from rows(section, f"{prefix}{name}{tag}.")
        if not sections and name != "name":
            yield (f"{prefix}{name}", _default(field), *_source_and_meaning(field))


def tables() -> str:
    """Return one Markdown table per section of the configuration."""
    grouped: dict[str, list[Row]] = {}
    for row in rows(ExperimentConfig):
        grouped.setdefault(row[0].rpartition(".")[0], []).append(row)
    blocks = []
    for section, members in sorted(grouped.items(), key=lambda item: item[0] == ""):
        lines = [f"### {f'`{section}`' if section else 'The run'}", ""]
        lines += ["| key | default | source | meaning |", "|---|---|---|---|"]
        for key, default, source, meaning in members:
            lines.append(f"| `{key.rpartition('.')[2]}` | `{default}` | {source} | {meaning} |")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, or write them between the marks of a document."""
    parser = argparse.ArgumentParser(prog="python -m avsl_train.config_table", description=main.__doc__)
    parser.add_argument("--into", type=Path, metavar="FILE", help="document whose tables are replaced")
    path: Path | None = parser.parse_args(argv).into
    if path is None:
        sys.stdout.write(tables())
        return
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        parser.error(f"{path} has no lines {BEGIN.strip()} and {END.strip()}")
    path.write_text(before + BEGIN + tables() + END + after, encoding="utf-8")


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the models that a field may hold."""
    members = (field.annotation, *get_args(field.annotation))
    return [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]


def _name_of(section: type[BaseModel]) -> str:
    return str(get_args(section.model_fields["name"].annotation)[0])


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return json.dumps(round(value, 4) if isinstance(value, float) else value)


def _source_and_meaning(field: FieldInfo) -> tuple[str, str]:
    text = field.description or ""
    found = _TAG.search(text)
    return (found[1] if found else ""), _TAG.sub("", text)


if __name__ == "__main__":
    main()
