"""Scores as maps come: for validation inside a training loop.

`Accumulator` takes batches of maps and boxes, keeps a few numbers per clip, and merges over processes; what
it computes equals `avsl_eval.evaluate_all` on the same clips. It takes numpy arrays and torch tensors (of any
device and float type) and imports no torch. `avsl_eval.torchmetrics` makes a torchmetrics ``Metric`` of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.annotations.build import Row, build
from avsl_eval.cautions import range_fault
from avsl_eval.ciou import METRICS, ciou_of, per_clip_metrics
from avsl_eval.drawn import Drawer
from avsl_eval.engine import Engine
from avsl_eval.errors import EvalInputError, first_few
from avsl_eval.predictions import checked_heatmap
from avsl_eval.protocol import Protocol, ProtocolSuite
from avsl_eval.protocol_table import expand
from avsl_eval.truth import Annotations, Truth

_log = logging.getLogger(__name__)

Float64 = NDArray[np.float64]

COLUMNS = ("intersection", "truth", "false_positive", "pointing")
"""What is kept of a clip under a protocol."""


class Accumulator:
    """Accumulate scores over batches.

    Parameters
    ----------
    protocols
        Names of protocols or suites, or protocols of your own; rules that need no more than maps and boxes.
    truth
        How a clip's boxes make its ground truth: ``union`` (VGG-SS) or ``consensus`` (Flickr-SoundNet).

    Raises
    ------
    EvalInputError
        If a protocol is unknown, or needs more than maps and boxes (a sweep, a universal threshold).

    Examples
    --------
    >>> accumulator = Accumulator(["ezvsl", "fixed"])
    >>> left = np.zeros((1, 14, 14))
    >>> left[:, :, :7] = 1.0
    >>> accumulator.update(left, [[[0.0, 0.0, 0.5, 1.0]]], clip_ids=["a_000001"])
    >>> accumulator.compute()["fixed/ciou@0.5"], len(accumulator)
    (1.0, 1)
    """

    def __init__(
        self,
        protocols: str | Protocol | ProtocolSuite | Sequence[str | Protocol | ProtocolSuite] = "strict",
        truth: Truth = "union",
    ) -> None:
        rules = [rule for rule, _ in expand(protocols).values()]
        for rule in rules:
            if not rule.is_rank_rule and rule.threshold != "fixed":
                raise EvalInputError(
                    f"protocol {rule.name} needs more than maps and boxes (its threshold rule is "
                    f"{rule.threshold!r}); write a predictions file and score it by avsl-eval score"
                )
        if truth not in ("union", "consensus"):
            raise EvalInputError(f"truth is {truth!r}; boxes make a union or a consensus")
        self.protocols: tuple[Protocol, ...] = tuple(rules)
        self.truth: Truth = truth
        self.reset()

    def reset(self) -> None:
        """Forget every clip."""
        self._ids: list[str] = []
        self._sounding: list[bool] = []
        self._rows: list[Float64] = []  # [n, protocols, columns] each

    def __len__(self) -> int:
        """Count the maps that came, repeated clips included."""
        return len(self._ids)

    def update(self, maps: Any, boxes: Sequence[Any], clip_ids: Sequence[str] | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        maps : float [N, h, w] or [N, 1, h, w]
            Heatmaps, numpy or torch.
        boxes : N of float [n, 4]
            Boxes of each clip, xyxy in [0, 1], numpy, torch or lists; none for a clip in which nothing
            sounds. Rows of NaN, which fill up stacked boxes, are dropped.
        clip_ids
            N ids. With them a clip that comes twice counts once (the samplers of distributed training repeat
            clips to fill the last batch); without them every map counts.

        Raises
        ------
        EvalInputError
            If shapes do not fit, a map is not finite, or it leaves a protocol's range. Nothing is added then.
        """
        stack = _as_numpy(maps)
        if stack.ndim == 4 and stack.shape[1] == 1:
            stack = stack[:, 0]
        if stack.ndim != 3:
            raise EvalInputError(f"maps have shape {stack.shape}; expected [N, h, w] or [N, 1, h, w]")
        n = len(stack)
        ids = [""] * n if clip_ids is None else list(clip_ids)
        if not len(boxes) == len(ids) == n:
            raise EvalInputError(
                f"the batch has {n} maps, boxes of {len(boxes)} clips and {len(ids)} clip ids; give one of "
                "each per map"
            )
        if n == 0:
            return
        names = [clip_id or f"number {k} of the batch" for k, clip_id in enumerate(ids)]
        heatmaps = np.stack([checked_heatmap(m, name, "maps") for m, name in zip(stack, names, strict=True)])
        low, high = heatmaps.min(axis=(1, 2)), heatmaps.max(axis=(1, 2))
        for rule in self.protocols:
            if fault := range_fault(names, low, high, rule):
                raise EvalInputError(fault)
        annotations = _annotations(boxes, self.truth)
        self._rows.append(self._score(heatmaps, annotations))
        self._sounding += [not clip.is_silent for clip in annotations.clips]
        self._ids += ids

    def _score(self, heatmaps: NDArray[np.float32], annotations: Annotations) -> Float64:
        """Score a batch; float64 [n, protocols, columns]."""
        n = len(heatmaps)
        engine = Engine(self.protocols, n)
        drawer = Drawer(annotations.clips, self.truth, engine.truth)
        truths = {size: drawer.draw(range(n), size) for size in engine.truth}
        engine.record_truth(range(n), truths)
        engine.score(heatmaps, range(n), truths)
        out = np.empty((n, len(self.protocols), len(COLUMNS)))
        for k, rule in enumerate(self.protocols):
            found = engine.statistics[rule.name]
            out[:, k] = np.column_stack(
                [
                    found.intersection[:, 0],
                    engine.truth[rule.map_size],
                    found.false_positive[:, 0],
                    engine.pointing_of(rule),
                ]
            )
        return out

    def merge(self, other: Accumulator) -> None:
        """Add what another accumulator, of another process say, has seen.

        Parameters
        ----------
        other
            One of the same protocols and truth; it stays as it is.

        Raises
        ------
        EvalInputError
            If its protocols or truth differ.
        """
        if other.protocols != self.protocols or other.truth != self.truth:
            raise EvalInputError(
                f"accumulators of {[p.name for p in self.protocols]} ({self.truth}) and "
                f"{[p.name for p in other.protocols]} ({other.truth}) cannot be merged"
            )
        self._ids += other._ids
        self._sounding += other._sounding
        self._rows += other._rows

    def compute(self) -> dict[str, float]:
        """Compute the metrics of everything that came.

        Returns
        -------
        dict
            ``<protocol>/<metric>`` to value, over sounding clips; ready for a logger.

        Raises
        ------
        EvalInputError
            If no clip with a box came.
        """
        first = self._first_of_each()
        rows = self._stacked()[first]
        rows = rows[np.array(self._sounding, bool)[first]]
        if not len(rows):
            raise EvalInputError(
                f"of the {len(self)} maps that came none has a box: there is nothing to compute; call update "
                "before compute"
            )
        found: dict[str, float] = {}
        for k, rule in enumerate(self.protocols):
            intersection, truth, false_positive, pointing = rows[:, k].T
            values = per_clip_metrics(ciou_of(intersection, truth, false_positive)).mean(axis=0)
            named = zip((*METRICS, "pointing"), (*values, pointing.mean()), strict=True)
            found |= {f"{rule.name}/{metric}": float(value) for metric, value in named}
        return found

    def _first_of_each(self) -> NDArray[np.intp]:
        """Find the rows that count: every one without id, and the first of each id."""
        seen: dict[str, int] = {}
        rows, differing = [], []
        every = self._stacked()
        for row, clip_id in enumerate(self._ids):
            if clip_id in seen:
                if not np.array_equal(every[row], every[seen[clip_id]]):
                    differing.append(clip_id)
                continue
            if clip_id:
                seen[clip_id] = row
            rows.append(row)
        if differing:
            _log.warning(
                "%d clips came twice with different maps, the first counts (%s); is the model in eval mode?",
                len(differing),
                first_few(differing, 3),
            )
        return np.array(rows, np.intp)

    def _stacked(self) -> Float64:
        return np.concatenate([np.empty((0, len(self.protocols), len(COLUMNS))), *self._rows])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that came, as arrays that any channel between processes can carry.

        Returns
        -------
        dict
            ``clip_id`` text [N], ``sounding`` bool [N], ``statistics`` float64 [N, protocols, columns].
        """
        return {
            "clip_id": np.array(self._ids, dtype=str),
            "sounding": np.array(self._sounding, dtype=bool),
            "statistics": self._stacked(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Add what another accumulator's `state` holds.

        Parameters
        ----------
        state
            Of an accumulator of the same protocols and truth.

        Raises
        ------
        EvalInputError
            If its arrays do not fit.
        """
        try:
            ids, sounding, rows = (np.asarray(state[key]) for key in ("clip_id", "sounding", "statistics"))
        except KeyError as error:
            raise EvalInputError(f"the state of an accumulator lacks {error}") from error
        expected = (len(ids), len(self.protocols), len(COLUMNS))
        if rows.shape != expected or sounding.shape != expected[:1]:
            raise EvalInputError(
                f"statistics have shape {rows.shape}; expected {expected}: clips, protocols, columns. Is the "
                "state that of other protocols?"
            )
        self._ids += [str(i) for i in ids]
        self._sounding += [bool(s) for s in sounding]
        self._rows.append(rows.astype(np.float64))


def _annotations(boxes: Sequence[Any], truth: Truth) -> Annotations:
    """Sort out the boxes of a batch."""
    rows = []
    for k, raw in enumerate(boxes):
        corners = np.asarray(_as_numpy(raw), np.float64)
        if corners.ndim == 2:
            corners = corners[~np.isnan(corners).all(axis=1)]
        rows.append(Row(f"clip_{k:06d}", "", corners))
    return build(rows, truth, None)


def _as_numpy(values: Any) -> NDArray[Any]:
    """Take numpy arrays as they are, and torch tensors off their device; bfloat16 has no numpy type."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    return np.asarray(values)
