"""Several processes train what one trains, for every method; run as a script, this file is one of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from avsl_train.checkpoint import load_checkpoint
from avsl_train.engine import start
from avsl_train.fit import fit, read_training_clips
from avsl_train.log import MEASURED
from avsl_train.method_config_self import STRUCTURES
from avsl_train.methods import METHODS
from tests.train.conftest import World, make_config
from tests.train.processes import like_torchrun, run_as

STEPS = 5
OPTIM = {
    **{"steps": STEPS, "batch_labeled": 4, "batch_unlabeled": 8},
    **{"optimizer": "sgd", "lr": 0.001, "schedule": "constant"},
}
"""Adam moves a weight by the learning rate whatever the size of its gradient, so also one whose gradient is a
rounding error, whose sign processes need not agree on. SGD's step is as exact as the gradient."""
OWN: dict[str, dict[str, Any]] = {
    "supervised": {"lambda_con": 1.0},
    "xpl": {"warmup": 0.1, "rho_start": 0.3, "ramp": 0.8},
    "hard-pl": {"warmup": 0.1},
    "mean-teacher": {"warmup": 0.1},
    "fixmatch": {"warmup": 0.1, "positive": 0.11, "negative": 0.09},
    "dmt": {"warmup": 0.1, "delta": 0.5, "tau": 0.1},
    "slavc": {"dropout": 0.0},
    "fnac": {"dropout": 0.0, "warmup_epochs": 0},
    "sspl": {"pcm": False},
    "alignment": {"k": 2},
    "htf": {"views": "published"},
}
"""Keys that let every part of a method act within five steps; dropout is drawn by each process for itself."""
BASES = ("lvs", "slavc", "fnac", "ssltie", "alignment")
CASES = {name: name for name in METHODS} | {f"xpl+{base}": "xpl" for base in BASES}
CASES["thawing"] = "supervised"
MODELS = {"thawing": {"visual": "resnet18", "stride": 16, "freeze_visual": 2}}
"""A trunk that is trained from the third of five epochs on: its gradients are averaged then as well."""


def method_of(case: str) -> dict[str, Any]:
    name = CASES[case]
    base = {"contrastive": case.partition("+")[2]} if "+" in case else {}
    network = {"network": "localizer", "views": "strong"} if name in STRUCTURES else {}
    return {"name": name, **network, **OWN.get(name, {}), **base}


def find(rank: int, ranks: int, folder: Path) -> None:
    """Be one process: train every case."""
    like_torchrun(rank, ranks, folder)
    worlds = {flow: World(folder / f"world{rank}{flow}", flow) for flow in (False, True)}
    fabric = start(make_config("xpl"))
    for case in CASES:
        data, world = {"flow": CASES[case] == "htf"}, worlds[CASES[case] == "htf"]
        config = make_config(method_of(case), optim=OPTIM, model=MODELS.get(case, {}), data=data)
        clips = read_training_clips(config, [world.shards], world.split)
        fit(config, clips, 0, folder / case, threads=1, fabric=fabric)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Train every case by one process and by two; return the folders of their runs."""
    folders = {ranks: tmp_path_factory.mktemp(f"ranks{ranks}") for ranks in (1, 2)}
    for ranks, folder in folders.items():
        run_as(__file__, folder, ranks)
    return folders


def largest_difference(one: Any, other: Any) -> float:
    """Return the largest difference in two nested structures of tensors.

    Of a tensor with values above 1, such as the variance of a wide layer, the difference relative to these.
    """
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((largest_difference(one[key], other[key]) for key in one), default=0.0)
    assert one.shape == other.shape
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / one.abs().max().clamp(min=1)) if one.numel() else 0.0


@pytest.mark.parametrize("case", sorted(CASES))
def test_two_processes_train_what_one_trains(found: dict[int, Path], case: str) -> None:
    one, two = (load_checkpoint(folder / case / "checkpoint.pt") for folder in found.values())
    assert (one.processes, two.processes) == (1, 2)
    assert largest_difference(one.models, two.models) < 1e-5
    assert largest_difference(one.method, two.method) < 1e-3  # labels are stored in half precision
    mine, theirs = (metrics(folder / case) for folder in found.values())
    for line, other in zip(mine, theirs, strict=True):
        assert other == pytest.approx(line, rel=1e-3, abs=1e-5)


def metrics(out: Path) -> list[dict[str, float]]:
    """Return the numbers of every line of the log but those that a clock measured."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in (*MEASURED, "event")} for line in lines]


if __name__ == "__main__":
    find(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
