"""Words and numbers of the report: escaping, names of metrics and references, what a rule cannot mean."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

METRIC_NAMES = {
    "ciou@0.5": "cIoU@0.5",
    "auc": "AUC",
    "mean_iou": "mean cIoU",
    "pointing": "pointing accuracy",
}
"""What metrics are called where people read; others keep the name that the file gives them."""

REFERENCE_NAMES = {
    "ceiling": "ceiling",
    "center_prior": "centred disc",
    "mean_truth_prior": "mean ground truth",
    "whole_image": "whole image",
}
"""What the context answers are called beside a line."""

REFERENCE_MEANINGS = {
    "ceiling": "the best that any map without ties can reach under the rule",
    "center_prior": "one centred disc for every clip; it neither looks nor listens",
    "mean_truth_prior": "the mean true map of other clips; it knows the test set, but not the clip",
    "whole_image": "a mask that covers everything",
}
"""What the context answers are, in one line each."""

# HTML has no place for control characters; U+FFFD shows that there was something.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")


def escape(value: object) -> str:
    """Make a text from a file safe inside HTML, attribute values included.

    Parameters
    ----------
    value
        Anything; its ``str`` is shown.

    Returns
    -------
    str
        Without markup, control characters and lone surrogates.

    Examples
    --------
    >>> escape('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return html.escape(_NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def name(value: object) -> str:
    """Show a name from a file so that its direction of writing stays its own.

    Parameters
    ----------
    value
        For example a method's name or a clip's label.

    Returns
    -------
    str
        HTML: ``<bdi>`` around the escaped text.

    Examples
    --------
    >>> name("dog")
    '<bdi>dog</bdi>'
    """
    return f"<bdi>{escape(value)}</bdi>"


def metric_name(metric: str) -> str:
    """Return what a metric is called, as plain text.

    Parameters
    ----------
    metric
        Its key in a scores file.

    Returns
    -------
    str
        The key itself where there is no other name.

    Examples
    --------
    >>> metric_name("ciou@0.5"), metric_name("pointing"), metric_name("f_beta")
    ('cIoU@0.5', 'pointing accuracy', 'f_beta')
    """
    return METRIC_NAMES.get(metric, metric)


def percent(value: float) -> str:
    """Show a fraction in percent with one decimal.

    Parameters
    ----------
    value
        A fraction.

    Returns
    -------
    str
        Without the sign.

    Examples
    --------
    >>> percent(0.3456)
    '34.6'
    """
    return f"{100 * value:.1f}"


_LIMITS = {
    "segmentation": "It cannot be compared with scores against boxes: the truth here is a mask.",
    "median": "It cannot show that a model knows how large a source is: every mask covers half of the image, "
    "so small sources fail even for a perfect map, and the ceiling is what to read a score against.",
    "adaptive": "It cannot show that a model knows how large a source is: the true size is given away.",
    "sweep": "It cannot estimate what a threshold chosen in advance would reach: the best of all thresholds "
    "is chosen on this very test set.",
    "universal": "It cannot be read without its threshold: each model brings its own.",
    "stretched": "It cannot show that a model knows when nothing sounds: each map is stretched to [0, 1] by "
    "itself, so some mask is always found.",
    "fixed": "It cannot compare maps of unlike scales: only a model whose values are meant against this "
    "threshold can do well.",
}
"""What a score cannot mean, by what the rule does."""


def rule_limits(rule: Mapping[str, Any]) -> str:
    """Say what a score under a rule cannot mean.

    Parameters
    ----------
    rule
        The protocol's fields, as a scores file embeds them.

    Returns
    -------
    str
        One or two sentences, plain text; they follow from the fields alone.

    Examples
    --------
    >>> rule_limits({"threshold": "adaptive"})
    'It cannot show that a model knows how large a source is: the true size is given away.'
    """
    if rule.get("task") == "segmentation":
        return _LIMITS["segmentation"]
    threshold = str(rule.get("threshold"))
    if threshold == "fixed" and rule.get("normalisation") in {"minmax", "lvs_minmax"}:
        return _LIMITS["stretched"]
    return _LIMITS.get(threshold, "")
