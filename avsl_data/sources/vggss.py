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
from typing import TYPE_CHECKING, Final

from avsl_data.errors import DataInputError
from avsl_data.ids import START_DIGITS, start_of, video_id_of
from avsl_data.remotes import Remote, fetch
from avsl_data.sources.projects import ACL, EZVSL, HTF, LVS, SSLALIGN, SSLTIE, SSPL
from avsl_data.sources.published import read_annotations, read_id_list
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs

if TYPE_CHECKING:
    import pyarrow as pa

    from avsl_data.clip_table import ClipTable

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

LISTS: Final[Mapping[str, Remote]] = {
    "vggss@lvs": Remote(
        f"{LVS}/vggss_test.csv",
        "971081929d45caf21a148a6ca968822d96e8316331d0cc0bafb1783acb4d2c35",
        "Apache-2.0",
    ),
    "vggss@acl": Remote(
        f"{ACL}/vggss_test.csv",
        "f70876a786215dee2dd7662f7720934eac92813ceb5dbdd64188334aba3e4c2a",
        "none stated",
    ),
    "vggss-4911@ssltie": Remote(
        f"{SSLTIE}/test_vggss_4911.txt",
        "6d60cdd17757a7e10537d4bff0e6a53833d88beccffa0e58755c5d10fc50aead",
        "MIT",
    ),
    "vggss-4692@sspl": Remote(
        f"{SSPL}/vggss_test_4692.csv",
        "f075b27306ca213da3c56fe996cdf7a1b39ef7d6e0077c95be580fc5a60af98d",
        "MIT",
    ),
    "vggss-4670@htf": Remote(
        f"{HTF}/vggss_test_trimmed.csv",
        "b59e784cd13caeea7c95fcdf82b2ba33eefa0e98e5d924fdc7f1f49d4970d73c",
        "MIT",
    ),
    "vggss-4655@sslalign": Remote(
        f"{SSLALIGN}/ours_vggss.txt",
        "24546044696e8ea0aff172dc7acef36f84adfc7a00611c601c8ab7294ce3b6e2",
        "none stated",
    ),
    "vggss-heard@ezvsl": Remote(
        f"{EZVSL}/vggss_heard_test.csv",
        "70a01c6828e7b84531823616ebb2e32e75bbaf5e44c715fa366b61111ab33c4e",
        "Apache-2.0",
    ),
    "vggss-unheard@ezvsl": Remote(
        f"{EZVSL}/vggss_unheard_test.csv",
        "11883813db359df63e1a28f69bb53e1ceef7f5b8d68e0149de5792540acb9e17",
        "Apache-2.0",
    ),
    "vggss-heard@acl": Remote(
        f"{ACL}/vggss_heard_test.csv",
        "d099f44621aa0d1832a7026ab667f6ec4e581b58297f79ed9406e09be80c7fea",
        "none stated",
    ),
    "vggss-unheard@acl": Remote(
        f"{ACL}/vggss_unheard_test.csv",
        "dd0004d6006c1831ff7f568f34dcc769800f615e01ff215cdc8a827716cdd672",
        "none stated",
    ),
    "vggss-heard@ssltie": Remote(
        f"{SSLTIE}/openset/openset_test_110_heard_2425.txt",
        "3bad0ab8d27e2eea7f2b4b8992eae5d301a091c26c7fc89c46ab697f43b5ddcc",
        "MIT",
    ),
    "vggss-unheard@ssltie": Remote(
        f"{SSLTIE}/openset/openset_test_110_unheard_2463.txt",
        "1002bad83272bb6b7b7e1a26e8b3da07f2ce2fdfc2a4f694d442f0c53926be9f",
        "MIT",
    ),
}
"""Published test lists as ``<set>@<project>``; a number is the clips that a project had on its disk."""

REMOTES: Final[Mapping[str, Remote]] = {
    **LISTS,
    "vggss.json": Remote(
        f"{LVS}/vggss.json",
        "ae300b4a259267e6fe839970d495862edd70bfe3da63d925bcdb34054ed3b15e",
        "Apache-2.0",
    ),
}

INPUTS: Final = frozenset({"mirror"})
TRUTH: Final = "union"

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


def youtube_clips(
    ids: pa.Array | pa.ChunkedArray, labels: pa.Array | pa.ChunkedArray, splits: pa.Array | pa.ChunkedArray
) -> ClipTable:
    """Return the catalog's rows of ten-second clips on YouTube, as columns.

    Parameters
    ----------
    ids, labels, splits : [n] of string
        As in `youtube_clip`.

    Returns
    -------
    ClipTable
        One row per id, in order.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from avsl_data.clip_table import ClipTable

    videos = pc.utf8_slice_codeunits(ids, 0, -START_DIGITS - 1)
    start = pc.cast(pc.utf8_slice_codeunits(ids, -START_DIGITS), pa.float64())
    columns = {
        "clip_id": ids,
        "video_id": videos,
        "url": pc.binary_join_element_wise(youtube_url(""), videos, ""),
        "start_s": start,
        "end_s": pc.add(start, CLIP_S),
        "label": labels,
        "official_split": splits,
    }
    return ClipTable(pa.table(columns))


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
    ids = [clip_id for clip_id, _ in read_id_list(fetch(LISTS["vggss@lvs"], inputs.mirror))]
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
