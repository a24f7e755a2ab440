"""Pixels of clips whose truth is a few boxes, counted without drawing it.

How many boxes cover a pixel decides g; a function of that number is a sum over all choices of boxes
(inclusion and exclusion), and the boxes of a choice have a box in common. What a mask shares with a box is
known from four values of the mask's sums from a corner, and a sum of boxes is that of their corners' signs,
summed along both axes.

Shapes: N clips, maps of S * S pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsl_eval.drawn import Drawer

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

FEW = 4
"""Boxes of a clip up to which its pixels are counted so."""
_INSIDE, _DOUBLE = (1, -1, 1, -1), (0, 1, -2, 3)
"""min(c, 1) and max(min(c, 2) - 1, 0) are the sums over k = 1, 2, ... of weight k - 1 times the number of
ways to choose k of c boxes."""


@dataclass(frozen=True)
class _Choice:
    """Hold the box that a choice of boxes has in common, of all clips that have as many boxes."""

    rows: NDArray[np.intp]
    n_chosen: int
    x0: NDArray[np.intp]
    y0: NDArray[np.intp]
    x1: NDArray[np.intp]
    y1: NDArray[np.intp]


class BoxCounts:
    """Count pixels of clips of at most `FEW` boxes.

    Parameters
    ----------
    drawer
        Of the test set.
    size
        S.
    wanted : bool [N]
        Which clips count.

    Attributes
    ----------
    few : bool [N]
        Those of them whose truth is a few boxes. All results are 0 for the others.
    size
        S.

    Examples
    --------
    >>> from avsl_eval.truth import AnnotatedClip
    >>> clip = AnnotatedClip("a_000001", "", np.array([[0, 0, 0.5, 1], [0, 0, 1, 0.5]]))
    >>> counts = BoxCounts(Drawer([clip], "consensus", [4]), 4, np.array([True]))
    >>> [found.tolist() for found in counts.pixels()]
    [[12], [4]]
    """

    def __init__(self, drawer: Drawer, size: int, wanted: Bools) -> None:
        self.few = wanted & drawer.boxed & (drawer.count <= FEW)
        self.size, self._n, self._unit = size, len(wanted), drawer.unit
        self._choices: list[_Choice] = []
        corners = drawer.corners[size]
        for n_boxes in range(1, FEW + 1):
            rows = np.flatnonzero(self.few & (drawer.count == n_boxes))
            for n_chosen in range(1, n_boxes + 1) if len(rows) else ():
                for chosen in itertools.combinations(range(n_boxes), n_chosen):
                    boxes = np.stack([corners[drawer.first[rows] + k] for k in chosen])
                    x0, y0 = boxes[:, :, :2].max(axis=0).T
                    x1, y1 = np.maximum(boxes[:, :, 2:].min(axis=0).T, (x0, y0))  # or it is empty
                    self._choices.append(_Choice(rows, n_chosen, x0, y0, x1, y1))

    def pixels(self) -> tuple[Ints, Ints]:
        """Return the numbers of pixels with g > 0 and, of a consensus, with g = 1: int64 [N] each."""
        return self._weigh([(c.x1 - c.x0) * (c.y1 - c.y0) for c in self._choices])

    def shared(self, masks: Bools, which: NDArray[np.intp]) -> tuple[Ints, Ints]:
        """Count what masks share with the truth.

        Parameters
        ----------
        masks : bool [M, S, S]
            Masks.
        which : int [N]
            Which of them is a clip's.

        Returns
        -------
        inside, double : int64 [N]
            Pixels of the mask with g > 0 and, of a consensus, with g = 1.
        """
        sums = np.zeros((len(masks), self.size + 1, self.size + 1), np.int32)
        np.cumsum(masks, axis=1, dtype=np.int32).cumsum(axis=2, out=sums[:, 1:, 1:])
        found = []
        for c in self._choices:
            m = which[c.rows]
            found.append(
                sums[m, c.y1, c.x1] - sums[m, c.y0, c.x1] - sums[m, c.y1, c.x0] + sums[m, c.y0, c.x0]
            )
        return self._weigh(found)

    def sums_of_levels(self, part_of: NDArray[np.intp], n_parts: int) -> Ints:
        """Add up the levels g times the unit of the clips of each part, int64 [n_parts, S, S]."""
        signs = np.zeros((n_parts, self.size + 1, self.size + 1), np.int64)
        for c in self._choices:
            weight = _INSIDE[c.n_chosen - 1] + (_DOUBLE[c.n_chosen - 1] if self._unit > 1 else 0)
            part = part_of[c.rows]
            for sign, y, x in ((1, c.y0, c.x0), (-1, c.y0, c.x1), (-1, c.y1, c.x0), (1, c.y1, c.x1)):
                np.add.at(signs, (part, y, x), sign * weight)
        return signs.cumsum(axis=1).cumsum(axis=2)[:, : self.size, : self.size]

    def _weigh(self, found: list[Ints]) -> tuple[Ints, Ints]:
        """Sum what was found of each choice, clip by clip."""
        inside, double = np.zeros((2, self._n), np.int64)
        for choice, pixels in zip(self._choices, found, strict=True):
            inside[choice.rows] += _INSIDE[choice.n_chosen - 1] * pixels
            if self._unit > 1:
                double[choice.rows] += _DOUBLE[choice.n_chosen - 1] * pixels
        return inside, double
