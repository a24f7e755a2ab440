"""`pip install .` gives the scorer and nothing else.

The test installs from the package index, which takes about half a minute.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

HEAVY = ["torch", "pyarrow", "datasets", "snakemake", "PIL", "pydantic"]


@pytest.fixture(scope="module")
def python(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with only the base install."""
    folder = tmp_path_factory.mktemp("base")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    for package in ("avsl_eval", "avsl_data", "avsl_train"):
        shutil.copytree(repository / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(folder / "env", with_pip=True)
    python = folder / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(source)], check=True, cwd=folder)
    return python


@pytest.fixture(scope="module")
def scored(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of two perfect maps, made by the installed command."""
    folder = tmp_path_factory.mktemp("scored")
    boxes = {"aaaaaaaaaaa_000000": [0.0, 0.0, 0.5, 0.5], "-b_cccccccc_000010": [0.5, 0.25, 1.0, 1.0]}
    clips = [{"file": clip, "class": "dog", "bbox": [box]} for clip, box in boxes.items()]
    (folder / "vggss.json").write_text(json.dumps(clips))
    (folder / "boxes.json").write_text(json.dumps(boxes))
    write = (
        "import json, numpy as np\n"
        "boxes = json.load(open('boxes.json'))\n"
        "maps = np.zeros((len(boxes), 8, 8))\n"
        "for map_, box in zip(maps, boxes.values()):\n"
        "    x0, y0, x1, y1 = (int(8 * v) for v in box)\n"
        "    map_[y0:y1, x0:x1] = 1\n"
        "np.savez('predictions.npz', clip_id=list(boxes), heatmap=maps)\n"
    )
    subprocess.run([python, "-c", write], check=True, cwd=folder)
    subprocess.run(
        [
            *(str(python.parent / "avsl-eval"), "score", "--predictions", "predictions.npz"),
            *("--annotations", "vggss.json", "--protocol", "fixed", "--out", "scores.json"),
        ],
        check=True,
        cwd=folder,
    )
    scores: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return scores


def test_the_installed_command_scores(scored: dict[str, Any]) -> None:
    fixed = scored["protocols"]["fixed"]
    assert fixed["n_expected"] == fixed["n_scored"] == 2
    assert fixed["metrics"]["ciou@0.5"]["value"] == 1.0


def test_nothing_heavy_is_installed(python: Path) -> None:
    code = f"import importlib.util as u; print([name for name in {HEAVY} if u.find_spec(name)])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
