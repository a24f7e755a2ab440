"""Notes: what a usable clip can be peculiar in.

Published preprocessing takes such clips without a word. So does ours, but every row says what it has; the
bounds are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from avsl_data.extract import SourceFacts

NOTES: Final[Mapping[str, str]] = {
    "silent": "the sound is below -60 dB of full scale",
    "short": "picture or sound lasts less than 95 % of the clip's length in the catalog",
    "short_audio": "the sound ends more than 0.25 s before the picture",
    "short_video": "the picture ends more than 0.25 s before the sound",
    "late_audio": "the sound starts more than 0.05 s after the picture; silence was put before it",
    "late_video": "the picture starts more than 0.05 s after the sound",
    "odd_fps": "the rate is none of 10, 12, 12.5, 15, 20, 23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60",
    "variable_fps": "pictures are shown for different times",
    "several_streams": "there are several video or audio streams; the first of each was used",
    "rotated": "the picture was turned upright",
    "anamorphic": "the pixels were not square; the stored ones are",
    "frames_missing": "the clip ends before some of the further frames' times",
    "no_flow": "the frame is the clip's last picture, or the clip is a still: there is no optical flow",
}
"""Every note and what it means."""

SILENT_DB: Final = -60.0
SHORT_SHARE: Final = 0.95
UNEVEN_S: Final = 0.25
LATE_S: Final = 0.05
COMMON_FPS: Final = (10, 12, 12.5, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60)
FPS_TOLERANCE: Final = 0.002
ASPECT_TOLERANCE: Final = 0.01


def notes_on(facts: SourceFacts, rms_db: float, wanted_s: float, missing: Mapping[str, bool]) -> list[str]:
    """Return the notes that hold for a usable clip.

    Parameters
    ----------
    facts
        What the file was like.
    rms_db
        Loudness of the stored sound in dB of full scale.
    wanted_s
        The clip's length in the catalog in seconds; 0 if that does not know it.
    missing
        Whether something that was asked for could not be had: ``frames_missing`` and ``no_flow``.

    Returns
    -------
    list of str
        Keys of `NOTES`, in their order.
    """
    ends_s = facts.audio_start_s + facts.audio_s - facts.video_s
    holds = {
        "silent": rms_db < SILENT_DB,
        "short": min(facts.video_s, facts.audio_s) < SHORT_SHARE * wanted_s,
        "short_audio": ends_s < -UNEVEN_S,
        "short_video": ends_s > UNEVEN_S,
        "late_audio": facts.audio_start_s > LATE_S,
        "late_video": facts.audio_start_s < -LATE_S,
        "odd_fps": not any(abs(facts.fps / rate - 1) < FPS_TOLERANCE for rate in COMMON_FPS),
        "variable_fps": facts.variable_fps,
        "several_streams": max(facts.video_streams, facts.audio_streams) > 1,
        "rotated": facts.rotation % 360 != 0,
        "anamorphic": abs(facts.pixel_aspect - 1) > ASPECT_TOLERANCE,
        **missing,
    }
    return [name for name in NOTES if holds[name]]
