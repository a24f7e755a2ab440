"""Published lists beside the boxes: silent pairs that extend a test set, and ids that restrict it.

**Extended sets** (SLAVC, Mo & Morgado 2022): ``vggss_test_plus_silent.csv`` and
``flickr_test_plus_silent.csv`` (header ``video,audio,label``) list only the negatives: as many as the test
set has clips. Where video and audio differ, the sound is that of another clip (``mismatched``); where they
are equal, the video is silent. A pair's clip id is ``<video>+<audio>``, because the picture alone is a clip
of the test set already.

**Restricted sets**: one id per line, or the first column of a CSV. Published lists spell ids in four ways
(``ID_000030``, ``ID_000030.jpg``, ``ID_30000_40000``, ``ID,30``); all are understood.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from avsl_eval.clip_ids import check_clip_ids, other_spellings
from avsl_eval.errors import EvalInputError, brief, first_few
from avsl_eval.truth import AnnotatedClip, Annotations

PAIR = "+"
LARGEST_LIST = 256 * 1024**2
"""Bytes; VGGSound with labels has 8 MB."""


def extend(annotations: Annotations, path: Path) -> Annotations:
    """Add the silent pairs of a published list.

    Parameters
    ----------
    annotations
        The test set that the list extends.
    path
        The list.

    Returns
    -------
    Annotations
        With the pairs at the end, named ``<name>_plus_silent``.

    Raises
    ------
    EvalInputError
        If the list cannot be read, is another list, repeats a pair, or extends another test set.
    """
    rows = list(_rows(path))
    if not rows or rows[0] != ["video", "audio", "label"] or any(len(row) != 3 for row in rows):
        raise EvalInputError(
            f"{path} is no list of silent pairs: its header must be video,audio,label, as in SLAVC's "
            "*_plus_silent.csv"
        )
    known = {clip.clip_id for clip in annotations.clips}
    clips = []
    for video, audio, label in rows[1:]:
        if label != "non-sounding":
            raise EvalInputError(
                f"{path}: the pair {video},{audio} is labelled {label!r:.80}, not non-sounding"
            )
        kind = "silent" if video == audio else "mismatched"
        clips.append(AnnotatedClip(f"{video}{PAIR}{audio}", "", np.empty((0, 4)), silence=kind))
    foreign = [
        c.clip_id
        for c, row in zip(clips, rows[1:], strict=True)
        if c.silence == "mismatched" and row[0] not in known
    ]
    if foreign:
        raise EvalInputError(
            f"{path} extends another test set: {len(foreign)} of its pictures are not annotated "
            f"({first_few(foreign, 2)})"
        )
    every = (*annotations.clips, *clips)
    check_clip_ids((clip.clip_id for clip in every), str(path))
    n_mismatched = sum(clip.silence == "mismatched" for clip in clips)
    note = (
        f"{len(clips)} silent pairs of {path.name} are added: {n_mismatched} mismatched, "
        f"{len(clips) - n_mismatched} silent"
    )
    name = f"{annotations.name}_plus_silent" if annotations.name else ""
    return replace(annotations, clips=every, name=name, notes=(*annotations.notes, note))


def restrict(annotations: Annotations, path: Path) -> Annotations:
    """Keep the clips of a published list.

    Parameters
    ----------
    annotations
        The test set.
    path
        The list of ids.

    Returns
    -------
    Annotations
        In the annotations' order, named ``<name>@<list>``.

    Raises
    ------
    EvalInputError
        If the list cannot be read, repeats an id, or names a clip that is not annotated.
    """
    known = {clip.clip_id for clip in annotations.clips}
    rows = [row for row in _rows(path) if row and row[0].strip()]
    listed = []
    strangers = []
    for row in rows:
        spellings = [row[0].strip(), *other_spellings(row[0].strip()), *other_spellings(",".join(row[:2]))]
        found = next((spelling for spelling in spellings if spelling in known), None)
        if found is None:
            strangers.append(row[0].strip())
        else:
            listed.append(found)
    if strangers:
        raise EvalInputError(
            f"{path} names {len(strangers)} of {len(rows)} clips that are not annotated: "
            f"{first_few([repr(s)[:80] for s in strangers])}; is it a list of another test set?"
        )
    wanted = set(check_clip_ids(listed, str(path)))
    clips = tuple(clip for clip in annotations.clips if clip.clip_id in wanted)
    note = f"restricted to the {len(clips)} of {len(annotations.clips)} clips that {path.name} lists"
    return replace(
        annotations,
        clips=clips,
        dropped=tuple(box for box in annotations.dropped if box.clip_id in wanted),
        name=f"{annotations.name}@{path.stem}",
        notes=(*annotations.notes, note),
    )


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise EvalInputError(f"the list {path} has more than {LARGEST_LIST} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file)
    except OSError as error:
        raise EvalInputError(f"cannot read the list {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvalInputError(f"the list {path} is no text of one clip per line: {brief(error)}") from error
