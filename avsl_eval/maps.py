"""From a model's heatmaps to masks: upsample, normalise, threshold.

Shapes: N maps, [h, w] a model's resolution, S the protocol's map size, P = S * S pixels. All arithmetic is
float32, as in the published evaluators, and every step but the first is a non-decreasing function of a
pixel's value, also after rounding: `avsl_eval.engine` relies on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.protocol import Constant, Normalisation, Protocol
from avsl_eval.resizing import resize

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


def rescale(upsampled: Float32, protocol: Protocol) -> Float32:
    """Compute the scores s of upsampled maps: ``scale * x + offset``, and the sigmoid of it.

    Parameters
    ----------
    upsampled : float32 [N, S, S]
        Output of `resize`.
    protocol
        Whose rule.

    Returns
    -------
    float32 [N, S, S]
        s; the input itself where the protocol changes nothing.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> rescale(np.zeros((1, 1, 1), np.float32), PROTOCOLS["acl"]).item()
    0.5
    """
    s = upsampled
    if protocol.scale != 1:
        s = s * np.float32(protocol.scale)
    if protocol.offset != 0:
        s = s + np.float32(protocol.offset)
    if protocol.sigmoid:
        # In double precision, because a fast single precision exp need not be monotone in its last bit.
        with np.errstate(over="ignore"):
            s = (1 / (1 + np.exp(-s.astype(np.float64)))).astype(np.float32)
    return s


def normalise(values: Float32, rule: Normalisation, constant: Constant = "keep") -> Float32:
    """Normalise each map by itself.

    Parameters
    ----------
    values : float32 [N, S, S]
        Scores s.
    rule, constant
        As in `Protocol`.

    Returns
    -------
    float32 [N, S, S]
        ``minmax``: (s - min) / (max - min). ``lvs_minmax``: 1 - minmax(-s). ``none``: s. Where max == min:
        s, 0 or NaN by `constant`.

    Examples
    --------
    >>> normalise(np.array([[[1.0, 3.0]], [[0.25, 0.25]]], np.float32), "minmax").tolist()
    [[[0.0, 1.0]], [[0.25, 0.25]]]
    """
    if rule == "none":
        return values
    if rule == "minmax":
        return _minmax(values, constant)
    return np.float32(1) - _minmax(-values, constant)


def _minmax(x: Float32, constant: Constant) -> Float32:
    low = x.min(axis=(1, 2), keepdims=True)
    span = x.max(axis=(1, 2), keepdims=True) - low
    flat = span == 0
    if flat.any():
        span[flat] = 1
        if constant == "keep":
            low[flat] = 0
        elif constant == "empty":
            low[flat] = np.nan  # what 0 / 0 makes of them
    out: Float32 = x - low
    out /= span
    return out


class Normaliser:
    """Rescale and normalise single values of maps whose extremes are known; equal to `normalise` bit by bit.

    Parameters
    ----------
    protocol
        Whose rule.
    low, high : float32 [n]
        Smallest and largest upsampled value of each map.

    Attributes
    ----------
    flat : bool [n]
        Maps all scores of which are equal, which `normalise` treats apart and this does not.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> low, high = np.zeros(1, np.float32), np.full(1, 4, np.float32)
    >>> Normaliser(PROTOCOLS["lvs"], low, high)(np.array([1, 3], np.float32), np.array([0, 0])).tolist()
    [0.25, 0.75]
    """

    def __init__(self, protocol: Protocol, low: Float32, high: Float32) -> None:
        self._protocol = protocol
        self._negated = protocol.normalisation == "lvs_minmax"
        ends = rescale(low, protocol), rescale(high, protocol)
        self._low, highest = (-ends[1], -ends[0]) if self._negated else ends
        self._span = highest - self._low
        self.flat: Bools = self._span == 0
        self._span = np.where(self.flat, np.float32(1), self._span)

    def __call__(self, values: Float32, clip: NDArray[np.integer[Any]]) -> Float32:
        """Return p of values float32 [m], the maps of which are the numbers int [m]."""
        s = rescale(values, self._protocol)
        if self._protocol.normalisation == "none":
            return s
        p: Float32 = ((-s if self._negated else s) - self._low[clip]) / self._span[clip]
        return np.float32(1) - p if self._negated else p


def to_probability(maps: NDArray[Any], protocol: Protocol) -> Float32:
    """Upsample, rescale and normalise maps as a protocol does.

    Parameters
    ----------
    maps : float [N, h, w]
        A model's maps.
    protocol
        Whose rule.

    Returns
    -------
    float32 [N, S, S]
        The values p that the protocol compares with its threshold; NaN where it makes nothing of a constant
        map.
    """
    upsampled = resize(maps, protocol.map_size, protocol.interpolation, protocol.align_corners)
    return normalise(rescale(upsampled, protocol), protocol.normalisation, protocol.constant)


@lru_cache(maxsize=8)
def tie_order(n_pixels: int) -> NDArray[np.uint32]:
    """Rank the pixels of a map in one fixed pseudo-random order, in which ties are broken.

    Parameters
    ----------
    n_pixels
        S * S.

    Returns
    -------
    uint32 [n_pixels]
        Rank of each pixel, row by row: of pixels that tie, those of lower rank join the mask. It is the order
        of SplitMix64(index), Steele et al., Fast Splittable Pseudorandom Number Generators, OOPSLA 2014:
        without any bias of position, the same on every machine, and not to be chosen.

    Examples
    --------
    >>> sorted(tie_order(4).tolist())
    [0, 1, 2, 3]
    """
    z = np.arange(1, n_pixels + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    ranks = np.empty(n_pixels, np.uint32)
    ranks[np.argsort(z, kind="stable")] = np.arange(n_pixels, dtype=np.uint32)
    ranks.flags.writeable = False
    return ranks


def binarise(p: Float32, protocol: Protocol, true_pixels: Sequence[int] | NDArray[np.integer[Any]]) -> Bools:
    """Threshold processed maps as a protocol does.

    Parameters
    ----------
    p : float32 [N, S, S]
        Output of `to_probability`.
    protocol
        Whose rule; not ``sweep``, whose thresholds are rules ``fixed`` each (`at_threshold`).
    true_pixels : int [N]
        Number of pixels with ground truth > 0 of each clip; only the rule ``adaptive`` looks at it.

    Returns
    -------
    bool [N, S, S]
        Masks.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> p = np.array([[[0.2, 0.5], [0.7, 0.6]]], np.float32)
    >>> binarise(p, PROTOCOLS["ezvsl"], [1]).tolist()
    [[[False, False], [True, True]]]
    """
    masks = np.empty(p.shape, bool)
    for values, mask, k in zip(p, masks, true_pixels, strict=True):
        flat = values.ravel()
        mask[...] = mask_of(flat, protocol, rank_of(protocol, flat.size, int(k))).reshape(mask.shape)
    return masks


def rank_of(protocol: Protocol, n_pixels: int, true_pixels: int) -> int:
    """Return which of the sorted pixels a rank rule takes as its threshold, counted from 0.

    Parameters
    ----------
    protocol
        Whose rule.
    n_pixels, true_pixels
        Pixels of the map, and those with ground truth > 0.

    Returns
    -------
    int
        n // 2, or n - k under the rule ``adaptive`` where k > 0.
    """
    if protocol.threshold == "adaptive" and true_pixels:
        return n_pixels - true_pixels
    return n_pixels // 2


def mask_of(p: Float32, protocol: Protocol, rank: int) -> Bools:
    """Threshold one processed map as a protocol does.

    Parameters
    ----------
    p : float32 [P]
        The map, flat.
    protocol, rank
        The rule, and which of the sorted pixels is its threshold (`rank_of`).

    Returns
    -------
    bool [P]
        The mask; empty for NaN, a constant map that the rule makes nothing of.
    """
    if np.isnan(p[0]):
        return np.zeros(p.shape, bool)
    if protocol.is_rank_rule:
        threshold = np.partition(p, rank)[rank]
        if protocol.exact_area:
            return _exact_mask(p, threshold, p.size - rank)
    else:
        if protocol.threshold_value is None:
            raise ValueError(f"protocol {protocol.name}: no threshold is known yet")
        threshold = np.float32(protocol.threshold_value)
    if protocol.floor_at_median:
        p = np.where(p < np.partition(p, p.size // 2)[p.size // 2], np.float32(0), p)
    return compared(p, threshold, protocol)


def compared(p: Float32, threshold: np.float32, protocol: Protocol) -> Bools:
    """Compare a processed map with a known threshold as a protocol does.

    Parameters
    ----------
    p : float32 [P]
        The map, flat.
    threshold, protocol
        t, and the rule, of which only the comparison and the rescue of saturated pixels count.

    Returns
    -------
    bool [P]
        The mask.
    """
    mask: Bools = p > threshold if protocol.comparison == ">" else p >= threshold
    if protocol.rescue_saturated:
        mask |= p >= 1
    return mask


def _exact_mask(p: Float32, threshold: np.float32, k: int) -> Bools:
    """Take the k largest pixels; of those that equal the threshold, the first in `tie_order`."""
    mask: Bools = p > threshold
    (ties,) = np.nonzero(p == threshold)
    lacking = k - int(np.count_nonzero(mask))
    order = np.argsort(tie_order(p.size)[ties])
    mask[ties[order[:lacking]]] = True
    return mask


def at_threshold(protocol: Protocol, value: float) -> Protocol:
    """Return the rule with one given threshold, for the rules ``sweep`` and ``universal``.

    Parameters
    ----------
    protocol
        The rule.
    value
        Its threshold.

    Returns
    -------
    Protocol
        A rule ``fixed`` that is otherwise the same.
    """
    return dataclasses.replace(protocol, threshold="fixed", threshold_value=value, thresholds=())


def tie_free_area(protocol: Protocol, true_pixels: int) -> int | None:
    """Count the pixels that a protocol's mask has for any map without ties.

    Parameters
    ----------
    protocol
        Whose rule.
    true_pixels
        Number of pixels with ground truth > 0.

    Returns
    -------
    int or None
        Pixels, or None where the map itself decides.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> [tie_free_area(PROTOCOLS[name], 100) for name in ("lvs", "ezvsl", "fixed", "adaptive")]
    [25087, 25088, None, 99]
    """
    if not protocol.is_rank_rule:
        return None
    n = protocol.map_size**2
    # n - rank values are >= s[rank]; the rescue of p >= 1 adds the maximum, which is above s[rank] already.
    return n - rank_of(protocol, n, true_pixels) - (protocol.comparison == ">")
