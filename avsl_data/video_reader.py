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
    keys
        Beginnings of the key frames.
    has_all_times
        Whether every packet says when it is shown.
    is_still
        Whether all packets are the same, bit for bit: one picture repeated, see `avsl_data.stills`.
    """

    def __init__(self) -> None:
        self._spans: list[tuple[Fraction, Fraction]] = []
        self._first: bytes | None = None
        self.has_all_times = True
        self.keys: list[Fraction] = []
        self.is_still = True

    def note(self, packet: av.Packet[Any]) -> None:
        """Note a packet's time stamps."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.is_discard:  # the end of the stream, or before the edit list's start
            return
        if self.is_still:
            content = bytes(packet)
            self.is_still = self._first in {None, content}
            self._first = content
        begin = stamp * packet.time_base
        self.has_all_times &= packet.pts is not None
        self._spans.append((begin, (packet.duration or 0) * packet.time_base))
        if packet.is_keyframe:
            self.keys.append(begin)

    def finish(self) -> tuple[list[Fraction], Fraction]:
        """Return the beginnings in order, and the end of the last picture."""
        self._spans.sort()
        self.keys.sort()
        begins = [begin for begin, _ in self._spans]
        if not begins:
            raise BadMediaError("no_video", "the video stream holds no picture")
        longest = self._spans[-1][1]
        if not longest and len(begins) > 1:
            longest = begins[-1] - begins[-2]
        return begins, begins[-1] + longest


class Reader:
    """Decodes forward through a video, jumping to a key frame only if one lies between."""

    def __init__(self, container: av.container.InputContainer, video: av.VideoStream, shown: Shown) -> None:
        self._container, self._video, self._keys = container, video, shown.keys
        self._begins, _ = shown.finish()
        self._skips = shown.has_all_times and video.codec_context.name in SKIPPING
        self._all_from = self._begins[0]
        self._frames: Iterator[av.VideoFrame] | None = None
        self._now: av.VideoFrame | None = None
        self._next: av.VideoFrame | None = None

    def last_before(self, limit: Fraction) -> av.VideoFrame | None:
        """Return the last picture that begins before a time; the first one if none does.

        Limits must not decrease from call to call.
        """
        wanted = bisect_left(self._begins, limit) - 1
        self._all_from = self._begins[max(0, wanted - DECODED_BEFORE)]
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
        codec = self._video.codec_context
        for packet in self._container.demux(self._video):
            if self._skips:
                early = packet.pts is not None and packet.pts * packet.time_base < self._all_from
                codec.skip_frame = "NONREF" if early else "DEFAULT"
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
