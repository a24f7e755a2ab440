"""The same on a GPU, where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.conftest import World

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_xpl_trains_and_predicts_on_cuda(world: World, tmp_path: Path, precision: str) -> None:
    """Run in processes of their own: CUDA must not start in the one that forks others."""
    method = {"name": "xpl", "warmup": 0.1, "rho_start": 1.0}
    config = world.write_config(tmp_path / "c.json", method, device="cuda", precision=precision)
    common = [sys.executable, "-m", "avsl_train"]
    run = [
        *(
            *common,
            "fit",
            "--config",
            str(config),
            "--shards",
            str(world.shards),
            "--split",
            str(world.split),
        ),
        *("--seed", "0", "--out", str(tmp_path / "run")),
    ]
    subprocess.run(run, check=True)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["device"].startswith("cuda: ")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(lines[-1]["cross"])
    (tmp_path / "run/last.pt").unlink()
    predictions = tmp_path / "p.npz"
    checkpoint = str(tmp_path / "run/checkpoint.pt")
    subprocess.run(
        [
            *(*common, "predict", "--checkpoint", checkpoint, "--shards", str(world.shards)),
            *("--clips", f"{world.split}:test", "--out", str(predictions)),
        ],
        check=True,
    )
    heatmap = np.load(predictions)["heatmap"]
    assert heatmap.shape == (3, 8, 8)
    assert np.isfinite(heatmap).all()
