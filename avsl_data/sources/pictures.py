"""Sets that are pictures and sounds, not videos: where their files are, as an address.

The address of such a clip is ``folder:///<frame>?audio=<sound>``, both paths below the folder that the user
has; ``start_s`` and ``end_s`` are times in the sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from avsl_data.errors import DataInputError

FRAME_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
AUDIO_SUFFIXES: Final = (".wav", ".flac")


@dataclass(frozen=True)
class Media:
    """A frame and its sound.

    Parameters
    ----------
    frame, audio
        Paths below the user's folder, with ``/``.
    """

    frame: str
    audio: str


def media_url_of(media: Media) -> str:
    """Return the address of a frame and its sound.

    Parameters
    ----------
    media
        Their paths.

    Returns
    -------
    str
        ``folder:///<frame>?audio=<sound>``.

    Examples
    --------
    >>> media_url_of(Media("Data/3/10000130166.jpg", "Data/3/10000130166.wav"))
    'folder:///Data/3/10000130166.jpg?audio=Data/3/10000130166.wav'
    """
    return f"folder:///{quote(media.frame)}?audio={quote(media.audio)}"


def media_of(url: str) -> Media | None:
    """Return the frame and the sound of an address.

    Parameters
    ----------
    url
        Of a catalog.

    Returns
    -------
    Media or None
        None if it is the address of a video.

    Raises
    ------
    DataInputError
        If a path would leave the folder.

    Examples
    --------
    >>> media_of("folder:///a/b.jpg?audio=c/d.wav")
    Media(frame='a/b.jpg', audio='c/d.wav')
    """
    parts = urlsplit(url)
    audio = parse_qs(parts.query).get("audio", [])
    if parts.scheme != "folder" or not audio:
        return None
    media = Media(unquote(parts.path).removeprefix("/"), audio[0])
    for path in (media.frame, media.audio):
        if path.startswith("/") or ".." in path.split("/") or "\\" in path:
            raise DataInputError(f"the address {url!a:.200} leaves its folder: refused")
    return media


def find_media(folder: Path) -> dict[str, Media]:
    """Find frames and sounds that have the same name, wherever they lie below a folder.

    Parameters
    ----------
    folder
        Such as the annotated archive of Flickr-SoundNet, with ``Data/0`` to ``Data/9``.

    Returns
    -------
    dict of str to Media
        By name without suffix; names that lack one of the two are left out.

    Raises
    ------
    DataInputError
        If two frames or two sounds have the same name.
    """
    frames, sounds = (dict(_named(folder, suffixes)) for suffixes in (FRAME_SUFFIXES, AUDIO_SUFFIXES))
    return {name: Media(frames[name], sounds[name]) for name in sorted(frames.keys() & sounds.keys())}


def _named(folder: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    seen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if path.stem in seen:
            raise DataInputError(f"{seen[path.stem]} and {path} have the same name: keep one of them")
        seen[path.stem] = path
        yield path.stem, path.relative_to(folder).as_posix()
