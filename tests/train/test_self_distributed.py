"""Two processes learn what one learns from a batch; run as a script, this file is one of the processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsl_train.distributed import rank, total, world_size
from avsl_train.methods.method import Batch
from avsl_train.methods.self_supervised import SelfSupervised
from avsl_train.synced_batchnorm import synchronise
from tests.train.conftest import CPU, make_clips, make_config, make_method
from tests.train.processes import found_by, work

CLIPS = 6
SECTIONS: dict[str, dict[str, Any]] = {
    "ezvsl": {},
    "lvs": {},
    "slavc": {"dropout": 0.0},
    "fnac": {"dropout": 0.0, "warmup_epochs": 0},
    "attention10k": {},
    "attention10k with labels": {"lambda_sup": 1.0},
    "sspl": {"pcm": False},
    "ssltie": {},
    "alignment": {"k": 2},
    "htf": {},
}
"""Every method; dropout is drawn by each process for itself."""

CANCELLED = {"attention10k": 2e-2, "attention10k with labels": 1e-3}
"""Share of the largest gradient that rounding of BatchNorm leaves: the attention is almost even at first, and
the gradient of an even mean over what BatchNorm has centred cancels. Replacing BatchNorm's formula by the
synchronised one in one process moves it as much."""


def step_of(case: str) -> dict[str, Tensor]:
    """Return the loss and the gradients that processes agree on after one step's backward pass."""
    name = case.partition(" ")[0]
    config = make_config({"name": name, "network": "localizer", **SECTIONS[case]})
    method = make_method(config, CLIPS)
    assert isinstance(method, SelfSupervised)
    synchronise(method.models, CPU)
    clips = make_clips(CLIPS, config.data, 2)
    method.fetch = lambda index: clips[index]
    mine = torch.arange(rank(), CLIPS, world_size())  # of four labelled clips, two are in each half
    method.begin_epoch(0, lambda: iter([clips[mine]]))
    method.models.train()
    labels = 4 // world_size() if "labels" in case else 0
    loss = torch.stack(list(method.losses(Batch(clips[mine], labels), 0).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    found = {"loss": total(loss) / world_size()}
    for key, parameter in method.models.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        found[key] = total(gradient) / world_size()
    return found


def find(_: int) -> dict[str, dict[str, Tensor]]:
    """Return what one process finds."""
    return {case: step_of(case) for case in SECTIONS}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return found_by(__file__, Path(tmp_path_factory.mktemp("ranks")), 2)


@pytest.mark.parametrize("case", SECTIONS)
def test_two_processes_learn_what_one_learns(together: list[Any], case: str) -> None:
    alone = step_of(case)
    for other in together:
        assert set(other[case]) == set(alone)
        largest = max(value.abs().max().item() for key, value in alone.items() if key != "loss")
        assert other[case]["loss"].item() == pytest.approx(alone["loss"].item(), rel=1e-5, abs=1e-6)
        for key, value in alone.items():
            if key == "loss":
                continue
            near = CANCELLED.get(case, 1e-5) * largest
            torch.testing.assert_close(other[case][key], value, atol=near, rtol=1e-3, msg=key)


if __name__ == "__main__":
    work(find)
