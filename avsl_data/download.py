"""Stage 2: from a catalog's bucket to verified clips and a ledger.

Videos are fetched whole, once each, and their clips are cut from them. Every clip is decoded to its end
before it counts. A clip that cannot be had is a row with a reason, and the run goes on; only a server that
refuses everything ends the run, and then nothing that was not tried is marked.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from avsl_data.decode import (
    AAC_ARGUMENTS,
    H264_ARGUMENTS,
    BadMediaError,
    MediaFacts,
    check_region,
    media_url,
    probe,
    require_streams,
    run_ffmpeg,
    verify,
)
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.failures import TRANSIENT
from avsl_data.fetch import FetchFailedError, FetchPolicy, fetch_video, work_folder
from avsl_data.files import replacing
from avsl_data.ledger import FAILED, Journal, LedgerRow, bucket_lock, failed_row, ok_row, write_ledger
from avsl_data.progress import Progress
from avsl_data.sources.folder import clip_files
from avsl_data.sources.source import CatalogClip

logger = logging.getLogger(__name__)

MIN_SHARE: Final = 0.9
"""Share of a clip's length that its picture and its sound must last."""

MAX_TRANSIENT_IN_A_ROW: Final = 10
"""After so many videos in a row that failed for the network's sake, it is the network."""

WORK_FOLDER: Final = ".work"


Acquire = Callable[[Sequence[CatalogClip]], Iterator[LedgerRow]]
"""Gets the clips of one video and yields a row for each, in any order, as they are done."""


def download_bucket(
    clips: Sequence[CatalogClip], acquire: Acquire, ledger: Path, what: str = "download"
) -> dict[str, int]:
    """Get every clip of a bucket that is not settled yet, then write the ledger.

    Parameters
    ----------
    clips
        The bucket's clips.
    acquire
        How to get the clips of a video: `FromNetwork` or `FromFolder`.
    ledger
        The Parquet file; the journal and the lock lie beside it.
    what
        Name of the work, for the progress display.

    Returns
    -------
    dict of str to int
        Number of clips by how they ended (``ok`` or failure class), and ``resumed``: those settled before.

    Raises
    ------
    StopEverythingError
        If the server refuses everything; the same call continues later.
    DataInputError
        If another process works on the bucket.
    """
    with bucket_lock(ledger.with_suffix(".lock")):
        journal = Journal(ledger.with_suffix(".jsonl"))
        pending = [clip for clip in clips if not journal.settled(clip)]
        with Progress(len(pending), what) as progress:
            transient_in_a_row = 0
            for video in _videos(pending):
                rows = list(_record(video, acquire, journal, progress))
                failed = all(row.reason == TRANSIENT for row in rows)
                transient_in_a_row = transient_in_a_row + 1 if failed else 0
                if transient_in_a_row == MAX_TRANSIENT_IN_A_ROW:
                    raise StopEverythingError(
                        f"{transient_in_a_row} videos in a row failed for the network's sake, "
                        f"the last: {rows[-1].detail}"
                    )
        rows = [row for clip in clips if (row := journal.row(clip)) is not None]
        write_ledger(ledger, rows)
    counts: dict[str, int] = {"resumed": len(clips) - len(pending)}
    for row in rows:
        kind = row.reason if row.status == FAILED and row.reason else row.status
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _videos(clips: Sequence[CatalogClip]) -> Iterator[list[CatalogClip]]:
    """Group clips by their video's address, in the order of the ids."""
    ordered = sorted(clips, key=lambda clip: (clip.video_id, clip.url, clip.clip_id))
    for _, group in groupby(ordered, key=lambda clip: (clip.video_id, clip.url)):
        yield list(group)


def _record(
    video: Sequence[CatalogClip], acquire: Acquire, journal: Journal, progress: Progress
) -> Iterator[LedgerRow]:
    """Get a video's clips and write each row down as it comes."""
    by_id = {clip.clip_id: clip for clip in video}
    for row in acquire(video):
        clip = by_id[row.clip_id]
        journal.append(clip, row)
        progress.step(row.reason or row.status)
        yield row


