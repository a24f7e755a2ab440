"""Stage 2: from a catalog's bucket to verified clips and a ledger.

Videos are fetched whole, once each, and their clips are cut from them. Every clip is decoded to its end
before it counts. A clip that cannot be had is a row with a reason, and the run goes on; only a server that
refuses everything ends the run, and then nothing that was not tried is marked.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

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
from avsl_data.ledger import (
    FAILED,
    Journal,
    LedgerRow,
    bucket_lock,
    failed_row,
    ok_row,
    stop_recorded,
    write_ledger,
)
from avsl_data.pace import host_of
from avsl_data.progress import Progress
from avsl_data.sources.source import CatalogClip

logger = logging.getLogger(__name__)

MIN_SHARE: Final = 0.9
"""Share of a clip's length that its picture and its sound must last."""

MAX_TRANSIENT_IN_A_ROW: Final = 10
"""After so many videos in a row that failed for the network's sake, it is the network."""

WORK_FOLDER: Final = ".work"


class Acquire(Protocol):
    """A way to get clips: from the network, a folder, archives, or several in turn."""

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Get the clips of one video and yield a row for each, in any order, as they are done."""

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:
        """Remove what is left of earlier work, except for what these clips go on from."""


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
    with bucket_lock(ledger.with_suffix(".lock")), stop_recorded(ledger):
        for torn in ledger.parent.glob(f".{ledger.name}.*.tmp"):  # of a run that was killed while it wrote
            torn.unlink()
        journal = Journal(ledger.with_suffix(".jsonl"))
        pending = [clip for clip in clips if not journal.settled(clip)]
        with Progress(len(pending), what) as progress:
            _get_all(pending, acquire, journal, progress)
        rows = [row for clip in clips if (row := journal.row(clip)) is not None]
        acquire.tidy([clip for clip, row in zip(clips, rows, strict=True) if row.reason == TRANSIENT])
        write_ledger(ledger, rows)
    counts: dict[str, int] = {"resumed": len(clips) - len(pending)}
    for row in rows:
        kind = row.reason if row.status == FAILED and row.reason else row.status
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _get_all(pending: Sequence[CatalogClip], acquire: Acquire, journal: Journal, progress: Progress) -> None:
    """Get clips, video by video, until all are done or the network is dead."""
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
    for found in acquire(video):
        clip = by_id[found.clip_id]
        before = journal.row(clip)
        earlier = before.attempts if before is not None and before.reason == TRANSIENT else 0
        row = dataclasses.replace(found, attempts=found.attempts + earlier)
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
    video_url
        Address of every video, with ``{video_id}`` in it; None: the catalog's.
    """

    folder: Path
    policy: FetchPolicy
    base_url: str | None = None
    video_url: str | None = None

    def __post_init__(self) -> None:
        url = self.video_url
        if url is not None and ("{video_id}" not in url or urlsplit(url).scheme not in {"http", "https"}):
            raise DataInputError(
                f"--video-url {url} is no address with {{video_id}} in it, such as https://HOST/{{video_id}}.mp4"
            )

    def forget_pauses(self, clips: Sequence[CatalogClip]) -> None:
        """Go on although the hosts of these clips asked for a pause."""
        for url in {host_of(url): url for clip in clips if (url := self.resolve(clip))}.values():
            self.policy.pace(url).forget_pause()

    def __call__(self, video: Sequence[CatalogClip]) -> Iterator[LedgerRow]:
        """Yield the rows of one video's clips."""
        # Named by the catalog's address: a loopback server has another port in every run.
        work = work_folder(video[0].url, self.folder / WORK_FOLDER)
        try:
            source, attempts = fetch_video(self.resolve(video[0]), work, self.policy)
        except FetchFailedError as error:
            detail = error.failure.detail.replace(self.base_url or "\0", "demo://")
            for clip in video:
                yield failed_row(clip, error.failure.reason, detail, error.attempts)
            return
        yield from self._cut_all(video, source, attempts)
        shutil.rmtree(work)

    def tidy(self, unfinished: Sequence[CatalogClip]) -> None:
        """Remove unfinished work, except for the videos of some clips."""
        root = self.folder / WORK_FOLDER
        kept = {work_folder(clip.url, root) for clip in unfinished}
        for work in root.glob("*"):
            if work not in kept:
                shutil.rmtree(work)
        if root.is_dir() and not kept:
            root.rmdir()

    def resolve(self, clip: CatalogClip) -> str:
        """Return the address to fetch a clip's video from.

        Parameters
        ----------
        clip
            The clip.

        Returns
        -------
        str
            An ``http`` or ``https`` address.

        Raises
        ------
        DataInputError
            If the address is one of the demo's or of a folder and nothing serves it.
        """
        if self.video_url is not None:
            return self.video_url.replace("{video_id}", quote(clip.video_id, safe=""))
        url = clip.url
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
            page = _is_page(source)
            reason = "no_video" if page else error.reason
            detail = "the server sent a page, not a video" if page else error.detail
            for clip in video:
                yield failed_row(clip, reason, detail, attempts)
            return
        for clip in video:
            path = self.folder / f"{clip.clip_id}.mp4"
            try:
                duration_s = cut_clip(source, facts, clip, path)
            except BadMediaError as error:
                yield failed_row(clip, error.reason, error.detail, attempts)
            else:
                yield ok_row(clip, path, duration_s, attempts)


def _is_page(path: Path) -> bool:
    """Tell whether a file is HTML: what a server sends that answers every request with a page."""
    from yt_dlp.utils import is_html

    with path.open("rb") as file:
        return bool(is_html(file.read(512)))


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
