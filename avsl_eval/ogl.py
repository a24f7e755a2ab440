"""Object-guided localisation: an audio-visual map mixed with a map of where objects are.

Papers report it beside the model's own score (EZ-VSL's "+ OGL"). It is a step over two predictions of the
same clips: the model's, and those of an object network that does not listen (the mean over channels of
``|layer4|`` of an ImageNet ResNet-18, at 7 x 7). The result is a third prediction, at 224 x 224, which is
scored by the protocols that its rule names, like any other.

Rules
-----
``ezvsl``
    ``minmax(a minmax(av) + (1 - a) minmax(obj))`` of maps upsampled as the protocol ``ezvsl`` does, a =
    0.4. FNAC and SSLalignment mix in the same way; the latter scores by ``sslalignment``.
``ezvsl-val``
    The same, with the audio-visual map upsampled as the protocol ``ezvsl-val`` does (FNAC's second
    validation).
``slavc``
    ``s = a s_av + (1 - a) s_obj`` of scores that are not normalised per map, a = 0.9, with ``s_av = scale x
    + offset`` and ``s_obj = object_scale x`` as in the protocol ``slavc``. That protocol applies scale and
    offset to whatever it scores, so what is stored is ``(s - offset) / scale``, the audio-visual map that
    would give s by itself; its units are those of the model's maps (cosine / tau). Scoring gives s back up
    to float32 rounding, 1e-7.

Sources: Mo and Morgado, Localizing Visual Sounds the Easy Way, ECCV 2022; Mo and Morgado, A Closer Look at
Weakly-Supervised Audio-Visual Source Localization, NeurIPS 2022; their published test code.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.clip_ids import spelling_hint
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.io import sha256_of
from avsl_eval.maps import normalise, rescale
from avsl_eval.npz_writer import write_npz
from avsl_eval.predictions import Predictions, open_predictions
from avsl_eval.protocol import Protocol
from avsl_eval.protocol_table import PROTOCOLS
from avsl_eval.resizing import resize

_log = logging.getLogger(__name__)

Float32 = NDArray[np.float32]
Source = str | Path | Mapping[str, Any] | Predictions


@dataclass(frozen=True)
class MixingRule:
    """Say how two maps become one.

    Parameters
    ----------
    name, summary
        Identity, and the rule in one line.
    alpha
        Published weight a of the audio-visual map.
    audio_visual, objects
        Protocols whose upsampling, scale and offset the maps take.
    per_map
        Whether each map is stretched to [0, 1] before it is mixed, and the mixture after.
    scored_by
        Names of the protocols that score the result.
    """

    name: str
    summary: str
    alpha: float
    audio_visual: Protocol
    objects: Protocol
    per_map: bool
    scored_by: tuple[str, ...]


MIXING_RULES: MappingProxyType[str, MixingRule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            MixingRule(
                name="ezvsl",
                summary="each map stretched to [0, 1], mixed, and stretched again",
                alpha=0.4,
                audio_visual=PROTOCOLS["ezvsl"],
                objects=PROTOCOLS["ezvsl"],
                per_map=True,
                scored_by=("ezvsl", "sslalignment", "adaptive"),
            ),
            MixingRule(
                name="ezvsl-val",
                summary="as ezvsl, the audio-visual map upsampled bicubically",
                alpha=0.4,
                audio_visual=PROTOCOLS["ezvsl-val"],
                objects=PROTOCOLS["ezvsl"],
                per_map=True,
                scored_by=("ezvsl-val",),
            ),
            MixingRule(
                name="slavc",
                summary="scores of both models mixed as they are",
                alpha=0.9,
                audio_visual=PROTOCOLS["slavc"],
                objects=PROTOCOLS["slavc"],
                per_map=False,
                scored_by=("slavc", "slavc-absolute"),
            ),
        )
    }
)
"""Every published way of mixing, by name."""


def get_rule(name: str) -> MixingRule:
    """Look up a rule by its name.

    Parameters
    ----------
    name
        One of `MIXING_RULES`.

    Returns
    -------
    MixingRule
        The rule of that name.

    Raises
    ------
    EvalInputError
        If there is none.
    """
    if name not in MIXING_RULES:
        raise unknown_name("mixing rule", name, MIXING_RULES)
    return MIXING_RULES[name]


def mix_maps(
    audio_visual: NDArray[np.floating[Any]],
    objects: NDArray[np.floating[Any]],
    rule: MixingRule,
    alpha: float | None = None,
) -> Float32:
    """Mix maps of the same clips.

    Parameters
    ----------
    audio_visual : float [N, h, w]
        The model's maps; for the rule ``slavc`` cosine / tau.
    objects : float [N, k, l]
        Object maps.
    rule
        How.
    alpha
        Weight of the audio-visual maps in [0, 1]; None takes the published one.

    Returns
    -------
    float32 [N, S, S]
        Maps to be scored by `MixingRule.scored_by`, S = 224.

    Examples
    --------
    >>> left, top = np.zeros((2, 1, 224, 224))
    >>> left[:, :, :112], top[:, :112] = 1, 1
    >>> both = mix_maps(left, top, MIXING_RULES["ezvsl"])[0]
    >>> np.rint(10 * both[::223, ::223]).tolist()
    [[10.0, 6.0], [4.0, 0.0]]
    """
    a = check_alpha(rule.alpha if alpha is None else alpha)
    av = _upsample(audio_visual, rule.audio_visual)
    obj = _upsample(objects, rule.objects)
    if rule.per_map:
        blend = a * normalise(av, "minmax") + (1 - a) * normalise(obj, "minmax")
        return normalise(blend.astype(np.float32), "minmax")
    scores = rule.audio_visual
    s = a * rescale(av, scores) + (1 - a) * (np.float32(rule.objects.object_scale) * obj)
    # In double precision: undoing an affine map must not add to the rounding of redoing it.
    return ((s.astype(np.float64) - scores.offset) / scores.scale).astype(np.float32)


def _upsample(maps: NDArray[np.floating[Any]], protocol: Protocol) -> Float32:
    return resize(maps, protocol.map_size, protocol.interpolation, protocol.align_corners)


def check_alpha(alpha: float) -> float:
    """Check a weight.

    Parameters
    ----------
    alpha
        The weight of the audio-visual map.

    Returns
    -------
    float
        The same.

    Raises
    ------
    EvalInputError
        If it is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise EvalInputError(f"alpha is {alpha:g}; the weight of the audio-visual map lies between 0 and 1")
    return alpha


