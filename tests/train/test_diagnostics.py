"""What a training says about itself: by hand, and that nothing of it is trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avsl_train.augment import Geometry, identity
from avsl_train.data import Clips
from avsl_train.diagnostics import Diary, calibration_error, calibration_sums, distance, label_iou
from avsl_train.methods.method import PICTURED, Batch
from avsl_train.methods.semi_method import SemiMethod
from tests.train.conftest import make_batch, make_clips, make_config, make_method

N = 5
METHODS = ("supervised", "hard-pl", "mean-teacher", "fixmatch", "dmt", "xpl")
OWN: dict[str, dict[str, Any]] = {
    "supervised": {"lambda_con": 1.0},
    "hard-pl": {"warmup": 0.0, "threshold": 0.1},
    "mean-teacher": {"warmup": 0.0},
    "fixmatch": {"warmup": 0.0, "positive": 0.15, "negative": 0.1},
    "dmt": {"warmup": 0.0, "tau": 0.2, "delta": 0.3},
    "xpl": {"warmup": 0.0, "rho_start": 0.6},
}
SAID = {
    "supervised": set(),
    "hard-pl": {"label_mean", "label_iou", "label_ciou"},
    "mean-teacher": {"label_mean", "label_iou", "label_ciou", "distance_a"},
    "fixmatch": {"label_mean", "label_iou", "label_ciou", "sure"},
    "dmt": {
        "label_mean", "label_iou", "label_ciou", "selected", "precision", "agreement",
        "distance_a", "distance_b",
    },
    "xpl": {"label_mean", "label_iou", "label_ciou", "precision", "rho", "reliability"},
}  # fmt: skip


def method_of(name: str) -> SemiMethod:
    """Return a method in training mode whose labels are used from the first step on."""
    method = make_method(make_config({"name": name, **OWN[name]}), N)
    assert isinstance(method, SemiMethod)
    method.models.train()
    return method


def trained(name: str, hidden: Tensor | None) -> tuple[SemiMethod, list[dict[str, float]]]:
    """Train four steps with some hidden boxes of the unlabelled clips; return what it said as well."""
    method = method_of(name)
    batch = make_batch(method.config)
    boxes = batch.clips.boxes.clone()
    if hidden is not None:
        boxes[batch.n_labeled :] = hidden
    batch = Batch(replace(batch.clips, boxes=boxes), batch.n_labeled)
    unlabeled = batch.unlabeled

    def sweep() -> Iterator[Clips]:
        yield unlabeled[torch.arange(4)]
        yield unlabeled[torch.arange(4, N)]

    optimizer = torch.optim.Adam(method.students(), lr=0.01)
    said = []
    for step in range(4):
        if step % 2 == 0:
            said.append(method.begin_epoch(step, sweep))
        loss = torch.stack(list(method.losses(batch, step).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        method.after_step(step)
    said.append(method.begin_epoch(4, sweep))
    return method, said


@pytest.mark.parametrize("name", METHODS)
def test_hidden_boxes_are_for_the_log_only(name: str) -> None:
    """Training is the same to the bit with the boxes of unlabelled clips, with others and without any."""
    states, words = [], []
    for hidden in (None, torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.zeros(4)):
        method, said = trained(name, hidden)
        states.append(method.models.state_dict())
        words.append(said[-1])
    for other in states[1:]:
        assert all(torch.equal(states[0][key], other[key]) for key in other)
    about_truth = {"label_iou", "label_ciou", "precision"} & SAID[name]
    assert not about_truth & set(words[2])
    assert set(words[0]) == SAID[name] | {"ece"}
    for key in SAID[name] - about_truth:
        assert words[0][key] == words[1][key] == words[2][key]
    if words[0].get("label_iou", 0) > 0:  # an untrained teacher calls nothing a source
        assert words[0]["label_iou"] != words[1]["label_iou"]


def test_the_overlap_with_boxes_by_hand() -> None:
    """The left half against the left three quarters: 2/3; in a view of the left half they are the same."""
    label = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 4)[None, None].repeat(3, 1, 1, 1)
    boxes = torch.tensor([[[0.0, 0.0, 0.75, 1.0]], [[0.0, 0.0, 0.0, 0.0]], [[0.5, 0.0, 1.0, 1.0]]])
    iou, known = label_iou(label, boxes, identity(3))
    assert iou.tolist() == pytest.approx([2 / 3, 0, 0])
    assert known.tolist() == [True, False, True]
    left = Geometry(torch.tensor([[0.0, 0.0, 0.5, 1.0]]).repeat(3, 1), torch.tensor([False, False, True]))
    iou, known = label_iou(torch.ones(3, 1, 4, 4), boxes, left)
    assert iou.tolist() == [1, 0, 0]
    assert known.tolist() == [True, False, False]  # the third box lies outside of the view


def test_calibration_by_hand() -> None:
    """Two bins: three pixels of .95 of which two are right, one of .15 that is wrong."""
    p, truth = torch.tensor([0.95, 0.95, 0.95, 0.15]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert calibration_error(calibration_sums(p, truth)) == pytest.approx((abs(2.85 - 2) + abs(0.15 - 1)) / 4)
    sums = calibration_sums(torch.tensor([0.0, 0.0999, 0.1, 1.0]), torch.zeros(4))
    assert sums[:, 0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_calibration_equals_a_loop_over_bins(seed: int) -> None:
    p, truth = torch.rand(2, 50, generator=torch.Generator().manual_seed(seed))
    wanted = 0.0
    for low in range(10):
        chosen = [(a, b) for a, b in zip(p.tolist(), truth.tolist(), strict=True) if int(a * 10) == low]
        wanted += abs(sum(a for a, _ in chosen) - sum(b for _, b in chosen)) / 50
    assert calibration_error(calibration_sums(p, truth)) == pytest.approx(wanted, abs=1e-6)


def test_the_diary_goes_on_after_a_stop() -> None:
    whole, part = Diary(), Diary()
    first, second = torch.tensor([0.25, 0.5]), torch.tensor([1.0])
    for diary in (whole, part):
        diary.add("x", first)
        diary.calibrate(first, second.expand(2))
    resumed = Diary()
    resumed.load(copy.deepcopy(part.state()))
    for diary in (whole, resumed):
        diary.add("x", second, torch.tensor([True]))
        diary.calibrate(second, second)
    assert resumed.read() == whole.read() == {"ece": pytest.approx(1.25 / 3), "x": pytest.approx(1.75 / 3)}
    assert whole.state() == {}


def test_a_number_that_nobody_counted_is_left_out_and_nan_does_not_spread() -> None:
    diary = Diary()
    diary.add("none", torch.tensor([1.0]), torch.tensor([False]))
    diary.add("some", torch.tensor([torch.nan, 0.5]), torch.tensor([False, True]))
    assert diary.read() == {"some": 0.5}


def test_the_distance_of_two_models_by_hand() -> None:
    average, online = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    average.weight.data = torch.tensor([[3.0, 8.0]])
    online.weight.data = torch.tensor([[3.0, 4.0]])
    assert distance(average, online) == pytest.approx(4 / 5)
    assert distance(online, online) == 0


@pytest.mark.parametrize("name", METHODS)
def test_pictures_show_the_same_few_clips(name: str) -> None:
    method, _ = trained(name, None)
    before = [module.training for module in method.models.modules()]
    strips = method.pictures()
    assert [module.training for module in method.models.modules()] == before
    assert {"frame", "boxes", "prediction"} <= set(strips)
    labels = set(strips) - {"frame", "boxes", "prediction"}
    assert labels == {
        "supervised": set(),
        "hard-pl": {"label"},
        "mean-teacher": {"student"},
        "fixmatch": {"label", "sure"},
        "dmt": {"teacher_a", "teacher_b", "label"},
        "xpl": {"label_a", "label_b"},
    }[name]  # fmt: skip
    for key, strip in strips.items():
        assert len(strip) == PICTURED
        assert strip.shape[1] == (3 if key == "frame" else 1)
        assert not strip.requires_grad
        assert 0 <= strip.min() <= strip.max() <= 1
    clips = make_clips(N, method.config.data, 2)
    wanted = method.viewer.plain(clips[torch.arange(PICTURED)]).image
    assert torch.equal(strips["frame"], wanted)
    assert make_method(method.config, N).pictures() == {}


def test_the_precision_of_xpl_is_that_of_the_selected_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three selected clips, A's labels are right in two and B's in one."""
    method = method_of("xpl")
    assert method.config.method.name == "xpl"
    iou = {"a": [0.9, 0.2, 0.5, 0.9, 0.9], "b": [0.1, 0.49, 0.8, 0.9, 0.9]}
    quality = {name: torch.tensor(values) for name, values in iou.items()}
    scores = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.2])
    monkeypatch.setattr(method, "_label_all", lambda *_: (scores, quality))
    said = method.begin_epoch(0, lambda: iter(()))
    assert said["rho"] == 0.6
    assert said["precision"] == pytest.approx(3 / 6)
    assert said["reliability"] == pytest.approx(2.7 / 5)
