"""The audit of a list: what it shares with test sets, what it lacks, and what is broken in it.

A clip of a training list leaks from a test set in one of three ways, each wider than the one before:

- **same clip**: the id is in the test set;
- **same seconds**: it is of the same video and overlaps a test clip in time;
- **same video**: it is of the same video, at any time. The scene, the people and the microphone are the same,
  which is why splits exclude at this level.

Clips of VGGSound are ten seconds long. A Flickr video is one clip. Sets of pictures are compared by video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avsl_data.clip_table import codes_of
from avsl_data.published_lists import NamedClips
from avsl_data.sources.vggss import CLIP_S

SCHEMA: Final = "avsl-audit/1"
MAX_START_S: Final = 10**6
_TIMED: Final = r"\A.+_[0-9]{6}\z"
_NUMBER: Final = r"\A[0-9]{8,12}\z"


@dataclass(frozen=True)
class ListFacts:
    """What is known of a list by itself.

    Parameters
    ----------
    name
        Its name.
    lines
        Lines that name a clip, or try to.
    clips, videos
        Different clips and videos.
    duplicates
        Lines that repeat a clip.
    malformed
        Lines that hold no clip.
    unknown
        Clips that the table of known clips lacks; None without such a table.
    """

    name: str
    lines: int
    clips: int
    videos: int
    duplicates: int
    malformed: int
    unknown: int | None


@dataclass(frozen=True)
class Leak:
    """What a list shares with a test set; counts are of different clips of the list.

    Parameters
    ----------
    list_name, test
        Names of both.
    test_clips
        Different clips of the test set.
    same_clip
        Clips of the list that are in the test set.
    same_seconds
        Clips that overlap a test clip in time; None where times are not known.
    clips_of_test_videos
        Clips whose video is in the test set.
    shared_videos
        Videos of both.
    classes
        Classes of the test set; None where it has none.
    covered
        Those of which the list has a clip; None where no class of the list is known.
    uncovered
        The others, by name.
    labels_known
        Clips of the list whose class is known; where they are fewer than the list's clips, more classes may
        be covered.
    ids : pyarrow.Array of string
        The clips whose video is in the test set, sorted.
    """

    list_name: str
    test: str
    test_clips: int
    same_clip: int
    same_seconds: int | None
    clips_of_test_videos: int
    shared_videos: int
    classes: int | None
    covered: int | None
    uncovered: tuple[str, ...]
    labels_known: int
    ids: pa.Array

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON values, without the ids."""
        return {name: value for name, value in vars(self).items() if name != "ids"}


def facts_of(clips: NamedClips, known: pa.Array | pa.ChunkedArray | None = None) -> ListFacts:
    """Count what a list holds.

    Parameters
    ----------
    clips
        The list, with its faults.
    known : [m] of string, optional
        Every clip id that exists.

    Returns
    -------
    ListFacts
        The counts.
    """
    ids = clips.table["clip_id"]
    n_clips = _count_distinct(ids)
    unknown = None
    if known is not None:
        unknown = int(pc.count_distinct(ids.filter(pc.invert(pc.is_in(ids, known)))).as_py())
    return ListFacts(
        clips.name,
        len(ids) + len(clips.faults),
        n_clips,
        int(pc.count_distinct(clips.table["video_id"]).as_py()),
        len(ids) - n_clips,
        len(clips.faults),
        unknown,
    )


def _count_distinct(ids: pa.ChunkedArray) -> int:
    growing = pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))
    if pc.all(growing).as_py() in (True, None):
        return len(ids)  # as a sorted catalog is
    return int(pc.count_distinct(ids).as_py())


def find_leaks(clips: NamedClips, test: NamedClips, labels: pa.Table | None = None) -> Leak:
    """Compare a list with a test set.

    Parameters
    ----------
    clips, test
        The list and the test set.
    labels : pyarrow.Table, optional
        Columns ``clip_id`` and ``label`` for clips whose class the lists themselves do not tell.

    Returns
    -------
    Leak
        Counts, and the ids that leak by video.
    """
    ids, videos = clips.table["clip_id"], clips.table["video_id"]
    of_test = pc.is_in(videos, test.table["video_id"])
    leaked, first = _distinct(ids.filter(of_test))
    leaked_videos = videos.filter(of_test).take(pa.array(first))
    same = pc.is_in(leaked, test.table["clip_id"])
    classes = _classes(test, labels)
    uncovered, labels_known = _coverage(clips, classes, labels)
    return Leak(
        clips.name,
        test.name,
        _count_distinct(test.table["clip_id"]),
        int(pc.sum(same).as_py() or 0),
        _overlapping(leaked, leaked_videos, test),
        len(leaked),
        int(pc.count_distinct(leaked_videos).as_py()),
        len(classes) or None,
        len(classes) - len(uncovered) if labels_known else None,
        uncovered,
        labels_known,
        leaked.take(pc.sort_indices(leaked)),
    )


