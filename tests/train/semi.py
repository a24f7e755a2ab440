"""Semi-supervised methods with labels that teach from step 4 on, for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.methods import XPL
from tests.train.conftest import make_clips, make_config, make_method

N = 5
"""Unlabelled clips; every batch holds all of them."""
EPOCH = 4
"""A step after the warm-up of the configurations here."""
OWN: dict[str, dict[str, Any]] = {
    "fixmatch": {"positive": 0.15, "negative": 0.1},  # an untrained model is sure of nothing
    "dmt": {"tau": 0.0},
}
"""Keys with which an untrained model has pseudo-labels that teach."""


def config_of(name: str, **own: Any) -> ExperimentConfig:
    """Return a configuration whose contrastive loss is on and whose labels are used from step 4 on."""
    common = {"lambda_con": 1.0} if name == "supervised" else {"warmup": 0.5}
    return make_config({"name": name, **common, **OWN.get(name, {}), **own})


def sweep(config: ExperimentConfig) -> Any:
    """Return what gives the unlabelled clips of `make_batch` in two batches."""
    clips = make_clips(N, config.data, 2)

    def parts() -> Iterator[Clips]:
        yield clips[torch.arange(3)]
        yield clips[torch.arange(3, N)]

    return parts


def begun(config: ExperimentConfig, step: int = EPOCH) -> Any:
    """Return a method in training mode that has begun an epoch."""
    method = make_method(config, N)
    method.models.train()
    method.begin_epoch(step, sweep(config))
    return method


def xpl(**own: Any) -> XPL:
    """Return XPL with all clips selected and different random labels of A and B."""
    config = config_of("xpl", **own)
    method = begun(config)
    assert isinstance(method, XPL)
    method.selected[:] = True
    fill(method, "a", 1)
    fill(method, "b", 2)
    return method


def fill(method: XPL, store: str, seed: int) -> None:
    """Replace a model's stored labels by random ones."""
    shape = method.stores[store].maps.shape
    method.stores[store].maps = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).half()
    method.stores[store].seen[:] = True
