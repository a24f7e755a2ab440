"""The demo: rendered videos with known boxes, handled like any published source.

**Size.** 80 videos of 20 scenes, 1,600 clips of two seconds, one box each, 30 classes, unless
``avsl-data render`` is told otherwise.

**How made.** `avsl_data.sources.demo_scenes` draws scenes from a seed, `avsl_data.sources.demo_render`
renders them, `avsl_data.sources.demo_site` writes them as H.264 and AAC into a folder that plays the
publisher's web site, with a table in vggsound.csv's format and boxes in VGG-SS's. The download stage serves
this folder on the loopback interface and fetches from it with yt-dlp.

**Known faults.** Toy pictures and toy sounds: scores on it compare methods, not with published figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from avsl_data.errors import DataInputError
from avsl_data.ids import start_of, video_id_of
from avsl_data.remotes import Remote
from avsl_data.sources.published import read_annotations, read_vggsound_csv
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs

NAME: Final = "demo"
BIBTEX: Final = ""
LICENSE: Final = "Apache-2.0, like this project, which renders it."
REMOTES: Final[Mapping[str, Remote]] = {}
INPUTS: Final = frozenset({"site"})
TRUTH: Final = "union"

SITE_SCHEMA: Final = "avsl-site/1"
SITE_FILE: Final = "site.json"
TABLE_FILE: Final = "demo.csv"
BOXES_FILE: Final = "demo_ss.json"
URL_SCHEME: Final = "demo"


def read_site(site: Path) -> dict[str, Any]:
    """Read a finished site's description.

    Parameters
    ----------
    site
        Folder made by ``avsl-data render``.

    Returns
    -------
    dict
        ``schema``, ``digest``, ``spec`` and ``videos`` (video id to sha256).

    Raises
    ------
    DataInputError
        If the folder holds no finished site.
    """
    path = site / SITE_FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataInputError(
            f"{site} holds no finished site ({SITE_FILE} is absent): run `avsl-data render --out {site}`"
        ) from error
    except ValueError as error:
        raise DataInputError(f"{path} is no JSON ({error}): run `avsl-data render --out {site}`") from error
    if not isinstance(about, dict) or about.get("schema") != SITE_SCHEMA:
        raise DataInputError(
            f"{path} is not of schema {SITE_SCHEMA}: run `avsl-data render --out {site}` again"
        )
    return about


def catalog(inputs: Inputs) -> list[CatalogClip]:
    """List the clips of a rendered site, in the order of its table.

    Parameters
    ----------
    inputs
        Uses ``site``.

    Returns
    -------
    list of CatalogClip
        The url is ``demo:///videos/<video id>.mp4?sha256=...``, which the download stage resolves; the
        checksum makes a video that was rendered anew another one.

    Raises
    ------
    DataInputError
        If the folder holds no finished site.
    """
    site = inputs.folder("site", NAME)
    about = read_site(site)
    scene_s, digests = float(about["spec"]["scene_s"]), about["videos"]
    return [
        CatalogClip(
            clip_id=clip_id,
            video_id=video_id_of(clip_id),
            url=_url(video_id_of(clip_id), digests),
            start_s=float(start_of(clip_id)),
            end_s=start_of(clip_id) + scene_s,
            label=label,
            official_split=split,
        )
        for clip_id, label, split in read_vggsound_csv(site / TABLE_FILE)
    ]


def _url(video_id: str, digests: Mapping[str, str]) -> str:
    return f"{URL_SCHEME}:///videos/{video_id}.mp4?sha256={digests[video_id][:16]}"


def boxes(inputs: Inputs) -> list[ClipBoxes]:
    """Read the boxes of a rendered site.

    Parameters
    ----------
    inputs
        Uses ``site``.

    Returns
    -------
    list of ClipBoxes
        One box per clip.
    """
    site = inputs.folder("site", NAME)
    read_site(site)
    return read_annotations(site / BOXES_FILE)
