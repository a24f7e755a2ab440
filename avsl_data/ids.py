"""Clip ids: one spelling, split by position.

A clip id is ``<video id>_<start, six digits of whole seconds>``. Published lists use three spellings, which
`normalise` brings to this one:

- ``ID_000030`` (VGG-SS and most lists, also as a file name with ``.mp4`` or ``.jpg``),
- ``ID_30000_40000`` (start and end in milliseconds),
- ``ID,30`` (vggsound.csv).

YouTube's video ids are 11 characters, may hold ``-`` and ``_`` anywhere and may start with ``-``. They are
therefore told from the rest by position, never by splitting at ``_``. Ids become file names, so nothing but
letters, digits, ``-`` and ``_`` is accepted.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from avsl_data.errors import DataInputError

START_DIGITS: Final = 6
YOUTUBE_ID_LENGTH: Final = 11
MS_PER_S: Final = 1000

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLIP_ID = re.compile(r"[A-Za-z0-9_-]{1,64}_[0-9]{6}")
_TAIL_SECONDS = re.compile(r"_([0-9]{6})")
_TAIL_MILLISECONDS = re.compile(r"_([0-9]{1,9})_([0-9]{1,10})")
_TAIL_COMMA = re.compile(r",([0-9]{1,6})")
_FILE_SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".jpg", ".png", ".wav")


def make_clip_id(video_id: str, start_s: int) -> str:
    """Build the clip id of a video id and a start in whole seconds.

    Parameters
    ----------
    video_id
        Letters, digits, ``-`` and ``_``.
    start_s
        Whole seconds in [0, 999999].

    Returns
    -------
    str
        ``<video_id>_<start, six digits>``.

    Raises
    ------
    DataInputError
        If the video id could not be a file name or the start does not fit six digits.

    Examples
    --------
    >>> make_clip_id("-0BIyqJj9ZU", 30)
    '-0BIyqJj9ZU_000030'
    """
    if not _VIDEO_ID.fullmatch(video_id):
        raise DataInputError(
            f"video id {video_id!r} is not 1 to 64 letters, digits, '-' or '_': is the column right?"
        )
    if not 0 <= start_s < 10**START_DIGITS:
        raise DataInputError(
            f"start {start_s} s of video {video_id} does not fit six digits: is it in milliseconds?"
        )
    return f"{video_id}_{start_s:0{START_DIGITS}d}"


def normalise(spelling: str) -> str:
    """Bring any published spelling of a clip id to the one used here.

    Parameters
    ----------
    spelling
        One of the three spellings, perhaps with a file suffix and white space around it.

    Returns
    -------
    str
        ``<video id>_<start, six digits>``.

    Raises
    ------
    DataInputError
        If the text is none of the spellings.

    Examples
    --------
    >>> normalise("n88E2blrCiU_185000_195000")
    'n88E2blrCiU_000185'
    >>> normalise("---g-f_I2yQ,1")
    '---g-f_I2yQ_000001'
    >>> normalise("nqd6uO6hDSo_000030.jpg")
    'nqd6uO6hDSo_000030'
    """
    text = spelling.strip()
    for suffix in _FILE_SUFFIXES:
        text = text.removesuffix(suffix)
    head, tail = text[:YOUTUBE_ID_LENGTH], text[YOUTUBE_ID_LENGTH:]
    if match := _TAIL_SECONDS.fullmatch(tail):
        return make_clip_id(head, int(match[1]))
    if match := _TAIL_COMMA.fullmatch(tail):
        return make_clip_id(head, int(match[1]))
    if match := _TAIL_MILLISECONDS.fullmatch(tail):
        start_ms = int(match[1])
        if start_ms % MS_PER_S:
            raise DataInputError(f"clip {spelling!r} starts at {start_ms} ms, which is no whole second")
        return make_clip_id(head, start_ms // MS_PER_S)
    return check_clip_id(text)


def check_clip_id(clip_id: str) -> str:
    """Return the clip id if it is one, so that it may become a file name.

    Parameters
    ----------
    clip_id
        Text from a list or a table.

    Returns
    -------
    str
        The same text.

    Raises
    ------
    DataInputError
        If it is not ``<video id>_<six digits>``.

    Examples
    --------
    >>> check_clip_id("demo1a2b3c4_000002")
    'demo1a2b3c4_000002'
    """
    if not _CLIP_ID.fullmatch(clip_id):
        raise DataInputError(
            f"{clip_id!r} is no clip id: expected <video id>_<start, six digits>, such as -0BIyqJj9ZU_000030"
        )
    return clip_id


def video_id_of(clip_id: str) -> str:
    """Return the video id of a clip id.

    Parameters
    ----------
    clip_id
        A normalised clip id.

    Returns
    -------
    str
        All but the last seven characters.

    Examples
    --------
    >>> video_id_of("--_x-y_zABC_000120")
    '--_x-y_zABC'
    """
    return clip_id[: -START_DIGITS - 1]


def start_of(clip_id: str) -> int:
    """Return the start of a clip in whole seconds.

    Parameters
    ----------
    clip_id
        A normalised clip id.

    Returns
    -------
    int
        Seconds from the start of the video.

    Examples
    --------
    >>> start_of("--_x-y_zABC_000120")
    120
    """
    return int(clip_id[-START_DIGITS:])


def hash_of(*parts: object) -> int:
    """Hash some values to 64 bits, the same on every machine and in every process.

    Parameters
    ----------
    *parts
        Values; their ``str`` is hashed, joined by ``|``.

    Returns
    -------
    int
        In [0, 2**64): the first eight bytes of the SHA-256, big endian.

    Examples
    --------
    >>> hash_of("-0BIyqJj9ZU") % 16
    6
    """
    digest = hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def bucket_of(video_id: str, n_buckets: int) -> int:
    """Assign a video to a bucket; all clips of a video share one, and more videos move none.

    Parameters
    ----------
    video_id
        The video id.
    n_buckets
        Number of buckets, from 1.

    Returns
    -------
    int
        In [0, n_buckets).

    Examples
    --------
    >>> bucket_of("-0BIyqJj9ZU", 1)
    0
    """
    return hash_of(video_id) % n_buckets
