"""Test sets of pictures with sounds: IS3, AVSBench (S4, MS3) and VPO, by the lists of SSLalignment.

None has an address to fetch clips from: the archives are got by hand from their projects. A list names per
clip a picture, a sound and one box on 224 x 224 pixels, half-open; [0, 0, 0, 0] says that nothing in the
picture sounds, and such a clip stays in the truth without a box. The address of a clip is
``folder:///<picture>?audio=<sound>`` below the archive's folder (`avsl_data.sources.pictures`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from avsl_data.errors import DataInputError
from avsl_data.ids import YOUTUBE_ID_LENGTH, check_safe_id
from avsl_data.remotes import Remote, fetch
from avsl_data.sources.pictures import Media, media_url_of
from avsl_data.sources.projects import ACL_AVSBENCH, SSLALIGN
from avsl_data.sources.published import read_labels
from avsl_data.sources.source import Box, CatalogClip, ClipBoxes, Inputs, Source

CANVAS: Final = 224
CORNERS: Final = 4

_SSLALIGN_BIBTEX: Final = """\
@inproceedings{senocak2023sound,
  title     = {Sound Source Localization is All about Cross-Modal Alignment},
  author    = {Senocak, Arda and Ryu, Hyeonggon and Kim, Junsik and Oh, Tae-Hyun and Pfister, Hanspeter and
               Chung, Joon Son},
  booktitle = {ICCV},
  year      = {2023}
}
"""
_AVSBENCH_BIBTEX: Final = """\
@inproceedings{zhou2022audio,
  title     = {Audio-Visual Segmentation},
  author    = {Zhou, Jinxing and Wang, Jianyuan and Zhang, Jiayi and Sun, Weixuan and Zhang, Jing and
               Birchfield, Stan and Guo, Dan and Kong, Lingpeng and Wang, Meng and Zhong, Yiran},
  booktitle = {ECCV},
  year      = {2022}
}
"""
_VPO_BIBTEX: Final = """\
@inproceedings{chen2024unraveling,
  title     = {Unraveling Instance Associations: A Closer Look for Audio-Visual Segmentation},
  author    = {Chen, Yuanhong and Liu, Yuyuan and Wang, Hu and Liu, Fengbei and Wang, Chong and
               Frazer, Helen and Carneiro, Gustavo},
  booktitle = {CVPR},
  year      = {2024}
}
"""


@dataclass(frozen=True)
class Entry:
    """A row of a list.

    Parameters
    ----------
    clip_id
        Stem of the picture; in MS3 without its inner ``.mp4``, as in AVSBench's own lists.
    picture, sound
        Paths below the archive's folder.
    box
        xyxy, fractions of the canvas.
    """

    clip_id: str
    picture: PurePosixPath
    sound: PurePosixPath
    box: Box


def read_entries(path: Path, root: str) -> list[Entry]:
    """Read a list of pictures, sounds and boxes.

    Parameters
    ----------
    path
        JSON: a list of ``{"image", "audio", "gt_box"}``.
    root
        Folder in its absolute paths that stands for the archive's.

    Returns
    -------
    list of Entry
        In file order.

    Raises
    ------
    DataInputError
        If the file is no such list, a path is not below ``root``, or a box is not four pixels.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataInputError(f"{path} is no JSON ({error})") from error
    if not isinstance(rows, list):
        raise DataInputError(f"{path} is no list of pictures, sounds and boxes")
    return [_entry(path, number, row, root) for number, row in enumerate(rows, start=1)]


def _entry(path: Path, number: int, row: Any, root: str) -> Entry:
    try:
        picture, sound = (_below(str(row[key]), root) for key in ("image", "audio"))
        x0, y0, x1, y1 = (fraction_of(float(value)) for value in row["gt_box"])
        return Entry(check_safe_id(picture.stem.replace(".mp4_", "_")), picture, sound, (x0, y0, x1, y1))
    except (KeyError, TypeError, ValueError) as error:
        raise DataInputError(
            f"{path}, entry {number}: is not {{image, audio, gt_box: [x0, y0, x1, y1]}}: {str(error)[:120]}"
        ) from error


def _below(text: str, root: str) -> PurePosixPath:
    parts = PurePosixPath(text).parts
    if root not in parts or ".." in parts:
        raise ValueError(f"{text!a:.100} is not below {root}")
    return PurePosixPath(*parts[parts.index(root) + 1 :])


def fraction_of(pixel: float) -> float:
    """Return a corner as a fraction that a scorer draws at this very pixel again.

    Parameters
    ----------
    pixel
        Whole pixels in [0, 224].

    Returns
    -------
    float
        ``pixel / 224``, or the next larger number where ``int(224 * (pixel / 224))`` falls short by one:
        61, 115 and 122.

    Raises
    ------
    ValueError
        If the pixel is not in the picture.

    Examples
    --------
    >>> int(224 * (61 / 224)), int(224 * fraction_of(61))
    (60, 61)
    """
    if not 0 <= pixel <= CANVAS:
        raise ValueError(f"the corner {pixel} is not in [0, {CANVAS}]")
    fraction = pixel / CANVAS
    return fraction if int(CANVAS * fraction) >= int(pixel) else math.nextafter(fraction, math.inf)


