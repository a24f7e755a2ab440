"""Runs of the real snakemake in a working directory of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

Snakemake = Callable[..., subprocess.CompletedProcess[str]]


def run_snakemake(repository: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run snakemake with the project's rules and configuration in a working directory."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(repository / "Snakefile")),
            *("--directory", str(directory), *arguments),
        ],
        cwd=repository,
        env={**os.environ, "XDG_CACHE_HOME": str(directory / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def snakemake(repository: Path, tmp_path: Path) -> Snakemake:
    """Return a function that runs snakemake with some arguments, in an empty working directory."""
    return partial(run_snakemake, repository, tmp_path)
