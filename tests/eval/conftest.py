"""Fixtures of the scorer's tests: small test sets on disk, and the console command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run the installed console script in a process of its own."""
    program = Path(sys.executable).parent / "avsl-eval"

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return run


BOXES = {
    "aaaaaaaaaaa_000030": [[0.0, 0.0, 0.5, 1.0]],
    "-bb_bbbbbbb_000040": [[0.25, 0.25, 0.75, 0.75]],
    "ccccccccccc_000000": [[0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.25, 0.25]],
}


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    """Return probabilities that are about right for the three clips."""
    grid = (np.arange(14) + 0.5) / 14
    y, x = np.meshgrid(grid, grid, indexing="ij")
    return {
        "aaaaaaaaaaa_000030": (1 / (1 + np.exp(12 * (x - 0.5)))).astype(np.float32),
        "-bb_bbbbbbb_000040": np.exp(-6 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)).astype(np.float32),
        "ccccccccccc_000000": (x * y).astype(np.float32),
    }


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Write the annotations of the three clips in the project's format."""
    clips = [{"clip_id": i, "label": f"label, of {i[0]}", "boxes": b} for i, b in BOXES.items()]
    path = tmp_path / "annotations.json"
    content = {
        "schema": "avsl-annotations/1",
        "dataset": "t",
        "subset": None,
        "truth": "union",
        "clips": clips,
    }
    path.write_text(json.dumps(content | {"dropped": []}))
    return path


@pytest.fixture
def predictions(tmp_path: Path, maps: dict[str, np.ndarray]) -> Path:
    """Write the maps as an npz."""
    path = tmp_path / "predictions.npz"
    np.savez_compressed(path, clip_id=np.array(list(maps)), heatmap=np.stack(list(maps.values())))
    return path
