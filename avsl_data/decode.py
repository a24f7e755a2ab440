"""Reading media files: ffmpeg calls, and verification by decoding every frame in process.

ffmpeg ends with code 0 on some damaged files, and a container's header promises streams that are not there.
So a clip counts as good only after `verify` has decoded both of its streams to the end.

Where a file has several video or audio streams, the first of each is used, everywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from avsl_data.errors import DataInputError, StopEverythingError

if TYPE_CHECKING:
    import av

FFMPEG_VARIABLE: Final = "AVSL_FFMPEG"
FFMPEG_TIMEOUT_S: Final = 600.0
FFMPEG_GLOBAL_ARGUMENTS: Final = ("-y", "-nostdin", "-v", "error")
DETAIL_CHARACTERS: Final = 300

H264_ARGUMENTS: Final[dict[str, Any]] = {
    "vcodec": "libx264",
    "preset": "veryfast",
    "crf": 18,
    "pix_fmt": "yuv420p",
    "threads": 1,
}
AAC_ARGUMENTS: Final[dict[str, Any]] = {"acodec": "aac", "aac_coder": "fast", "audio_bitrate": "160k"}
"""The fast coder takes a quarter of the default one's time, which was half of the cost of a cut."""

DISK_FULL: Final = ("No space left on device", "Disk quota exceeded", "File too large")
"""What ffmpeg says when it can write no further; none of it is the clip's fault."""

_ENDED_FROM_OUTSIDE: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_US_PER_S: Final = 1_000_000
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")


class BadMediaError(Exception):
    """Say why a file cannot be used.

    Parameters
    ----------
    reason
        A failure class of `avsl_data.failures`.
    detail
        What was seen.
    """

    def __init__(self, reason: str, detail: str) -> None:
        # Both are arguments of the base class, so that the error survives the way out of a worker process.
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail[:DETAIL_CHARACTERS]

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class MediaFacts:
    """What a file holds.

    Parameters
    ----------
    has_video, has_audio
        Whether it has such a stream.
    width, height
        Of the video, in pixels; 0 without video.
    video_s, audio_s
        Seconds of each stream: decoded ones after `verify`, the header's promise after `probe` (0 where the
        header does not say).
    """

    has_video: bool
    has_audio: bool
    width: int
    height: int
    video_s: float
    audio_s: float


