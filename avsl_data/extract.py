"""Pictures and sound out of one clip, on one clock.

A clip's time 0 is the start of its container: the earliest start of its streams. Pictures and sound are both
placed on this clock, so that a sound that starts late stays late (silence is put before it), and a gap stays
a gap.

The picture of a time t is the one that a reading at 25 frames per second gives for it, as the published
preprocessing reads (``ffmpeg -vf fps=25``): the last picture that begins before t + 1/50 s. For VGG-SS's
4.96 s this is the 125th. Taking the first picture at or after t would be the same at 25, 30 and 50 frames
per second, and one picture late at 15 and 24.

Everything is decoded in this process by PyAV; a call of ffmpeg per clip takes half as long again.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from avsl_data.decode import BadMediaError, first_streams, media_url
from avsl_data.flow import encode_flow, optical_flow
from avsl_data.video_reader import Reader, Shown, begin_of

if TYPE_CHECKING:
    import av
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

HALF_TICK_S: Final = Fraction(1, 50)
"""Half of a period at 25 per second: how far a picture may begin after the time that it is shown for."""

JPEG_QUALITY: Final = 95
MAX_GAP_S: Final = 0.1
"""Sound whose time stamps jump by less is joined, as ffmpeg's resampler does."""

VARIABLE_SHARE: Final = 0.5
"""A picture shown this share longer or shorter than the median one makes the rate variable (our choice)."""

_US_PER_S: Final = 1_000_000


@dataclass(frozen=True)
class SourceFacts:
    """What the file was like; the struct ``source`` of a shard's rows.

    Parameters
    ----------
    fps
        Pictures per second, by the time stamps.
    variable_fps
        Whether a picture is shown half as long again as the median one, or half as long.
    video_s, audio_s
        Seconds of each stream.
    audio_start_s
        Start of the sound less the start of the picture, in seconds.
    video_codec, audio_codec, pixel_format
        Names as ffmpeg gives them.
    video_streams, audio_streams
        Number of streams; the first of each is used.
    width, height
        Of the coded picture, in pixels, before rotation.
    rotation
        Degrees counter-clockwise by which a player turns the picture.
    pixel_aspect
        Width of a pixel by its height.
    audio_rate, audio_channels
        Of the stream.
    """

    fps: float
    variable_fps: bool
    video_s: float
    audio_s: float
    audio_start_s: float
    video_codec: str
    audio_codec: str
    pixel_format: str
    video_streams: int
    audio_streams: int
    width: int
    height: int
    rotation: int
    pixel_aspect: float
    audio_rate: int
    audio_channels: int


@dataclass(frozen=True)
class Picture:
    """A picture of a clip.

    Parameters
    ----------
    jpeg
        The file.
    width, height
        In pixels, as seen by a viewer: turned upright, pixels square.
    begins_s
        When it begins, on the clip's clock.
    flow
        Optical flow to the next picture as a PNG of the same size, see `avsl_data.flow`; None if it was not
        asked for, and where there is no next picture: after the clip's last one and for a still.
    """

    jpeg: bytes
    width: int
    height: int
    begins_s: float
    flow: bytes | None = None


@dataclass(frozen=True)
class ClipMedia:
    """What `read_clip` returns.

    Parameters
    ----------
    times_s
        When pictures were asked for.
    pictures
        One per time; None where the clip shows nothing then.
    sound : ndarray [n] of int16
        Mono, from the clip's time 0 on.
    facts
        What the file was like.
    """

    times_s: tuple[float, ...]
    pictures: tuple[Picture | None, ...]
    sound: NDArray[np.int16]
    facts: SourceFacts


Times = Callable[[float], Sequence[float]]
"""From a clip's length in seconds to the times of the pictures wanted."""


def read_clip(
    path: Path, times: Times, short_side: int, sample_rate: int, *, flow: bool = False
) -> ClipMedia:
    """Read some pictures and the whole sound of a clip.

    Parameters
    ----------
    path
        The file.
    times
        Times of the pictures, from the clip's length; both in seconds.
    short_side
        Largest shorter side of a picture in pixels; larger ones are scaled down, smaller ones kept.
    sample_rate
        Samples per second of the sound.
    flow
        Whether to compute the optical flow of the first of the pictures.

    Returns
    -------
    ClipMedia
        Pictures in the order of the times.

    Raises
    ------
    BadMediaError
        ``damaged`` if something cannot be decoded, ``no_video`` or ``no_audio`` if a stream is absent or
        holds nothing.
    """
    import av

    try:
        with av.open(media_url(path)) as container:
            video, audio = first_streams(container)
            if video is None:
                raise BadMediaError("no_video", "the file has no video stream")
            if audio is None:
                raise BadMediaError("no_audio", "the file has no audio stream")
            video.codec_context.thread_count = audio.codec_context.thread_count = 1
            origin = Fraction(container.start_time or 0, _US_PER_S)
            shown = Shown()
            sound = _Sound(sample_rate, float(origin))
            for packet in container.demux(video, audio):
                if packet.stream.index == video.index:
                    shown.note(packet)
                else:
                    for frame in packet.decode():
                        if isinstance(frame, av.AudioFrame):
                            sound.add(frame)
            samples = sound.finish()
            shown.finish()
            times_s = tuple(times(float(shown.end - origin)))
            pictures, rotation = _pictures(
                container, video, shown, times_s, short_side, origin, times_s[0] if flow else None
            )
            facts = _facts(container, video, audio, shown, sound, rotation)
    except (av.FFmpegError, UnicodeDecodeError, ValueError) as error:
        raise BadMediaError("damaged", f"decoding failed: {error}") from error
    return ClipMedia(times_s, pictures, samples, facts)