def _before_last_underscore(clip_id: str) -> str:
    return clip_id.rpartition("_")[0]


class _PictureSet:
    """What the sets share."""

    NAME: ClassVar[str]
    BIBTEX: ClassVar[str]
    LICENSE: ClassVar[str]
    REMOTES: ClassVar[Mapping[str, Remote]]
    INPUTS: ClassVar[frozenset[str]] = frozenset({"mirror"})
    TRUTH: ClassVar[str] = "union"
    ROOT: ClassVar[str]
    """Folder of the published paths that stands for the archive's."""
    GROUPED: ClassVar[bool] = False
    """Whether several clips share a picture."""
    SECONDS: ClassVar[bool] = False
    """Whether the number at the end of an id counts the seconds of the sound from 1."""

    def entries(self, inputs: Inputs) -> list[Entry]:
        """Read the published list."""
        return read_entries(fetch(next(iter(self.REMOTES.values())), inputs.mirror), self.ROOT)

    def video_of(self, clip_id: str) -> str:
        """Return what clips share that must not be on two sides: a video, or a picture."""
        return _before_last_underscore(clip_id)

    def labels(self, entries: Sequence[Entry], inputs: Inputs) -> Callable[[Entry], str]:
        """Return how the class of an entry is found."""
        del entries, inputs
        return lambda _: ""

    def catalog(self, inputs: Inputs) -> Sequence[CatalogClip]:
        """List the clips, in the published order, all of the official split ``test``."""
        entries = self.entries(inputs)
        label = self.labels(entries, inputs)
        return [self._clip(entry, label(entry)) for entry in entries]

    def _clip(self, entry: Entry, label: str) -> CatalogClip:
        second = int(entry.clip_id.rpartition("_")[2]) if self.SECONDS else 1
        return CatalogClip(
            clip_id=entry.clip_id,
            video_id=self.video_of(entry.clip_id),
            url=media_url_of(Media(entry.picture.as_posix(), entry.sound.as_posix())),
            start_s=float(second - 1),
            end_s=float(second) if self.SECONDS else None,
            label=label,
            official_split="test",
        )

    def boxes(self, inputs: Inputs) -> list[ClipBoxes]:
        """List one box per clip, in the published order."""
        entries = self.entries(inputs)
        label = self.labels(entries, inputs)
        return [
            ClipBoxes(
                entry.clip_id,
                label(entry),
                (entry.box,),
                group=_before_last_underscore(entry.clip_id) if self.GROUPED else "",
            )
            for entry in entries
        ]


class _Is3(_PictureSet):
    """IS3, interactive synthetic sound sources: pictures with two things, each of which may sound.

    **Size.** 3,240 pictures with two sounds and boxes each, 6,480 clips.

    **How made.** Pictures of two things were synthesised, and each thing was given a sound. A clip's id is
    the picture's name and the class that sounds: what stands before its last underscore is the group whose
    members must all be found.

    **Known faults.** Pictures are synthetic. The project's page has no fixed address or checksum for its
    archive (a Google Drive file): fetch it by hand.
    """

    NAME = "is3"
    BIBTEX = _SSLALIGN_BIBTEX
    LICENSE = "None stated."
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "synthetic3240_bbox.json": Remote(
            f"{SSLALIGN}/synthetic3240_bbox.json",
            "fb0314fcc42e8bfdcfb24115e4cbbbbdfa2e0a53d59ca424c5308c0147ecde34",
            "none stated",
        ),
    }
    ROOT = "synthetic3241"
    GROUPED = True

    def labels(self, entries: Sequence[Entry], inputs: Inputs) -> Callable[[Entry], str]:
        """Return what stands after the last underscore."""
        del entries, inputs
        return lambda entry: entry.clip_id.rpartition("_")[2]


