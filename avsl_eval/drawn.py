"""The ground truth of one clip, drawn: what is counted on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


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

    @classmethod
    def of_levels(cls, levels: NDArray[np.uint8], unit: int) -> DrawnTruth:
        """Make it of the levels of `avsl_eval.truth.AnnotatedClip.levels`."""
        flat = levels.reshape(-1)
        if unit == 1:
            inside = flat.view(np.bool_)
            return cls(inside, None, int(np.count_nonzero(inside)), 0)
        inside, double = flat > 0, flat > 1
        return cls(inside, double, int(np.count_nonzero(inside)), int(np.count_nonzero(double)))

    @cached_property
    def pixels(self) -> NDArray[np.intp]:
        """Where g > 0, int [n_inside]."""
        return np.flatnonzero(self.inside)

    @property
    def total(self) -> float:
        """sum(g), in pixels."""
        return float(self.n_inside) if self.double is None else (self.n_inside + self.n_double) / 2
