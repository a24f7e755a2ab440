"""Read the clips of the report's gallery: frames, maps and masks under the rule they were scored by."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import CiouStatistics
from avsl_eval.errors import EvalInputError
from avsl_eval.gallery import Pick, choose, drawn_protocols, gallery_protocol
from avsl_eval.maps import binarise, to_probability
from avsl_eval.per_clip import read_per_clip
from avsl_eval.picture import picture_size
from avsl_eval.predictions import open_predictions
from avsl_eval.protocol import Protocol
from avsl_eval.report_gallery import Card, Frame, Gallery, GalleryClip
from avsl_eval.results_file import Results
from avsl_eval.truth import AnnotatedClip, Annotations, read_annotations

_log = logging.getLogger(__name__)

_EMPTY_SIZE = (320, 240)
"""Width and height of the panel where a frame is absent."""

_KINDS_OF_FILES = {
    "per_clip": "the table beside each scores file",
    "predictions": "the predictions",
    "annotations": "the annotations",
}
"""What the gallery is drawn from, by the keys of ``files``."""

_SAME = 1e-3
"""How far cIoU of a drawn mask may be from the one that was scored: some fifty pixels."""

_MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
"""Endings of frames, in the order in which they are looked for."""


@dataclass(frozen=True)
class _Holder:
    """Hold what a subset's cards need of one method."""

    place: int
    name: str
    heatmaps: Mapping[str, NDArray[np.float32]]
    ciou: Mapping[str, float]
    reason: Mapping[str, str]


def read_gallery(results: Sequence[Results], frames: Path | None, n_clips: int) -> Gallery:
    """Choose clips and read what their cards show.

    Parameters
    ----------
    results
        One per method, of one test set.
    frames
        Folder of ``<clip_id>.jpg`` or ``.png``, or None.
    n_clips
        Number of clips.

    Returns
    -------
    Gallery
        By subset, then by why a clip was chosen. Empty, and says why, where files to draw from are absent.

    Raises
    ------
    EvalInputError
        If predictions or annotations that the results name cannot be read, are not those that were scored,
        or a frame is no picture.
    """
    if why := _why_empty(results):
        _log.warning("the page has no gallery. %s", why)
        return Gallery(why_empty=why)
    clips: list[GalleryClip] = []
    protocols = []
    for subset, group in itertools.groupby(choose(results, n_clips), key=lambda pick: pick.subset):
        protocol = gallery_protocol(results, subset)
        protocols.append((subset, protocol))
        clips += _subset_clips(results, subset, protocol, list(group), frames)
    return Gallery(tuple(clips), tuple(protocols))


def _why_empty(results: Sequence[Results]) -> str:
    """Say what the gallery cannot be drawn without, as plain text; "" if all is there."""
    for subset in dict.fromkeys(s for r in results for s in r.subsets):
        if not drawn_protocols(results, subset):
            return f"No protocol of subset {subset} is common to all methods and gives one mask per clip."
    for r in results:
        for file in r.content["files"]:
            for kind in ("per_clip", "predictions", "annotations"):
                if file[kind] is None:  # predictions or annotations from memory
                    return f"The {kind} of {r.name} were no file when they were scored."
                if not Path(file[kind]).exists():
                    return (
                        f"It needs {_KINDS_OF_FILES[kind]}, and {file[kind]} of {r.name} does not exist "
                        "here; run the report in the folder in which the scores were made."
                    )
    return ""


def _subset_clips(
    results: Sequence[Results], subset: str, protocol: str, picks: Sequence[Pick], frames: Path | None
) -> list[GalleryClip]:
    holders = [(place, r) for place, r in enumerate(results) if subset in r.subsets]
    fields = holders[0][1].subsets[subset]["protocols"][protocol]["rule"]
    # What missing clips do is the one field in which the methods may differ, and nothing here depends on it.
    rule = Protocol.from_dict({key: value for key, value in fields.items() if key != "missing"})
    path = holders[0][1].file(subset, protocol)["annotations"]
    annotations = read_annotations(path)
    truth = {clip.clip_id: clip for clip in annotations.clips}
    wanted = {pick.clip_id for pick in picks}
    methods = [_holder(place, r, subset, protocol, wanted) for place, r in holders]
    clips = []
    for pick in picks:
        clip = truth.get(pick.clip_id)
        if clip is None:
            raise EvalInputError(
                f"the table of subset {subset} has clip {pick.clip_id}, but {path} has not: the annotations "
                "changed after they were scored; score them again"
            )
        clips.append(
            GalleryClip(
                clip.clip_id,
                clip.label,
                subset,
                pick.kind,
                clip.boxes,
                read_frame(frames, clip.clip_id),
                tuple(_card(method, clip, rule, annotations) for method in methods),
                clip.levels(rule.map_size, annotations.truth) > 0 if clip.has_mask else None,
            )
        )
    return clips


def _holder(place: int, results: Results, subset: str, protocol: str, wanted: set[str]) -> _Holder:
    file = results.file(subset, protocol)
    predictions = open_predictions(file["predictions"])
    heatmaps = {i: m for ids, maps in predictions.chunks(wanted) for i, m in zip(ids, maps, strict=True)}
    table = read_per_clip(Path(file["per_clip"]), protocol)
    ciou = dict(zip(table.clip_id, table.ciou.tolist(), strict=True))
    reason = dict(zip(table.clip_id, table.reason, strict=True))
    return _Holder(place, results.name, heatmaps, ciou, reason)


def _card(method: _Holder, clip: AnnotatedClip, rule: Protocol, annotations: Annotations) -> Card:
    """Make the map and the mask that were scored, and check that they are."""
    stated = method.ciou[clip.clip_id]
    heatmap = method.heatmaps.get(clip.clip_id)
    if heatmap is None:
        why = method.reason[clip.clip_id] or "not in the predictions file"
        return Card(method.place, method.name, stated, why_absent=why)
    p = to_probability(heatmap[None], rule)
    levels = clip.levels(rule.map_size, annotations.truth)
    masks = binarise(p, rule, [int(np.count_nonzero(levels))])
    statistics = CiouStatistics.zeros(1)
    statistics.record([0], masks, levels[None], annotations.unit)
    found = float(statistics.ciou[0])
    if not np.isclose(found, stated, rtol=0, atol=_SAME, equal_nan=True):
        raise EvalInputError(
            f"clip {clip.clip_id} of {method.name} has cIoU {found:.4f} under {rule.name} by its "
            f"predictions, but {stated:.4f} by its table: predictions or annotations changed after they were "
            "scored; score them again"
        )
    return Card(method.place, method.name, stated, np.nan_to_num(p[0]), masks[0])


def read_frame(folder: Path | None, clip_id: str) -> Frame:
    """Read the picture of a clip.

    Parameters
    ----------
    folder
        Of ``<clip_id>.jpg``, ``.jpeg`` or ``.png``, or None.
    clip_id
        Of the clip. Only a file right inside the folder is ever read, whatever the id holds.

    Returns
    -------
    Frame
        Without a picture where there is none.

    Raises
    ------
    EvalInputError
        If the file is no such picture.
    """
    if folder is None:
        return Frame(*_EMPTY_SIZE, why_absent="no folder of frames was given")
    for ending, media_type in _MEDIA_TYPES.items():
        path = folder / f"{clip_id}{ending}"
        if path.parent == folder and path.is_file():
            content = path.read_bytes()
            return Frame(*picture_size(content, str(path)), content, media_type)
    return Frame(*_EMPTY_SIZE, why_absent=f"no {clip_id}.jpg in {folder}")
