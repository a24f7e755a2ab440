"""Several sets of predictions against the same annotations: equal to one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from avsl_eval.annotations.build import Row, build
from avsl_eval.bootstrap import Draws
from avsl_eval.errors import EvalInputError
from avsl_eval.evaluate import evaluate_all, evaluate_many
from avsl_eval.protocol_table import PROTOCOLS
from avsl_eval.reference import Reference
from avsl_eval.result import Scores
from avsl_eval.truth import Annotations


def draw_truth(rng: np.random.Generator, n: int) -> Annotations:
    corners = np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 1, 4)
    boxes = [box if k % 9 else np.empty((0, 4)) for k, box in enumerate(corners)]
    return build([Row(f"clip{k:04}", f"class{k % 3}", one) for k, one in enumerate(boxes)], "union", None)


def assert_same(one: dict[str, Scores], other: dict[str, Scores]) -> None:
    assert list(one) == list(other)
    for name, mine in one.items():
        for field in ("metrics", "intervals", "context", "tied", "curve", "breakdown", "sections"):
            assert getattr(mine, field) == getattr(other[name], field), (name, field)
        assert mine.evaluation.testset == other[name].evaluation.testset
        assert mine.evaluation.warnings == other[name].evaluation.warnings
        assert repr(mine.columns) == repr(other[name].columns)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_set_has_the_scores_that_it_has_alone(workers: int) -> None:
    rng = np.random.default_rng(3)
    annotations = draw_truth(rng, 150)  # two blocks of clips, and a part of one
    ids = [clip.clip_id for clip in annotations.clips]
    sets = {key: dict(zip(ids, rng.random((150, 7, 7)), strict=True)) for key in ("av", "obj")}
    sets["backwards"] = dict(reversed(sets["av"].items()))
    sets["some"] = {key: 3 * x for key, x in list(sets["obj"].items())[70:100]}  # leaves a rule's range
    found = evaluate_many(sets, annotations, "all", "zero", workers=workers)
    assert list(found) == list(sets)
    for key, maps in sets.items():
        assert_same(found[key], evaluate_all(maps, annotations, "all", "zero"))
    assert len(found["some"]) < len(found["av"])


def test_names_are_the_keys_unless_given() -> None:
    left = np.tile(np.linspace(1.0, 0.0, 7), (7, 1))
    sets = {key: {"a_000001": left} for key in ("av", "obj")}
    found = evaluate_many(sets, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, "lvs", names={"obj": "objects"})
    assert {key: one["lvs"].evaluation.name for key, one in found.items()} == {"av": "av", "obj": "objects"}


def test_no_predictions_are_refused() -> None:
    with pytest.raises(EvalInputError, match="there are no predictions to score"):
        evaluate_many({}, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, "lvs")


@pytest.mark.parametrize("option", ["names", "negatives"])
def test_options_of_an_unknown_key_are_refused(option: str) -> None:
    given: dict[str, Any] = {option: {"AV": None}}
    with pytest.raises(EvalInputError, match=f"{option} are given for AV.*there are av"):
        evaluate_many({"av": {}}, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, "lvs", **given)


@pytest.mark.parametrize("kept_bytes", [0, 10**9])
def test_draws_are_the_same_each_time(kept_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsl_eval.bootstrap.KEPT_BYTES", kept_bytes)
    draws = Draws(37, resamples=250, seed=5)
    first = np.concatenate(list(draws.blocks()))
    rng = np.random.default_rng(5)
    expected = [np.bincount(rng.integers(0, 37, 37, dtype=np.int32), minlength=37) for _ in range(250)]
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(np.concatenate(list(draws.blocks())), first)
    assert not draws.more()


@pytest.mark.parametrize(("several", "room", "kept"), [(True, 0, True), (True, -1, False), (False, 0, False)])
def test_drawn_truth_is_kept_for_further_sets_up_to_a_bound(
    several: bool, room: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = draw_truth(np.random.default_rng(0), 50)
    monkeypatch.setattr("avsl_eval.reference.KEPT_BYTES", 50 * 28 * 28 * 8 + room)
    reference = Reference(annotations, [PROTOCOLS["lvs"]], several)
    assert (reference.draw(range(50)) is reference.draw(range(50))) == kept
