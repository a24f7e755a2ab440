"""``vggss.json`` of VGG-SS: a list of ``{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}``.

5,158 clips with 5,941 boxes; 12 have a corrupt coordinate and 6 cover nothing, which leaves two clips without
usable box.
Source: the metadata of Localizing Visual Sounds the Hard Way (Chen et al. 2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from avsl_eval.annotations.build import Row, build
from avsl_eval.truth import Annotations


def is_vggss(content: object) -> TypeGuard[list[dict[str, Any]]]:
    """Tell whether JSON looks like a ``vggss.json``."""
    return isinstance(content, list) and all(
        isinstance(row, dict) and {"file", "bbox"} <= row.keys() for row in content
    )


def read_vggss(content: list[dict[str, Any]], path: Path) -> Annotations:
    """Read a ``vggss.json``.

    Parameters
    ----------
    content, path
        The file.

    Returns
    -------
    Annotations
        Named ``vggss``, truth ``union``.

    Raises
    ------
    EvalInputError
        If boxes or ids are malformed.
    """
    rows = [Row(row["file"], row.get("class", ""), row["bbox"]) for row in content]
    return build(rows, "union", path, name="vggss")
