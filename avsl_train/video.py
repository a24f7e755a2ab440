"""A user's videos and sounds, read by PyAV in constant memory.

Times are seconds since the container's first picture or sample, whichever is earlier. Pictures are upright:
the rotation that phones store beside the picture is applied. Where a file has several streams of a kind, the
first of each is used, and a cover picture is none.

Shape letters: H x W picture as shown, n samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from avsl_train.errors import TrainInputError
from avsl_train.overlay import Pixels

if TYPE_CHECKING:
    import av

Float32 = NDArray[np.float32]

US_PER_S: Final = 1_000_000
GAP_S: Final = 0.05
"""A hole in the sound longer than this is silence; a shorter one is rounding of the time stamps."""
FALLBACK_RATE: Final = Fraction(25)


@dataclass(frozen=True)
class Facts:
    """What a video is.

    Parameters
    ----------
    width, height
        In pixels, upright.
    rate
        Pictures per second on average.
    duration_s
        As the container promises; 0 where it does not say.
    pixel_aspect
        Width of a pixel divided by its height, upright.
    """

    width: int
    height: int
    rate: Fraction
    duration_s: float
    pixel_aspect: Fraction

    @property
    def pictures(self) -> int:
        """About how many there are; 0: not known."""
        return round(self.duration_s * float(self.rate))


@dataclass(frozen=True)
class Picture:
    """A picture of a video."""

    time_s: float
    frame: av.VideoFrame

    def pixels(self) -> Pixels:
        """Return RGB, uint8 [H, W, 3], upright."""
        pixels = self.frame.reformat(format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, self.frame.rotation // 90 % 4))


def require_both(path: Path) -> Facts:
    """Return what a video is, after a look at its first picture.

    Raises
    ------
    TrainInputError
        The file is missing, no video, or has no sound.
    """
    with opened(path) as container:
        video = video_of(container, path)
        audio_of(container, path)
        first = next(_pictures(container, video, path), None)
        if first is None:
            raise TrainInputError(f"{path} has no picture that can be decoded: is it cut short?")
        turned = first.frame.rotation // 90 % 2
        width, height = first.frame.width, first.frame.height
        aspect = Fraction(video.codec_context.sample_aspect_ratio or 1) or Fraction(1)
        return Facts(
            width=height if turned else width,
            height=width if turned else height,
            rate=Fraction(video.average_rate or video.guessed_rate or FALLBACK_RATE),
            duration_s=(container.duration or 0) / US_PER_S,
            pixel_aspect=1 / aspect if turned else aspect,
        )


def pictures(path: Path, from_s: float = 0.0) -> Iterator[Picture]:
    """Yield the pictures of a video in the order they are shown, from the key frame before a time on.

    Raises
    ------
    TrainInputError
        A part of the file cannot be decoded.
    """
    with opened(path) as container:
        _seek(container, from_s)
        yield from _pictures(container, video_of(container, path), path)


class SoundTrack:
    """The sound of a file, of which a part around some time can be had; times must not go back.

    Parameters
    ----------
    path
        The file.
    from_s
        Where reading begins, about.

    Raises
    ------
    TrainInputError
        The file is missing or has no sound.
    """

    def __init__(self, path: Path, from_s: float = 0.0) -> None:
        self.path = path
        self._container = _open(path)
        try:
            stream = audio_of(self._container, path)
            self.sample_rate = int(stream.rate)
            self.duration_s = (self._container.duration or 0) / US_PER_S
            _seek(self._container, from_s)
            self._blocks = self._decode(stream)
            self._buffer, self._first = self._begin(from_s > 0)
        except BaseException:
            self._container.close()
            raise
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def around(self, time_s: float, length_s: float) -> Float32:
        """Return the sound around a time, float32 [n] in [-1, 1], channels averaged.

        Near the beginning and the end the part is moved so that it lies within the sound; a sound that is
        shorter is returned whole, and after its end there is silence.
        """
        n = max(1, round(length_s * self.sample_rate))
        centre = round(time_s * self.sample_rate)
        start = max(centre - n // 2, 0)
        self._fill(start + n)
        end = self._first + len(self._buffer)
        if end < start + n and centre <= end:
            start = end - n
        start = max(start, self._first)
        part = self._buffer[start - self._first :][:n]
        if centre > end:
            part = np.concatenate([part, np.zeros(n - len(part), np.float32)])
        elif start > self._first:
            self._buffer, self._first = self._buffer[start - self._first :], start
        return part.copy()

    def _begin(self, within: bool) -> tuple[Float32, int]:
        """Return the first block and its place, in samples since time 0; before a late sound is silence."""
        place, block = next(self._blocks, (0, None))
        if block is None:
            raise TrainInputError(f"{self.path} has a sound track without samples: is it cut short?")
        if within:
            return block, place
        silent = place if place > GAP_S * self.sample_rate else 0
        return np.concatenate([np.zeros(silent, np.float32), block]), 0

    def _fill(self, until: int) -> None:
        """Read until the buffer reaches a place, or the sound ends."""
        blocks, end = [self._buffer], self._first + len(self._buffer)
        while end < until and not self._ended:
            place, block = next(self._blocks, (0, None))
            if block is None:
                self._ended = True
                break
            if place - end > GAP_S * self.sample_rate:
                blocks.append(np.zeros(place - end, np.float32))
                end = place
            blocks.append(block)
            end += len(block)
        self._buffer = np.concatenate(blocks)

    def _decode(self, stream: av.AudioStream) -> Iterator[tuple[int, Float32]]:
        """Yield blocks of samples and their places."""
        import av

        resampler = av.AudioResampler(format="fltp", rate=self.sample_rate)
        start_s = start_of(self._container)
        place = 0
        for frame in decoded(self._container, self.path, stream):
            if frame.time is not None:
                place = max(round((frame.time - start_s) * self.sample_rate), 0)
            for part in resampler.resample(frame):
                block = part.to_ndarray().mean(0, dtype=np.float32)
                yield place, block
                place += len(block)


def _open(path: Path) -> av.container.InputContainer:
    import av

    if not path.is_file():
        raise TrainInputError(f"no file {path}")
    try:
        return av.open(f"file:{path}")
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise TrainInputError(
            f"{path} cannot be read as video or sound ({error}): is it cut short?"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a file for as long as a ``with`` block lasts."""
    with _open(path) as container:
        yield container