def mixed(
    predictions: Source, objects: Source, rule: MixingRule, alpha: float | None = None
) -> Iterator[tuple[str, Float32]]:
    """Mix two predictions, clip by clip.

    Parameters
    ----------
    predictions, objects
        The model's maps and object maps: whatever `avsl_eval.predictions.open_predictions` opens. Their ids
        must be the same, in any order.
    rule, alpha
        As in `mix_maps`.

    Yields
    ------
    clip_id : str
        In the order of `predictions`.
    heatmap : float32 [S, S]
        Its mixed map.

    Raises
    ------
    EvalInputError
        If ids differ or a map cannot be used.
    """
    first, second = open_predictions(predictions), open_predictions(objects)
    _check_ids(first, second)
    wanted = set(first.clip_ids)
    upcoming = _single(second, wanted)
    # Both are read from front to back: only what comes in another order has to wait in memory.
    waiting: dict[str, Float32] = {}
    largest = 0.0
    for clip_id, av in _single(first, wanted):
        while clip_id not in waiting:
            other, heatmap = next(upcoming)
            waiting[other] = heatmap
        largest = max(largest, float(np.abs(av).max()))
        yield clip_id, mix_maps(av, waiting.pop(clip_id), rule, alpha)[0]
    if not rule.per_map and largest <= 1:
        _log.warning(
            "no value of the audio-visual maps is beyond 1: are they cosines? Rule %s takes cosine / tau: "
            "divide them by tau (0.03 in the published code)",
            rule.name,
        )


def _single(source: Predictions, wanted: set[str]) -> Iterator[tuple[str, Float32]]:
    """Read maps one at a time, each [1, h, w]."""
    for clip_ids, maps in source.chunks(wanted, 1):
        yield clip_ids[0], maps


def _check_ids(first: Predictions, second: Predictions) -> None:
    model, other = set(first.clip_ids), set(second.clip_ids)
    without_objects = [i for i in first.clip_ids if i not in other]
    without_model = [i for i in second.clip_ids if i not in model]
    if not (without_objects or without_model):
        return
    parts = []
    if without_objects:
        parts.append(f"{len(without_objects)} clips have no object map: {first_few(without_objects, 3)}")
    if without_model:
        parts.append(f"{len(without_model)} object maps have no clip: {first_few(without_model, 3)}")
    hint = spelling_hint(without_model, without_objects)
    raise EvalInputError(
        f"predictions and objects must be of the same clips, but {'; '.join(parts)}; "
        f"{hint or 'predict both on one list of clips'}"
    )


def mix(predictions: Source, objects: Source, out: str | Path, rule: str, alpha: float | None = None) -> int:
    """Mix two predictions into a file.

    Parameters
    ----------
    predictions, objects
        As in `mixed`.
    out
        The ``.npz`` to write, some 200 kB per clip. Its ``meta`` is that of `predictions`, and under
        ``ogl`` the rule, alpha, and path and SHA-256 of both inputs. Stored confidences are not carried
        over: they are not the mixture's.
    rule
        Name of one of `MIXING_RULES`.
    alpha
        Weight of the audio-visual maps in [0, 1]; None takes the published one.

    Returns
    -------
    int
        Number of clips.

    Raises
    ------
    EvalInputError
        If the input cannot be mixed or the file cannot be written; nothing is written then.
    """
    how = get_rule(rule)
    weight = check_alpha(how.alpha if alpha is None else alpha)
    first, second = open_predictions(predictions), open_predictions(objects)
    step = {
        "rule": how.name,
        "alpha": weight,
        "predictions": _input(first),
        "objects": _input(second),
        "scored_by": list(how.scored_by),
    }
    size = how.audio_visual.map_size
    maps = (heatmap for _, heatmap in mixed(first, second, how, weight))
    write_npz(Path(out), first.clip_ids, (size, size), maps, {**first.meta, "ogl": step})
    return len(first.clip_ids)


def _input(source: Predictions) -> dict[str, str | None]:
    path = source.path
    return {"path": str(path) if path else None, "sha256": sha256_of(path) if path else None}
