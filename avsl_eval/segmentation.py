"""Segmentation: mIoU and F of pixel masks, as AVSBench scores them.

Conventions
-----------
A prediction p is a map of probabilities in [0, 1], the truth a binary mask g of the same size; an image
without a true pixel is *empty*. With the mask ``m = [p > 0.5]``::

    IoU = |m and g| / (|m or g| + 1e-7)                  not empty
    IoU = |not m and not g| / (h w + 1e-7)               empty: the share of the image that is left alone

    F(t) = 1.3 P R / (0.3 P + R), 0 for 0/0              not empty only; P, R: precision, recall of [p >= t]

at 255 thresholds t = linspace(0, 1 - 1e-10), compared in float32, where the last one is 1.

Metrics (fractions; larger is better)
-------------------------------------
``miou``
    The mean IoU of all images, the empty ones included.
``f``
    F(t) is averaged over all non-empty images, and the best t is taken (as Park et al., ACL-SSL, WACV 2024,
    do): it does not depend on how images were batched. None if every image is empty.
``miou_official``, ``f_official``
    What Zhou et al., Audio-Visual Segmentation, ECCV 2022, publish: both are computed per batch, where the
    best t is taken too, and the values of batches are averaged. They depend on the batch size and on the
    order of images.

The best threshold is chosen with the truth at hand: F is a bound over thresholds, not the score of one.

How it is computed: a pixel counts at all thresholds up to its value, so that one histogram of thresholds
per class of truth gives all 255 counts, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

MASK_THRESHOLD = 0.5
BETA_SQUARED = 0.3
"""Weight of recall against precision."""

EPSILON = 1e-7
N_THRESHOLDS = 255
# float32, in which predictions are compared: there 1 - 1e-10 is 1.
THRESHOLDS = np.linspace(0, 1 - 1e-10, N_THRESHOLDS, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class SegmentationStatistics:
    """Hold sums over images, of which both metrics are ratios; those of disjoint sets of images add up.

    Parameters
    ----------
    n, n_non_empty
        Number of images, and of those with a true pixel.
    iou
        Sum of their IoU.
    f_curve : float64 [255]
        Sum of F(t) of the images that are not empty.
    """

    n: int
    n_non_empty: int
    iou: float
    f_curve: Float64

    @classmethod
    def zero(cls) -> SegmentationStatistics:
        """Return the statistics of no image."""
        return cls(0, 0, 0.0, np.zeros(N_THRESHOLDS))

    def __add__(self, other: SegmentationStatistics) -> SegmentationStatistics:
        return SegmentationStatistics(
            self.n + other.n,
            self.n_non_empty + other.n_non_empty,
            self.iou + other.iou,
            self.f_curve + other.f_curve,
        )

    @property
    def miou(self) -> float | None:
        """The mean IoU, None without an image."""
        return self.iou / self.n if self.n else None

    @property
    def f(self) -> float | None:
        """The best mean F over thresholds, None if every image is empty."""
        return float(self.f_curve.max()) / self.n_non_empty if self.n_non_empty else None

    @property
    def best_threshold(self) -> float | None:
        """The threshold of `f`, the lowest if there are several."""
        return float(THRESHOLDS[self.f_curve.argmax()]) if self.n_non_empty else None


def image_ious(truth: Bools, p: Floats) -> Float64:
    """Compute the IoU of each image.

    Parameters
    ----------
    truth : bool [N, h, w]
        True masks.
    p : float [N, h, w]
        Predicted probabilities.

    Returns
    -------
    float64 [N]
        As defined at the top of the module.

    Examples
    --------
    >>> truth = np.array([[[True, False]], [[False, False]]])
    >>> image_ious(truth, np.array([[[0.9, 0.8]], [[0.1, 0.8]]])).round(3).tolist()
    [0.5, 0.5]
    """
    _check(truth, p)
    mask = p > MASK_THRESHOLD
    inter = (mask & truth).sum(axis=(1, 2))
    union = (mask | truth).sum(axis=(1, 2))
    pixels = truth.shape[1] * truth.shape[2]
    empty = ~truth.any(axis=(1, 2))
    # Of an empty image the union is the mask, and the rest of the image is what both leave alone.
    return np.asarray(np.where(empty, (pixels - union) / (pixels + EPSILON), inter / (union + EPSILON)))


def f_curves(truth: Bools, p: Floats) -> Float64:
    """Compute F at every threshold for each image.

    Parameters
    ----------
    truth : bool [N, h, w]
        True masks.
    p : float [N, h, w]
        Predicted probabilities.

    Returns
    -------
    float64 [N, 255]
        F(t); 0 throughout for empty images, which do not count.
    """
    _check(truth, p)
    out = np.empty((len(p), N_THRESHOLDS))
    for row, (g, values) in enumerate(zip(truth, p, strict=True)):
        reached = _thresholds_reached(np.asarray(values, np.float32).ravel())
        joint = np.bincount(reached + (N_THRESHOLDS + 1) * g.ravel(), minlength=2 * (N_THRESHOLDS + 1))
        background, foreground = joint.reshape(2, -1)
        true_positive = _at_least(foreground)
        predicted = true_positive + _at_least(background)
        # With P = tp / predicted and R = tp / true, F is a ratio of counts.
        denominator = BETA_SQUARED * np.count_nonzero(g) + predicted
        out[row] = (1 + BETA_SQUARED) * true_positive / np.maximum(denominator, 1e-20)
    return out


def _thresholds_reached(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """Count the thresholds t <= value, for values in [0, 1]."""
    # Multiplication is monotone in float32, so what holds on the thresholds and beside them (a test looks at
    # all) holds everywhere: the floor is never too low, and too high by one at most.
    floor = (values * np.float32(N_THRESHOLDS - 1)).astype(np.intp)
    return np.asarray(floor + (values >= THRESHOLDS[floor]))


def _at_least(histogram: NDArray[np.intp]) -> NDArray[np.intp]:
    """Turn "pixels that reach exactly k thresholds" into "pixels that reach threshold i"."""
    return np.cumsum(histogram[::-1])[::-1][1:]


def _check(truth: Bools, p: Floats) -> None:
    if truth.shape != p.shape or truth.ndim != 3:
        raise ValueError(
            f"truth has shape {truth.shape} and predictions {p.shape}; expected [N, h, w] twice, of one size"
        )
    if truth.dtype != bool:
        raise ValueError(f"truth has dtype {truth.dtype}; expected bool, for example truth > 0")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("predictions lie outside [0, 1] or are NaN; are they logits? Apply the sigmoid")


def segmentation_statistics(truth: Bools, p: Floats) -> SegmentationStatistics:
    """Compute the statistics of some images, for example of a batch.

    Parameters
    ----------
    truth : bool [N, h, w]
        True masks.
    p : float [N, h, w]
        Predicted probabilities.

    Returns
    -------
    SegmentationStatistics
        Of these images. Add up those of batches; the sum does not depend on the batches.

    Raises
    ------
    ValueError
        If shapes differ, truth is not boolean, or p is outside [0, 1].

    Examples
    --------
    >>> truth = np.array([[[True, True, False, False]]])
    >>> statistics = segmentation_statistics(truth, np.array([[[0.9, 0.2, 0.1, 0.7]]]))
    >>> round(statistics.miou, 3), round(statistics.f, 3), round(statistics.best_threshold, 3)
    (0.333, 0.812, 0.701)
    """
    non_empty = truth.any(axis=(1, 2))
    curves = f_curves(truth, p)
    return SegmentationStatistics(
        n=len(p),
        n_non_empty=int(non_empty.sum()),
        iou=float(image_ious(truth, p).sum()),
        f_curve=curves[non_empty].sum(axis=0),
    )


def official_scores(batches: Iterable[SegmentationStatistics]) -> dict[str, float | None]:
    """Average the metrics of batches, as AVSBench's published evaluator does.

    Parameters
    ----------
    batches
        Statistics of each batch, in the published order and of the published size; a smaller last one
        counts as much as the others.

    Returns
    -------
    dict
        ``miou_official`` and ``f_official``; a batch of empty images alone has F = 0. None without a batch.
    """
    found = [(batch.miou, batch.f or 0.0) for batch in batches if batch.n]
    if not found:
        return {"miou_official": None, "f_official": None}
    miou, f = np.mean(np.array(found, dtype=np.float64), axis=0)
    return {"miou_official": float(miou), "f_official": float(f)}


def batched(images: Sequence[SegmentationStatistics], size: int) -> Iterator[SegmentationStatistics]:
    """Join the statistics of single images to those of batches.

    Parameters
    ----------
    images
        In the order of the published loader.
    size
        Images per batch, at least 1.

    Yields
    ------
    SegmentationStatistics
        Of each batch; the last may be smaller.

    Raises
    ------
    ValueError
        If the size is below 1.
    """
    if size < 1:
        raise ValueError(f"a batch holds at least 1 image, got {size}")
    for start in range(0, len(images), size):
        yield sum(images[start : start + size], start=SegmentationStatistics.zero())
