"""Negative audio: a model must stay silent where nothing visible sounds.

Conventions
-----------
*Negatives* are clips whose sound was replaced, of several *kinds*: silence, noise, and the sound of another
clip (off-screen). Their maps are not normalised, and one *universal threshold* t per model, the same for
positives and negatives, makes every mask: ``map > t``. `universal_thresholds` derives t from the negatives'
maps.

Metrics (fractions)
-------------------
``pia``
    The mean share of the image that negatives' masks cover (percentage of the image activated; smaller is
    better).
``aoc``
    The area under the curve "fraction of negatives with a share <= x" by the trapezoid rule over x = 0,
    0.05, ..., 1; larger is better.
``f``
    Harmonic mean of the positives' mean cIoU and 1 - pia.
``f_auc``
    Harmonic mean of the positives' AUC and aoc.

Each is computed per kind. Over all kinds, pia and aoc are the mean over kinds, so that a kind's size does
not weigh, and both F are those of that mean.

Source: Juanola et al., A Critical Assessment of Visual Sound Source Localization Models Including Negative
Audio, ICASSP 2025, and its published evaluator. That collects shares of five different thresholds in one
list where it computes pia and aoc; here every threshold has its own scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import AUC_THRESHOLDS

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

KINDS = ("silence", "noise", "offscreen")
"""Kinds of negatives that papers report."""

ALL_KINDS = "all"
"""Name of the mean over kinds."""


def universal_thresholds(maxima: Floats) -> dict[str, float]:
    """Derive a model's universal thresholds from its negatives.

    Parameters
    ----------
    maxima : float [N]
        The largest value of each negative's map (upsampled, not normalised), all kinds together; N >= 1.

    Returns
    -------
    dict
        ``max``: their maximum, no negative gets a mask. ``max_margin``: 1.1 times that (meant for values
        above 0). ``third_quartile``: their third quartile, interpolated linearly: about a
        quarter of the negatives gets one.

    Raises
    ------
    ValueError
        If there is no negative, or a maximum is not finite.

    Examples
    --------
    >>> {name: round(t, 3) for name, t in universal_thresholds(np.array([0.1, 0.2, 0.3, 0.5])).items()}
    {'max': 0.5, 'max_margin': 0.55, 'third_quartile': 0.35}
    """
    values = np.asarray(maxima, dtype=np.float64)
    if not values.size:
        raise ValueError("a universal threshold needs the maximum of at least one negative map")
    if not np.isfinite(values).all():
        raise ValueError(
            f"the maximum of negative {int(np.isfinite(values).argmin())} (counted from 0) is not finite"
        )
    top = float(values.max())
    return {"max": top, "max_margin": 1.1 * top, "third_quartile": float(np.quantile(values, 0.75))}


def area_over_curve(pia: Floats) -> float:
    """Compute the AOC of negatives.

    Parameters
    ----------
    pia : float [N]
        Share of the image that each negative's mask covers, in [0, 1]; N >= 1.

    Returns
    -------
    float
        In [0, 1]: 1 if all masks are empty, 0.025 if all cover the image (which "<= 1" still holds for).

    Examples
    --------
    >>> area_over_curve(np.array([0.0, 1.0])).__round__(4)
    0.5125
    """
    share = (np.asarray(pia)[:, None] <= AUC_THRESHOLDS).mean(axis=0)
    return float(np.trapezoid(share, AUC_THRESHOLDS))


def harmonic_mean(a: float, b: float) -> float:
    """Compute 2 a b / (a + b), 0 where both are 0.

    Parameters
    ----------
    a, b
        At least 0.

    Returns
    -------
    float
        Between the smaller of both and twice it.

    Examples
    --------
    >>> harmonic_mean(0.5, 1.0).__round__(3)
    0.667
    """
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def negative_scores(
    kinds: Sequence[str], pia: Floats, mean_iou: float, auc: float
) -> dict[str, dict[str, float | int]]:
    """Compute the metrics of negatives at one threshold.

    Parameters
    ----------
    kinds
        The kind of each negative, N names.
    pia : float [N]
        Share of the image that its mask covers, in [0, 1].
    mean_iou, auc
        Of the positives, under the same threshold; fractions.

    Returns
    -------
    dict
        Every kind that occurs, in the order of `KINDS` and then of occurrence, and ``all``, each with
        ``n``, ``pia``, ``aoc``, ``f`` and ``f_auc``. Empty without negatives.

    Raises
    ------
    ValueError
        If lengths differ, a share is outside [0, 1], or a kind is named ``all``.

    Examples
    --------
    >>> scores = negative_scores(["silence", "noise"], np.array([0.0, 0.5]), mean_iou=0.4, auc=0.4)
    >>> {kind: values["pia"] for kind, values in scores.items()}
    {'silence': 0.0, 'noise': 0.5, 'all': 0.25}
    """
    shares, names = np.asarray(pia, dtype=np.float64), np.asarray(kinds)
    if len(names) != len(shares):
        raise ValueError(f"one kind per negative: got {len(names)} kinds for {len(shares)} negatives")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("a share of the image lies outside [0, 1]; is it in percent or pixels?")
    present = [kind for kind in dict.fromkeys((*KINDS, *kinds)) if kind in set(kinds)]
    if ALL_KINDS in present:
        raise ValueError(f"{ALL_KINDS!r} is the name of the mean over kinds; name the kind otherwise")
    rows: dict[str, tuple[int, float, float]] = {}
    for kind in present:
        own = shares[names == kind]
        rows[kind] = (len(own), float(own.mean()), area_over_curve(own))
    if rows:
        counts, covered, areas = zip(*rows.values(), strict=True)
        rows[ALL_KINDS] = (sum(counts), float(np.mean(covered)), float(np.mean(areas)))
    return {
        kind: {
            "n": n,
            "pia": share,
            "aoc": area,
            "f": harmonic_mean(mean_iou, 1 - share),
            "f_auc": harmonic_mean(auc, area),
        }
        for kind, (n, share, area) in rows.items()
    }


def mask_agreement(first: Bools, second: Bools) -> Float64:
    """Compute how much masks of the same pictures with different sounds agree.

    Parameters
    ----------
    first, second : bool [N, h, w]
        Masks, for example of positives and of the same clips in silence.

    Returns
    -------
    float64 [N]
        Intersection over union, 1 where both are empty. A model that does not listen reaches 1; what is
        good depends on the pair.

    Examples
    --------
    >>> mask_agreement(np.array([[[True, True, False]]]), np.array([[[False, True, False]]])).tolist()
    [0.5]
    """
    union = (first | second).sum(axis=(1, 2))
    out = np.ones(len(union))
    np.divide((first & second).sum(axis=(1, 2)), union, out=out, where=union > 0)
    return out
