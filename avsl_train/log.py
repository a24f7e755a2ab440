"""What a run says: a metrics file, TensorBoard's event files, image strips, and lines or a progress bar.

``metrics.jsonl`` is the record. Event files are written from the same numbers; where a run goes on, the lines
of steps that will be done again are dropped, and the event files are made anew from those that stay, so that
neither holds a step twice.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from avsl_train.checkpoint import Checkpoint
from avsl_train.config import ExperimentConfig
from avsl_train.errors import TrainInputError
from avsl_train.files import whole_file
from avsl_train.strips import draw_strip, read_strip

logger = logging.getLogger(__name__)

METRICS: Final = "metrics.jsonl"
EVENTS: Final = "tensorboard"
PICTURES: Final = "pictures"
MEASURED: Final = ("wall_s", "clips_per_s")
"""Keys of a step's line that say how long it took, and differ between two runs of the same training."""
FOLDERS: Final = {"step": "loss", "epoch": "epoch", "val": "val"}
"""Where TensorBoard shows the numbers of an event."""
OWN_FOLDERS: Final = {"lr": "optim", "grad_norm": "optim", "wall_s": "speed", "clips_per_s": "speed"}


class RunLog:
    """The logs of a run.

    Parameters
    ----------
    out
        Folder of the run.
    config
        The training configuration.
    start
        What the run goes on from.
    speaks
        False for all processes but the first, which alone writes and speaks.
    """

    def __init__(self, out: Path, config: ExperimentConfig, start: Checkpoint, speaks: bool = True) -> None:
        self.speaks = speaks
        self.steps = config.optim.steps
        self.path = out / METRICS
        self.pictures_folder = out / PICTURES
        self.began, self.wall_time_s = time.monotonic(), start.wall_time_s
        self.first = max(start.step, start.finished)
        self.last, self.seen = self.began, 0
        self._stack = ExitStack()
        if not speaks:
            return
        try:
            kept = keep_lines(self.path, self.first)
            _drop_pictures(self.pictures_folder, self.first)
            shutil.rmtree(out / EVENTS, ignore_errors=True)
            self._events = SummaryWriter(str(out / EVENTS))
        except OSError as error:
            raise TrainInputError(f"cannot write the logs in {out}: {error.strerror}") from error
        self._origin = time.time() - start.wall_time_s
        for line in kept:
            self._show(line)
        for path in sorted(self.pictures_folder.glob("*.png")):
            self._show_picture(path)
        self._bar = self._make_bar(self.first) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        """Do nothing: the log is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close files and bar."""
        if self.speaks:
            self._events.close()
        self._stack.close()

    def epoch(self, step: int, values: dict[str, float]) -> None:
        """Log what a method says at the start of an epoch."""
        if values:
            self._write({"step": step, "event": "epoch", **values})

    def step(self, done: int, values: dict[str, float], rates: list[float], norm: float) -> None:
        """Log the loss terms of a step, its learning rates and norm; say how long the rest takes."""
        now = time.monotonic()
        wall = self.wall_time_s + now - self.began
        speed = self.seen / max(now - self.last, 1e-9)
        self.last, self.seen = now, 0
        more = {f"lr_{number}": rate for number, rate in enumerate(rates) if number}
        self._write(
            {
                "step": done,
                "event": "step",
                **{"lr": rates[0], **more, "grad_norm": norm},
                **values,
                **{"wall_s": round(wall, 2), "clips_per_s": round(speed, 2)},
            }
        )
        text = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        if not self.speaks:
            return
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            return
        left = (now - self.began) / (done - self.first) * (self.steps - done)
        logger.info("step %d/%d  %s  (%.1f clips/s, %s left)", done, self.steps, text, speed, clock(left))

    def advance(self, clips: int) -> None:
        """Count a step and its clips."""
        self.seen += clips
        if self.speaks and self._bar is not None:
            self._bar.update()

    def validation(self, done: int, protocol: str, values: dict[str, float], is_best: bool) -> bool:
        """Log the metrics of a validation; return whether it is the best."""
        self._write({"step": done, "event": "val", **values})
        if self.speaks:
            text = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            logger.info("validation after step %d (%s): %s%s", done, protocol, text, "  (best)" * is_best)
        return is_best

    def pictures(self, done: int, strips: dict[str, Tensor]) -> None:
        """Write image strips of a few clips after a step: one row per clip, one column per strip."""
        if not (self.speaks and strips):
            return
        path = self.pictures_folder / f"step{done:08d}.png"
        try:
            with whole_file(path) as temporary:
                draw_strip(strips).save(temporary)
        except OSError as error:
            raise TrainInputError(f"cannot write {path}: {error.strerror}") from error
        self._show_picture(path)

    def _write(self, values: dict[str, Any]) -> None:
        if not self.speaks:
            return
        line = {key: None if _is_nan(value) else value for key, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TrainInputError(
                f"cannot write {self.path}: {error.strerror}. The last checkpoint is kept; make room and run "
                "the same command again"
            ) from error
        self._show(line)

    def _show(self, line: dict[str, Any]) -> None:
        """Write the numbers of a line of the metrics file to TensorBoard."""
        when = self._origin + line.get("wall_s", self.wall_time_s + time.monotonic() - self.began)
        for key, value in line.items():
            if isinstance(value, int | float) and key not in ("step", "event", "wall_s"):
                folder = OWN_FOLDERS.get("lr" if key.startswith("lr_") else key, FOLDERS[line["event"]])
                self._events.add_scalar(f"{folder}/{key}", value, line["step"], walltime=when)

    def _show_picture(self, path: Path) -> None:
        pixels = np.asarray(read_strip(path))
        step = int(path.stem.removeprefix("step"))
        self._events.add_image("pictures", pixels, step, dataformats="HWC")

    def _make_bar(self, step: int) -> Any:
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        self._stack.enter_context(logging_redirect_tqdm())
        return self._stack.enter_context(tqdm(total=self.steps, initial=step, unit="step"))


def keep_lines(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines of a metrics file that the first ``step`` steps did not write; return the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [line for line in map(json.loads, _complete_lines(path)) if _was_done(line, step)]
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
    return kept


def clock(seconds: float) -> str:
    """Return a duration as people read it.

    Examples
    --------
    >>> clock(42), clock(3723)
    ('42 s', '1:02:03')
    """
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _complete_lines(path: Path) -> Iterable[str]:
    """Return the complete lines of a file; a line cut by a kill is left out."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]


def _was_done(record: dict[str, Any], step: int) -> bool:
    """Return whether a line of the log belongs to the first ``step`` steps.

    The line of a step or a validation counts the steps done, an epoch's line is written before its first step
    and names that.
    """
    number: int = record["step"]
    return number < step or (number == step and record["event"] != "epoch")


def _drop_pictures(folder: Path, step: int) -> None:
    for path in folder.glob("step*.png"):
        if int(path.stem.removeprefix("step")) > step:
            path.unlink()


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
