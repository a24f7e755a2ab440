"""Two processes train what one trains: weights, teachers, stored labels and numbers of the log.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsl_train.augment import Geometry, identity
from avsl_train.data import Clips
from avsl_train.distributed import rank, total, world_size
from avsl_train.methods.method import Batch
from avsl_train.methods.semi_method import SemiMethod
from avsl_train.pseudo_labels import LabelStore
from avsl_train.synced_batchnorm import synchronise
from tests.train.conftest import CPU, make_clips, make_config, make_method
from tests.train.processes import found_by, work

LABELED, UNLABELED, STEPS = 4, 6, 5
CASES: dict[str, dict[str, Any]] = {
    "hard-pl": {"warmup": 0.0, "threshold": 0.1},
    "dmt": {"warmup": 0.2, "tau": 0.2, "delta": 0.3, "contrastive": "slavc"},
    "xpl": {"warmup": 0.2, "rho_start": 0.5},
}
"""Methods that remember something; `test_processes` trains every method and base by the loop."""


def trained(name: str) -> dict[str, Any]:
    """Train five steps, one pass per two of them; return weights, memory and what was said."""
    config = make_config({"name": name, **CASES[name]}, optim={"steps": STEPS})
    method = make_method(config, UNLABELED)
    assert isinstance(method, SemiMethod)
    synchronise(method.models, CPU)
    labeled, unlabeled = make_clips(LABELED, config.data, 1), make_clips(UNLABELED, config.data, 2)
    mine = torch.arange(rank(), UNLABELED, world_size())

    def sweep() -> Iterator[Clips]:
        yield unlabeled[mine[:2]]
        yield unlabeled[mine[2:]]

    ours = labeled[torch.arange(rank(), LABELED, world_size())]
    parameters = list(method.students())
    # small steps: a temperature of .03 enlarges the rounding of a step fiftyfold in the next one
    optimizer = torch.optim.SGD(parameters, lr=0.001)
    method.models.train()
    said = []
    for step in range(STEPS):
        if step % 2 == 0:
            said.append(method.begin_epoch(step, sweep))
        # the order of the pass differs from that of the store, so that labels lie with the other process
        order = (torch.arange(UNLABELED) + step) % UNLABELED
        batch = Batch(Clips.join([ours, unlabeled[order[rank() :: world_size()]]]), len(ours))
        optimizer.zero_grad()
        loss = torch.stack(list(method.losses(batch, step).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = total(parameter.grad) / world_size()
        optimizer.step()
        method.after_step(step)
    weights = {key: value.clone() for key, value in method.models.state_dict().items()}
    return {"weights": weights, "memory": method.state(), "said": said}


def stored() -> dict[str, Any]:
    """Return what a store of five clips gives when every process asks for others than its own."""
    store = LabelStore(5, 2, beta=0.0)
    mine = torch.arange(rank(), 5, world_size())
    maps = (mine.float()[:, None, None, None] + torch.tensor([[0.25, 0.5], [0.0, 1.0]])) / 8
    store.update(mine, maps, torch.ones_like(maps, dtype=torch.bool))
    asked = torch.tensor([3, 0, 4, 3])[: 4 - rank()]
    geometry = Geometry(identity(len(asked)).box, torch.ones(len(asked), dtype=torch.bool))
    state = store.state()
    again = LabelStore(5, 2, beta=0.0)
    again.load(state)
    view = store.view(asked, geometry, 2)
    refused = ""
    try:
        again.update((mine + 1) % 5, maps, torch.ones_like(maps, dtype=torch.bool))
    except ValueError as error:
        refused = str(error)
    return {
        "own": len(store.maps),
        "view": view,
        "state": state,
        "again": again.maps.clone(),
        "maps": store.maps.clone(),
        "refused": refused,
    }


def find(_: int) -> dict[str, Any]:
    """Return what one process finds."""
    return {"store": stored(), **{name: trained(name) for name in CASES}}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return found_by(__file__, Path(tmp_path_factory.mktemp("ranks")), 2)


def close(found: Any, wanted: Any, where: str = "") -> None:
    """Compare nested tensors and numbers within 1e-5; labels are stored in half precision."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            close(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, Tensor):
        near = 1e-3 if wanted.dtype == torch.float16 else 1e-5
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=near, msg=lambda m: f"{where}: {m}")
    else:
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5), where


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_train_what_one_trains(together: list[Any], name: str) -> None:
    alone = trained(name)
    start = make_method(make_config({"name": name, **CASES[name]}), UNLABELED).models.state_dict()
    assert (alone["weights"]["a.visual.stem.0.weight"] - start["a.visual.stem.0.weight"]).abs().max() > 1e-3
    for other in together:
        close(other[name]["weights"], alone["weights"], name)
        close(other[name]["memory"], alone["memory"], name)
        for found, wanted in zip(other[name]["said"], alone["said"], strict=True):
            close(found, wanted, name)


@pytest.mark.parametrize("name", list(CASES))
def test_a_memory_is_taken_over_by_another_number_of_processes(together: list[Any], name: str) -> None:
    config = make_config({"name": name, **CASES[name]}, optim={"steps": STEPS})
    method = make_method(config, UNLABELED)
    method.load(copy.deepcopy(together[0][name]["memory"]))
    close(method.state(), together[0][name]["memory"], name)


def test_each_process_keeps_its_part_and_gives_it_to_the_others(together: list[Any]) -> None:
    alone = stored()
    assert [part["store"]["own"] for part in together] == [3, 2]
    for number, part in enumerate(together):
        found = part["store"]
        torch.testing.assert_close(found["view"], alone["view"][: 4 - number], rtol=0, atol=1e-6)
        assert torch.equal(found["state"]["maps"], alone["state"]["maps"])
        assert found["state"]["seen"].all()
        assert torch.equal(found["again"], found["maps"])
        assert "the sweep must bring a rank its own clips" in found["refused"]
    assert not alone["refused"]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    work(find)
