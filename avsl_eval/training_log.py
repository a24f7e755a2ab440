"""What a training's log says of its validations.

A training of `avsl_train` writes ``metrics.jsonl`` beside its ``run.json``: one JSON object per line, with
the number of steps done and what happened. Lines of the event ``val`` hold scores on validation clips.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError

LOG = "metrics.jsonl"
VALIDATION = "val"


def validations(log: Path) -> list[dict[str, float]]:
    """Read the validations of a training.

    Parameters
    ----------
    log
        ``metrics.jsonl``; it may lack.

    Returns
    -------
    list of dict
        In the order of the steps: ``step`` and every number that was logged, such as ``ciou@0.5``.

    Raises
    ------
    EvalInputError
        If a line is no JSON object with a step. A last line that was cut by a kill is left out.
    """
    try:
        text = log.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise EvalInputError(f"cannot read the training log {log}: {error}") from error
    found = [_numbers(line, log, n) for n, line in enumerate(text.split("\n")[:-1], 1)]
    return sorted((numbers for numbers in found if numbers), key=lambda numbers: numbers["step"])


def _numbers(line: str, log: Path, n: int) -> dict[str, float] | None:
    """Return the numbers of a line, or None if it is of another event."""
    try:
        record: dict[str, Any] = json.loads(line)
        event, _ = record["event"], float(record["step"])
    except (ValueError, TypeError, KeyError) as error:
        raise EvalInputError(
            f"line {n} of {log} is no record of a training (step, event): {error}"
        ) from error
    if event != VALIDATION:
        return None
    return {
        key: value
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
