"""docs/formats.md: every piece of code runs, and what it writes is read."""

from __future__ import annotations

import doctest
import importlib
import json
import pickle
import pkgutil
import re
from pathlib import Path
from typing import Any

import datasets
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import avsl_eval.annotations
import avsl_eval.readers
from avsl_eval.predictions import open_predictions
from avsl_eval.truth import read_annotations

MODULES = [
    module.name
    for package in (avsl_eval.annotations, avsl_eval.readers)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
] + [
    f"avsl_eval.{name}" for name in ("predictions", "truth", "masks", "clip_ids", "errors", "export", "check")
]


@pytest.fixture(scope="module")
def blocks(repository: Path) -> list[str]:
    found = re.findall(r"```python\n(.*?)```", (repository / "docs" / "formats.md").read_text(), re.DOTALL)
    assert len(found) == 8
    return found


def test_predictions_are_written_as_documented(blocks: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()
    ids = ["a_000001", "b_000002"]
    maps = list(np.random.default_rng(0).random((2, 5, 6)))
    names = {"np": np, "Path": Path, "Image": Image, "h5py": h5py, "pyarrow": pyarrow, "datasets": datasets}
    names |= {"json": json, "pickle": pickle, "ids": ids, "maps": maps}
    read = 0
    for block in blocks[:7]:
        place = tmp_path / f"block{read}"
        (place / ("predictions" if "predictions/" in block else ".")).mkdir(parents=True)
        monkeypatch.chdir(place)
        if "pickle" in block:
            Path("predictions.pkl").write_bytes(pickle.dumps(dict(zip(ids, maps, strict=True))))
        exec(block, dict(names))
        written = [p for p in place.iterdir() if p.suffix != ".pkl"]
        assert len(written) == 1
        predictions = open_predictions(written[0])
        assert predictions.clip_ids == tuple(ids)
        for _, heatmap in predictions.stacks(ids):
            assert heatmap.shape == (1, 5, 6)
        read += 1
    assert read == 7


def test_annotations_are_written_as_documented(blocks: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks[7], {"json": json, "Path": Path})
    annotations = read_annotations("kitchen.json")
    assert (annotations.name, annotations.n_silent) == ("kitchen", 1)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