def video_of(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the pictures of an open file."""
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise TrainInputError(f"{path} has no pictures: give a video")
    streams[0].thread_type = "AUTO"
    return streams[0]


def audio_of(container: av.container.InputContainer, path: Path) -> av.AudioStream:
    """Return the sound of an open file."""
    if not container.streams.audio:
        raise TrainInputError(
            f"{path} has no sound, and where a sound comes from cannot be asked without one: give another "
            "video, or a picture and a sound by --image and --audio"
        )
    return container.streams.audio[0]


def start_of(container: av.container.InputContainer) -> float:
    """Return time 0 of an open file, in seconds of its own time stamps."""
    return (container.start_time or 0) / US_PER_S


def _seek(container: av.container.InputContainer, from_s: float) -> None:
    if from_s > 0:
        container.seek(round((from_s + start_of(container)) * US_PER_S))


def _pictures(container: av.container.InputContainer, video: av.VideoStream, path: Path) -> Iterator[Picture]:
    start_s = start_of(container)
    for frame in decoded(container, path, video):
        if frame.time is not None:
            yield Picture(frame.time - start_s, frame)


def decoded(
    container: av.container.InputContainer, path: Path, *streams: av.VideoStream | av.AudioStream
) -> Iterator[Any]:
    """Yield the pictures and blocks of sound of some streams as they lie in the file.

    Raises
    ------
    TrainInputError
        A part cannot be decoded; the message says after which second.
    """
    import av

    time_s = 0.0
    try:
        for packet in container.demux(*streams):
            frames: list[Any] = [*packet.decode()]
            for frame in frames:
                time_s = frame.time if frame.time is not None else time_s
                yield frame
    except av.FFmpegError as error:
        raise TrainInputError(
            f"{path} cannot be decoded after {time_s:.1f} s ({error}): repair it, or cut out the part before"
        ) from error
