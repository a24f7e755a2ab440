"""What a step hears of its clips is said beforehand by each method, and is all that its losses need."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips, ClipSet
from avsl_train.methods import METHODS, XPL
from avsl_train.methods.method import Batch
from tests.train.conftest import BASE, World, make_config, make_method

STEP = 4
SAYS = ("supervised", "hard-pl", "mean-teacher", "fixmatch", "dmt", "xpl", "ezvsl", "lvs", "slavc", "fnac")
"""Methods that say what they hear; the others get the whole sound."""


def configured(name: str, data: dict[str, Any] | None = None, **own: Any) -> ExperimentConfig:
    """Return a small configuration of a method: those without labels train a localizer."""
    if name not in ("supervised", "hard-pl", "mean-teacher", "fixmatch", "dmt", "xpl"):
        own = {"network": "localizer", **own}
    return make_config({"name": name, **own}, data=data or {})


def losses(world: World, name: str, own: dict[str, Any], heard: bool) -> dict[str, torch.Tensor]:
    """Return the terms of a step whose clips were decoded as a whole, or for its views."""
    data = {**BASE["data"], "cache": False, "workers": 0, "clip_s": 1.0, "audio_s": 0.5}
    config = configured(name, data=data, **own)
    torch.manual_seed(0)  # of dropout, as the loop seeds it at every step
    method = make_method(config, 5)
    method.models.train()
    sets = [ClipSet([world.shards], ids, config.data) for ids in (world.labeled[:3], world.unlabeled[:5])]
    method.begin_epoch(STEP, lambda: sets[1].in_order(5))
    if isinstance(method, XPL):
        method.selected[:] = True
    views = method.heard(STEP) if heard else None
    parts = [clips.batch(torch.arange(len(clips)), views) for clips in sets]
    assert not heard or parts[0].waves.shape[1] < 16000
    return method.losses(Batch(Clips.join(parts), 3), STEP)


@pytest.mark.parametrize("name", SAYS)
def test_a_step_needs_no_more_than_it_says(world: World, name: str) -> None:
    own = {"warmup": 0.5} if name in ("hard-pl", "mean-teacher", "fixmatch", "dmt", "xpl") else {}
    whole, part = (losses(world, name, own, heard) for heard in (False, True))
    assert {key: term.item() for key, term in part.items()} == {k: term.item() for k, term in whole.items()}


def test_all_methods_are_known_here() -> None:
    says = [name for name in METHODS if make_method(configured(name)).heard(STEP) is not None]
    assert sorted(says) == sorted(SAYS)


@pytest.mark.parametrize("name", ["ezvsl", "slavc"])
def test_a_method_with_other_views_says_so(world: World, name: str) -> None:
    own = {"views": "strong"}
    whole, part = (losses(world, name, own, heard) for heard in (False, True))
    assert {key: term.item() for key, term in part.items()} == {k: term.item() for k, term in whole.items()}
