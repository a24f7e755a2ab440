"""The report's gallery: frames with heatmap, mask outline and true boxes, one card per method."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl_eval.collect import Results
from avsl_eval.errors import EvalInputError
from avsl_eval.gallery import Pick, choose, gallery_protocol
from avsl_eval.maps import binarise, to_probability
from avsl_eval.per_clip import read_per_clip
from avsl_eval.picture import COLOUR_STOPS, data_uri, jpeg_size, outline_path, overlay_png
from avsl_eval.predictions import open_predictions
from avsl_eval.protocol import Protocol
from avsl_eval.truth import AnnotatedClip, Annotations, rasterise, read_annotations

_EMPTY_SIZE = (320, 240)
"""Width and height of the panel where a frame is absent."""


def _legend() -> str:
    ramp = ", ".join(f"rgb{colour} {100 * value:.0f}%" for value, colour in COLOUR_STOPS)
    lines = "".join(
        '<li><svg viewBox="0 0 38 16" aria-hidden="true">'
        f'<path class="{kind}-case" d="M2 8H36"/><path class="{kind}" d="M2 8H36"/></svg>{text}</li>'
        for kind, text in (("mask", "mask under the rule"), ("truth", "annotated box"))
    )
    return (
        f'<ul class="legend"><li><span class="ramp" style="background:linear-gradient(90deg, {ramp})"></span>'
        f"heatmap, low to high</li>{lines}</ul>"
    )


LEGEND = _legend()
"""HTML that explains the lines and colours of the cards."""


@dataclass(frozen=True)
class _Frame:
    """Hold the background of a clip's cards.

    `definition` is the picture, once; `use` shows it in a card. Without a picture both are "" and
    `why_absent` says why.
    """

    definition: str
    use: str
    width: int
    height: int
    why_absent: str


@dataclass(frozen=True)
class _Method:
    """Hold what a subset's cards need of one method."""

    name: str
    heatmaps: Mapping[str, NDArray[np.float32]]
    ciou: Mapping[str, float]
    reason: Mapping[str, str]


def gallery_section(results: Sequence[Results], frames: Path | None, n_clips: int) -> str:
    """Draw the gallery.

    Parameters
    ----------
    results
        One per method, of one test set.
    frames
        Folder of ``<clip_id>.jpg``, or None.
    n_clips
        Number of clips.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    EvalInputError
        If predictions or annotations that the results name cannot be read, or a frame is no JPEG.
    """
    picks = choose(results, n_clips)
    numbers = itertools.count()
    parts = []
    for subset, group in itertools.groupby(picks, key=lambda pick: pick.subset):
        chosen = list(group)
        protocol_name = gallery_protocol(results, subset)
        holders = [r for r in results if subset in r.subsets]
        rule = Protocol.from_dict(holders[0].subsets[subset]["protocols"][protocol_name]["rule"])
        annotations = _annotations(holders[0], subset, protocol_name)
        clips = {clip.clip_id: clip for clip in annotations.clips}
        methods = [_method(r, subset, protocol_name, {pick.clip_id for pick in chosen}) for r in holders]
        parts.append(
            f'<h3>{html.escape(subset)} <span class="count">masks and cIoU under '
            f"{html.escape(protocol_name)}: "
            f"{html.escape(rule.summary)}</span></h3>"
        )
        for pick in chosen:
            frame = _frame(frames, pick.clip_id, next(numbers))
            parts.append(_clip(pick, clips[pick.clip_id], frame, methods, rule, annotations))
    return "\n".join(parts)


def _annotations(results: Results, subset: str, protocol: str) -> Annotations:
    path = results.file(subset, protocol)["annotations"]
    if path is None:
        raise EvalInputError(
            f"{results.name} was scored against annotations that are no file; a gallery needs one"
        )
    return read_annotations(path)


