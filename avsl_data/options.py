"""What is stored of each clip: the options of preprocessing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from avsl_data.errors import DataInputError
from avsl_data.presets import MIDDLE, START, preset_named

SAMPLE_RATES: Final = (8_000, 48_000)
SHORT_SIDES: Final = (16, 4_096)
MAX_FRAMES: Final = 1_000


@dataclass(frozen=True)
class PreprocessOptions:
    """What a shard's frames and sounds are like.

    Parameters
    ----------
    frame_time_s
        Seconds from the clip's start, 4.96 for VGG-SS; None is the middle of the clip.
    short_side
        Largest shorter side of the frame in pixels; larger frames are scaled down, smaller ones kept.
    sample_rate
        Samples per second of the mono sound.
    audio_s
        Seconds of sound that are kept; None keeps all.
    audio_from
        ``start`` or ``middle``: where in the sound they are.
    frame_times_s
        Times of further frames, for the column ``frames``.
    frames_per_clip
        Number of further frames, in the middles of as many equal parts of the clip; 0 stores none.
    flow
        Whether to store the optical flow from the frame to the next picture.
    preset
        Name of the preset that the values come from, for the record.
    """

    frame_time_s: float | None = 4.96
    short_side: int = 256
    sample_rate: int = 16_000
    audio_s: float | None = None
    audio_from: str = START
    frame_times_s: tuple[float, ...] = ()
    frames_per_clip: int = 0
    flow: bool = False
    preset: str | None = None

    def __post_init__(self) -> None:
        for flag, values in (
            ("--frame-time", (self.frame_time_s,)),
            ("--frame-times", self.frame_times_s),
        ):
            for value in values:
                if value is not None and not (math.isfinite(value) and value >= 0):
                    raise DataInputError(f"{flag} {value} is not a time from the clip's start in seconds")
        for flag, number, (low, high) in (
            ("--short-side", self.short_side, SHORT_SIDES),
            ("--sample-rate", self.sample_rate, SAMPLE_RATES),
            ("--frames-per-clip", self.frames_per_clip, (0, MAX_FRAMES)),
        ):
            if not low <= number <= high:
                raise DataInputError(f"{flag} {number} is not in {low}..{high}")
        if self.audio_s is not None and not 0 < self.audio_s < math.inf:
            raise DataInputError(f"--audio-seconds {self.audio_s} is no length in seconds")
        if self.audio_from not in {START, MIDDLE}:
            raise DataInputError(f"--audio-from {self.audio_from}: give {START} or {MIDDLE}")
        if self.frames_per_clip and self.frame_times_s:
            raise DataInputError("--frames-per-clip and --frame-times both choose frames: give one of them")

    @classmethod
    def of_preset(cls, name: str, **values: Any) -> PreprocessOptions:
        """Return the options of a published project.

        Parameters
        ----------
        name
            A key of `avsl_data.presets.PRESETS`.
        **values
            Fields that differ from it.

        Returns
        -------
        PreprocessOptions
            The options.

        Examples
        --------
        >>> PreprocessOptions.of_preset("ezvsl", sample_rate=11_025).audio_s
        3.0
        """
        preset = preset_named(name)
        own = {field: getattr(preset, field) for field in preset.sources}
        return cls(**{**own, "preset": name, **values})

    def record(self) -> dict[str, Any]:
        """Return the options as a shard's metadata hold them.

        Returns
        -------
        dict
            Each option by name; ``flow`` only if it is asked for, so that shards without it are those that
            were made before there was any.
        """
        return {name: value for name, value in asdict(self).items() if name != "flow" or value}

    def times(self, clip_s: float) -> tuple[float, ...]:
        """Return the times of the frame and of the further frames of a clip.

        Parameters
        ----------
        clip_s
            Its length in seconds.

        Returns
        -------
        tuple of float
            The frame's first.

        Examples
        --------
        >>> PreprocessOptions(None, frames_per_clip=2).times(10.0)
        (5.0, 2.5, 7.5)
        """
        first = clip_s / 2 if self.frame_time_s is None else self.frame_time_s
        n = self.frames_per_clip
        return (first, *(self.frame_times_s or ((k + 0.5) / n * clip_s for k in range(n))))
