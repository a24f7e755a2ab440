"""The ground truth of clips, drawn: what masks are counted on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.tiles import Words, count_bits, pixels_of_words, words_of_boxes, words_of_pixels
from avsl_eval.truth import UNITS, AnnotatedClip, Truth, corners_of

Bools = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DrawnTruth:
    """Hold the ground truth of one clip at one map size.

    Parameters
    ----------
    inside : bool [P]
        Pixels with g > 0.
    double : bool [P] or None
        Pixels with g = 1 where g has two levels (consensus); None where g is 0 or 1.
    n_inside, n_double
        Their numbers.
    """

    inside: Bools
    double: Bools | None
    n_inside: int
    n_double: int

    @cached_property
    def pixels(self) -> NDArray[np.intp]:
        """Where g > 0, int [n_inside]."""
        return np.flatnonzero(self.inside)

    @property
    def total(self) -> float:
        """sum(g), in pixels."""
        return float(self.n_inside) if self.double is None else (self.n_inside + self.n_double) / 2


@dataclass(frozen=True)
class DrawnTruths:
    """Hold the ground truth of n clips at one map size.

    Parameters
    ----------
    size
        Map size S in pixels.
    inside : uint64 [n, T]
        Pixels with g > 0, as tiles (`avsl_eval.tiles`).
    double : uint64 [n, T] or None
        Pixels with g = 1 where g has two levels (consensus); None where g is 0 or 1.
    """

    size: int
    inside: Words
    double: Words | None

    @classmethod
    def of_levels(cls, levels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], unit: int) -> DrawnTruths:
        """Make it of the levels of `avsl_eval.truth.AnnotatedClip.levels`, uint8 [n, S, S]."""
        stacked = np.asarray(levels)
        inside = words_of_pixels(stacked > 0)
        return cls(stacked.shape[1], inside, words_of_pixels(stacked > 1) if unit > 1 else None)

    def __len__(self) -> int:
        return len(self.inside)

    def __getitem__(self, k: int) -> DrawnTruth:
        """Return one clip's truth, by pixels."""
        inside = pixels_of_words(self.inside[k : k + 1], self.size).ravel()
        if self.double is None:
            return DrawnTruth(inside, None, int(self.n_inside[k]), 0)
        double = pixels_of_words(self.double[k : k + 1], self.size).ravel()
        return DrawnTruth(inside, double, int(self.n_inside[k]), int(self.n_double[k]))

    def some(self, which: NDArray[Any]) -> DrawnTruths:
        """Return the truth of some of the clips."""
        return DrawnTruths(self.size, self.inside[which], None if self.double is None else self.double[which])

    @cached_property
    def n_inside(self) -> Ints:
        """Pixels with g > 0, int64 [n]."""
        return count_bits(self.inside)

    @cached_property
    def n_double(self) -> Ints:
        """Pixels with g = 1, int64 [n]; 0 where g has one level only."""
        return np.zeros(len(self), np.int64) if self.double is None else count_bits(self.double)

    @property
    def total(self) -> Float64:
        """sum(g) in pixels, float64 [n]."""
        if self.double is None:
            return self.n_inside.astype(np.float64)
        return (self.n_inside + self.n_double) / 2

    def count(self, masks: Words) -> tuple[Ints, Float64]:
        """Count the true pixels of masks.

        Parameters
        ----------
        masks : uint64 [n, T]
            A mask per clip.

        Returns
        -------
        covered : int64 [n]
            sum(m [g > 0]).
        weighted : float64 [n]
            sum(m g).
        """
        covered = count_bits(masks & self.inside)
        if self.double is None:
            return covered, covered.astype(np.float64)
        return covered, (covered + count_bits(masks & self.double)) / 2


class Drawer:
    """Draw the truth of annotated clips, many at a time.

    Parameters
    ----------
    clips
        N clips.
    truth
        How; `avsl_eval.truth.Annotations.truth`.
    sizes
        Map sizes S in pixels.

    Examples
    --------
    >>> clip = AnnotatedClip("a_000001", "", np.array([[0, 0, 0.5, 1]]))
    >>> Drawer([clip], "union", [2]).draw([0], 2)[0].inside.tolist()
    [True, False, True, False]
    """

    def __init__(self, clips: Sequence[AnnotatedClip], truth: Truth, sizes: Collection[int]) -> None:
        self._clips, self.truth, self.unit = clips, truth, UNITS[truth]
        self.boxed = np.array([clip.is_of_boxes(truth) for clip in clips], bool)
        self.count = np.array([len(clip.boxes) for clip in clips], np.intp)
        self.first = np.cumsum(self.count) - self.count
        boxes = np.concatenate([np.empty((0, 4)), *(clip.boxes for clip in clips)])
        self.corners = {size: corners_of(boxes, size) for size in sizes}
        """Of all boxes, int [n, 4] by map size; those of a clip begin at `first`, `count` of them."""

    def draw(self, rows: Sequence[int] | NDArray[Any], size: int) -> DrawnTruths:
        """Draw the truth of some clips, as `avsl_eval.truth.AnnotatedClip.levels` does.

        Parameters
        ----------
        rows
            Numbers of n clips.
        size
            One of the map sizes.

        Returns
        -------
        DrawnTruths
            Of these clips, in their order.
        """
        where = np.asarray(rows, np.intp)
        if not self.boxed[where].all():
            levels = [self._clips[row].levels(size, self.truth) for row in where.tolist()]
            return DrawnTruths.of_levels(levels, self.unit)
        count, first, corners = self.count[where], self.first[where], self.corners[size]
        # A clip without a box has one that covers nothing.
        one = (
            np.where(count[:, None] > 0, corners.take(first, axis=0, mode="clip"), 0)
            if len(corners)
            else (np.zeros((len(where), 4), np.intp))
        )
        inside = words_of_boxes(one, size)
        double = np.zeros_like(inside) if self.unit > 1 else None
        for k in range(1, int(count.max(initial=0))):  # the k-th box of every clip that has so many
            having = np.flatnonzero(count > k)
            box, before = words_of_boxes(corners[first[having] + k], size), inside[having]
            if double is not None:
                double[having] |= before & box
            inside[having] = before | box
        return DrawnTruths(size, inside, double)