def ffmpeg_executable() -> str:
    """Return the ffmpeg to run: ``$AVSL_FFMPEG``, else the one that comes with imageio-ffmpeg.

    Returns
    -------
    str
        Path of the program.

    Raises
    ------
    DataInputError
        If ``$AVSL_FFMPEG`` names no program.
    """
    configured = os.environ.get(FFMPEG_VARIABLE)
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise DataInputError(
                f"${FFMPEG_VARIABLE} is '{configured}', which is no program: unset or mend it"
            )
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def run_ffmpeg(stream: Any, stdin: bytes | None = None, *, strict: bool = True) -> None:
    """Run one ffmpeg call that was composed with ffmpeg-python.

    Parameters
    ----------
    stream
        Output, or merged outputs, of ffmpeg-python.
    stdin
        Bytes for ``pipe:``.
    strict
        Whether an undecodable packet is an error; ffmpeg's own habit is to end with code 0.

    Raises
    ------
    BadMediaError
        With the class ``damaged`` if ffmpeg fails, meets an undecodable packet or does not end in time.
    StopEverythingError
        If the disk is full or somebody ended ffmpeg, which is no fault of the file.
    """
    import ffmpeg

    strictness = ["-xerror"] if strict else []
    command = [ffmpeg_executable(), *FFMPEG_GLOBAL_ARGUMENTS, *strictness, *ffmpeg.get_args(stream)]
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    try:
        done = subprocess.run(command, capture_output=True, timeout=FFMPEG_TIMEOUT_S, check=False, **source)
    except subprocess.TimeoutExpired as error:
        raise BadMediaError("damaged", f"ffmpeg did not end within {FFMPEG_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        lines = _ADDRESS.sub("", done.stderr.decode(errors="replace")).strip().splitlines()
        if done.returncode == -signal.SIGXFSZ or any(text in line for line in lines for text in DISK_FULL):
            raise StopEverythingError(f"the disk is full: {lines[-1] if lines else 'ffmpeg met a limit'}")
        if -done.returncode in _ENDED_FROM_OUTSIDE or any("received signal" in line for line in lines):
            raise StopEverythingError(
                "ffmpeg was ended from outside: by a user, a scheduler or for its memory"
            )
        raise BadMediaError("damaged", "ffmpeg: " + (lines[0] if lines else f"exit code {done.returncode}"))


def media_url(path: Path) -> str:
    """Return a path as ffmpeg takes it, whatever characters it holds.

    Parameters
    ----------
    path
        A file.

    Returns
    -------
    str
        With the ``file:`` protocol, so that neither ``-`` nor ``:`` in a name means anything.

    Examples
    --------
    >>> media_url(Path("-x:y.mp4"))
    'file:-x:y.mp4'
    """
    return f"file:{path}"


def probe(path: Path) -> MediaFacts:
    """Read a file's header.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    MediaFacts
        Durations as promised by the header.

    Raises
    ------
    BadMediaError
        ``damaged`` if it is no media file.
    """
    import av

    try:
        with av.open(media_url(path)) as container:
            video, audio = first_streams(container)
            total_s = (container.duration or 0) / _US_PER_S
            return MediaFacts(
                has_video=video is not None,
                has_audio=audio is not None,
                width=video.width if video else 0,
                height=video.height if video else 0,
                video_s=_promised_s(video, total_s) if video else 0.0,
                audio_s=_promised_s(audio, total_s) if audio else 0.0,
            )
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise BadMediaError("damaged", f"not readable as audio or video: {error}") from error


def first_streams(
    container: av.container.InputContainer,
) -> tuple[av.VideoStream | None, av.AudioStream | None]:
    """Find the picture and the sound of an open file.

    Parameters
    ----------
    container
        The file.

    Returns
    -------
    video : av.VideoStream or None
        The first video stream; a cover picture is none.
    audio : av.AudioStream or None
        The first audio stream.
    """
    from av.stream import Disposition

    videos = [
        stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
    ]
    audios = container.streams.audio
    return (videos[0] if videos else None), (audios[0] if audios else None)


def _promised_s(stream: av.VideoStream | av.AudioStream, total_s: float) -> float:
    if stream.duration is None or stream.time_base is None:
        return total_s
    return float(stream.duration * stream.time_base)


def verify(path: Path, min_s: float = 0.0) -> MediaFacts:
    """Decode the first video and the first audio stream of a file to their ends.

    Parameters
    ----------
    path
        The file.
    min_s
        Seconds that each stream must last.

    Returns
    -------
    MediaFacts
        Durations as decoded.

    Raises
    ------
    BadMediaError
        ``damaged`` if the file or a packet cannot be decoded, ``no_video`` or ``no_audio`` if a stream is
        absent or yields nothing, ``too_short`` if one is shorter than ``min_s``.
    """
    facts = probe(path)
    require_streams(facts)
    decoded = _decode(path, facts)
    require_streams(decoded)
    shortest = min(decoded.video_s, decoded.audio_s)
    if shortest < min_s:
        raise BadMediaError(
            "too_short",
            f"video {decoded.video_s:.2f} s, audio {decoded.audio_s:.2f} s, at least {min_s:.2f} s needed",
        )
    return decoded


def require_streams(facts: MediaFacts) -> None:
    """Check that a file has picture and sound.

    Parameters
    ----------
    facts
        From `probe` or `verify`.

    Raises
    ------
    BadMediaError
        ``no_video`` or ``no_audio``.
    """
    if not facts.has_video:
        raise BadMediaError("no_video", "the file has no video stream")
    if not facts.has_audio:
        raise BadMediaError("no_audio", "the file has no audio stream")


def _both_streams(container: av.container.InputContainer) -> tuple[av.VideoStream, av.AudioStream]:
    """Return the streams of a file that `require_streams` accepted."""
    video, audio = first_streams(container)
    if video is None or audio is None:
        raise BadMediaError("no_video" if video is None else "no_audio", "the file has no such stream")
    return video, audio


def _decode(path: Path, facts: MediaFacts) -> MediaFacts:
    """Decode both streams in one pass and measure them."""
    import av

    video_s = audio_s = 0.0
    frames = broken = 0
    try:
        with av.open(media_url(path)) as container:
            video, audio = _both_streams(container)
            frame_s = 1.0 / float(video.average_rate) if video.average_rate else 0.0
            first_s: float | None = None
            for packet in container.demux(video, audio):
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame):
                        frames += 1
                        broken += frame.is_corrupt
                        if frame.time is not None:
                            first_s = frame.time if first_s is None else first_s
                            video_s = max(video_s, frame.time - first_s + frame_s)
                    elif isinstance(frame, av.AudioFrame):
                        audio_s += frame.samples / frame.sample_rate
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise BadMediaError("damaged", f"decoding failed after {video_s:.2f} s of video: {error}") from error
    if broken:
        raise BadMediaError("damaged", f"{broken} of {frames} pictures are damaged")
    return MediaFacts(frames > 0, audio_s > 0, facts.width, facts.height, video_s, audio_s)


def check_region(path: Path, start_s: float, end_s: float) -> None:
    """Decode a part of a file, and nothing after it.

    Parameters
    ----------
    path
        A file with both streams.
    start_s, end_s
        The part; decoding begins at the key frame before it.

    Raises
    ------
    BadMediaError
        ``damaged`` if a packet of the part cannot be decoded.
    """
    import av

    try:
        with av.open(media_url(path)) as container:
            video, audio = _both_streams(container)
            container.seek(int(start_s * _US_PER_S))
            unfinished = {video.index, audio.index}
            for packet in container.demux(video, audio):
                if packet.stream.index not in unfinished:
                    continue
                if packet.is_corrupt:
                    raise BadMediaError("damaged", f"a broken packet between {start_s:g} s and {end_s:g} s")
                times = [
                    frame.time
                    for frame in packet.decode()
                    if isinstance(frame, av.VideoFrame | av.AudioFrame) and frame.time is not None
                ]
                if times and max(times) >= end_s:
                    unfinished.discard(packet.stream.index)
                if not unfinished:
                    return
    except av.FFmpegError as error:
        raise BadMediaError(
            "damaged", f"decoding failed between {start_s:g} s and {end_s:g} s: {error}"
        ) from error