def _distinct(ids: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return different ids and the position of each one's first occurrence."""
    (numbers,), names = codes_of(ids)
    return names, np.unique(numbers, return_index=True)[1].astype(np.int64)


def _overlapping(ids: pa.Array, videos: pa.ChunkedArray, test: NamedClips) -> int | None:
    """Count the clips that overlap a test clip of the same video."""
    known, known_videos = test.table["clip_id"], test.table["video_id"]
    if pc.all(pc.match_substring_regex(known, _NUMBER)).as_py():
        return int(pc.sum(pc.is_in(ids, known)).as_py() or 0)
    for names, of in ((ids, videos), (known, known_videos)):
        timed = pc.and_(
            pc.match_substring_regex(names, _TIMED), pc.equal(pc.utf8_slice_codeunits(names, 0, -7), of)
        )
        if pc.all(timed).as_py() is False:
            return None
    (ours, theirs), _ = codes_of(videos, known_videos)
    # A place on one line per video: clips of different videos are farther apart than any clip is long.
    line = 2 * MAX_START_S
    taken = np.sort(theirs * line + _starts(known))
    place = ours * line + _starts(ids)
    after = np.searchsorted(taken, place - CLIP_S, side="right")
    before = np.searchsorted(taken, place + CLIP_S, side="left")
    return int((before > after).sum())


def _starts(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.cast(pc.utf8_slice_codeunits(ids, -6), pa.int64()))


def _labels_of(clips: NamedClips, labels: pa.Table | None) -> pa.ChunkedArray:
    """Return the class of each clip, its own or else the known one, null where there is none."""
    own = pc.if_else(pc.equal(clips.table["label"], ""), pa.scalar(None, pa.string()), clips.table["label"])
    if labels is None or not own.null_count:
        return own
    places = pc.index_in(clips.table["clip_id"], labels["clip_id"].combine_chunks())
    return pc.coalesce(own, labels["label"].combine_chunks().take(places))


def _classes(test: NamedClips, labels: pa.Table | None) -> pa.Array:
    return pc.unique(pc.drop_null(_labels_of(test, labels)))


def _coverage(clips: NamedClips, classes: pa.Array, labels: pa.Table | None) -> tuple[tuple[str, ...], int]:
    """Return the classes that a list has no clip of, and of how many of its clips the class is known."""
    if not len(classes):
        return (), 0
    own = _labels_of(clips, labels)
    n_known = len(own) - own.null_count
    if not n_known:
        return (), 0
    return tuple(sorted(set(classes.to_pylist()) - set(pc.unique(own).to_pylist()))), n_known


def classes_text(leak: Leak, facts: ListFacts) -> str:
    """Return the covered classes as text.

    Parameters
    ----------
    leak, facts
        Of the same list.

    Returns
    -------
    str
        Such as ``101 of 110``; ``>= 101 of 110`` where some classes of the list are not known; ``-`` where
        none is.
    """
    if leak.covered is None or leak.classes is None:
        return "-"
    at_least = (
        ">= " if leak.labels_known < facts.lines - facts.malformed and leak.covered < leak.classes else ""
    )
    return f"{at_least}{leak.covered:,} of {leak.classes:,}"


HEADER: Final = (
    "list",
    "test set",
    "same clip",
    "same seconds",
    "same video",
    "shared videos",
    "classes covered",
)


def table_rows(facts: Sequence[ListFacts], leaks: Sequence[Leak]) -> list[tuple[str, ...]]:
    """Return what a table of leaks shows, as text.

    Parameters
    ----------
    facts, leaks
        Of the same lists.

    Returns
    -------
    list of tuple of str
        One row per leak, in the columns of `HEADER`.
    """
    by_name = {item.name: item for item in facts}
    return [
        (
            leak.list_name,
            f"{leak.test} ({leak.test_clips:,})",
            f"{leak.same_clip:,}",
            "-" if leak.same_seconds is None else f"{leak.same_seconds:,}",
            f"{leak.clips_of_test_videos:,}",
            f"{leak.shared_videos:,}",
            classes_text(leak, by_name[leak.list_name]),
        )
        for leak in leaks
    ]


def fact_rows(facts: Sequence[ListFacts]) -> list[tuple[str, ...]]:
    """Return what a table of lists shows, as text.

    Parameters
    ----------
    facts
        Of some lists.

    Returns
    -------
    list of tuple of str
        One row per list, in the columns of `FACT_HEADER`.
    """
    return [
        (
            item.name,
            *(f"{n:,}" for n in (item.lines, item.clips, item.videos, item.duplicates, item.malformed)),
            "-" if item.unknown is None else f"{item.unknown:,}",
        )
        for item in facts
    ]


FACT_HEADER: Final = ("list", "lines", "clips", "videos", "repeated", "malformed", "unknown")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right.

    Parameters
    ----------
    header, rows
        Text of the cells.

    Returns
    -------
    str
        Lines with a final newline.
    """
    marks = ["---" if column < 1 else "--:" for column in range(len(header))]
    lines = [header, marks, *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in columns of equal width.

    Parameters
    ----------
    header, rows
        Text of the cells.

    Returns
    -------
    str
        Lines with a final newline.
    """
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if at < 1 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        + "\n"
        for cells in (header, *rows)
    )
