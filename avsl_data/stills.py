"""A picture and a sound as one clip: how Flickr-SoundNet's annotated archive comes.

The picture is repeated, bit for bit, once per second for as long as the sound lasts, so that the later stages
find it at any time; the sound is kept without loss. The file is no video to watch, and no smaller than it
has to be: a JPEG of 20 KB for each second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from avsl_data.decode import BadMediaError, media_url, run_ffmpeg

SUFFIX: Final = ".mkv"
_PICTURES_PER_S: Final = 1


def join_still(frame: Path, sound: Path, start_s: float, end_s: float | None, target: Path) -> None:
    """Write a picture and a part of a sound as one file.

    Parameters
    ----------
    frame
        JPEG or PNG.
    sound
        WAV or FLAC.
    start_s, end_s
        The part of the sound in seconds; None as its end means the end of the sound.
    target
        Matroska file to write.

    Raises
    ------
    BadMediaError
        If one of the two cannot be read, or the sound ends before the part begins.
    """
    import ffmpeg

    length_s = _seconds(sound) if end_s is None else min(_seconds(sound), end_s)
    length_s -= start_s
    if length_s <= 0:
        raise BadMediaError("too_short", f"{sound.name} ends before {start_s:g} s")
    # Packets are copied without looking into them: -xerror would not notice a damaged picture, decoding will.
    picture: dict[str, Any] = {"loop": 1, "framerate": _PICTURES_PER_S, "t": length_s, "f": "image2"}
    picture["vcodec"] = _codec(frame)
    run_ffmpeg(
        ffmpeg.output(
            ffmpeg.input(media_url(frame), pattern_type="none", **picture)["v:0"],
            ffmpeg.input(media_url(sound), ss=start_s, t=length_s)["a:0"],
            media_url(target),
            format="matroska",
            vcodec="copy",
            acodec="flac",
        )
    )


def _codec(frame: Path) -> str:
    """Tell a picture's format by its first bytes, whatever it is called."""
    with frame.open("rb") as file:
        head = file.read(8)
    for codec, magic in (("mjpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG\r\n\x1a\n")):
        if head.startswith(magic):
            return codec
    raise BadMediaError("damaged", f"{frame.name} is neither JPEG nor PNG")


def _seconds(sound: Path) -> float:
    import soundfile

    try:
        return float(soundfile.info(sound).duration)
    except (soundfile.LibsndfileError, OSError) as error:
        raise BadMediaError("damaged", f"{sound.name} is no sound: {error}") from error
