"""Scores files, read: what `avsl_eval.result` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError, first_few
from avsl_eval.io import read_json
from avsl_eval.result import SCHEMA


@dataclass(frozen=True)
class ScoresFile:
    """Hold a scores file that was read; `content` is its JSON, see `avsl_eval.result`."""

    content: Mapping[str, Any]
    path: Path

    @property
    def protocols(self) -> Mapping[str, Mapping[str, Any]]:
        """Protocol name to its scores."""
        protocols: Mapping[str, Mapping[str, Any]] = self.content["protocols"]
        return protocols

    @property
    def per_clip(self) -> Path:
        """The table of clips that was written with it."""
        return self.path.parent / (self.content.get("per_clip") or self.path.with_suffix(".csv").name)


_NEEDED = ("testset", "inputs", "predictions_meta", "versions", "warnings", "interval", "protocols")
_NEEDED_OF_A_PROTOCOL = ("rule", "n_expected", "n_scored", "missing", "metrics", "context")


def read_scores(path: str | Path) -> ScoresFile:
    """Read a scores file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    ScoresFile
        Its content.

    Raises
    ------
    EvalInputError
        If it cannot be read, is something else, or lacks what every scores file has.
    """
    return scores_file(read_json(Path(path), SCHEMA, "avsl-eval score"), Path(path))


def scores_file(content: Mapping[str, Any], path: Path) -> ScoresFile:
    """Check that the content of a scores file is complete.

    Parameters
    ----------
    content
        Its JSON, of schema `avsl_eval.result.SCHEMA`.
    path
        The file.

    Returns
    -------
    ScoresFile
        Its content.

    Raises
    ------
    EvalInputError
        If it lacks what every scores file has.
    """
    lacking = [key for key in _NEEDED if key not in content]
    protocols = content.get("protocols")
    if isinstance(protocols, dict) and protocols:
        for name, entry in protocols.items():
            found = entry if isinstance(entry, dict) else {}
            lacking += [f"{name}'s {key}" for key in _NEEDED_OF_A_PROTOCOL if key not in found]
    elif not lacking:
        lacking = ["protocols"]
    if lacking:
        raise EvalInputError(f"{path} lacks {first_few(lacking)}; write it again by avsl-eval score")
    return ScoresFile(content, path)
