"""What every source offers: a catalog of clips, their boxes, and what to cite.

A source is one module with the names of `Source`, in one order: docstring (size, how it was made, known
faults), NAME, BIBTEX, LICENSE, REMOTES, INPUTS, TRUTH, `catalog`, `boxes`. Sources that share everything but
their lists are objects of one class in one module. The registry is `avsl_data.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from avsl_data.errors import DataInputError
from avsl_data.remotes import Remote

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1), meant to lie in [0, 1]; published ones are kept as they are."""


@dataclass(frozen=True)
class CatalogClip:
    """One clip of a source.

    Parameters
    ----------
    clip_id, video_id
        Normalised ids.
    url
        Where the whole video is.
    start_s, end_s
        The clip's place in the video in seconds; ``end_s`` is None if the clip's length is not known before
        it is opened.
    label
        Class name, or an empty string where the source has none.
    official_split
        The source's own split, such as ``train`` or ``test``.
    """

    clip_id: str
    video_id: str
    url: str
    start_s: float
    end_s: float | None
    label: str
    official_split: str


@dataclass(frozen=True)
class ClipBoxes:
    """The boxes of one clip as published, faulty ones included.

    Parameters
    ----------
    clip_id
        Normalised id.
    label
        Class name.
    boxes
        xyxy, fractions of width and height.
    silent
        Why nothing that is seen makes the sound: ``mismatched`` or ``silent``; empty where something does.
    frame_of, audio_of
        For a pair of one clip's frame with another clip's sound, the ids of both clips; else empty.
    group
        What it shares with other clips, such as one picture with several sounds; else empty.
    """

    clip_id: str
    label: str
    boxes: tuple[Box, ...]
    silent: str = ""
    frame_of: str = ""
    audio_of: str = ""
    group: str = ""


@dataclass(frozen=True)
class Inputs:
    """Where a source's files are; a source uses the fields named in its ``INPUTS``.

    Parameters
    ----------
    site
        Folder made by ``avsl-data render``.
    mirror
        Folder of copies of published files; None fetches them.
    list_name
        Name of a published list.
    clips
        Folder of a user's clips.
    annotations
        The user's annotation file, or a folder of XML files.
    table
        A copy of vggsound.csv.
    urls
        A copy of SoundNet's list of addresses.
    """

    site: Path | None = None
    mirror: Path | None = None
    list_name: str | None = None
    clips: Path | None = None
    annotations: Path | None = None
    table: Path | None = None
    urls: Path | None = None

    def folder(self, name: str, source: str) -> Path:
        """Return a folder that a source cannot do without.

        Parameters
        ----------
        name
            Field name, ``site`` or ``clips``.
        source
            Name of the source, for the message.

        Returns
        -------
        Path
            An existing folder.

        Raises
        ------
        DataInputError
            If it was not given or is no folder.
        """
        path: Path | None = getattr(self, name)
        if path is None:
            raise DataInputError(f"the source '{source}' needs a folder: give --{name} DIR")
        if not path.is_dir():
            raise DataInputError(f"--{name} {path} is no folder")
        return path

    def given(self) -> set[str]:
        """Return the names of the fields that were given.

        Returns
        -------
        set of str
            Field names.
        """
        return {item.name for item in fields(self) if getattr(self, item.name) is not None}


class Source(Protocol):
    """A source of clips; its modules have exactly these names."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module constant
        """Name on the command line."""

    @property
    def BIBTEX(self) -> str:  # noqa: N802
        """What to cite."""

    @property
    def LICENSE(self) -> str:  # noqa: N802
        """What its publisher says about its use."""

    @property
    def REMOTES(self) -> Mapping[str, Remote]:  # noqa: N802
        """Published files by name."""

    @property
    def INPUTS(self) -> frozenset[str]:  # noqa: N802
        """Names of the `Inputs` fields that it uses."""

    @property
    def TRUTH(self) -> str:  # noqa: N802
        """How boxes make a map: ``union``, or ``consensus`` of several annotators."""

    def catalog(self, inputs: Inputs) -> Sequence[CatalogClip]:
        """List the clips."""

    def boxes(self, inputs: Inputs) -> list[ClipBoxes]:
        """List the boxes of the annotated clips."""
