"""What stops a training, in one message: a loss that is not finite, no memory left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsl_train.config import ExperimentConfig
from avsl_train.distributed import gather_objects
from avsl_train.errors import TrainInputError
from avsl_train.files import write_json
from avsl_train.methods.method import Batch
from avsl_train.training_clips import TrainingClips

CLIPS_FILE = "not_finite.json"
"""Where the clips of a step that failed are listed."""


class NotFiniteError(TrainInputError):
    """A loss became NaN or infinite; the last working checkpoint is kept."""


def raise_if_not_finite(
    norm: float,
    parts: Sequence[dict[str, Tensor]],
    batches: Sequence[Batch],
    clips: TrainingClips,
    where: tuple[int, Path],
    scaled: bool,
) -> None:
    """Raise if a gradient or a loss term is not finite, on all processes if it is so on one.

    The norm of the gradient is the same on all processes and is looked at first: as long as it is finite, so
    are the terms it comes from, and the processes have nothing to ask each other.

    Parameters
    ----------
    norm
        Norm of the gradient.
    parts
        Loss terms of this process's micro-batches at a step.
    batches
        Their clips.
    clips
        All clips, for their names.
    where
        The step, from 0, and the folder of the run, in which the clips are listed.
    scaled
        Whether losses are scaled (fp16): then a gradient alone is no failure, the scale only becomes smaller.

    Raises
    ------
    NotFiniteError
        Names the terms and the clips of the micro-batches that they came from.
    """
    if math.isfinite(norm):
        return
    here: dict[str, list[str]] = {}
    for terms, batch in zip(parts, batches, strict=True):
        names = clips.names(batch)
        here.setdefault("gradient", []).extend(names)
        for name, term in terms.items():
            if not torch.isfinite(term):
                here.setdefault(name, []).extend(names)
    found: dict[str, list[str]] = {}
    for part in gather_objects(here):
        for name, ids in part.items():
            found.setdefault(name, []).extend(ids)
    if set(found) != {"gradient"}:
        del found["gradient"]  # which follows from the rest
    elif scaled:
        return
    raise NotFiniteError(_message(found, *where))


def _message(found: dict[str, list[str]], step: int, out: Path) -> str:
    record: dict[str, Any] = {"step": step, "clips": dict(sorted(found.items()))}
    write_json(record, out / CLIPS_FILE)
    ids = list(dict.fromkeys(name for part in found.values() for name in part))
    first = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more, in {out / CLIPS_FILE}" if len(ids) > 3 else "")
    what = "gradient" if set(found) == {"gradient"} else f"loss term {', '.join(sorted(found))}"
    return (
        f"{what} is not finite at step {step}, with the clips {first}. The checkpoint before it is kept in "
        f"{out}. Lower optim.lr or optim.clip_norm, use precision: fp32, or check these clips"
    )


@contextmanager
def memory_told(config: ExperimentConfig, device: torch.device) -> Iterator[None]:
    """Turn an out-of-memory error into one message that names the keys to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        optim = config.optim
        reason = str(error).partition(". ")[0].rstrip(".")
        raise TrainInputError(
            f"no memory left on {device} ({reason}). The checkpoint before it is kept. Lower "
            f"optim.batch_labeled ({optim.batch_labeled}) or optim.batch_unlabeled "
            f"({optim.batch_unlabeled}), raise optim.accumulate ({optim.accumulate}), lower data.image_size "
            f"({config.data.image_size}) or use precision: bf16 (now {config.precision}), each of which "
            "starts a new training; or train with more --devices, which goes on with this one"
        ) from error