class _Sound:
    """The sound so far: pieces without gaps, each at its place on the clip's clock."""

    def __init__(self, rate: int, origin: float) -> None:
        self._rate, self._origin = rate, origin
        self._pieces: list[tuple[int, list[NDArray[np.int16]]]] = []
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[Any, ...] = ()
        self._expected = 0.0
        self.start_s: float | None = None
        self.decoded_s = 0.0

    def add(self, frame: av.AudioFrame) -> None:
        """Append a decoded frame, in a new piece if there is a gap or the format changes."""
        import av

        if not frame.samples:
            return
        begins = self._expected if frame.time is None else frame.time
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or kind != self._kind or abs(begins - self._expected) > MAX_GAP_S:
            self._flush()
            self._resampler, self._kind = av.AudioResampler("s16", "mono", self._rate), kind
            self._pieces.append((round((begins - self._origin) * self._rate), []))
            self.start_s = begins if self.start_s is None else self.start_s
            self._expected = begins
        duration = frame.samples / frame.sample_rate
        self.decoded_s += duration
        self._expected += duration  # counted on from the piece's start: single time stamps are rounded
        self._take(frame)

    def _take(self, frame: av.AudioFrame | None) -> None:
        if self._resampler is not None:
            # A time stamp that is a little off would make the resampler squeeze or fill.
            if frame is not None:
                frame.pts = None
            self._pieces[-1][1].extend(part.to_ndarray()[0] for part in self._resampler.resample(frame))

    def _flush(self) -> None:
        self._take(None)
        self._resampler = None

    def finish(self) -> NDArray[np.int16]:
        """Return the whole sound from time 0 on, silent where there is none."""
        import numpy as np

        self._flush()
        joined = [(at, np.concatenate(parts)) for at, parts in self._pieces if parts]
        length = max((at + len(samples) for at, samples in joined), default=0)
        if length <= 0:
            raise BadMediaError("no_audio", "the audio stream holds no samples")
        whole = np.zeros(length, np.int16)
        for at, samples in joined:
            whole[max(at, 0) : at + len(samples)] = samples[max(-at, 0) :]
        return whole


def _pictures(
    container: av.container.InputContainer,
    video: av.VideoStream,
    shown: Shown,
    times_s: Sequence[float],
    short_side: int,
    origin: Fraction,
    flow_of: float | None,
) -> tuple[tuple[Picture | None, ...], int]:
    """Return the pictures of some times, that of one with its flow, and by how much they are turned."""
    reader = Reader(container, video, shown)
    found: dict[float, Picture | None] = {}
    rotation = 0
    for time in sorted(set(times_s)):
        at = Fraction(round(time * _US_PER_S), _US_PER_S) + origin
        found[time] = None
        if at < shown.end and (frame := reader.last_before(at + HALF_TICK_S)) is not None:
            rotation = frame.rotation
            picture = _picture(frame, _pixel_aspect(video), short_side, origin)
            if time == flow_of and not shown.is_still:
                picture = _with_flow(picture, frame, reader.following())
            found[time] = picture
    return tuple(found[time] for time in times_s), rotation


def _pixel_aspect(video: av.VideoStream) -> float:
    return float(video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio or 1)


def _picture(frame: av.VideoFrame, pixel_aspect: float, short_side: int, origin: Fraction) -> Picture:
    """Scale a frame, turn it upright and compress it."""
    width, height = frame.width * pixel_aspect, float(frame.height)
    scale = min(1.0, short_side / min(width, height))
    scaled = frame.reformat(
        max(1, round(width * scale)), max(1, round(height * scale)), "rgb24", interpolation="AREA"
    )
    image: Image = scaled.to_image()  # type: ignore[no-untyped-call]
    if frame.rotation % 360:
        image = image.rotate(frame.rotation, expand=True)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return Picture(file.getvalue(), image.width, image.height, float(begin_of(frame) - origin))


def _with_flow(picture: Picture, frame: av.VideoFrame, following: av.VideoFrame | None) -> Picture:
    if following is None:
        return picture
    flow = optical_flow(frame, following, picture.width, picture.height)
    return picture if flow is None else dataclasses.replace(picture, flow=encode_flow(flow))


def _facts(
    container: av.container.InputContainer,
    video: av.VideoStream,
    audio: av.AudioStream,
    shown: Shown,
    sound: _Sound,
    rotation: int,
) -> SourceFacts:
    begins = shown.begins
    gaps = sorted(after - before for before, after in pairwise(shown.stamps))
    median = gaps[len(gaps) // 2] if gaps else 0
    span = begins[-1] - begins[0]
    return SourceFacts(
        fps=float((len(begins) - 1) / span) if span else float(video.average_rate or 0),
        variable_fps=bool(gaps) and _differs(gaps[0], median) | _differs(gaps[-1], median),
        video_s=float(shown.end - begins[0]),
        audio_s=sound.decoded_s,
        audio_start_s=(sound.start_s or 0.0) - float(begins[0]),
        video_codec=video.codec_context.name,
        audio_codec=audio.codec_context.name,
        pixel_format=str(video.codec_context.pix_fmt),
        video_streams=len(container.streams.video),
        audio_streams=len(container.streams.audio),
        width=video.codec_context.width,
        height=video.codec_context.height,
        rotation=rotation,
        pixel_aspect=_pixel_aspect(video),
        audio_rate=audio.codec_context.sample_rate,
        audio_channels=audio.codec_context.channels,
    )


def _differs(gap: int, median: int) -> bool:
    return abs(gap - median) > Fraction(VARIABLE_SHARE) * median