@dataclass(frozen=True)
class FromNetwork:
    """Get clips by fetching their video and cutting them from it.

    Parameters
    ----------
    folder
        The bucket's folder of clips.
    policy
        How hard to try.
    base_url
        What ``demo://`` addresses are relative to; None if nothing serves them.
    """

    folder: Path
    policy: FetchPolicy
    base_url: str | None = None

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        # Named by the catalog's address: a loopback server has another port in every run.
        work = work_folder(video[0].url, self.folder / WORK_FOLDER)
        try:
            source, attempts = fetch_video(self.resolve(video[0].url), work, self.policy)
        except FetchFailedError as error:
            detail = error.failure.detail.replace(self.base_url or "\0", "demo://")
            for clip in video:
                yield failed_row(clip, error.failure.reason, detail, error.attempts)
            return
        yield from self._cut_all(video, source, attempts)
        shutil.rmtree(work)

    def resolve(self, url: str) -> str:
        """Return the address to fetch.

        Parameters
        ----------
        url
            Address of the catalog.

        Returns
        -------
        str
            An ``http`` or ``https`` address.

        Raises
        ------
        DataInputError
            If the address is one of the demo's or of a folder and nothing serves it.
        """
        parts = urlsplit(url)
        if parts.scheme == "folder":
            raise DataInputError(f"the clips of this catalog lie in a folder ({url}): add --from-folder DIR")
        if parts.scheme != "demo":
            return url
        if self.base_url is None:
            raise DataInputError(f"the clips of this catalog are the demo's ({url}): add --site DIR")
        return f"{self.base_url}{parts.path}"

    def _cut_all(self, video: Sequence[CatalogClip], source: Path, attempts: int) -> Iterator[LedgerRow]:
        try:
            facts = probe(source)
            require_streams(facts)
        except BadMediaError as error:
            for clip in video:
                yield failed_row(clip, error.reason, error.detail, attempts)
            return
        for clip in video:
            path = self.folder / f"{clip.clip_id}.mp4"
            try:
                duration_s = cut_clip(source, facts, clip, path)
            except BadMediaError as error:
                yield failed_row(clip, error.reason, error.detail, attempts)
            else:
                yield ok_row(clip, path, duration_s, attempts)


def cut_clip(source: Path, facts: MediaFacts, clip: CatalogClip, path: Path) -> float:
    """Cut a clip from its video, exactly and re-encoded, and verify it.

    Parameters
    ----------
    source
        The whole video.
    facts
        From `probe`.
    clip
        Its start and end; None as its end means the end of the video.
    path
        The clip's file; absent unless the clip is good.

    Returns
    -------
    float
        Seconds of the shorter one of picture and sound.

    Raises
    ------
    BadMediaError
        If the video ends too early or the clip cannot be decoded.
    """
    length: dict[str, float] = {} if clip.end_s is None else {"t": clip.end_s - clip.start_s}
    min_s = MIN_SHARE * length.get("t", 0.0)
    promised_s = min(facts.video_s, facts.audio_s)
    if 0 < promised_s < clip.start_s + min_s:
        raise BadMediaError(
            "too_short", f"the video lasts {promised_s:.2f} s, the clip starts at {clip.start_s:g} s"
        )
    with replacing(path, work=source.parent) as temporary:
        cut = _cut_arguments(source, facts, clip.start_s, length, temporary)
        try:
            run_ffmpeg(cut)
        except BadMediaError:
            # ffmpeg reads ahead, and what is broken may come after the clip: whether it gets there is chance.
            check_region(source, clip.start_s, promised_s if clip.end_s is None else clip.end_s)
            run_ffmpeg(cut, strict=False)
        found = _verify_cut(temporary, min_s, clip)
    return min(found.video_s, found.audio_s)


def _cut_arguments(
    source: Path, facts: MediaFacts, start_s: float, length: dict[str, float], target: Path
) -> Any:
    """Compose the ffmpeg call of a cut."""
    import ffmpeg

    media = ffmpeg.input(media_url(source), ss=start_s, threads=1, **length)
    picture = media["v:0"]
    if facts.width % 2 or facts.height % 2:  # H.264 with 4:2:0 colour needs even sizes
        picture = picture.filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2")
    return ffmpeg.output(
        picture,
        media["a:0"],
        media_url(target),
        format="mp4",
        **H264_ARGUMENTS,
        **AAC_ARGUMENTS,
    )


def _verify_cut(path: Path, min_s: float, clip: CatalogClip) -> MediaFacts:
    """Verify a cut; a stream that the whole video has but the cut lacks means that the video breaks off."""
    try:
        return verify(path, min_s)
    except BadMediaError as error:
        if error.reason not in {"no_video", "no_audio"}:
            raise
        detail = f"the video's header promises more than it holds from {clip.start_s:g} s on: {error.detail}"
        raise BadMediaError("damaged", detail) from error


@dataclass(frozen=True)
class FromFolder:
    """Take clips that already lie in a folder: decode them where they are, copy nothing.

    Parameters
    ----------
    files
        The file of each clip id, from `avsl_data.sources.folder.clip_files`.
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
        if not folder.is_dir():
            raise DataInputError(f"--from-folder {folder} is no folder")
        return cls(clip_files(folder))

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        for clip in video:
            yield self._look(clip)

    def _look(self, clip: CatalogClip) -> LedgerRow:
        path = self.files.get(clip.clip_id)
        if path is None:
            return failed_row(clip, "missing", f"no file is named {clip.clip_id}", 1)
        try:
            facts = verify(path, 0.0 if clip.end_s is None else MIN_SHARE * (clip.end_s - clip.start_s))
        except BadMediaError as error:
            return failed_row(clip, error.reason, error.detail, 1)
        return ok_row(clip, path, min(facts.video_s, facts.audio_s), 1)
