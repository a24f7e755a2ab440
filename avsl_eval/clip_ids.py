"""Clip ids: what is refused, and which of the field's other spellings a stranger may be."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from avsl_eval.errors import EvalInputError, first_few

_SUFFIX = re.compile(r"\.(npy|npz|mp4|mkv|webm|avi|wav|flac|jpe?g|png|xml|json)$", re.IGNORECASE)
_MILLISECONDS = re.compile(r"^(?P<video>.+)_(?P<start>\d+)_(?P<end>\d+)$")
_SECONDS = re.compile(r"^(?P<video>.+)[_,](?P<start>\d{1,5})(\.0+)?$")

MOST_IDS = 10_000_000
"""Fifty times VGGSound; a file that says it has more is damaged."""

LONGEST_ID = 200
"""Characters; file systems allow 255 bytes of a name, suffix included."""


def check_clip_ids(clip_ids: Iterable[str], where: str) -> tuple[str, ...]:
    """Check that ids are unique and cannot be taken for paths.

    Parameters
    ----------
    clip_ids
        Ids as read.
    where
        The file, for the message.

    Returns
    -------
    tuple of str
        The ids.

    Raises
    ------
    EvalInputError
        If there is none, one is empty, like a path, not printable or too long, or some occur twice.

    Examples
    --------
    >>> check_clip_ids(["a_000001", "b_000002"], "x.npz")
    ('a_000001', 'b_000002')
    """
    ids = tuple(clip_ids)
    if not ids:
        raise EvalInputError(f"{where} holds no clip at all; was it written by a run that was interrupted?")
    if len(ids) > MOST_IDS:
        raise EvalInputError(f"{where} holds {len(ids)} clips; at most {MOST_IDS}")
    problems = []
    # No message repeats an id whole that may be as long as the file.
    if not _are_bare(ids) and (
        bad := [clip_id for clip_id in ids if len(clip_id) <= LONGEST_ID and not _is_bare(clip_id)]
    ):
        problems.append(
            f"{where}: clip id {bad[0]!r} is empty, a path, or not printable"
            f"{f', and {len(bad) - 1} others are' if len(bad) > 1 else ''}; "
            "write the bare id, without folder and suffix"
        )
    if long := [clip_id for clip_id in ids if len(clip_id) > LONGEST_ID]:
        problems.append(
            f"{where}: {len(long)} clip ids are longer than {LONGEST_ID} characters, the first begins with "
            f"{long[0][:40]!r}; are these ids?"
        )
    if len(set(ids)) < len(ids):
        twice = [clip_id[:LONGEST_ID] for clip_id, n in Counter(ids).items() if n > 1]
        problems.append(
            f"{where}: {len(twice)} clip ids occur more than once: "
            f"{first_few(map(_shown, twice))}; keep one of each"
        )
    if problems:
        raise EvalInputError.of(problems)
    return ids


def _is_bare(clip_id: str) -> bool:
    return clip_id not in {"", ".", ".."} and clip_id.isprintable() and not {"/", "\\"} & set(clip_id)


def _are_bare(clip_ids: Collection[str]) -> bool:
    """Say whether all are bare, all at once."""
    together = "".join(clip_ids)
    return together.isprintable() and not {"/", "\\"} & set(together) and not {"", ".", ".."} & set(clip_ids)


def _shown(clip_id: str) -> str:
    return clip_id if clip_id.isprintable() else repr(clip_id)


def other_spellings(clip_id: str) -> list[str]:
    """List the VGG-SS spellings that an id of another habit may stand for.

    Parameters
    ----------
    clip_id
        An id that no annotation has.

    Returns
    -------
    list of str
        Candidates, without the id itself.

    Examples
    --------
    >>> other_spellings("dQw4w9WgXcQ_30000_40000.mp4")
    ['dQw4w9WgXcQ_30000_40000', 'dQw4w9WgXcQ_000030']
    >>> other_spellings("dQw4w9WgXcQ,30"), other_spellings("dQw4w9WgXcQ_000030.jpg")
    (['dQw4w9WgXcQ_000030'], ['dQw4w9WgXcQ_000030'])
    """
    name = re.split(r"[/\\]", clip_id)[-1]
    bare = _SUFFIX.sub("", name)
    found = [bare]
    if match := _MILLISECONDS.match(bare):
        found.append(f"{match['video']}_{int(match['start']) // 1000:06d}")
    elif match := _SECONDS.match(bare):
        found.append(f"{match['video']}_{int(match['start']):06d}")
    return [candidate for candidate in found if candidate != clip_id]


def spelling_hint(strangers: Iterable[str], wanted: Iterable[str]) -> str:
    """Guess from one example how ids have to be respelt.

    Parameters
    ----------
    strangers
        Ids that match nothing.
    wanted
        Ids that should have been matched.

    Returns
    -------
    str
        A sentence for an error message, empty if nothing fits.

    Examples
    --------
    >>> spelling_hint(["a_30000_40000"], ["a_000030"]).split(":")[0]
    "the same clip seems to be 'a_30000_40000' in the predictions and 'a_000030' in the annotations"
    """
    targets = set(wanted)
    strange = []
    for stranger in strangers:
        for candidate in other_spellings(stranger):
            if candidate in targets:
                return (
                    f"the same clip seems to be {stranger!r} in the predictions and {candidate!r} in the "
                    "annotations: respell the ids"
                )
        if not stranger.isascii():
            strange.append(stranger)
    if strange and all(target.isascii() for target in targets):
        odd = next(c for c in strange[0] if not c.isascii())
        return (
            f"{strange[0]!r} holds the character {odd!r} ({unicodedata.name(odd, 'without name')}), which no "
            "annotated id has: was it typed, or copied from a formatted text?"
        )
    return ""
