"""VGG-SoundSource (VGG-SS): boxes of the sounding objects in VGGSound test clips.

**Size.** 5,158 clips of ten seconds, 5,941 boxes, 221 classes; the whole set is VGGSound's test split.

**How made.** Annotators boxed the source of the sound in one frame of each clip: frame 125 at 25 frames per
second, that is 4.96 s after the clip's start, not the middle one. Corners are fractions of the frame on a
grid of 1/320.

**Known faults.** Twelve boxes hold a coordinate of about -2.88e16 and six have no area, in 18 clips;
`avsl_data.annotations` drops and lists them. Two clips, ``M1P1xla8rg0_000000`` and ``MKC9LvRivTM_000030``,
are left without a box and stay in the set with an empty truth. There is no training split: a model that
learns from boxes must be scored on clips that it did not learn from (recipe ``vggss-semi``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from avsl_data.errors import DataInputError
from avsl_data.ids import start_of, video_id_of
from avsl_data.remotes import Remote, fetch
from avsl_data.sources.published import read_annotations, read_id_list
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs

NAME: Final = "vggss"

BIBTEX: Final = """\
@inproceedings{chen2021localizing,
  title     = {Localizing Visual Sounds the Hard Way},
  author    = {Chen, Honglie and Xie, Weidi and Afouras, Triantafyllos and Nagrani, Arsha and
               Vedaldi, Andrea and Zisserman, Andrew},
  booktitle = {CVPR},
  year      = {2021}
}
"""

LICENSE: Final = "Lists and boxes: Apache-2.0. The videos belong to their uploaders."

_BASE: Final = (
    "https://raw.githubusercontent.com/hche11/Localizing-Visual-Sounds-the-Hard-Way/"
    "8fe8cbbf810e804cf8cc9b244bb5d77ec8aa8315/metadata"
)

REMOTES: Final[Mapping[str, Remote]] = {
    "vggss.json": Remote(
        f"{_BASE}/vggss.json",
        "ae300b4a259267e6fe839970d495862edd70bfe3da63d925bcdb34054ed3b15e",
        "Apache-2.0",
    ),
    "vggss_test.csv": Remote(
        f"{_BASE}/vggss_test.csv",
        "971081929d45caf21a148a6ca968822d96e8316331d0cc0bafb1783acb4d2c35",
        "Apache-2.0",
    ),
}

INPUTS: Final = frozenset({"mirror"})

CLIP_S: Final = 10.0
FRAME_TIME_S: Final = 4.96
"""Time of the annotated frame: the 125th of a clip read at 25 frames per second."""


def youtube_url(video_id: str) -> str:
    """Return the address of a YouTube video.

    Parameters
    ----------
    video_id
        Eleven characters.

    Returns
    -------
    str
        The watch page.

    Examples
    --------
    >>> youtube_url("-0BIyqJj9ZU")
    'https://www.youtube.com/watch?v=-0BIyqJj9ZU'
    """
    return f"https://www.youtube.com/watch?v={video_id}"


def youtube_clip(clip_id: str, label: str, official_split: str) -> CatalogClip:
    """Return the catalog's row of a ten-second clip on YouTube; its id says video and start.

    Parameters
    ----------
    clip_id
        A normalised clip id.
    label
        Its class, or an empty string.
    official_split
        ``train`` or ``test``.

    Returns
    -------
    CatalogClip
        The row.

    Examples
    --------
    >>> youtube_clip("-0BIyqJj9ZU_000030", "cap gun shooting", "test").end_s
    40.0
    """
    return CatalogClip(
        clip_id=clip_id,
        video_id=video_id_of(clip_id),
        url=youtube_url(video_id_of(clip_id)),
        start_s=float(start_of(clip_id)),
        end_s=start_of(clip_id) + CLIP_S,
        label=label,
        official_split=official_split,
    )


def catalog(inputs: Inputs) -> list[CatalogClip]:
    """List the 5,158 clips, in the published order.

    Parameters
    ----------
    inputs
        Uses ``mirror``.

    Returns
    -------
    list of CatalogClip
        All of the official split ``test``.

    Raises
    ------
    DataInputError
        If a published file cannot be had, or the list and the boxes name different clips.
    """
    labels = {clip.clip_id: clip.label for clip in boxes(inputs)}
    ids = [clip_id for clip_id, _ in read_id_list(fetch(REMOTES["vggss_test.csv"], inputs.mirror))]
    if set(ids) != set(labels):
        raise DataInputError(
            "vggss_test.csv and vggss.json name different clips: is one of them another version?"
        )
    return [youtube_clip(clip_id, labels[clip_id], "test") for clip_id in ids]


def boxes(inputs: Inputs) -> list[ClipBoxes]:
    """Read the published boxes, the 18 faulty ones included.

    Parameters
    ----------
    inputs
        Uses ``mirror``.

    Returns
    -------
    list of ClipBoxes
        5,158 clips with 5,941 boxes.
    """
    return read_annotations(fetch(REMOTES["vggss.json"], inputs.mirror))
