"""A video written anew: its sound and time stamps as they were, every picture drawn over.

Shape letters: H x W picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from avsl_train.errors import TrainInputError
from avsl_train.overlay import Pixels
from avsl_train.video import Facts, Picture, audio_of, decoded, opened, start_of, video_of

if TYPE_CHECKING:
    import av

VIDEO_OPTIONS: Final = {"crf": "18", "preset": "veryfast"}
AUDIO_RATES: Final = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""What AAC can have; another rate becomes the first."""
AUDIO_BIT_RATE: Final = 192_000
BT709: Final = 1
LIMITED: Final = 1


class Writer:
    """An mp4 file that plays everywhere: H.264 in yuv420p, AAC, the index in front.

    Parameters
    ----------
    path
        The file.
    facts
        Of the video whose rate and pixel aspect it gets.
    width, height
        Of its pictures, even.

    Raises
    ------
    TrainInputError
        The file cannot be written.
    """

    def __init__(self, path: Path, facts: Facts, width: int, height: int) -> None:
        import av

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

    def copy(self, path: Path, draw: Callable[[float, Pixels], Pixels]) -> Iterator[float]:
        """Write a video's pictures, each drawn anew, and its sound; yield the time of each picture.

        Parameters
        ----------
        path
            The video.
        draw
            Gets time and pixels, returns the pixels to write.
        """
        import av

        with opened(path) as container:
            video, audio = video_of(container, path), audio_of(container, path)
            self._add_audio(audio)
            start_s = start_of(container)
            for frame in decoded(container, path, video, audio):
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
