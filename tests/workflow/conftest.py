"""Runs of the real snakemake in a working directory of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Snakemake = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def snakemake(repository: Path, tmp_path: Path) -> Snakemake:
    """Return a function that runs snakemake with some arguments, in an empty working directory."""

    def run(*arguments: str, directory: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--snakefile", str(repository / "Snakefile")),
                *("--directory", str(directory), *arguments),
            ],
            cwd=repository,
            env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(directory / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
