"""A torchmetrics ``Metric`` around `avsl_eval.accumulator`; needs the extra ``torchmetrics``.

States are tensors that torchmetrics gathers over processes by itself. Clips are told apart by a 64-bit digest
of their id, so that those which a distributed sampler repeats count once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

try:
    import torch
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError(
        "avsl_eval.torchmetrics needs torchmetrics and torch: pip install 'avsl-toolkit[torchmetrics]'; "
        "avsl_eval.Accumulator does the same without them"
    ) from error

import numpy as np

from avsl_eval.accumulator import Accumulator
from avsl_eval.protocol import Protocol, ProtocolSuite
from avsl_eval.truth import Truth

_NO_ID = 0


class LocalizationScore(Metric):
    """Score maps against boxes under protocols, over batches and processes.

    Parameters
    ----------
    protocols, truth
        As for `avsl_eval.Accumulator`.
    **kwargs
        As for ``torchmetrics.Metric``.

    Examples
    --------
    >>> score = LocalizationScore("ezvsl")
    >>> left = torch.zeros(1, 14, 14)
    >>> left[:, :, :7] = 1
    >>> score.update(left, [[[0.0, 0.0, 0.5, 1.0]]], clip_ids=["a_000001"])
    >>> float(score.compute()["ezvsl/ciou@0.5"])
    1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    statistics: list[torch.Tensor]
    sounding: list[torch.Tensor]
    clip_digest: list[torch.Tensor]

    def __init__(
        self,
        protocols: str | Protocol | ProtocolSuite | Sequence[str | Protocol | ProtocolSuite] = "strict",
        truth: Truth = "union",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._empty = Accumulator(protocols, truth)
        for state in ("statistics", "sounding", "clip_digest"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, maps: torch.Tensor, boxes: Sequence[Any], clip_ids: Sequence[str] | None = None) -> None:
        """Add a batch; as `avsl_eval.Accumulator.update`."""
        batch = self._fresh()
        batch.update(maps, boxes, clip_ids)
        state = batch.state()
        # float32 holds counts of pixels exactly, and every device has it.
        self.statistics.append(torch.from_numpy(state["statistics"].astype(np.float32)).to(self.device))
        self.sounding.append(torch.from_numpy(state["sounding"]).to(self.device))
        digests = np.array([_digest(str(clip_id)) for clip_id in state["clip_id"]], np.int64)
        self.clip_digest.append(torch.from_numpy(digests).to(self.device))

    def compute(self) -> dict[str, torch.Tensor]:
        """Compute ``<protocol>/<metric>`` of everything that came, over all processes."""
        merged = self._fresh()
        if len(self.statistics):
            digests = _joined(self.clip_digest)
            merged.load_state(
                {
                    "clip_id": np.array(["" if d == _NO_ID else f"{d:x}" for d in digests.tolist()], str),
                    "sounding": _joined(self.sounding),
                    "statistics": _joined(self.statistics),
                }
            )
        return {name: torch.tensor(value, device=self.device) for name, value in merged.compute().items()}

    def _fresh(self) -> Accumulator:
        return Accumulator(self._empty.protocols, self._empty.truth)


def _digest(clip_id: str) -> int:
    """Return 64 bits that tell an id from others, `_NO_ID` for none."""
    if not clip_id:
        return _NO_ID
    return int.from_bytes(hashlib.blake2b(clip_id.encode(), digest_size=8).digest(), "big", signed=True)


def _joined(parts: list[torch.Tensor] | torch.Tensor) -> Any:
    """Join a list state, which torchmetrics hands over as one tensor after it has gathered processes."""
    whole = torch.cat(parts) if isinstance(parts, list) else parts
    return whole.cpu().numpy()
