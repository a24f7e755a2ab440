"""What a training says about itself: how good its pseudo-labels are, how calibrated its maps, as sums.

Numbers are collected where they are at hand anyway, in a step or in the sweep before a pass, and read once
per pass. The boxes of unlabelled clips, where the shards hold them, are used here only: none is trained on.

Shape letters: B clips, h = w side of a map, M boxes, N pixels, K bins.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train.augment import Geometry
from avsl_train.distributed import rank, total
from avsl_train.views import rasterise

BINS: Final = 10
"""Bins of the calibration error, of equal width."""

GOOD: Final = 0.5
"""A pseudo-label whose IoU with the truth is at least this is right, as in cIoU@0.5."""

FINER: Final = 4
"""Labels are compared with boxes at this multiple of their side, so that a coarse map is not flattered."""


class Diary:
    """Weighted sums by name, read as means over all processes.

    Examples
    --------
    >>> diary = Diary()
    >>> diary.add("accepted", torch.tensor([True, False, False, True]))
    >>> diary.add("iou", torch.tensor([0.5, 0.9]), torch.tensor([True, False]))
    >>> diary.read()
    {'accepted': 0.5, 'iou': 0.5}
    >>> diary.read()
    {}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor, counted: Tensor | None = None) -> None:
        """Add numbers [B] to a mean; ``counted`` [B] of bool says which count, None: all."""
        weight = torch.ones_like(values, dtype=torch.float64) if counted is None else counted.double()
        known = torch.where(weight > 0, values.double(), 0.0)
        self._put(name, torch.stack([(known * weight).sum(), weight.sum()]))

    def calibrate(self, p: Tensor, truth: Tensor) -> None:
        """Add pixels to the calibration error.

        Parameters
        ----------
        p, truth : Tensor of the same shape
            Probabilities, and shares of ground truth, in [0, 1].
        """
        self._put("ece", calibration_sums(p, truth))

    def read(self) -> dict[str, float]:
        """Return the means by name and forget them; one that nothing was added to is left out.

        Every process must read at the same time, and have added to the same names.
        """
        sums, self._sums = self._sums, {}
        found = {}
        for name in sorted(sums):
            over_all = total(sums[name])
            if name == "ece":
                found[name] = calibration_error(over_all)
            elif over_all[1] > 0:
                found[name] = (over_all[0] / over_all[1]).item()
        return found

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold: the sums over all processes."""
        return {name: total(sums).cpu() for name, sums in sorted(self._sums.items())}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what a checkpoint held: the first process goes on with it, the others begin at 0."""
        self._sums = {name: sums.clone() if rank() == 0 else sums * 0 for name, sums in state.items()}

    def _put(self, name: str, sums: Tensor) -> None:
        before = self._sums.get(name)
        self._sums[name] = sums if before is None else before.to(sums.device) + sums


def calibration_sums(p: Tensor, truth: Tensor) -> Tensor:
    """Return the number of pixels, the sum of p and the sum of the truth in each bin of p, [K, 3]."""
    p, truth = p.detach().flatten().double(), truth.detach().flatten().double()
    chosen = functional.one_hot((p * BINS).long().clamp(0, BINS - 1), BINS).double()  # [N, K]
    return chosen.T @ torch.stack([torch.ones_like(p), p, truth], dim=1)


def calibration_error(sums: Tensor) -> float:
    """Return the expected calibration error: sum over bins of |sum p - sum truth| / pixels.

    Parameters
    ----------
    sums : Tensor [K, 3]
        From `calibration_sums`.

    Examples
    --------
    >>> p, truth = torch.tensor([0.9, 0.9, 0.1]), torch.tensor([1.0, 0.0, 0.0])
    >>> round(calibration_error(calibration_sums(p, truth)), 4)  # (|1.8 - 1| + |.1 - 0|) / 3
    0.3
    """
    return ((sums[:, 1] - sums[:, 2]).abs().sum() / sums[:, 0].sum()).item()


def label_iou(label: Tensor, boxes: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Return the intersection over union of pseudo-labels with hidden boxes, for the log.

    Parameters
    ----------
    label : Tensor [B, 1, h, w]
        In [0, 1]; pixels at or above a half count.
    boxes : Tensor [B, M, 4]
        xyxy in [0, 1] of the un-cropped frame; 0 where unknown.
    geometry
        The view that the label covers.

    Returns
    -------
    iou : Tensor [B]
    known : Tensor [B] of bool
        Whether a box is seen in the view.
    """
    size = FINER * label.shape[-1]
    fine = functional.interpolate(label.detach(), size=size, mode="bilinear", align_corners=False) >= 0.5
    truth = rasterise(boxes.to(label.device), geometry, size) > 0
    both, either = (fine & truth).sum((1, 2, 3)), (fine | truth).sum((1, 2, 3))
    return both / either.clamp(min=1), truth.any(dim=3).any(dim=2)[:, 0]


@torch.no_grad()
def distance(average: nn.Module, online: nn.Module) -> float:
    """Return ||average - online|| / ||online|| over all parameters: how far a teacher is from its student."""
    pairs = list(zip(average.parameters(), online.parameters(), strict=True))
    apart = torch.stack([(theirs - ours).double().square().sum() for theirs, ours in pairs]).sum()
    length = torch.stack([ours.double().square().sum() for _, ours in pairs]).sum()
    return (apart / length).sqrt().item()