class _AvsbenchS4(_PictureSet):
    """AVSBench S4: five-second videos with one sounding object, one picture per second.

    **Size.** The test part: 740 videos, 3,700 pictures with a box each, 23 classes.

    **How made.** Videos of YouTube; masks were drawn by hand on one picture per second, and the
    boxes are SSLalignment's. Picture k belongs to second k of the sound.

    **Known faults.** Boxes reach pixel 223, not 224: they name the last pixel inside. Six pictures have an
    empty box. Video ids are YouTube's, and some of the videos may be in VGGSound: audit the training list.
    """

    NAME = "avsbench-s4"
    BIBTEX = _AVSBENCH_BIBTEX + _SSLALIGN_BIBTEX
    LICENSE = "Boxes: none stated. AVSBench: on request from its authors, for research."
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "s4_box.json": Remote(
            f"{SSLALIGN}/s4_box.json",
            "67da965929c03af6bf4709040d944b5d22daef489e0a7bb2ba3a486ac732b301",
            "none stated",
        ),
        "avs1_s4_test.csv": Remote(
            f"{ACL_AVSBENCH}/avs1_s4_test.csv",
            "4606831e02d88b5c438b5376161232cdab2ebcc35c53bbb1ca6560779e63b897",
            "none stated",
        ),
    }
    ROOT = "s4_data"
    SECONDS = True

    def labels(self, entries: Sequence[Entry], inputs: Inputs) -> Callable[[Entry], str]:
        """Return the class in ACL's list."""
        return _listed_labels(entries, self.REMOTES["avs1_s4_test.csv"], inputs)


class _AvsbenchMs3(_PictureSet):
    """AVSBench MS3: five-second videos with several sounding objects, one picture per second.

    **Size.** The test part: 64 pieces of 54 videos, 320 pictures with a box each.

    **How made.** As S4.

    **Known faults.** One box for several objects. 29 pictures have an empty box. Boxes reach pixel 223. A
    piece's name is its YouTube id, in most cases with a number.
    """

    NAME = "avsbench-ms3"
    BIBTEX = _AVSBENCH_BIBTEX + _SSLALIGN_BIBTEX
    LICENSE = "Boxes: none stated. AVSBench: on request from its authors, for research."
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "ms3_box.json": Remote(
            f"{SSLALIGN}/ms3_box.json",
            "9453e0b0822c111cdfc2cde39d54b274cd9c08134a11815c9818bc199ea8d3e7",
            "none stated",
        ),
        "avs1_ms3_test.csv": Remote(
            f"{ACL_AVSBENCH}/avs1_ms3_test.csv",
            "1b4c607eff62ed767ad4b14c0e8d8ca7fe933bb1c258caa141db98d55cb9cb18",
            "none stated",
        ),
    }
    ROOT = "ms3_data"
    SECONDS = True

    def labels(self, entries: Sequence[Entry], inputs: Inputs) -> Callable[[Entry], str]:
        """Return the class in ACL's list."""
        return _listed_labels(entries, self.REMOTES["avs1_ms3_test.csv"], inputs)

    def video_of(self, clip_id: str) -> str:
        """Return the YouTube id, without the numbers of the part and of the picture."""
        return clip_id[:YOUTUBE_ID_LENGTH]


class _VpoSs(_PictureSet):
    """VPO-SS: pictures of COCO with the sound of one object in them.

    **Size.** 890 clips.

    **How made.** Pictures and masks are COCO's, sounds of the same class VGGSound's; the box is the mask's.
    The id is COCO's number of the picture and of the object.

    **Known faults.** Picture and sound never happened together. COCO and VPO are fetched from their projects.
    """

    NAME = "vpo-ss"
    BIBTEX = _VPO_BIBTEX + _SSLALIGN_BIBTEX
    LICENSE = "Boxes: none stated. Pictures: as COCO says."
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "vpo_ss_bbox.json": Remote(
            f"{SSLALIGN}/vpo_ss_bbox.json",
            "bb6e957d0da2034669e3a54ef91124a09c9b89034ddfa47a56de9d023d09c734",
            "none stated",
        ),
    }
    ROOT = "COCO_AV"


class _VpoMs(_PictureSet):
    """VPO-MS: pictures of COCO with the sounds of several objects in them, one clip per sound.

    **Size.** 2,157 clips of 1,432 pictures.

    **How made.** As VPO-SS, with one to five sounds per picture.

    **Known faults.** As VPO-SS; two boxes are empty.
    """

    NAME = "vpo-ms"
    BIBTEX = _VPO_BIBTEX + _SSLALIGN_BIBTEX
    LICENSE = "Boxes: none stated. Pictures: as COCO says."
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "vpo_ms_bbox.json": Remote(
            f"{SSLALIGN}/vpo_ms_bbox.json",
            "7974e4c491b7216f3a0c0a3b773f58b33eada5b8c5b64b46a0e607ceeef3608d",
            "none stated",
        ),
    }
    ROOT = "COCO_AV_MS"
    GROUPED = True


def _listed_labels(entries: Sequence[Entry], remote: Remote, inputs: Inputs) -> Callable[[Entry], str]:
    labels = read_labels(fetch(remote, inputs.mirror))
    missing = [entry.clip_id for entry in entries if entry.clip_id not in labels]
    if missing:
        raise DataInputError(f"{remote.url} has no class of {len(missing)} clips, first {missing[0]}")
    return lambda entry: labels[entry.clip_id]


PICTURE_SETS: Final[tuple[Source, ...]] = (_Is3(), _AvsbenchS4(), _AvsbenchMs3(), _VpoSs(), _VpoMs())
