"""Flickr-SoundNet: 5,000 Flickr videos with boxes of the sounding objects, and lists of others to train on.

**Size.** 5,000 annotated videos, of which 250 are the published test set and 4,750 the rest
(``flickr_sup_train.txt``); unlabelled lists of 10,000 and 144,000 out of SoundNet's two million videos. A
clip id is the number of the video.

**How made.** Three annotators boxed what sounds in one frame of a video, on a canvas of 256 x 256 pixels; the
boxes overlap, and the truth is their consensus: half a point per box, at most one. The layout of the
annotated archive is ``Annotations/<id>.xml`` and ``Data/0`` to ``Data/9`` with frames and wav files.

**Known faults.** The test set has 250 or 249 videos: the list of the original project names 3908875357, a
typo of 3908875350, and copies either mend it or leave it out. Its ``supervised_test_list.txt`` has 280 lines,
250 of them different, and is right. Lists that were copied hold annotated videos: ``flickr_144k@ezvsl`` 20 of
the 250 and 344 of the 4,750, ``flickr_144k@ardasnck`` none of the 250 but 3,065 of the 4,750. There are no
classes.

**Not automatic.** The annotated archive is on Google Drive (research use; the link is in the original
project's README): fetch it by hand, then give its folder ``Annotations`` with ``--annotations`` and its own
with ``--clips``. The addresses of the training videos are SoundNet's list of two million,
``http://data.csail.mit.edu/soundnet/urls_public.txt``; it has no published checksum, so it is given as a file
with ``--urls`` or lies in the mirror. Without it the address of a video is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from avsl_data.errors import DataInputError, unknown_name
from avsl_data.remotes import Remote, fetch
from avsl_data.sources.flickr_xml import read_folder
from avsl_data.sources.pictures import find_media, media_url_of
from avsl_data.sources.projects import ARDASNCK, EZVSL, HTF, LVS, SLAVC, SSLALIGN, SSLTIE
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs

if TYPE_CHECKING:
    import pyarrow as pa

NAME: Final = "flickr_soundnet"

BIBTEX: Final = """\
@inproceedings{senocak2018learning,
  title     = {Learning to Localize Sound Source in Visual Scenes},
  author    = {Senocak, Arda and Oh, Tae-Hyun and Kim, Junsik and Yang, Ming-Hsuan and Kweon, In So},
  booktitle = {CVPR},
  year      = {2018}
}
@inproceedings{aytar2016soundnet,
  title     = {SoundNet: Learning Sound Representations from Unlabeled Video},
  author    = {Aytar, Yusuf and Vondrick, Carl and Torralba, Antonio},
  booktitle = {NeurIPS},
  year      = {2016}
}
"""

LICENSE: Final = "Annotations and lists: research use only. The videos belong to their uploaders."

LISTS: Final[Mapping[str, Remote]] = {
    "flickr_10k@ezvsl": Remote(
        f"{EZVSL}/flickr_10k.txt",
        "773429321cd7690710660446b4aab9157ef75fe9a1f6b788649989a8066a77b1",
        "Apache-2.0",
    ),
    "flickr_144k@ezvsl": Remote(
        f"{EZVSL}/flickr_144k.txt",
        "5368914670a8e41f27591a7d6818abe74132aefd199a2a3b1861aeafa2e20b99",
        "Apache-2.0",
    ),
    "flickr_10k@htf": Remote(
        f"{HTF}/flickr_train_10k.txt",
        "e2b5763330b9dad88d4cd656b42265dc63c1c477c5b3f46446c5364c9779c291",
        "MIT",
    ),
    "flickr_144k@htf": Remote(
        f"{HTF}/flickr_train_144k.txt",
        "e9988e0327efce19f3d7217c5ff57feaa910de23c5144c1b27d26700274534a9",
        "MIT",
    ),
    "flickr_144k@ardasnck": Remote(
        f"{ARDASNCK}/Flickr_train_144k.txt",
        "1df6592386ca744ae4663a1372e493adfb1ec034bfc20b2f5b11c5ca2160e44e",
        "none stated (research use)",
    ),
}
"""Published training lists as ``<set>_<size>@<project>``."""

TEST_LISTS: Final[Mapping[str, Remote]] = {
    "flickr@slavc": Remote(
        f"{SLAVC}/flickr_test.csv",
        "e5c04bd722fc73a2daafcdafe9e10068d198c5df168300db4e05aa61b4ef71ed",
        "Apache-2.0",
    ),
    "flickr@ardasnck": Remote(
        f"{ARDASNCK}/supervised_test_list.txt",
        "9072744d952c5817851fa11efdd59bef69e29f9f1b0a4b908303934a70a2777e",
        "none stated (research use)",
    ),
    "flickr-typo@ardasnck": Remote(
        f"{ARDASNCK}/test_list.txt",
        "7134e3d58fffd0232cde2674a1d387c0c1e4d2844b153d894a47d1c6865567cd",
        "none stated (research use)",
    ),
    "flickr-249@lvs": Remote(
        f"{LVS}/flickr_test.csv",
        "faf5465bdb991cfb7506ccadef64dfea9e9bceb47e895d0e4dbdc2a0ca622871",
        "Apache-2.0",
    ),
    "flickr@sslalign": Remote(
        f"{SSLALIGN}/flickr_test.csv",
        "238dbe3d91befda692b9b8a9a1a0c2e14b1642de0801c8459adf59ae7f11f268",
        "none stated",
    ),
    "flickr-178@htf": Remote(
        f"{HTF}/flickr_test_trimmed.csv",
        "eac34b3d1312ede25e9f64ffabb2b2ce02f4c407b49ba1d0bd627d433c522bf3",
        "MIT",
    ),
    "flickr-1666@htf": Remote(
        f"{HTF}/flickr_test_expanded.csv",
        "1a8ce19fb9c1c4d09ddf484563a32e35c21d1e915cb96afd06a6da4236f402a1",
        "MIT",
    ),
    "flickr-pool@slavc": Remote(
        f"{SLAVC}/flickr_sup_train.txt",
        "af87c3a35d584d8792686fe8de5b21adaf331330b6e2b80c7d4998f60d4f9030",
        "Apache-2.0",
    ),
    "flickr-5k@ssltie": Remote(
        f"{SSLTIE}/test_flickr_5k.txt",
        "216d47977c8508abd048ff5bc886a5315224c888f69080d741fd9a0ff3458f0e",
        "MIT",
    ),
}
"""Published lists of annotated videos as ``<set>@<project>``."""

REMOTES: Final[Mapping[str, Remote]] = {**LISTS, **TEST_LISTS}

INPUTS: Final = frozenset({"mirror", "list_name", "urls", "clips", "annotations"})
TRUTH: Final = "consensus"

ANNOTATED_LIST: Final = "flickr-5k@ssltie"
TEST_LIST: Final = "flickr@slavc"
URLS_FILE: Final = Path("data.csail.mit.edu/soundnet/urls_public.txt")
URL_ID_PART: Final = -4
"""Where the number of a video stands in its address, counted from the end."""


def catalog(inputs: Inputs) -> Sequence[CatalogClip]:
    """List the videos of one published list, in its order.

    Parameters
    ----------
    inputs
        Uses ``list_name`` (the 5,000 annotated videos by default), ``urls``, ``clips`` and ``mirror``.

    Returns
    -------
    list of CatalogClip
        The official split is ``test`` for the published 250 and ``train`` for the others. The address is
        that of the frame and the sound in the folder ``clips``, else the one in ``urls``, else
        ``folder:///<id>``. How long a video is is not known.

    Raises
    ------
    DataInputError
        If the list has no such name or cannot be had, or the addresses cannot be read.
    """
    name = inputs.list_name or ANNOTATED_LIST
    if name not in REMOTES:
        raise unknown_name("list", name, REMOTES)
    ids = read_ids(name, inputs.mirror).to_pylist()
    ids = list(dict.fromkeys(ids))
    test = set(read_ids(TEST_LIST, inputs.mirror).to_pylist())
    media = {} if inputs.clips is None else find_media(inputs.folder("clips", NAME))
    urls = _urls(inputs, set(ids))
    return [
        CatalogClip(
            clip_id=clip_id,
            video_id=clip_id,
            url=media_url_of(media[clip_id])
            if clip_id in media
            else urls.get(clip_id, f"folder:///{clip_id}"),
            start_s=0.0,
            end_s=None,
            label="",
            official_split="test" if clip_id in test else "train",
        )
        for clip_id in ids
    ]


def read_ids(name: str, mirror: Path | None) -> pa.Array:
    """Read a published list, repetitions included.

    Parameters
    ----------
    name
        A key of `REMOTES`.
    mirror
        As in `Inputs`.

    Returns
    -------
    pyarrow.Array of string
        Numbers of videos.
    """
    from avsl_data.id_lists import read_list

    return read_list(fetch(REMOTES[name], mirror), media_paths=True).ids


def _urls(inputs: Inputs, wanted: set[str]) -> dict[str, str]:
    """Return the addresses of some videos out of SoundNet's list."""
    path = inputs.urls
    if path is None and inputs.mirror is not None and (inputs.mirror / URLS_FILE).is_file():
        path = inputs.mirror / URLS_FILE
    if path is None:
        return {}
    if not path.is_file():
        raise DataInputError(f"--urls {path} does not exist: fetch http://{URLS_FILE}")
    urls: dict[str, str] = {}
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            url = raw.strip().decode("ascii", errors="replace")
            if not url:
                continue
            parts = url.split("/")
            clip_id = parts[URL_ID_PART] if len(parts) >= -URL_ID_PART else ""
            if parts[0] not in ("http:", "https:") or not (clip_id.isascii() and clip_id.isdigit()):
                raise DataInputError(
                    f"{path}, line {number}: {url[:80]!a} is no address of SoundNet's list, whose fourth "
                    "part from the end is the number of the video"
                )
            if clip_id in wanted:
                urls[clip_id] = url
    return urls


def boxes(inputs: Inputs) -> list[ClipBoxes]:
    """Read the boxes of every annotator from the archive's XML files.

    Parameters
    ----------
    inputs
        Uses ``annotations``, the folder of ``<id>.xml`` files.

    Returns
    -------
    list of ClipBoxes
        One per file, by number.

    Raises
    ------
    DataInputError
        If no folder was given, or a file is not of the archive's format.
    """
    if inputs.annotations is None:
        raise DataInputError(
            "the boxes of 'flickr_soundnet' are in an archive that is fetched by hand: give its folder of "
            "XML files with --annotations FOLDER"
        )
    return read_folder(inputs.annotations)
