"""Extended test sets of SLAVC: as many clips without a visible source as the test set has clips.

A negative is a pair: the frame of one clip with the sound of another (*mismatched*), or a clip whose video is
silent. Nothing that is seen makes the sound, so the truth is empty, and a model should say so.

The **catalog** has only real clips, those of the test set and the silent videos, so that the download and
preprocess stages treat a negative as they treat any clip. The **annotations** have the clips of the test set
and, for each negative, an entry ``<frame clip>+<sound clip>`` with ``silent`` (``mismatched`` or ``silent``),
``frame_of``, ``audio_of`` and no box. ``avsl-data pair`` turns shards and annotations into shards with a row
per pair, which prediction and scoring read like any other.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from avsl_data.errors import DataInputError
from avsl_data.ids import normalise, pair_id
from avsl_data.remotes import Remote, fetch
from avsl_data.sources import flickr_soundnet, vggss
from avsl_data.sources.projects import SLAVC
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs, Source

BIBTEX: Final = """\
@inproceedings{mo2022closer,
  title     = {A Closer Look at Weakly-Supervised Audio-Visual Source Localization},
  author    = {Mo, Shentong and Morgado, Pedro},
  booktitle = {NeurIPS},
  year      = {2022}
}
"""

HEADER: Final = ["video", "audio", "label"]
NEGATIVE: Final = "non-sounding"
MISMATCHED: Final = "mismatched"
SILENT: Final = "silent"


@dataclasses.dataclass(frozen=True)
class Negative:
    """A frame and a sound that do not belong together, or a silent video.

    Parameters
    ----------
    frame_of, audio_of
        Clip ids; the same one for a silent video.
    """

    frame_of: str
    audio_of: str

    @property
    def why(self) -> str:
        """``mismatched`` or ``silent``."""
        return SILENT if self.frame_of == self.audio_of else MISMATCHED


def read_negatives(path: Path) -> list[Negative]:
    """Read a list in the format of ``*_plus_silent.csv``, which holds the negatives only.

    Parameters
    ----------
    path
        CSV with the header ``video,audio,label``.

    Returns
    -------
    list of Negative
        In file order.

    Raises
    ------
    DataInputError
        If the header, a label or an id is another one, or a pair comes twice.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or rows[0] != HEADER:
        raise DataInputError(f"{path}, line 1: expected the header {','.join(HEADER)}")
    negatives: dict[Negative, None] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(HEADER) or row[2] != NEGATIVE:
            raise DataInputError(
                f"{path}, line {number}: expected a frame's clip, a sound's clip, {NEGATIVE}"
            )
        try:
            negative = Negative(normalise(row[0]), normalise(row[1]))
        except DataInputError as error:
            raise DataInputError(f"{path}, line {number}: {error}") from error
        if negative in negatives:
            raise DataInputError(f"{path}, line {number}: the pair {row[0]},{row[1]} comes twice")
        negatives[negative] = None
    return list(negatives)


class _Extended:
    """What the two sets share."""

    NAME: ClassVar[str]
    REMOTES: ClassVar[Mapping[str, Remote]]
    INPUTS: ClassVar[frozenset[str]]
    TRUTH: ClassVar[str]
    BIBTEX: ClassVar[str] = BIBTEX
    LICENSE: ClassVar[str] = "List: Apache-2.0. For the rest see the set that it extends."
    BASE: ClassVar[Source]

    def negatives(self, inputs: Inputs) -> list[Negative]:
        """Read the published negatives."""
        (remote,) = self.REMOTES.values()
        return read_negatives(fetch(remote, inputs.mirror))

    def sounding(self, inputs: Inputs) -> list[CatalogClip]:
        """List the clips of the test set that is extended."""
        clips = self.BASE.catalog(self._base_inputs(inputs))
        return [clip for clip in clips if clip.official_split == "test"]

    def catalog(self, inputs: Inputs) -> Sequence[CatalogClip]:
        """List the clips of the test set, then those that only negatives use."""
        clips = self.sounding(inputs)
        known = {clip.clip_id for clip in clips}
        used = [name for pair in self.negatives(inputs) for name in (pair.frame_of, pair.audio_of)]
        further = [clip_id for clip_id in dict.fromkeys(used) if clip_id not in known]
        return [*clips, *(vggss.youtube_clip(clip_id, "", "test") for clip_id in further)]

    def boxes(self, inputs: Inputs) -> list[ClipBoxes]:
        """List the boxes of the test set, then an empty entry per negative."""
        test = {clip.clip_id for clip in self.sounding(inputs)}
        clips = [clip for clip in self.BASE.boxes(self._base_inputs(inputs)) if clip.clip_id in test]
        return clips + [
            ClipBoxes(
                pair_id(pair.frame_of, pair.audio_of),
                "",
                (),
                silent=pair.why,
                frame_of=pair.frame_of,
                audio_of=pair.audio_of,
            )
            for pair in self.negatives(inputs)
        ]

    def _base_inputs(self, inputs: Inputs) -> Inputs:
        unused = inputs.given() - self.BASE.INPUTS
        return dataclasses.replace(inputs, **dict.fromkeys(unused))


class _VggssExtended(_Extended):
    """VGG-SS extended: which of its frames has a sounding source at all.

    **Size.** The 5,158 clips of VGG-SS and 5,158 negatives: 4,779 pairs of two VGG-SS clips and 379 silent
    videos, which are in neither VGG-SS nor VGGSound's test split. The catalog has 5,537 clips.

    **How made.** SLAVC's authors drew for each clip the sound of another one, and took videos without sound.

    **Known faults.** The published list holds the negatives only, and a frame's other clip is drawn from
    3,092 of the 5,158 clips. A mismatched sound may be of the class that the frame shows: nobody checked.
    """

    NAME = "vggss-extended"
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "vggss_test_plus_silent.csv": Remote(
            f"{SLAVC}/vggss_test_plus_silent.csv",
            "905a009428e16d1108e5af112d8e682dbe1702a2ed897b3d56753ff587018e4e",
            "Apache-2.0",
        ),
    }
    INPUTS = frozenset({"mirror"})
    TRUTH = vggss.TRUTH
    BASE: ClassVar[Source] = vggss


class _FlickrExtended(_Extended):
    """Flickr-SoundNet's test set extended: which of its frames has a sounding source at all.

    **Size.** The 250 test videos and 250 negatives, each a pair of two of them; no silent videos.

    **How made.** SLAVC's authors drew for each video the sound of another one; 160 sounds are used.

    **Known faults.** The published list holds the negatives only. A mismatched sound may suit the frame:
    nobody checked.
    """

    NAME = "flickr-extended"
    REMOTES: ClassVar[Mapping[str, Remote]] = {
        "flickr_test_plus_silent.csv": Remote(
            f"{SLAVC}/flickr_test_plus_silent.csv",
            "45a0d32b64a9ef9e567d3eaf4a4a29683cdb0f7f4e1924a0e26cde24fa298643",
            "Apache-2.0",
        ),
    }
    INPUTS = frozenset({"mirror", "urls", "clips", "annotations"})
    TRUTH = flickr_soundnet.TRUTH
    BASE: ClassVar[Source] = flickr_soundnet


EXTENDED_SETS: Final[tuple[Source, ...]] = (_VggssExtended(), _FlickrExtended())
