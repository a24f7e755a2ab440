"""The version of what made a file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DISTRIBUTION: Final = "avsl-toolkit"


def own_version() -> str:
    """Return the installed version; ``unknown`` in a source tree on ``sys.path``."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
