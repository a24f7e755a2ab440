"""Clip ids: one spelling, split by position.

A clip id is ``<video id>_<start, six digits of whole seconds>``. Published lists use three spellings, which
`normalise` brings to this one:

- ``ID_000030`` (VGG-SS and most lists, also as a file name with ``.mp4`` or ``.jpg``),
- ``ID_30000_40000`` (start and end in milliseconds),
- ``ID,30`` (vggsound.csv).

YouTube's video ids are 11 characters, may hold ``-`` and ``_`` anywhere and may start with ``-``. They are
therefore told from the rest by position, never by splitting at ``_``. Ids become file names, so nothing but
letters, digits, ``-`` and ``_`` is accepted.

Flickr's ids are the number of the video, 8 to 12 digits: clip and video are one. Test sets made of pictures
have ids of their own, which are only held to be safe (`check_safe_id`). A pair of one clip's frame with
another clip's sound is named by `pair_id`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from avsl_data.errors import DataInputError

START_DIGITS: Final = 6
YOUTUBE_ID_LENGTH: Final = 11
MS_PER_S: Final = 1000

PAIR_MARK: Final = "+"

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLIP_ID = re.compile(r"[A-Za-z0-9_-]{1,64}_[0-9]{6}")
_FLICKR_ID = re.compile(r"[0-9]{8,12}")
_SAFE_ID = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_+ -]{0,126}[A-Za-z0-9_+-])?")
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
            f"video id {shown(video_id)} is not 1 to 64 letters, digits, '-' or '_': is the column right?"
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
    >>> normalise("10000130166.wav")
    '10000130166'
    """
    text = spelling.strip(" \t\r\n")
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
            raise DataInputError(f"clip {shown(spelling)} starts at {start_ms} ms, which is no whole second")
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
        If it is neither ``<video id>_<six digits>`` nor a Flickr number.

    Examples
    --------
    >>> check_clip_id("demo1a2b3c4_000002")
    'demo1a2b3c4_000002'
    """
    if not (_CLIP_ID.fullmatch(clip_id) or _FLICKR_ID.fullmatch(clip_id)):
        raise DataInputError(
            f"{shown(clip_id)} is no clip id: expected <video id>_<start, six digits>, such as "
            "-0BIyqJj9ZU_000030, or the number of a Flickr video"
        )
    return clip_id


def check_safe_id(text: str) -> str:
    """Return an id if it may become a file name, whatever it says.

    Parameters
    ----------
    text
        Text from a list or a table.

    Returns
    -------
    str
        The same text: 1 to 128 letters, digits, ``-``, ``_``; not at its start ``+``, inside also spaces
        (two clips of IS3 have some).

    Raises
    ------
    DataInputError
        If it has another character or length.

    Examples
    --------
    >>> check_safe_id("accordion_female_10438_accordion")
    'accordion_female_10438_accordion'
    """
    if not _SAFE_ID.fullmatch(text):
        raise DataInputError(f"{shown(text)} is no clip id: expected 1 to 128 letters, digits, '-' and '_'")
    return text


def is_number(clip_id: str) -> bool:
    """Return whether an id is the number of a Flickr video.

    Parameters
    ----------
    clip_id
        A normalised clip id.

    Returns
    -------
    bool
        True for 8 to 12 digits.

    Examples
    --------
    >>> is_number("10000130166"), is_number("00000130166_000030")
    (True, False)
    """
    return _FLICKR_ID.fullmatch(clip_id) is not None


def pair_id(frame_of: str, audio_of: str) -> str:
    """Name the pair of one clip's frame with another clip's sound.

    Parameters
    ----------
    frame_of, audio_of
        Normalised clip ids; the same one twice for a clip that stands for itself as a negative.

    Returns
    -------
    str
        The two ids, joined by ``+``.

    Examples
    --------
    >>> pair_id("10000130166", "10437048305")
    '10000130166+10437048305'
    """
    return f"{frame_of}{PAIR_MARK}{audio_of}"


def shown(text: str, limit: int = 60) -> str:
    r"""Return a piece of input as it may stand in a message: quoted, on one line, cut short.

    Parameters
    ----------
    text
        Anything.
    limit
        Characters of it at most.

    Returns
    -------
    str
        Its ``repr``, with the number of characters where it was cut.

    Examples
    --------
    >>> print(shown("a\nb"))
    'a\nb'
    """
    return ascii(text) if len(text) <= limit else f"{text[:limit]!a}... ({len(text)} characters)"


def video_id_of(clip_id: str) -> str:
    """Return the video id of a clip id.

    Parameters
    ----------
    clip_id
        A normalised clip id.

    Returns
    -------
    str
        All but the last seven characters; a Flickr number is its own video.

    Examples
    --------
    >>> video_id_of("--_x-y_zABC_000120")
    '--_x-y_zABC'
    """
    return clip_id if is_number(clip_id) else clip_id[: -START_DIGITS - 1]


def start_of(clip_id: str) -> int:
    """Return the start of a clip in whole seconds.

    Parameters
    ----------
    clip_id
        A normalised clip id.

    Returns
    -------
    int
        Seconds from the start of the video; 0 for a Flickr number.

    Examples
    --------
    >>> start_of("--_x-y_zABC_000120")
    120
    """
    return 0 if is_number(clip_id) else int(clip_id[-START_DIGITS:])


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
