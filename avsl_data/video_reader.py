"""Which picture of a video is shown when, and decoding no more than is needed to get it.

Two thirds of preprocessing is decoding from a key frame to the picture that is wanted. On the way, pictures
that no other one is made of are left out (H.264 marks them), up to some pictures before the wanted one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from avsl_data.decode import BadMediaError

if TYPE_CHECKING:
    import av

SKIPPING: Final = frozenset({"h264"})
"""Codecs whose pictures say that none is made of them; in HEVC those of a higher layer still may be."""

DECODED_BEFORE: Final = 16
"""Pictures that are all decoded before a wanted one: no H.264 stream reorders more."""

_US_PER_S: Final = 1_000_000


class Shown:
    """When each picture is shown, by its packet; nothing is decoded for it.

    Attributes
    ----------
    stamps
        When the pictures begin, in order, in units of ``base`` seconds.
    begins, keys
        When the pictures and the key frames begin, in order, in seconds of the stream.
    end
        Of the last picture, in seconds of the stream.
    has_all_times
        Whether every packet says when it is shown.
    is_still
        Whether all packets are the same, bit for bit: one picture repeated, see `avsl_data.stills`.
    """

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.base = Fraction(1)
        self.begins: list[Fraction] = []
        self.keys: list[Fraction] = []
        self.end = Fraction(0)
        self.has_all_times = True
        self.is_still = True
        self._key_stamps: list[int] = []
        self._last = (0, 0)
        self._first: bytes | None = None

    def note(self, packet: av.Packet[Any]) -> None:
        """Note a packet's time stamps."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.is_discard:  # the end of the stream, or before the edit list's start
            return
        if self.is_still:
            content = bytes(packet)
            self.is_still = self._first in {None, content}
            self._first = content
            self.base = packet.time_base
        span = (stamp, packet.duration or 0)
        self._last = max(self._last, span) if self.stamps else span
        self.has_all_times &= packet.pts is not None
        self.stamps.append(stamp)
        if packet.is_keyframe:
            self._key_stamps.append(stamp)

    def finish(self) -> None:
        """Put the pictures in order, after the last packet.

        Raises
        ------
        BadMediaError
            ``no_video`` if there was none.
        """
        if not self.stamps:
            raise BadMediaError("no_video", "the video stream holds no picture")
        self.stamps.sort()
        self.begins = [stamp * self.base for stamp in self.stamps]
        self.keys = [stamp * self.base for stamp in sorted(self._key_stamps)]
        begin, longest = self._last
        if not longest and len(self.stamps) > 1:
            longest = begin - self.stamps[-2]
        self.end = (begin + longest) * self.base


class Reader:
    """Decodes forward through a video, jumping to a key frame only if one lies between."""

    def __init__(self, container: av.container.InputContainer, video: av.VideoStream, shown: Shown) -> None:
        self._container, self._video, self._keys = container, video, shown.keys
        self._stamps, self._begins = shown.stamps, shown.begins
        self._skips = shown.has_all_times and video.codec_context.name in SKIPPING
        self._all_from = shown.stamps[0]
        self._frames: Iterator[av.VideoFrame] | None = None
        self._now: av.VideoFrame | None = None
        self._next: av.VideoFrame | None = None

    def last_before(self, limit: Fraction) -> av.VideoFrame | None:
        """Return the last picture that begins before a time; the first one if none does.

        Limits must not decrease from call to call.
        """
        wanted = bisect_left(self._begins, limit) - 1
        self._all_from = self._stamps[max(0, wanted - DECODED_BEFORE)]
        index = bisect_right(self._keys, limit - Fraction(1, _US_PER_S)) - 1
        key = self._keys[index] if index >= 0 else None
        ahead = self._next
        if self._frames is None or (key is not None and ahead is not None and key > begin_of(ahead)):
            self._jump(key)
            now = self._now
            if key is not None and (now is None or begin_of(now) >= limit or now.is_corrupt):
                self._jump(None)  # the index led too far
        while self._next is not None and begin_of(self._next) < limit:
            self._step()
        if self._now is not None and self._now.is_corrupt:
            raise BadMediaError("damaged", f"the picture at {float(begin_of(self._now)):.2f} s is damaged")
        return self._now

    def following(self) -> av.VideoFrame | None:
        """Return the picture after the one that `last_before` returned; None if that is the last."""
        if self._next is not None and self._next.is_corrupt:
            raise BadMediaError("damaged", f"the picture at {float(begin_of(self._next)):.2f} s is damaged")
        return self._next

    def _jump(self, key: Fraction | None) -> None:
        base = self._video.time_base or Fraction(1, _US_PER_S)
        if key is None:
            self._container.seek(self._video.start_time or 0, stream=self._video)
        else:
            self._container.seek(int(key / base), stream=self._video)
        self._frames = self._decoded()
        self._next = None
        self._step()
        self._step()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield the pictures from here on, but of those far before the wanted one only what others need."""
        codec, skipping = self._video.codec_context, None
        for packet in self._container.demux(self._video):
            early = self._skips and packet.pts is not None and packet.pts < self._all_from
            if early is not skipping:
                codec.skip_frame = "NONREF" if early else "DEFAULT"
                skipping = early
            yield from packet.decode()

    def _step(self) -> None:
        self._now = self._next or self._now
        self._next = None
        for frame in self._frames or ():
            if frame.pts is not None:
                self._next = frame
                return


def begin_of(frame: av.VideoFrame) -> Fraction:
    """Return when a decoded picture begins, in seconds of its stream."""
    return (frame.pts or 0) * (frame.time_base or Fraction(0))
