"""Shards, splits and annotations become a dataset folder with its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avsl_data.annotations import read_clean_boxes
from avsl_data.errors import DataInputError, unknown_name
from avsl_data.hub import ANNOTATIONS, MAX_FILE_MB, HubContents, read_config, write_folder
from avsl_data.hub_card import UNKNOWN, CardFacts, write_card
from avsl_data.sources import SOURCES
from avsl_data.version import own_version


def write_dataset(
    out: Path,
    shards: Path,
    splits: Sequence[Path],
    annotations: Path | None = None,
    *,
    source: str | None = None,
    name: str | None = None,
    metadata_only: bool = False,
    max_file_mb: float = MAX_FILE_MB,
) -> tuple[CardFacts, HubContents]:
    """Write a dataset's folder with its card.

    Parameters
    ----------
    out
        The folder.
    shards
        Folder of shards.
    splits
        Split files; each becomes a config.
    annotations
        Annotations of `avsl_data.annotations`, whose boxes replace the shards' own.
    source
        Name of the source, for licence and citation; by default the annotations' ``dataset``.
    name
        Title of the dataset; by default the source's name.
    metadata_only
        Whether to leave out frames and sounds.
    max_file_mb
        Size of a Parquet file.

    Returns
    -------
    CardFacts, HubContents
        What the card says and what the folder holds.

    Raises
    ------
    DataInputError
        If an input cannot be read, the source is unknown, or there is nothing to write.
    """
    if max_file_mb <= 0:
        raise DataInputError(f"--max-file-mb {max_file_mb} is no size")
    about = _about_annotations(annotations) if annotations else {}
    truth = read_clean_boxes(annotations) if annotations else None
    source = source or about.get("dataset")
    if source is not None and source not in SOURCES:
        raise unknown_name("source", source, SOURCES)
    facts = CardFacts(
        name=name or source or shards.absolute().parent.name,
        source=source or UNKNOWN,
        licence=SOURCES[source].LICENSE if source else "",
        bibtex=SOURCES[source].BIBTEX if source else "",
        configs=[read_config(path) for path in splits],
        dropped=[str(box["why"]) for box in about.get("dropped", [])],
        metadata_only=metadata_only,
        version=own_version(),
    )
    extra = {ANNOTATIONS: annotations.read_bytes()} if annotations else {}
    contents = write_folder(
        out,
        shards,
        facts.configs,
        truth,
        lambda found: write_card(facts, found),
        extra=extra,
        metadata_only=metadata_only,
        max_file_mb=max_file_mb,
    )
    return facts, contents


def _about_annotations(path: Path) -> dict[str, Any]:
    """Return the parts of an annotation file that are about all of it; a vggss.json has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataInputError(f"{path} is no readable JSON ({error}): run `avsl-data annotations`") from error
    return content if isinstance(content, dict) else {}
