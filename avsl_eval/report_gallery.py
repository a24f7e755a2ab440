"""The report's gallery: frames with heatmap, mask outline and true boxes, one card per method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsl_eval.picture import COLOUR_STOPS, data_uri, outline_path, overlay_png
from avsl_eval.report_charts import N_COLOURS, marker
from avsl_eval.report_text import escape, name


@dataclass(frozen=True)
class Frame:
    """Hold the background of a clip's cards.

    Parameters
    ----------
    width, height
        In pixels.
    content
        The file; empty where there is none, and `why_absent` says why.
    media_type
        For example ``image/jpeg``.
    why_absent
        Empty where there is a picture.
    """

    width: int
    height: int
    content: bytes = b""
    media_type: str = ""
    why_absent: str = ""


@dataclass(frozen=True)
class Card:
    """Hold what one method says about a clip.

    Parameters
    ----------
    place
        The method's place on the page.
    method
        Its name.
    ciou
        NaN for 0/0.
    values, mask : float [S, S] and bool [S, S], or None
        The map as it was thresholded, and its mask; None without a prediction.
    why_absent
        Why there is no prediction.
    """

    place: int
    method: str
    ciou: float
    values: NDArray[np.floating] | None = None
    mask: NDArray[np.bool_] | None = None
    why_absent: str = ""


@dataclass(frozen=True)
class GalleryClip:
    """Hold a clip of the gallery.

    Parameters
    ----------
    clip_id, label, subset
        Of the clip.
    kind
        Why it was chosen.
    boxes : float [n, 4]
        Its annotated boxes, xyxy in [0, 1].
    frame
        Its picture.
    cards
        One per method.
    true_mask : bool [S, S] or None
        Its annotated mask, where truth is a mask.
    """

    clip_id: str
    label: str
    subset: str
    kind: str
    boxes: NDArray[np.floating]
    frame: Frame
    cards: tuple[Card, ...]
    true_mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Gallery:
    """Hold the clips to show.

    Parameters
    ----------
    clips
        In their first order.
    protocols
        (subset, protocol) under which its clips were chosen and are drawn.
    why_empty
        Plain text in the place of clips, where there are none.
    """

    clips: tuple[GalleryClip, ...] = ()
    protocols: tuple[tuple[str, str], ...] = ()
    why_empty: str = ""


def legend() -> str:
    """Explain the lines and colours of the cards.

    Returns
    -------
    str
        HTML, a list.
    """
    ramp = ", ".join(f"rgb{colour} {100 * value:.0f}%" for value, colour in COLOUR_STOPS)
    lines = "".join(
        '<li><svg viewBox="0 0 38 16" aria-hidden="true">'
        f'<path class="{kind}-case" d="M2 8H36"/><path class="{kind}" d="M2 8H36"/></svg>{text}</li>'
        for kind, text in (("mask", "outline of the mask under the rule"), ("truth", "annotated"))
    )
    return (
        f'<ul class="legend"><li><span class="ramp" style="background:linear-gradient(90deg, {ramp})"></span>'
        f"heatmap, low to high</li>{lines}</ul>"
    )


def controls(names: Sequence[str]) -> str:
    """Offer to sort, filter and uncover; the script fills in the clips' classes and subsets.

    Parameters
    ----------
    names
        Of the methods, in the order of the page.

    Returns
    -------
    str
        HTML, a form that is hidden until the script runs.
    """
    orders = [
        ("rank up", "as chosen"),
        ("mean down", "best mean cIoU first"),
        ("mean up", "worst mean cIoU first"),
    ]
    if len(names) > 1:
        orders.insert(1, ("spread down", "largest difference first"))
        for k, method in enumerate(names):
            orders += [(f"m{k} down", f"{method}: best first"), (f"m{k} up", f"{method}: worst first")]
    options = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in orders)
    choices = "".join(
        f'<label>{text} <select name="{key}" data-choice autocomplete="off"><option value="">all</option>'
        "</select></label>"
        for key, text in (("label", "Class"), ("subset", "Subset"), ("kind", "Chosen as"))
    )
    layers = "".join(
        f'<label><input type="checkbox" data-layer="{key}" checked autocomplete="off"> {text}</label>'
        for key, text in (("heat", "heatmap"), ("outline", "mask"), ("boxes", "annotation"))
    )
    return (
        f'<form class="controls" hidden><label>Order <select name="order" autocomplete="off">{options}'
        f"</select></label>{choices}<fieldset><legend>Show</legend>{layers}</fieldset>"
        '<output aria-live="polite"></output></form>'
    )


def gallery_list(clips: Iterable[GalleryClip], n_methods: int, several_subsets: bool) -> str:
    """Draw the clips.

    Parameters
    ----------
    clips
        In their first order; each is drawn and let go before the next is asked for.
    n_methods
        Cards side by side.
    several_subsets
        Whether a clip has to say its subset.

    Returns
    -------
    str
        HTML.
    """
    drawn = "\n".join(clip_article(clip, number, several_subsets) for number, clip in enumerate(clips))
    return f'<div class="clips" style="--n:{n_methods}">{drawn}</div>'


def clip_article(clip: GalleryClip, number: int, several_subsets: bool) -> str:
    """Draw one clip.

    Parameters
    ----------
    clip
        The clip.
    number
        Its place in the gallery, unique on the page.
    several_subsets
        Whether to say its subset.

    Returns
    -------
    str
        HTML. The frame is inside once, however many cards show it.
    """
    values = [0.0 if math.isnan(card.ciou) else card.ciou for card in clip.cards]
    spread, mean = max(values) - min(values), sum(values) / len(values)
    data = {
        "rank": number,
        "label": clip.label,
        "subset": clip.subset,
        "kind": clip.kind,
        "spread": f"{spread:.6g}",
        "mean": f"{mean:.6g}",
        **{f"m{card.place}": f"{value:.6g}" for card, value in zip(clip.cards, values, strict=True)},
    }
    attributes = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
    tags = [clip.kind, *([clip.subset] if several_subsets else [])]
    tags += [f"difference {spread:.2f}"] if len(clip.cards) > 1 else []
    frame, use = clip.frame, ""
    definition = ""
    if frame.content:
        # Once, and used by every card, so that a page of many methods does not repeat its pictures.
        definition = (
            f'<svg class="sources" aria-hidden="true"><defs><image id="frame{number}" width="{frame.width}" '
            f'height="{frame.height}" href="{data_uri(frame.content, frame.media_type)}"/></defs></svg>'
        )
        use = f'<use href="#frame{number}"/>'
    cards = "".join(_card(card, clip, use) for card in clip.cards)
    said = "".join(f'<span class="kind">{name(tag)}</span>' for tag in tags)
    return (
        f'<article class="clip"{attributes}>{definition}<header><h4>{name(clip.label or clip.clip_id)}</h4>'
        f'<span class="id">{name(clip.clip_id)}</span>'
        f"{said}</header>"
        f'<div class="cards">{cards}</div></article>'
    )


def _card(card: Card, clip: GalleryClip, use: str) -> str:
    width, height = clip.frame.width, clip.frame.height
    messages = [clip.frame.why_absent] if clip.frame.why_absent else []
    layers = [use]
    if card.values is not None and card.mask is not None:
        layers.append(_heatmap_layers(card.values, card.mask, width, height))
    else:
        messages.append(f"no prediction: {card.why_absent}")
    layers.append(_truth_layer(clip, width, height))
    score = "cIoU 0/0" if math.isnan(card.ciou) else f"cIoU {card.ciou:.2f}"
    notes = "".join(f"<small>{escape(message)}</small>" for message in messages)
    label = "; ".join([f"{card.method} on {clip.label} {clip.clip_id}: {score}", *messages])
    mark = f'<svg class="mini" viewBox="0 0 16 16" aria-hidden="true">{marker(card.place, 8, 8)}</svg>'
    return (
        f'<figure><svg class="m{card.place % N_COLOURS}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(layers)}</svg>'
        f"<figcaption><span>{mark}{name(card.method)}</span><b>{score}</b>{notes}</figcaption></figure>"
    )


def _heatmap_layers(values: NDArray[np.floating], mask: NDArray[np.bool_], width: int, height: int) -> str:
    """Draw the map and the outline of its mask, exactly those that were scored."""
    return (
        f'<image class="heat" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{data_uri(overlay_png(values), "image/png")}"/>'
        f'<g class="outline">{_outline(mask, width, height, "mask")}</g>'
    )


def _truth_layer(clip: GalleryClip, width: int, height: int) -> str:
    if clip.true_mask is not None:
        return f'<g class="boxes">{_outline(clip.true_mask, width, height, "truth")}</g>'
    parts = []
    for x0, y0, x1, y1 in np.clip(clip.boxes, 0, 1) * (width, height, width, height):
        place = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
        parts.append(f'<rect class="truth-case" {place}/><rect class="truth" {place}/>')
    return f'<g class="boxes">{"".join(parts)}</g>'


def _outline(mask: NDArray[np.bool_], width: int, height: int, kind: str) -> str:
    rows, columns = mask.shape
    path = outline_path(mask)
    return (
        f'<g transform="scale({width / columns:.5g} {height / rows:.5g})">'
        f'<path class="{kind}-case" d="{path}"/><path class="{kind}" d="{path}"/></g>'
    )
