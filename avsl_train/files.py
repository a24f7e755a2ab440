"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

DAMAGED: Final = (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError)
"""What `torch.load` raises for a damaged file; which one depends on the byte where reading fails."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; put it in place only when the block ends well.

    The temporary file keeps the suffix, because some writers look at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write a JSON file."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
