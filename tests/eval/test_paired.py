"""Paired statistics against enumeration in plain Python, hand-computed values and the null hypothesis."""

from __future__ import annotations

import doctest
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import avsl_eval.paired
from avsl_eval.paired import PERMUTATIONS, holm, paired_intervals, sign_flip_test


def test_examples_in_docstrings_run() -> None:
    tried = doctest.testmod(avsl_eval.paired)
    assert tried.attempted > 0
    assert tried.failed == 0


def slow_p(differences: list[Fraction]) -> float:
    """Count, over all sign patterns of all clips, the sums at least as far from 0 as the observed one."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    reached = sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns
    )
    return reached / len(patterns)


# Multiples of 1/20 are what per-clip areas differ by; most are no binary fractions, so that sums round.
fractions = st.integers(-20, 20).map(lambda v: Fraction(v, 20))


@settings(max_examples=150, deadline=None)
@given(st.lists(fractions, min_size=1, max_size=9))
def test_exact_p_equals_enumeration(differences: list[Fraction]) -> None:
    found = sign_flip_test(np.array([float(d) for d in differences]))
    assert found == pytest.approx(slow_p(differences), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(fractions, min_size=1, max_size=30), st.integers(0, 5))
def test_order_direction_and_clips_that_agree_do_not_matter(
    differences: list[Fraction], padding: int
) -> None:
    values = np.array([float(d) for d in differences])
    p = sign_flip_test(values)
    assert 0 < p <= 1
    assert sign_flip_test(-values) == p
    assert sign_flip_test(np.concatenate([np.zeros(padding), values])) == p
    if np.count_nonzero(values) <= 13:
        assert sign_flip_test(values[::-1].copy()) == pytest.approx(p)


@pytest.mark.parametrize(("better", "worse"), [(25, 15), (33, 12), (20, 20)])
def test_drawn_p_is_that_of_mcnemar(better: int, worse: int) -> None:
    n = better + worse
    far = [k for k in range(n + 1) if abs(2 * k - n) >= abs(better - worse)]
    exact = sum(math.comb(n, k) for k in far) / 2**n
    found = sign_flip_test(np.array([1.0] * better + [-1.0] * worse))
    noise = math.sqrt(exact * (1 - exact) / PERMUTATIONS)
    assert abs(found - exact) < 4 * noise + 1 / PERMUTATIONS


def test_drawn_p_is_near_the_counted_one() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 12)
    assert sign_flip_test(values, exact_up_to=0) == pytest.approx(sign_flip_test(values), abs=0.02)


def test_degenerate_cases() -> None:
    assert sign_flip_test(np.zeros(5)) == 1.0  # identical methods
    assert sign_flip_test(np.empty(0)) == 1.0
    assert sign_flip_test(np.array([0.7])) == 1.0  # one clip: both signs are as far from 0
    assert sign_flip_test(np.ones(2000)) == pytest.approx(1 / (PERMUTATIONS + 1))  # never 0
    assert sign_flip_test(np.ones(40), permutations=1, seed=1) in (0.5, 1.0)


def test_p_is_about_uniform_under_the_null() -> None:
    rng = np.random.default_rng(0)
    n_tests = 300
    for n_clips in (10, 25):  # counted, drawn
        p = np.sort([sign_flip_test(rng.normal(size=n_clips), permutations=199) for _ in range(n_tests)])
        grid = np.arange(1, n_tests + 1) / n_tests
        assert np.abs(p - grid).max() < 1.63 / math.sqrt(n_tests)  # Kolmogorov's 1 % bound
        for level in (0.05, 0.2):
            assert (p <= level).mean() < level + 3 * math.sqrt(level * (1 - level) / n_tests)


def test_a_difference_is_found() -> None:
    values = np.random.default_rng(0).normal(0.2, 1, 500)
    assert sign_flip_test(values) < 0.001


def test_p_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="the parity check needs scipy")
    rng = np.random.default_rng(5)
    for n in (6, 11):
        a, b = rng.random(n), rng.random(n)
        theirs = stats.permutation_test(
            (b, a), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
        )
        assert sign_flip_test(b - a) == pytest.approx(theirs.pvalue)


def test_holm_by_hand() -> None:
    # 4 tests, ascending .005 .01 .03 .04: .005*4=.02, .01*3=.03, .03*2=.06, .04*1=.04 raised to .06
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.02])).tolist() == [0.02]
    assert holm(np.empty(0)).tolist() == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: list[float]) -> None:
    corrected = holm(np.array(p_values))
    assert (corrected >= np.array(p_values)).all()
    for level in (0.01, 0.05, 0.3):
        rejected: set[int] = set()
        for step, k in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[k] * (len(p_values) - step) > level:
                break
            rejected.add(k)
        assert {k for k, p in enumerate(corrected) if p <= level} == rejected


def test_intervals_of_a_difference_are_paired() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random((400, 1))  # clips differ far more than methods
    a, b = hard, hard + 0.02 + 0.01 * rng.normal(size=(400, 1))
    (low, high), mean = paired_intervals(b - a)[0], float((b - a).mean())
    assert 0 < low <= mean <= high
    assert high - low < 0.005
