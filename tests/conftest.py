"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of the code that is tested.
settings.register_profile("avsl", deadline=None)
settings.load_profile("avsl")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of published lists, real clips and golden files, which the project does not ship."""
    folder = Path(os.environ.get("AVSL_SHARED", REPOSITORY.parent / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set AVSL_SHARED to a folder with mirror/, clips/ and golden/")
    return folder
