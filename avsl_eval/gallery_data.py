"""Read the clips of the report's gallery: frames, maps and masks under the rule they were scored by."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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

_EMPTY_SIZE = (320, 240)
"""Width and height of the panel where a frame is absent."""

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
        By subset, then by why a clip was chosen. Empty, and says why, where a table of clips is absent.

    Raises
    ------
    EvalInputError
        If predictions or annotations that the results name cannot be read, or a frame is no picture.
    """
    lacking = [
        file["per_clip"]
        for r in results
        for file in r.content["files"]
        if not Path(file["per_clip"]).exists()
    ]
    if lacking:
        return Gallery(
            why_empty="Choosing clips needs the table beside each scores file, and "
            f"{lacking[0]} does not exist: avsl-eval score --per-clip writes it."
        )
    for subset in dict.fromkeys(s for r in results for s in r.subsets):
        if not drawn_protocols(results, subset):
            return Gallery(
                why_empty=f"No protocol of subset {subset} is common to all methods and gives one mask per "
                "clip."
            )
    clips: list[GalleryClip] = []
    protocols = []
    for subset, group in itertools.groupby(choose(results, n_clips), key=lambda pick: pick.subset):
        protocol = gallery_protocol(results, subset)
        protocols.append((subset, protocol))
        clips += _subset_clips(results, subset, protocol, list(group), frames)
    return Gallery(tuple(clips), tuple(protocols))


def _subset_clips(
    results: Sequence[Results], subset: str, protocol: str, picks: Sequence[Pick], frames: Path | None
) -> list[GalleryClip]:
    holders = [(place, r) for place, r in enumerate(results) if subset in r.subsets]
    rule = Protocol.from_dict(holders[0][1].subsets[subset]["protocols"][protocol]["rule"])
    annotations = _annotations(holders[0][1], subset, protocol)
    truth = {clip.clip_id: clip for clip in annotations.clips}
    wanted = {pick.clip_id for pick in picks}
    methods = [_holder(place, r, subset, protocol, wanted) for place, r in holders]
    clips = []
    for pick in picks:
        clip = truth[pick.clip_id]
        clips.append(
            GalleryClip(
                clip.clip_id,
                clip.label,
                subset,
                pick.kind,
                clip.boxes,
                read_frame(frames, clip.clip_id),
                tuple(_card(method, clip, rule, annotations) for method in methods),
                None if clip.mask is None else clip.levels(rule.map_size, annotations.truth) > 0,
            )
        )
    return clips


def _annotations(results: Results, subset: str, protocol: str) -> Annotations:
    path = results.file(subset, protocol)["annotations"]
    if path is None:
        raise EvalInputError(
            f"{results.name} was scored against annotations that are no file; a gallery needs one"
        )
    return read_annotations(path)


def _holder(place: int, results: Results, subset: str, protocol: str, wanted: set[str]) -> _Holder:
    file = results.file(subset, protocol)
    if file["predictions"] is None or not Path(file["predictions"]).exists():
        raise EvalInputError(
            f"the predictions of {results.name}, {file['predictions']}, do not exist; "
            "run the report in the folder that its results were collected in"
        )
    predictions = open_predictions(file["predictions"])
    heatmaps = {i: m for ids, maps in predictions.chunks(wanted) for i, m in zip(ids, maps, strict=True)}
    table = read_per_clip(Path(file["per_clip"]), protocol)
    ciou = dict(zip(table.clip_id, table.ciou.tolist(), strict=True))
    excluded = predictions.meta.get("excluded")
    return _Holder(place, results.name, heatmaps, ciou, excluded if isinstance(excluded, Mapping) else {})


def _card(method: _Holder, clip: AnnotatedClip, rule: Protocol, annotations: Annotations) -> Card:
    """Make the map and the mask that were scored."""
    heatmap = method.heatmaps.get(clip.clip_id)
    if heatmap is None:
        why = str(method.reason.get(clip.clip_id, "not in the predictions file"))
        return Card(method.place, method.name, method.ciou[clip.clip_id], why_absent=why)
    p = to_probability(heatmap[None], rule)
    true_pixels = int(np.count_nonzero(clip.levels(rule.map_size, annotations.truth)))
    mask = binarise(p, rule, [true_pixels])[0]
    return Card(method.place, method.name, method.ciou[clip.clip_id], np.nan_to_num(p[0]), mask)


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
