"""Pseudo-labels: how they are sharpened, averaged over the epochs and stored.

Shape letters: N unlabelled clips, B clips of a batch, h = w side of the map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsl_train.augment import Geometry, crop
from avsl_train.distributed import gather_rows, rank, total, world_size


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Return q = p^(1/T) / (p^(1/T) + (1-p)^(1/T)) per pixel: MixMatch's, in binary form [ours].

    Equal to sigmoid(logit(p) / T), which stays exact for p near 0 and 1. A resampled map may leave [0, 1] by
    a rounding error; it is clamped, because the logit of such a value is NaN.

    Parameters
    ----------
    p
        Probabilities in [0, 1], any shape.
    temperature
        T; below 1 sharpens, 1 changes nothing.

    Examples
    --------
    >>> sharpen(torch.tensor([0.5, 0.8]), 0.5)
    tensor([0.5000, 0.9412])
    """
    return torch.sigmoid(torch.logit(p.clamp(0, 1)) / temperature)


def harden(p: Tensor, threshold: float) -> Tensor:
    """Return 1 where p >= threshold, else 0."""
    return (p >= threshold).to(p.dtype)


def confident(p: Tensor, positive: float, negative: float) -> tuple[Tensor, Tensor]:
    """Return FixMatch's label of a map, and which of its pixels are sure enough to teach.

    The label is 1 where p >= positive and 0 elsewhere; sure are those pixels and the ones with p <= negative.

    Parameters
    ----------
    p : Tensor, any shape
        Probabilities.
    positive, negative
        Thresholds in [0, 1].

    Returns
    -------
    label : Tensor like p
        In {0, 1}.
    sure : Tensor like p, of bool

    Examples
    --------
    >>> [x.tolist() for x in confident(torch.tensor([0.1, 0.25, 0.5, 0.75]), 0.75, 0.25)]
    [[0.0, 0.0, 0.0, 1.0], [True, True, False, True]]
    """
    return harden(p, positive), (p >= positive) | (p <= negative)


