"""Protocols: how a heatmap becomes a mask, as data.

A protocol is every decision between a model's map and its binary mask. Two scores can be compared only where
all of them are equal, hence a protocol has a name and a version, and the scores file embeds all of its
fields.

    x [h, w] --upsample--> [S, S] --s = scale x + offset--> (sigmoid) --normalise--> p --threshold--> mask

The threshold rules, with ``sorted = sort(p.ravel())`` ascending and n = S * S pixels:

========= =========================================== =====================================================
rule      t                                           the mask covers
========= =========================================== =====================================================
median    ``sorted[n // 2]``                          half of the image, always
fixed     ``threshold_value``                         what the model says
adaptive  ``sorted[n - k]``, k pixels with truth > 0  the true area (half of the image if there is none)
sweep     each of ``thresholds``                      what the model says; the best one on the test set itself
universal one value, from maps where nothing sounds   what the model says above what silence makes it say
========= =========================================== =====================================================

The named protocols stand in `avsl_eval.protocol_table`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Interpolation = Literal["bilinear", "bicubic"]
Normalisation = Literal["lvs_minmax", "minmax", "none"]
Constant = Literal["keep", "zero", "empty"]
ThresholdRule = Literal["median", "fixed", "adaptive", "sweep", "universal"]
Comparison = Literal[">", ">="]
Confidence = Literal["stored", "top_quarter", "max"]
Task = Literal["localisation", "segmentation"]
MissingPolicy = Literal["error", "zero"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "interpolation": get_args(Interpolation),
    "normalisation": get_args(Normalisation),
    "constant": get_args(Constant),
    "threshold": get_args(ThresholdRule),
    "comparison": get_args(Comparison),
    "confidence": get_args(Confidence),
    "task": get_args(Task),
    "missing": get_args(MissingPolicy),
}
RANK_RULES = ("median", "adaptive")
"""Threshold rules that look at the order of a map's pixels alone: they prescribe the mask's size."""


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
        Whose rule it is: paper, venue, and whose published code.
    map_size
        Height and width S of maps and masks, in pixels.
    interpolation, align_corners
        Upsampling to [S, S], in the sense of torch's ``interpolate``; ``align_corners=False`` equals OpenCV.
    scale, offset
        s = scale * x + offset, after upsampling; scale > 0.
    sigmoid
        Whether s are logits, of which 1 / (1 + exp(-s)) is taken.
    object_scale
        What an object map is multiplied by before it is mixed with s (object-guided localisation only).
    normalisation
        ``minmax``: (s - min) / (max - min). ``lvs_minmax``: 1 - minmax(-s). ``none``: s as it is.
    constant
        What either minmax makes of a constant map: ``keep`` its values, ``zero``, or ``empty``, an empty mask
        (the published code divides by zero, and no comparison with NaN holds).
    threshold, threshold_value, thresholds
        The rule that gives t, see the module's table; the value belongs to the rule ``fixed`` (and to
        ``universal``, once it is known), the list to ``sweep``.
    floor_at_median
        Whether p below ``sorted[n // 2]`` is set to 0 before it is compared.
    comparison
        The mask is ``p > t`` or ``p >= t``.
    rescue_saturated
        Whether pixels with p >= 1 join the mask even where they are not above t.
    exact_area
        Whether pixels that tie at t are added only until the mask has exactly k pixels, in one fixed
        pseudo-random order (`avsl_eval.maps.tie_order`); rules ``median`` and ``adaptive`` only.
    confidence
        What ranks clips in detection: the ``stored`` number, or of s the mean of the largest quarter
        (``top_quarter``) or the largest (``max``).
    task
        ``localisation``: cIoU. ``segmentation``: IoU and F of AVSBench besides.
    value_range
        Bounds that raw heatmaps must keep, or None.
    missing
        What a clip without prediction does: ``error`` stops, ``zero`` scores it 0.
    published_sizes
        (test set, number of clips) of the scores that were published under the rule.
    """

    name: str
    version: int
    summary: str
    source: str
    map_size: int = 224
    interpolation: Interpolation = "bilinear"
    align_corners: bool
    scale: float = 1.0
    offset: float = 0.0
    sigmoid: bool = False
    object_scale: float = 1.0
    normalisation: Normalisation
    constant: Constant = "keep"
    threshold: ThresholdRule
    threshold_value: float | None = None
    thresholds: tuple[float, ...] = ()
    floor_at_median: bool = False
    comparison: Comparison
    rescue_saturated: bool = False
    exact_area: bool = False
    confidence: Confidence = "stored"
    task: Task = "localisation"
    value_range: tuple[float, float] | None = None
    missing: MissingPolicy = "error"
    published_sizes: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for field, known in _CHOICES.items():
            if getattr(self, field) not in known:
                raise ValueError(
                    f"protocol {self.name}: {field} is {getattr(self, field)!r}; known: {', '.join(known)}"
                )
        valued = self.threshold_value is not None
        if valued != (self.threshold == "fixed") and not (valued and self.threshold == "universal"):
            raise ValueError(
                f"protocol {self.name}: threshold_value is needed by the rule 'fixed', may be given to "
                "'universal', and belongs to no other"
            )
        if bool(self.thresholds) != (self.threshold == "sweep"):
            raise ValueError(f"protocol {self.name}: thresholds are needed by the rule 'sweep' and no other")
        if not self.scale > 0:
            raise ValueError(f"protocol {self.name}: scale is {self.scale}; larger must stay larger")
        if self.exact_area and self.threshold not in RANK_RULES:
            raise ValueError(
                f"protocol {self.name}: exact_area needs a rule that prescribes the area, "
                f"{' or '.join(RANK_RULES)}"
            )
        if self.floor_at_median and self.threshold != "fixed":
            raise ValueError(f"protocol {self.name}: floor_at_median belongs to the rule 'fixed'")

    @property
    def is_rank_rule(self) -> bool:
        """Whether the order of a map's pixels alone decides, so that the mask's size is prescribed."""
        return self.threshold in RANK_RULES

    @property
    def depends_on_scale(self) -> bool:
        """Whether s -> 2 s would change the mask: the rule compares raw values with a number."""
        return self.normalisation == "none" and not self.is_rank_rule

    def explain(self) -> str:
        """Return the rule in words: one paragraph, from its fields."""
        size, aligned = self.map_size, "centres of outer pixels" if self.align_corners else "edges"
        steps = [
            f"Maps are upsampled to {size} x {size} ({self.interpolation}, {aligned} aligned, "
            f"align_corners={self.align_corners})"
        ]
        if self.scale != 1 or self.offset != 0:
            steps.append(f"s = {self.scale:g} x + {self.offset:g}")
        if self.sigmoid:
            steps.append("p = sigmoid of the logits")
        if self.normalisation != "none":
            formula = "minmax" if self.normalisation == "minmax" else "1 - minmax of the negated map"
            constant = {"keep": "keeps its values", "zero": "becomes 0", "empty": "gets an empty mask"}
            steps.append(f"p = {formula} of each map (a constant one {constant[self.constant]})")
        if self.floor_at_median:
            steps.append("p below the median is set to 0")
        steps.append(f"the mask is p {self.comparison} {self._threshold_in_words()}")
        if self.rescue_saturated:
            steps.append("pixels with p >= 1 join it")
        sizes = ", ".join(f"{name} {n}" for name, n in self.published_sizes)
        return f"{self.summary[0].upper()}{self.summary[1:]}. {'; '.join(steps)}. Source: {self.source}." + (
            f" Published on {sizes} clips." if sizes else ""
        )

    def _threshold_in_words(self) -> str:
        half, n = self.map_size**2 // 2, self.map_size**2
        if self.threshold == "median":
            t = f"the sorted values' number {half} (from 0) of {n}"
        elif self.threshold == "adaptive":
            t = f"the k-th largest value, k the number of pixels with truth ({half} if there are none)"
        elif self.threshold == "sweep":
            low, high = self.thresholds[0], self.thresholds[-1]
            return (
                f"each of {len(self.thresholds)} thresholds from {low:g} to {high:g}, the best one reported"
            )
        elif self.threshold == "universal":
            return "one threshold per model, which its maps of negative audio set"
        else:
            return f"{self.threshold_value:g}"
        return f"{t}, ties broken in one fixed pseudo-random order of the pixels" if self.exact_area else t

    def to_dict(self) -> dict[str, object]:
        """Return all fields as plain JSON values.

        Returns
        -------
        dict
            Field name to value.
        """
        return {key: _as_lists(value) for key, value in dataclasses.asdict(self).items()}

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
        >>> from avsl_eval.protocol_table import PROTOCOLS
        >>> Protocol.from_dict(PROTOCOLS["fixed"].to_dict()) == PROTOCOLS["fixed"]
        True
        """
        values = dict(fields)
        for key in ("value_range", "thresholds", "published_sizes"):
            if values.get(key) is not None:  # JSON knows lists only
                values[key] = tuple(tuple(v) if isinstance(v, list) else v for v in values[key])
        return cls(**values)


def _as_lists(value: object) -> object:
    return [_as_lists(v) for v in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class ProtocolSuite:
    """Name several protocols that belong together.

    Parameters
    ----------
    name, version
        Identity; adding or removing a protocol needs a new version.
    summary
        What it is for, in one line.
    protocols
        Names, in the order of tables.
    skips_inapplicable
        Whether a protocol that the maps do not fit (a range they leave) is left out with a warning; else it
        is an error.
    missing
        The only policy for missing clips that the suite allows, or None for any.
    """

    name: str
    version: int
    summary: str
    protocols: tuple[str, ...]
    skips_inapplicable: bool = False
    missing: MissingPolicy | None = None