def _method(results: Results, subset: str, protocol: str, wanted: set[str]) -> _Method:
    file = results.file(subset, protocol)
    if file["predictions"] is None or not Path(file["predictions"]).exists():
        raise EvalInputError(
            f"the predictions of {results.name}, {file['predictions']}, do not exist; "
            "run the report in the folder that its results were collected in"
        )
    predictions = open_predictions(file["predictions"])
    heatmaps = {i: m for ids, maps in predictions.chunks(wanted) for i, m in zip(ids, maps, strict=True)}
    table = read_per_clip(Path(file["per_clip"]))
    ciou = dict(zip(table.clip_id, table.ciou.tolist(), strict=True))
    excluded = predictions.meta.get("excluded")
    return _Method(results.name, heatmaps, ciou, excluded if isinstance(excluded, Mapping) else {})


def _frame(folder: Path | None, clip_id: str, number: int) -> _Frame:
    path = folder / f"{clip_id}.jpg" if folder else None
    if path is None or not path.is_file():
        why = f"no {path.name} in {folder}" if path else "no folder of frames was given"
        return _Frame("", "", *_EMPTY_SIZE, why)
    content = path.read_bytes()
    width, height = jpeg_size(content, str(path))
    # Drawn once and used by every card, so that a page of many methods does not repeat its pictures.
    definition = (
        f'<svg class="sources" aria-hidden="true"><defs><image id="frame{number}" width="{width}" '
        f'height="{height}" '
        f'href="{data_uri(content, "image/jpeg")}"/></defs></svg>'
    )
    return _Frame(definition, f'<use href="#frame{number}"/>', width, height, "")


def _clip(
    pick: Pick,
    clip: AnnotatedClip,
    frame: _Frame,
    methods: Sequence[_Method],
    rule: Protocol,
    annotations: Annotations,
) -> str:
    cards = "".join(_card(method, clip, frame, rule, annotations) for method in methods)
    label = html.escape(clip.label or clip.clip_id)
    return (
        f'<article class="clip">{frame.definition}<header><h4>{label}</h4>'
        f'<span class="id">{html.escape(clip.clip_id)}</span><span '
        f'class="kind">{html.escape(pick.kind)}</span></header>'
        f'<div class="cards">{cards}</div></article>'
    )


def _card(
    method: _Method, clip: AnnotatedClip, frame: _Frame, rule: Protocol, annotations: Annotations
) -> str:
    width, height = frame.width, frame.height
    layers = [frame.use]
    messages = [frame.why_absent] if frame.why_absent else []
    if clip.clip_id in method.heatmaps:
        layers.append(_heatmap_layers(method.heatmaps[clip.clip_id], clip, width, height, rule, annotations))
    else:
        messages.append(f"no prediction: {method.reason.get(clip.clip_id, 'not in the predictions file')}")
    layers.append(_box_layer(clip, width, height))
    ciou = method.ciou[clip.clip_id]
    score = "cIoU 0/0" if np.isnan(ciou) else f"cIoU {ciou:.2f}"
    notes = "".join(f"<small>{html.escape(message)}</small>" for message in messages)
    label = html.escape(
        f"{method.name} on {clip.label} {clip.clip_id}: {score}" + "".join(f"; {m}" for m in messages)
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(layers)}</svg>'
        f"<figcaption><span>{html.escape(method.name)}</span><b>{score}</b>{notes}</figcaption></figure>"
    )


def _heatmap_layers(
    heatmap: NDArray[np.float32],
    clip: AnnotatedClip,
    width: int,
    height: int,
    rule: Protocol,
    annotations: Annotations,
) -> str:
    """Draw the map and the outline of its mask, exactly those that were scored."""
    p = to_probability(heatmap[None], rule)
    truth = rasterise(clip.boxes, rule.map_size, annotations.truth)
    mask = binarise(p, rule, [int(np.count_nonzero(truth))])[0]
    scale = f"scale({width / rule.map_size:.5g} {height / rule.map_size:.5g})"
    outline = outline_path(mask)
    return (
        f'<image width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{data_uri(overlay_png(p[0]), "image/png")}"/>'
        f'<g transform="{scale}"><path class="mask-case" d="{outline}"/><path class="mask" '
        f'd="{outline}"/></g>'
    )


def _box_layer(clip: AnnotatedClip, width: int, height: int) -> str:
    parts = []
    for x0, y0, x1, y1 in np.clip(clip.boxes, 0, 1) * (width, height, width, height):
        place = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
        parts.append(f'<rect class="truth-case" {place}/><rect class="truth" {place}/>')
    return "".join(parts)
