"""Pointing accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval.pointing import pointing

TRUTH = np.array([[[True, True], [False, False]]])


@pytest.mark.parametrize(
    ("heatmap", "expected"),
    [
        ([[0.1, 0.9], [0.2, 0.3]], 1.0),
        ([[0.1, 0.2], [0.2, 0.3]], 0.0),
        ([[1, 0], [1, 1]], 1 / 3),
        ([[0.3, 0.3], [0.3, 0.3]], 0.5),
        ([[-3, -2], [-5, -4]], 1.0),
    ],
)
def test_by_hand(heatmap: list[list[float]], expected: float) -> None:
    assert pointing(TRUTH, np.array([heatmap])).tolist() == [pytest.approx(expected)]


def test_empty_truth() -> None:
    assert pointing(np.zeros((1, 2, 2), bool), np.ones((1, 2, 2))).tolist() == [0]


def test_another_resolution_is_refused() -> None:
    with pytest.raises(ValueError, match=r"truth has shape \(1, 2, 2\) and maps \(1, 3, 2\)"):
        pointing(TRUTH, np.zeros((1, 3, 2)))


stacks = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        hnp.arrays(bool, (n, 4, 5)), hnp.arrays(np.float32, (n, 4, 5), elements=st.integers(-2, 3).map(float))
    )
)


@settings(max_examples=100, deadline=None)
@given(stack=stacks)
def test_against_loops(stack: tuple[np.ndarray, np.ndarray]) -> None:
    truth, maps = stack
    expected = []
    for g, x in zip(truth, maps, strict=True):
        best = max(x.ravel())
        winners = [bool(t) for t, v in zip(g.ravel(), x.ravel(), strict=True) if v == best]
        expected.append(sum(winners) / len(winners))
    assert pointing(truth, maps).tolist() == pytest.approx(expected)
    # Scaling and shifting by powers of two are exact: ties stay ties.
    assert pointing(truth, 4 * maps - 8).tolist() == pytest.approx(expected)
    # Of truth and its complement one gets the point.
    assert (pointing(truth, maps) + pointing(~truth, maps)).tolist() == pytest.approx([1] * len(maps))
