"""Paired statistics: two methods on the same clips.

Conventions
-----------
A *difference* is value of B minus value of A, one number per clip and metric: positive means that B is
better. The clips are the sample; both methods are taken as they are (training seeds are not part of it).

Statistics
----------
`paired_intervals`
    Percentile bootstrap of the mean difference: clips are drawn with replacement, both methods together.
`sign_flip_test`
    Permutation test of "the two methods are exchangeable on every clip": the sign of each difference is
    drawn anew. For 0/1 metrics such as ``ciou@0.5`` this is McNemar's test.
`holm`
    Holm's correction of several p values, which bounds the chance of one false claim or more in a family.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.bootstrap import mean_intervals

Float64 = NDArray[np.float64]

PERMUTATIONS = 10_000
SEED = 0
EXACT_UP_TO = 13
"""Up to so many clips with a difference all sign patterns are counted: 2**13 < PERMUTATIONS."""

_CHUNK = 256
"""Sign patterns that are held at once; 256 x 5,158 clips take 11 MB."""


def paired_intervals(differences: Float64) -> Float64:
    """Compute 95 % bootstrap intervals of mean differences.

    Parameters
    ----------
    differences : float64 [N, K]
        B minus A, one row per clip, one column per metric.

    Returns
    -------
    float64 [K, 2]
        Lower and upper bounds.

    Examples
    --------
    >>> paired_intervals(np.full((4, 1), 0.25)).tolist()
    [[0.25, 0.25]]
    """
    return mean_intervals(differences)


def sign_flip_test(
    differences: Float64,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
    exact_up_to: int = EXACT_UP_TO,
) -> float:
    """Test that differences are symmetric about 0, two-sided.

    Parameters
    ----------
    differences : float64 [N]
        B minus A of each clip.
    permutations
        Number B of random sign patterns.
    seed
        Of the draw; the same seed gives the same p.
    exact_up_to
        Up to so many differences other than 0 every sign pattern is counted instead.

    Returns
    -------
    float
        p in (0, 1]: the share of sign patterns whose sum is at least as far from 0 as the observed one; drawn
        patterns count as ``(b + 1) / (B + 1)``, so that p is never 0 and the test never too bold.

    Notes
    -----
    Clips without a difference change no sum; they are left out of the draw. Sums that differ by rounding only
    are ties. Phipson and Smyth, Permutation P-values Should Never Be Zero, 2010.

    Examples
    --------
    >>> sign_flip_test(np.array([1.0, 1.0, 1.0, 1.0, 0.0]))  # of 16 patterns two reach a sum of 4
    0.125
    """
    informative = differences[differences != 0]
    n = len(informative)
    if n == 0:
        return 1.0
    bound = abs(informative.sum()) - 1e-9 * np.abs(informative).sum()
    if n <= exact_up_to:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float((_distance(patterns, informative) >= bound).mean())
    rng = np.random.default_rng(seed)
    reached = 0
    for start in range(0, permutations, _CHUNK):
        rows = min(_CHUNK, permutations - start)
        flips = np.unpackbits(rng.integers(0, 256, (rows, -(-n // 8)), dtype=np.uint8), axis=1)[:, :n]
        reached += int(np.count_nonzero(_distance(flips, informative) >= bound))
    return (reached + 1) / (permutations + 1)


def _distance(flips: NDArray[np.integer[Any]], differences: Float64) -> Float64:
    """Return how far from 0 the sum is when the differences marked 1 change their sign."""
    distance: Float64 = np.abs(differences.sum() - 2 * (flips.astype(np.float64) @ differences))
    return distance


def holm(p_values: Float64) -> Float64:
    """Correct p values for their number.

    Parameters
    ----------
    p_values : float64 [m]
        Of the tests of one family.

    Returns
    -------
    float64 [m]
        Corrected values in the same order: in ascending order ``p_(i) * (m - i + 1)``, at most 1, never below
        a smaller p value's. Claiming all that are at most a errs at all with probability at most a.

    Notes
    -----
    Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * (m - np.arange(m)))
    corrected = np.empty(m)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected
