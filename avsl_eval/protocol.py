"""Protocols: how a heatmap becomes a mask, as data.

A protocol is every decision between a model's map and its binary mask. Two scores can be compared only where
all of them are equal, hence a protocol has a name and a version, and the scores file embeds all of its
fields.

    map [h, w] --upsample--> [S, S] --normalise--> p --threshold--> mask [S, S]

The threshold rules, with ``s = sort(p.ravel())`` ascending and n = S * S pixels:

======== ===================================== ==========================
rule     t                                     the mask covers
======== ===================================== ==========================
median   ``s[n // 2]``                         half of the image, always
fixed    ``threshold_value``                   what the model says
adaptive ``s[n - k]``, k pixels with truth > 0 the true area (n // 2 if none)
======== ===================================== ==========================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from avsl_eval.errors import unknown_name

Interpolation = Literal["bilinear", "bicubic"]
Normalisation = Literal["lvs_minmax", "minmax", "none"]
ThresholdRule = Literal["median", "fixed", "adaptive"]
Comparison = Literal[">", ">="]
MissingPolicy = Literal["error", "zero"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Say how heatmaps become masks.

    Parameters
    ----------
    name, version
        Identity. A change of any other field's meaning needs a new version.
    summary
        The rule in one line.
    source
        Whose rule it is.
    map_size
        Height and width S of maps and masks, in pixels.
    interpolation, align_corners
        Upsampling to [S, S], in the sense of torch's ``interpolate``; ``align_corners=False`` equals OpenCV.
    normalisation
        ``minmax``: (x - min) / (max - min). ``lvs_minmax``: 1 - minmax(-x). Either minmax keeps the raw
        values of a constant map. ``none``: values as they are.
    threshold, threshold_value
        The rule that gives t, see the module's table; the value belongs to the rule ``fixed`` only.
    comparison
        The mask is ``p > t`` or ``p >= t``.
    rescue_saturated
        Whether pixels with p >= 1 join the mask even where they are not above t.
    value_range
        Bounds that raw heatmaps must keep, or None.
    missing
        What a clip without prediction does: ``error`` stops, ``zero`` scores it 0.
    """

    name: str
    version: int
    summary: str
    source: str
    map_size: int = 224
    interpolation: Interpolation = "bilinear"
    align_corners: bool
    normalisation: Normalisation
    threshold: ThresholdRule
    threshold_value: float | None = None
    comparison: Comparison
    rescue_saturated: bool = False
    value_range: tuple[float, float] | None = None
    missing: MissingPolicy = "error"

    def __post_init__(self) -> None:
        if (self.threshold == "fixed") != (self.threshold_value is not None):
            raise ValueError(
                f"protocol {self.name}: threshold_value is needed by the rule 'fixed' and by no other"
            )

    def to_dict(self) -> dict[str, object]:
        """Return all fields as plain JSON values.

        Returns
        -------
        dict
            Field name to value.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Protocol:
        """Rebuild a protocol from the fields that a scores file embeds.

        Parameters
        ----------
        fields
            What `to_dict` returned, also after JSON.

        Returns
        -------
        Protocol
            Equal to the one that was written.

        Examples
        --------
        >>> Protocol.from_dict(PROTOCOLS["fixed"].to_dict()) == PROTOCOLS["fixed"]
        True
        """
        values = dict(fields)
        if values.get("value_range") is not None:
            values["value_range"] = tuple(values["value_range"])  # JSON knows lists only
        return cls(**values)


_ALL = (
    Protocol(
        name="lvs",
        version=1,
        summary="half of the image: p above the median, saturated pixels join",
        source="Chen et al., Localizing Visual Sounds the Hard Way, CVPR 2021, its published test code",
        align_corners=False,
        normalisation="lvs_minmax",
        threshold="median",
        comparison=">",
        rescue_saturated=True,
    ),
    Protocol(
        name="ezvsl",
        version=1,
        summary="half of the image: p at or above the median",
        source="Mo and Morgado, Localizing Visual Sounds the Easy Way, ECCV 2022, its and FNAC's test code",
        align_corners=True,
        normalisation="minmax",
        threshold="median",
        comparison=">=",
    ),
    Protocol(
        name="fixed",
        version=1,
        summary="the model's own probabilities: p at or above 0.5",
        source="this project: the only rule here under which the size of the prediction counts",
        align_corners=False,
        normalisation="none",
        threshold="fixed",
        threshold_value=0.5,
        comparison=">=",
        value_range=(0.0, 1.0),
    ),
    Protocol(
        name="adaptive",
        version=1,
        summary="as many pixels as the ground truth has: the true size is given away",
        source="Senocak et al., Sound Source Localization is All about Cross-Modal Alignment, ICCV 2023, its "
        "published test code",
        align_corners=True,
        normalisation="minmax",
        threshold="adaptive",
        comparison=">",
    ),
)

PROTOCOLS: MappingProxyType[str, Protocol] = MappingProxyType({p.name: p for p in _ALL})
"""Every named protocol, by name."""


def get_protocol(name: str) -> Protocol:
    """Look up a protocol by its name.

    Parameters
    ----------
    name
        One of `PROTOCOLS`.

    Returns
    -------
    Protocol
        The protocol of that name.

    Raises
    ------
    EvalInputError
        If there is none; the message suggests the nearest name and lists all.

    Examples
    --------
    >>> get_protocol("ezvsl").comparison
    '>='
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise unknown_name("protocol", name, PROTOCOLS) from None
