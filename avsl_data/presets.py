"""How published projects cut picture and sound out of a clip, by name.

Every value says where it comes from: ``code`` was read in the project's published code, ``paper`` is what
its paper or its description of the data says, ``ours`` is our choice because neither tells. A preset fixes
what is *stored*; what a project does when it loads a stored clip (crop, repetition of short sounds,
spectrogram) is in its note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from avsl_data.errors import unknown_name

CODE: Final = "code"
PAPER: Final = "paper"
OURS: Final = "ours"

MIDDLE: Final = "middle"
START: Final = "start"

FRAME_125_S: Final = 4.96
"""The 125th picture at 25 per second, the one that VGG-SS's boxes belong to."""


@dataclass(frozen=True)
class Preset:
    """One project's way.

    Parameters
    ----------
    frame_time_s
        Time of the picture in seconds; None is the middle of the clip.
    audio_s
        Seconds of sound that are kept; None keeps all.
    audio_from
        ``start`` or ``middle``: where in the sound they are.
    sample_rate
        Samples per second.
    flow
        Whether optical flow is stored.
    sources
        For each of the values above, `CODE`, `PAPER` or `OURS`.
    note
        What else there is to know, and where it was read.
    """

    frame_time_s: float | None
    audio_s: float | None
    audio_from: str
    sample_rate: int
    sources: Mapping[str, str]
    note: str
    flow: bool = False


def _sources(frame_time_s: str, audio_s: str, audio_from: str, sample_rate: str) -> dict[str, str]:
    """Return where the values come from; that no loader but Hear The Flow's reads a flow is code."""
    return {
        "frame_time_s": frame_time_s,
        "audio_s": audio_s,
        "audio_from": audio_from,
        "sample_rate": sample_rate,
        "flow": CODE,
    }


PRESETS: Final[Mapping[str, Preset]] = {
    "lvs": Preset(
        FRAME_125_S,
        10.0,
        START,
        16_000,
        _sources(PAPER, CODE, CODE, OURS),
        "datasets/dataloader.py: repeats the sound to 20 s from its start (a 10 s clip twice) at whatever "
        "rate the file has; at loading, the shorter side becomes 224 and the middle square is cut out.",
    ),
    "ezvsl": Preset(
        None,
        3.0,
        MIDDLE,
        16_000,
        _sources(PAPER, CODE, CODE, OURS),
        "datasets.py: the middle 3 s at whatever rate the file has, repeated if shorter; one picture per "
        "clip that was cut before, said to be the middle one. VGG-SS's boxes belong to 4.96 s all the same.",
    ),
    "fnac": Preset(
        None,
        3.0,
        MIDDLE,
        16_000,
        _sources(OURS, CODE, CODE, OURS),
        "datasets.py: as EZ-VSL, from which it was taken over; the picture is not told.",
    ),
    "slavc": Preset(
        None,
        5.0,
        MIDDLE,
        16_000,
        _sources(OURS, CODE, CODE, OURS),
        "datasets.py: the test set is made with audio_dur=5, which its loader then does not use: it cuts the "
        "middle 3 s. Take --audio-seconds 3 to do what the published code does.",
    ),
    "ssltie": Preset(
        FRAME_125_S,
        10.0,
        START,
        16_000,
        _sources(CODE, CODE, CODE, OURS),
        "utils/convert_video2frames.py reads at 25 per second, squeezed to 299x299; datasets/dataloader.py "
        "takes 125.jpg and 10 s. Its VGGSound training sounds are 3 s files, repeated to 10 s.",
    ),
    "sspl": Preset(
        None,
        3.0,
        MIDDLE,
        16_000,
        _sources(CODE, CODE, CODE, CODE),
        "metadata/read_frame_audio_then_save_hdf5.py (Flickr): the middle one of the stored pictures, "
        "squeezed to 256x256; VGGish's log-mel 3x96x64 is made when loading.",
    ),
    "htf": Preset(
        FRAME_125_S,
        3.0,
        MIDDLE,
        22_050,
        _sources(OURS, CODE, CODE, CODE),
        "datasets_flow.py: the middle 3 s of a test sound; training sounds were cut before. The picture is "
        "not told for VGGSound; for Flickr, preprocess/*.py take the middle one to train, to test the "
        "annotated one (the one before, if that is the last), and the flow to the next one.",
        flow=True,
    ),
    "acl": Preset(
        FRAME_125_S,
        10.0,
        START,
        16_000,
        _sources(PAPER, CODE, CODE, CODE),
        "VGGSS/README.md names the 125th picture at 25 per second; VGGSS/VGGSS_Dataset.py takes 10 s from "
        "the start at 16 kHz and fills short sounds with silence.",
    ),
}
"""Every preset by name."""


def preset_named(name: str) -> Preset:
    """Look up a preset.

    Parameters
    ----------
    name
        Its name.

    Returns
    -------
    Preset
        The preset.

    Raises
    ------
    DataInputError
        If there is none of that name.

    Examples
    --------
    >>> preset_named("htf").sample_rate
    22050
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
