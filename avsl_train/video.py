"""A user's videos, read and written by PyAV in constant memory.

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
VIDEO_OPTIONS: Final = {"crf": "18", "preset": "veryfast"}
AUDIO_RATES: Final = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""What AAC can have; another rate becomes the first."""
AUDIO_BIT_RATE: Final = 192_000
BT709: Final = 1
LIMITED: Final = 1


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
    with _opened(path) as container:
        video = _video(container, path)
        _audio(container, path)
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
    with _opened(path) as container:
        _seek(container, from_s)
        yield from _pictures(container, _video(container, path), path)


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
            stream = _audio(self._container, path)
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
        start_s = _start_s(self._container)
        place = 0
        for frame in _decoded(self._container, stream, self.path):
            if frame.time is not None:
                place = max(round((frame.time - start_s) * self.sample_rate), 0)
            for part in resampler.resample(frame):
                block = part.to_ndarray().mean(0, dtype=np.float32)
                yield place, block
                place += len(block)


class Writer:
    """An mp4 file that plays everywhere: H.264 in yuv420p, AAC, the index in front.

    Parameters
    ----------
    path
        The file.
    source
        The video whose sound, time stamps and pixel aspect it gets.
    width, height
        Of its pictures, even.

    Raises
    ------
    TrainInputError
        The file cannot be written.
    """

    def __init__(self, path: Path, source: Path, facts: Facts, width: int, height: int) -> None:
        import av

        self._source = source
        try:
            self._out = av.open(str(path), "w", options={"movflags": "+faststart"})
        except (av.FFmpegError, OSError) as error:
            raise TrainInputError(f"cannot write {path.parent}: {error}") from error
        self._video: Any = self._out.add_stream("libx264", rate=facts.rate, options=dict(VIDEO_OPTIONS))
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        context = self._video.codec_context
        context.sample_aspect_ratio = facts.pixel_aspect
        context.time_base = Fraction(1, 90_000)
        context.color_range, context.colorspace = LIMITED, BT709
        context.color_primaries = context.color_trc = BT709
        self._audio: Any = None
        self._resampler: Any = None
        self._gap = round(90_000 / facts.rate)
        self._last: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._out.close()

    def copy(self, path: Path, draw: Any) -> Iterator[float]:
        """Write a video's pictures, each drawn anew, and its sound; yield the time of each picture.

        Parameters
        ----------
        path
            The video.
        draw
            Gets time and pixels, returns the pixels to write.
        """
        import av

        with _opened(path) as container:
            video, audio = _video(container, path), _audio(container, path)
            self._add_audio(audio)
            start_s = _start_s(container)
            for frame in _decoded_both(container, video, audio, path):
                if isinstance(frame, av.VideoFrame):
                    if frame.time is None:
                        continue
                    picture = Picture(frame.time - start_s, frame)
                    self._write_picture(picture.time_s, draw(picture.time_s, picture.pixels()))
                    yield picture.time_s
                else:
                    self._write_sound(frame, start_s)

    def _add_audio(self, source: av.AudioStream) -> None:
        import av

        rate = source.rate if source.rate in AUDIO_RATES else AUDIO_RATES[0]
        layout = "mono" if source.codec_context.channels == 1 else "stereo"
        self._audio = self._out.add_stream("aac", rate=rate, layout=layout)
        self._audio.bit_rate = AUDIO_BIT_RATE
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)

    def _write_picture(self, time_s: float, pixels: Pixels) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="itu709")
        pts = round(time_s * 90_000)
        pts = pts if self._last is None else max(pts, self._last + 1)
        frame.pts, frame.time_base = pts, Fraction(1, 90_000)
        frame.duration = self._gap
        self._last = pts
        self._mux(self._video.encode(frame))

    def _write_sound(self, frame: av.AudioFrame, start_s: float) -> None:
        if frame.time is not None and frame.time_base is not None:
            frame.pts = round((frame.time - start_s) / frame.time_base)
        for part in self._resampler.resample(frame):
            self._mux(self._audio.encode(part))

    def _finish(self) -> None:
        for part in self._resampler.resample(None):
            self._mux(self._audio.encode(part))
        self._mux(self._audio.encode(None))
        self._mux(self._video.encode(None))

    def _mux(self, packets: Any) -> None:
        import av

        try:
            self._out.mux(packets)
        except (av.FFmpegError, OSError) as error:
            raise TrainInputError(f"cannot write the video ({error}): is the disk full?") from error


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
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    with _open(path) as container:
        yield container


def _video(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise TrainInputError(f"{path} has no pictures: give a video")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _audio(container: av.container.InputContainer, path: Path) -> av.AudioStream:
    if not container.streams.audio:
        raise TrainInputError(
            f"{path} has no sound, and where a sound comes from cannot be asked without one: give another "
            "video, or a picture and a sound by --image and --audio"
        )
    return container.streams.audio[0]


def _start_s(container: av.container.InputContainer) -> float:
    return (container.start_time or 0) / US_PER_S


def _seek(container: av.container.InputContainer, from_s: float) -> None:
    if from_s > 0:
        container.seek(round((from_s + _start_s(container)) * US_PER_S))


def _pictures(container: av.container.InputContainer, video: av.VideoStream, path: Path) -> Iterator[Picture]:
    start_s = _start_s(container)
    for frame in _decoded(container, video, path):
        if frame.time is not None:
            yield Picture(frame.time - start_s, frame)


def _decoded(container: av.container.InputContainer, stream: Any, path: Path) -> Iterator[Any]:
    """Yield the frames of one stream."""
    yield from _decoded_both(container, stream, None, path)


def _decoded_both(container: av.container.InputContainer, one: Any, two: Any, path: Path) -> Iterator[Any]:
    """Yield the frames of one or two streams as they lie in the file."""
    import av

    time_s = 0.0
    try:
        for packet in container.demux(*(stream for stream in (one, two) if stream is not None)):
            for frame in packet.decode():
                time_s = frame.time if frame.time is not None else time_s
                yield frame
    except av.FFmpegError as error:
        raise TrainInputError(
            f"{path} cannot be decoded after {time_s:.1f} s ({error}): repair it, or cut out the part before"
        ) from error
