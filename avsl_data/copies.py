"""Clips that are here already: in folders and in archives, found by clip id in any spelling.

Nothing is copied out of a folder: the ledger points to the user's files, each of which was decoded to its
end. A clip of an archive is copied out of it when its bucket is worked on, and no other member is.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from avsl_data.archives import Archive
from avsl_data.decode import BadMediaError, verify
from avsl_data.download import MIN_SHARE, Acquire
from avsl_data.errors import DataInputError
from avsl_data.failures import MISSING
from avsl_data.files import replacing
from avsl_data.ids import normalise
from avsl_data.ledger import OK, LedgerRow, failed_row, ok_row
from avsl_data.sources.folder import CLIP_SUFFIXES
from avsl_data.sources.pictures import AUDIO_SUFFIXES, FRAME_SUFFIXES, media_of
from avsl_data.sources.source import CatalogClip
from avsl_data.stills import SUFFIX as STILL_SUFFIX
from avsl_data.stills import join_still

logger = logging.getLogger(__name__)

WORK_FOLDER: Final = ".copies"
FRAME: Final = ".frame"
SOUND: Final = ".sound"
"""Ends of the keys of pictures and sounds; a video's key is its clip id."""

_KINDS: Final = {
    **dict.fromkeys(CLIP_SUFFIXES, ""),
    **dict.fromkeys(FRAME_SUFFIXES, FRAME),
    **dict.fromkeys(AUDIO_SUFFIXES, SOUND),
}


def key_of(name: str) -> str | None:
    """Tell which clip a file is for, and what of it.

    Parameters
    ----------
    name
        Path or name of a file, in any spelling of the id.

    Returns
    -------
    str or None
        The clip id of a video, with `FRAME` or `SOUND` behind it that of a picture or a sound; None if the
        file is none of them or its name is no clip id.

    Examples
    --------
    >>> key_of("video/n88E2blrCiU_185000_195000.mp4")
    'n88E2blrCiU_000185'
    >>> key_of("Data/3/10000130166.jpg")
    '10000130166.frame'
    >>> key_of("notes.txt")
    """
    stem, suffix = os.path.splitext(os.path.basename(name))  # noqa: PTH119, PTH122 - names, not paths here
    kind = _KINDS.get(suffix.lower())
    if kind is None:
        return None
    try:
        return normalise(stem) + kind
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
        The file of each key of `key_of`. Of two files with one key the first in the order of their paths
        counts.

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
            key = key_of(name)
            if key is None:
                continue
            twice += key in files
            files.setdefault(key, Path(root, name))
    if twice:
        logger.warning("%s holds %d files for clips that another of its files is for already", folder, twice)
    return files


def _is_still(clip: CatalogClip) -> bool:
    """Tell whether a clip may be a picture and a sound: its set has no videos.

    A video's clip is never taken from a picture that somebody cut: nothing says from which time it is.
    """
    return urlsplit(clip.url).scheme == "folder"


def _joined(clip: CatalogClip, frame: Path, sound: Path, target: Path) -> LedgerRow:
    """Make one file of a clip's picture and its sound and return its row."""
    try:
        with replacing(target) as temporary:
            join_still(frame, sound, clip.start_s, clip.end_s, temporary)
            facts = verify(temporary)
    except BadMediaError as error:
        return failed_row(clip, error.reason, error.detail, 1)
    return ok_row(clip, target, min(facts.video_s, facts.audio_s), 1)


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
    root
        The folder.
    files
        The file of each key of `key_of`.
    clips
        The bucket's folder of clips, for pictures and sounds that are joined to one file; None refuses them.
    """

    root: Path
    files: dict[str, Path]
    clips: Path | None = None

    @classmethod
    def of(cls, folder: Path, clips: Path | None = None) -> FromFolder:
        """Find the clips of a folder.

        Parameters
        ----------
        folder
            The folder.
        clips
            The bucket's folder of clips.

        Returns
        -------
        FromFolder
            Knows every clip in it.
        """
        return cls(folder, find_clips(folder), clips)

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        for clip in video:
            yield self._look(clip)

    def _look(self, clip: CatalogClip) -> LedgerRow:
        path = self.files.get(clip.clip_id)
        if path is not None:
            return _verified(clip, path)
        media = media_of(clip.url)
        if media is not None:
            pair = (self.root / media.frame, self.root / media.audio)
        elif _is_still(clip):
            pair = (
                self.files.get(clip.clip_id + FRAME, Path()),
                self.files.get(clip.clip_id + SOUND, Path()),
            )
        else:
            return failed_row(clip, MISSING, f"no file is named {clip.clip_id}", 1)
        if self.clips is None or not all(part.is_file() for part in pair):
            return failed_row(clip, MISSING, f"no video, or picture and sound, is named {clip.clip_id}", 1)
        return _joined(clip, *pair, self.clips / f"{clip.clip_id}{STILL_SUFFIX}")

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:  # noqa: ARG002 - other ways go on from there
        """Remove what is left of joining."""
        if self.clips is not None:
            _remove_torn(self.clips)


def _remove_torn(folder: Path) -> None:
    """Remove the temporary files that a killed run left in a bucket's folder of clips."""
    for torn in folder.glob(".*.tmp"):
        torn.unlink()


@dataclass(frozen=True)
class FromArchives:
    """Take clips out of archives.

    Parameters
    ----------
    archives
        The archives, read by `avsl_data.archives.open_archive`.
    clips
        The bucket's folder of clips.
    """

    archives: Sequence[Archive]
    clips: Path

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        for clip in video:
            yield self._look(clip)

    def _look(self, clip: CatalogClip) -> LedgerRow:
        still = _is_still(clip)
        for target in (self.clips / f"{clip.clip_id}{suffix}" for suffix in (".mp4", STILL_SUFFIX)):
            if target.is_file():  # of a run whose journal is lost
                row = _verified(clip, target)
                if row.status == OK:
                    return row
        for archive in self.archives:
            if clip.clip_id in archive.members:
                with self._copied(archive, clip.clip_id) as copy:
                    return _verified(clip, copy, self.clips / f"{clip.clip_id}.mp4")
            frame, sound = clip.clip_id + FRAME, clip.clip_id + SOUND
            if still and frame in archive.members and sound in archive.members:
                with self._copied(archive, frame) as picture, self._copied(archive, sound) as wave:
                    return _joined(clip, picture, wave, self.clips / f"{clip.clip_id}{STILL_SUFFIX}")
        return failed_row(clip, MISSING, self._absence(clip), 1)

    @contextmanager
    def _copied(self, archive: Archive, key: str) -> Iterator[Path]:
        """Give a copy of a member while the block runs."""
        copy = self.clips / WORK_FOLDER / key
        copy.parent.mkdir(parents=True, exist_ok=True)
        archive.copy_out(key, copy)
        try:
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def _absence(self, clip: CatalogClip) -> str:
        faults = [f"{archive.path.name}: {archive.fault}" for archive in self.archives if archive.fault]
        text = f"no member is named {clip.clip_id}"
        return f"{text}; {'; '.join(faults)}" if faults else text

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:  # noqa: ARG002 - other ways go on from there
        """Remove what is left of copying and joining."""
        shutil.rmtree(self.clips / WORK_FOLDER, ignore_errors=True)
        _remove_torn(self.clips)


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
