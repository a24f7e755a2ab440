"""Order statistics: exact whatever the sample says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval import selection
from avsl_eval.resizing import resize


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([5, 56, 64, 90]),
    kind=st.sampled_from(["noise", "smooth", "levels", "constant", "hidden", "sparse"]),
    share=st.floats(0, 1),
)
def test_neighbours_are_those_of_the_sorted_values(seed: int, size: int, kind: str, share: float) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.random((3, size, size), dtype=np.float32)
    if kind == "smooth":
        maps = resize(rng.random((3, 7, 7), dtype=np.float32), size, "bicubic", False)
    elif kind == "levels":
        maps = np.rint(maps * 7)
    elif kind == "constant":
        maps[:] = 0.25
    elif kind == "hidden":  # the sampled pixels say nothing of the others
        step = max(1, size // selection.SAMPLE_SIDE)
        maps[:, step // 2 :: step, step // 2 :: step] += 5
    elif kind == "sparse":
        maps *= maps > 0.9
    x = maps.reshape(3, -1)
    last = x.shape[1] - 1
    ranks = np.array([round(share * last), 0, last])
    found = selection.neighbours_at(x, selection.sorted_samples(x, size), ranks)
    ordered = np.sort(x, axis=1)
    for row, rank in enumerate(ranks.tolist()):
        wanted = [max(rank - 1, 0), rank, min(rank + 1, last)]
        np.testing.assert_array_equal(found[row], ordered[row, wanted])


def test_a_bracket_saves_the_partition_of_a_smooth_map(monkeypatch: pytest.MonkeyPatch) -> None:
    partitioned = []
    whole = selection._neighbours

    def counting(values: np.ndarray, rank: int) -> object:
        partitioned.append(len(values))
        return whole(values, rank)

    monkeypatch.setattr(selection, "_neighbours", counting)
    x = resize(np.random.default_rng(0).random((20, 14, 14), dtype=np.float32), 224, "bilinear", False)
    flat = x.reshape(20, -1)
    selection.neighbours_at(flat, selection.sorted_samples(flat, 224), np.full(20, 25088))
    assert sum(n < 5000 for n in partitioned) >= 18