def intersect(p_a: Tensor, p_b: Tensor, delta: float, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return DMT's label of two teachers' maps, which clips it is good for, and how much the masks agree.

    m_i = 1 where minmax(p_i) >= delta; the label is m_a * m_b (IPL), and a clip is accepted where
    |m_a m_b| / |m_a + m_b - m_a m_b| >= tau [paper, official figure; thresholds: ours].

    Parameters
    ----------
    p_a, p_b : Tensor [B, 1, h, w]
        The teachers' maps of the same view.
    delta
        Threshold of the min-max map, in [0, 1].
    tau
        Smallest intersection over union of an accepted clip.

    Returns
    -------
    label : Tensor [B, 1, h, w]
        In {0, 1}.
    accepted : Tensor [B] of bool
    iou : Tensor [B]
        Intersection over union of the two masks.

    Examples
    --------
    >>> p_a = torch.tensor([0.1, 0.3, 0.9, 0.8]).view(1, 1, 2, 2)
    >>> p_b = torch.tensor([0.0, 0.6, 0.9, 0.8]).view(1, 1, 2, 2)
    >>> label, accepted, iou = intersect(p_a, p_b, delta=0.6, tau=0.7)
    >>> label.flatten().tolist(), accepted.item(), round(iou.item(), 4)
    ([0.0, 0.0, 1.0, 1.0], False, 0.6667)
    """
    m_a, m_b = (min_max(p) >= delta for p in (p_a, p_b))
    both, either = m_a & m_b, m_a | m_b
    iou = both.sum((1, 2, 3), dtype=p_a.dtype) / either.sum((1, 2, 3), dtype=p_a.dtype).clamp(min=1)
    return both.to(p_a.dtype), iou >= tau, iou


def min_max(maps: Tensor) -> Tensor:
    """Return (x - min x) / (max x - min x) of each map [B, 1, h, w]; a constant map becomes 0."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    spread = high - low
    return (maps - low) / torch.where(spread > 0, spread, 1.0)


def transfer(maps: Tensor, source: Geometry, target: Geometry, size: int) -> tuple[Tensor, Tensor]:
    """Bring maps of one view of a clip into another view of it.

    Parameters
    ----------
    maps : Tensor [B, C, h, w]
        Maps that cover the view ``source``.
    source, target
        Two views of the same frames.
    size
        Side of the result.

    Returns
    -------
    moved : Tensor [B, C, size, size]
        Bilinear samples at the target's pixel centres; outside the source the value of its nearest border.
    covered : Tensor [B, 1, size, size] of bool
        Whether the pixel's centre lies in the source.
    """
    within = relative(source, target)
    across, down = within.centres(size)
    inside_x, inside_y = ((steps >= 0) & (steps <= 1) for steps in (across, down))
    covered = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    return crop(maps, within, size), covered


def relative(source: Geometry, target: Geometry) -> Geometry:
    """Return where one view lies in another: its box may leave [0, 1].

    Examples
    --------
    >>> half = Geometry(torch.tensor([[0.0, 0.0, 0.5, 1.0]]), torch.tensor([True]))
    >>> quarter = Geometry(torch.tensor([[0.0, 0.0, 0.25, 1.0]]), torch.tensor([False]))
    >>> found = relative(half, quarter)  # the mirrored half shows its left quarter on the right
    >>> found.box.tolist(), found.flip.item()
    ([[0.5, 0.0, 1.0, 1.0]], True)
    """
    x0, y0, x1, y1 = source.box.unbind(1)
    width, height = x1 - x0, y1 - y0
    left, top, right, bottom = target.box.unbind(1)
    left, right = (left - x0) / width, (right - x0) / width
    left, right = torch.where(source.flip, 1 - right, left), torch.where(source.flip, 1 - left, right)
    box = torch.stack([left, (top - y0) / height, right, (bottom - y0) / height], dim=1)
    return Geometry(box, source.flip ^ target.flip)


class LabelStore:
    """The stored pseudo-labels of one model: one map per unlabelled clip, on the un-cropped frame.

    With W processes, the one of rank r keeps the labels of the clips whose index is r modulo W, which are
    those that its sweep brings.

    Parameters
    ----------
    clips
        N.
    size
        h = w.
    beta
        Weight of the previous label: Y_t = beta * Y_(t-1) + (1 - beta) * q_t, Y_0 = q_0. 0 keeps no history.

    Notes
    -----
    The averaging is XPL's PL-EMA [paper]; beta is [ours]. Maps are float16: 144,000 clips at 14x14 take
    57 MB.
    """

    def __init__(self, clips: int, size: int, beta: float) -> None:
        self.beta = beta
        self.clips = clips
        self.rank, self.ranks = rank(), world_size()
        own = len(range(self.rank, clips, self.ranks))
        self.maps = torch.zeros(own, 1, size, size, dtype=torch.float16)
        self.seen = torch.zeros(own, dtype=torch.bool)

    def update(self, index: Tensor, label: Tensor, covered: Tensor) -> None:
        """Make one step of the average for some of this process's clips.

        Parameters
        ----------
        index : Tensor [B] of int64
            Which clips; each at most once.
        label : Tensor [B, 1, h, w]
            q_t on the un-cropped frame.
        covered : Tensor [B, 1, h, w] of bool
            Where the view that q_t comes from saw the frame; elsewhere an older label stays.
        """
        place = self._place(index)
        label, covered = label.cpu().float(), covered.cpu()
        old = self.maps[place].float()
        mixed = torch.where(covered, self.beta * old + (1 - self.beta) * label, old)
        first = ~self.seen[place][:, None, None, None]
        self.maps[place] = torch.where(first, label, mixed).half()
        self.seen[place] = True

    def own(self, index: Tensor) -> Tensor:
        """Return the labels of some of this process's clips on the un-cropped frame, [B, 1, h, w] float32."""
        return self.maps[self._place(index)].float()

    def view(self, index: Tensor, geometry: Geometry, size: int) -> Tensor:
        """Return the labels of any clips as a view sees them, [B, 1, size, size] float32.

        Every process must ask at the same time, each for its own clips.
        """
        return crop(self._fetched(index).to(geometry.box.device).float(), geometry, size)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold: the labels of all processes, for any number of them.

        Every process must ask at the same time.
        """
        everyone = torch.arange(self.clips)
        mine = everyone % self.ranks == self.rank
        seen = torch.zeros(self.clips, dtype=torch.bool)
        seen[mine] = self.seen
        return {"maps": self._everyones(everyone), "seen": total(seen).bool()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what a checkpoint held, whatever number of processes wrote it.

        Raises
        ------
        ValueError
            It holds the labels of other clips, or of another size.
        """
        found, wanted = tuple(state["maps"].shape), (self.clips, *self.maps.shape[1:])
        if found != wanted:
            raise ValueError(
                f"the stored pseudo-labels have the shape {list(found)}, this training needs {list(wanted)}: "
                "was the split or the model changed?"
            )
        self.maps = state["maps"][self.rank :: self.ranks].clone()
        self.seen = state["seen"][self.rank :: self.ranks].clone()

    def _place(self, index: Tensor) -> Tensor:
        """Return where this process keeps its clips."""
        if self.ranks > 1 and bool((index % self.ranks != self.rank).any()):
            raise ValueError(
                f"rank {self.rank} of {self.ranks} keeps the labels of the clips r, r + {self.ranks}, .., "
                f"not those of {index.tolist()}: the sweep must bring a rank its own clips"
            )
        return torch.div(index, self.ranks, rounding_mode="floor")

    def _fetched(self, index: Tensor) -> Tensor:
        """Return the labels of some clips, fetched from the processes that keep them, [B, 1, h, w]."""
        if self.ranks == 1:
            return self.maps[index]
        asked = gather_rows(index)
        rows = gather_rows(torch.tensor([len(index)])).tolist()
        first = sum(rows[: self.rank])
        return self._everyones(asked)[first : first + len(index)]

    def _everyones(self, index: Tensor) -> Tensor:
        """Return the labels of the same clips on every process, each given by the one that keeps it."""
        maps = torch.zeros(len(index), *self.maps.shape[1:], dtype=torch.float16)
        mine = index % self.ranks == self.rank
        maps[mine] = self.maps[torch.div(index[mine], self.ranks, rounding_mode="floor")]
        # one process gives the value and the others 0, so that the sum is exact in half precision too;
        # its bits are sent, because not every backend adds halves
        return total(maps.view(torch.int16).int()).to(torch.int16).view(torch.float16)
