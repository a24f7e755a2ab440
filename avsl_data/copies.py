"""Clips that are here already: in folders and in archives, found by clip id in any spelling.

Nothing is copied out of a folder: the ledger points to the user's files, each of which was decoded to its
end. A clip of an archive is copied out of it when its bucket is worked on, and no other member is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from avsl_data.archives import Archive
from avsl_data.decode import BadMediaError, verify
from avsl_data.download import MIN_SHARE, Acquire
from avsl_data.errors import DataInputError
from avsl_data.failures import MISSING
from avsl_data.files import replacing
from avsl_data.ids import normalise
from avsl_data.ledger import OK, LedgerRow, failed_row, ok_row
from avsl_data.sources.folder import CLIP_SUFFIXES
from avsl_data.sources.source import CatalogClip

logger = logging.getLogger(__name__)

WORK_FOLDER: Final = ".copies"


def clip_id_of(name: str) -> str | None:
    """Read the clip id of a file's name.

    Parameters
    ----------
    name
        Path or name of a file, in any spelling of the id.

    Returns
    -------
    str or None
        The clip id; None if the file is no video or its name is no clip id.

    Examples
    --------
    >>> clip_id_of("video/n88E2blrCiU_185000_195000.mp4")
    'n88E2blrCiU_000185'
    >>> clip_id_of("notes.txt")
    """
    stem, suffix = os.path.splitext(os.path.basename(name))  # noqa: PTH119, PTH122 - names, not paths here
    if suffix.lower() not in CLIP_SUFFIXES:
        return None
    try:
        return normalise(stem)
    except DataInputError:
        return None


def find_clips(folder: Path) -> dict[str, Path]:
    """Find the clips of a folder and of all folders in it.

    Parameters
    ----------
    folder
        The folder. Links to other folders are followed, each folder once.

    Returns
    -------
    dict of str to Path
        The file of each clip id. Of two files for one clip the first in the order of their paths counts.

    Raises
    ------
    DataInputError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise DataInputError(f"--from-folder {folder} is no folder")
    files: dict[str, Path] = {}
    twice = 0
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        about = os.stat(root)  # noqa: PTH116 - os.walk gives text
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.sort()
        for name in sorted(names):
            clip_id = clip_id_of(name)
            if clip_id is None:
                continue
            twice += clip_id in files
            files.setdefault(clip_id, Path(root, name))
    if twice:
        logger.warning("%s holds %d files for clips that another of its files is for already", folder, twice)
    return files


def _verified(clip: CatalogClip, source: Path, target: Path | None = None) -> LedgerRow:
    """Decode a copy to its end and return its row; move it to its place if it has one and is good."""
    try:
        facts = verify(source, 0.0 if clip.end_s is None else MIN_SHARE * (clip.end_s - clip.start_s))
    except BadMediaError as error:
        return failed_row(clip, error.reason, error.detail, 1)
    if target is not None:
        os.replace(source, target)  # noqa: PTH105 - the one call that is atomic by contract
    return ok_row(clip, target or source, min(facts.video_s, facts.audio_s), 1)


@dataclass(frozen=True)
class FromFolder:
    """Take clips that lie in a folder: decode them where they are, copy nothing.

    Parameters
    ----------
    files
        The file of each clip id, from `find_clips`.
    """

    files: dict[str, Path]

    @classmethod
    def of(cls, folder: Path) -> FromFolder:
        """Find the clips of a folder.

        Parameters
        ----------
        folder
            The folder.

        Returns
        -------
        FromFolder
            Knows every clip in it.
        """
        return cls(find_clips(folder))

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        for clip in video:
            path = self.files.get(clip.clip_id)
            if path is None:
                yield failed_row(clip, MISSING, f"no file is named {clip.clip_id}", 1)
            else:
                yield _verified(clip, path)

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:
        """Do nothing: there is nothing to remove."""


@dataclass(frozen=True)
class FromArchives:
    """Take clips out of archives.

    Parameters
    ----------
    archives
        The archives, read by `avsl_data.archives.open_archive`.
    folder
        The bucket's folder of clips.
    """

    archives: Sequence[Archive]
    folder: Path

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        for clip in video:
            yield self._look(clip)

    def _look(self, clip: CatalogClip) -> LedgerRow:
        target = self.folder / f"{clip.clip_id}.mp4"
        if target.is_file():  # of a run whose journal is lost
            row = _verified(clip, target)
            if row.status == OK:
                return row
        found = next((archive for archive in self.archives if clip.clip_id in archive.members), None)
        if found is None:
            return failed_row(clip, MISSING, self._absence(clip), 1)
        work = self.folder / WORK_FOLDER / f"{clip.clip_id}.mp4"
        with replacing(work) as temporary:
            found.copy_out(clip.clip_id, temporary)
        row = _verified(clip, work, target)
        work.unlink(missing_ok=True)
        return row

    def _absence(self, clip: CatalogClip) -> str:
        faults = [f"{archive.path.name}: {archive.fault}" for archive in self.archives if archive.fault]
        text = f"no member is named {clip.clip_id}"
        return f"{text}; {'; '.join(faults)}" if faults else text

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:  # noqa: ARG002 - other ways go on from there
        """Remove what is left of copying."""
        root = self.folder / WORK_FOLDER
        for path in root.glob("*"):
            path.unlink()
        for path in root.glob(".*.tmp"):
            path.unlink()
        if root.is_dir():
            root.rmdir()


@dataclass(frozen=True)
class InTurn:
    """Try several ways in turn: what one lacks or has in a bad state, the next one gets.

    Parameters
    ----------
    ways
        From the first to the last.
    """

    ways: Sequence[Acquire]

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        *first, last = self.ways
        wanted = list(video)
        for way in first:
            by_id = {clip.clip_id: clip for clip in wanted}
            wanted = []
            for row in way(list(by_id.values())):
                if row.status == OK:
                    yield row
                else:
                    wanted.append(by_id[row.clip_id])
            if not wanted:
                return
        yield from last(wanted)

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:
        """Remove what any of them left."""
        for way in self.ways:
            way.tidy(unfinished)
