"""Validation during a training: the split's subset ``val``, scored by `avsl_eval`.

No other subset is ever looked at, so that neither early stopping nor the choice of weights sees a test clip.

Shape letters: B clips, h = w side of the map, n boxes.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from avsl_eval.accumulator import Accumulator
from avsl_eval.errors import EvalInputError
from avsl_train.config import OptimConfig
from avsl_train.data import ClipSet
from avsl_train.distributed import gather_objects, rank, world_size
from avsl_train.errors import TrainInputError
from avsl_train.excerpts import PLAIN
from avsl_train.methods.method import Method, predicting
from avsl_train.training_clips import chunks

logger = logging.getLogger(__name__)

BATCH = 64


class Validation:
    """Scores a method on the validation clips and remembers the best score.

    Better is a higher cIoU@0.5; of equal ones, a higher AUC, which is finer.

    Parameters
    ----------
    config
        Section ``optim``.
    clips
        The validation clips; None where there are no validations.
    method
        What is scored.

    Raises
    ------
    TrainInputError
        The protocol is unknown, or needs more than maps and boxes.
    """

    def __init__(self, config: OptimConfig, clips: ClipSet | None, method: Method) -> None:
        self.config = config
        self.clips = clips
        is_probability = getattr(method, "value_range", "probability") == "probability"
        self.protocol = config.val_protocol or ("fixed" if is_probability else "ezvsl")
        self.best: tuple[float, float] | None = None
        self.best_step = 0
        self.waited = 0
        try:
            self._empty()
        except EvalInputError as error:
            raise TrainInputError(f"optim.val_protocol: {error}") from error

    def due(self, done: int) -> bool:
        """Return whether there is a validation after so many steps: at its interval, and at the end."""
        every = self.config.val_every
        return (
            self.clips is not None and every is not None and (done % every == 0 or done == self.config.steps)
        )

    def score(self, method: Method) -> dict[str, float]:
        """Return the metrics of a method's maps by name; every process does its part of the clips."""
        assert self.clips is not None
        own = torch.arange(rank(), len(self.clips), world_size())
        scores = self._empty()
        with predicting(method.models):
            parts = chunks(own, BATCH)
            for clips in self.clips.batches(parts, [PLAIN] * len(parts)):
                maps = method.localize(method.viewer.plain(clips)).float()
                names = [self.clips.ids[place] for place in clips.index.tolist()]
                try:
                    scores.update(maps, [drawn(boxes) for boxes in clips.boxes], names)
                except EvalInputError as error:
                    raise TrainInputError(f"validation by {self.protocol}: {error}") from error
        together = self._empty()
        for state in gather_objects(scores.state()):
            together.load_state(state)
        return {name.partition("/")[2]: value for name, value in together.compute().items()}

    def judge(self, method: Method, done: int) -> tuple[dict[str, float], bool]:
        """Score a method after so many steps; return its metrics, and whether they are the best so far."""
        values = self.score(method)
        return values, self.remember(values, done)

    def remember(self, values: dict[str, float], done: int) -> bool:
        """Remember the metrics of a validation; return whether they are the best so far."""
        score = (values["ciou@0.5"], values["auc"])
        if self.best is not None and score <= self.best:
            self.waited += 1
            return False
        self.best, self.best_step, self.waited = score, done, 0
        return True

    @property
    def gives_up(self) -> bool:
        """Whether so many validations brought nothing better that the training should stop."""
        return self.config.patience is not None and self.waited >= self.config.patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        if self.best is None:
            return {}
        names = ("ciou@0.5", "auc")
        scores = dict(zip(names, self.best, strict=True))
        return {"protocol": self.protocol, **scores, "best_step": self.best_step, "waited": self.waited}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint held."""
        if state:
            self.best = (state["ciou@0.5"], state["auc"])
            self.best_step, self.waited = state["best_step"], state["waited"]

    def _empty(self) -> Accumulator:
        return Accumulator(self.protocol)


def drawn(boxes: Tensor) -> Tensor:
    """Return the boxes of a clip without the rows that fill up a batch, [n, 4]."""
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
