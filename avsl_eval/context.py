"""What a score has to be read against: the best and two blind answers under the same rule, on the same clips.

- ``ceiling``: the best cIoU that any map without ties can reach. A rule that prescribes the mask's size
  (k pixels, see `avsl_eval.maps.tie_free_area`) allows only
  ``min(k, |g = 1|) + min(k - |g = 1|, |g = 1/2|) / 2`` over ``sum(g) + what is left of k``; a rule that
  does not prescribe it allows the perfect mask.
- ``center_prior``: one fixed map for every clip and protocol, falling linearly with the distance from the
  image's centre and exactly 0.5 on the circle whose disc covers half of the image. It knows nothing but
  that photographers centre things.
- ``whole_image``: the mask that covers everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import CiouStatistics
from avsl_eval.maps import binarise, tie_free_area, to_probability
from avsl_eval.protocol import Protocol
from avsl_eval.truth import Annotations, rasterise

CONTEXT = ("ceiling", "center_prior", "whole_image")
"""Names of the answers, in the order of reports."""


def center_prior_map(size: int) -> NDArray[np.float32]:
    """Draw the centre prior.

    Parameters
    ----------
    size
        Map size S in pixels.

    Returns
    -------
    float32 [S, S]
        ``1 - r / (2 R)`` with r the distance of a pixel's centre from the image's centre and pi R^2 = S^2 /
        2; in [0, 1].

    Examples
    --------
    >>> float((center_prior_map(224) >= 0.5).mean().round(3))
    0.5
    """
    offset = np.arange(size) + 0.5 - size / 2
    # Squared distances of equally far pixels are equal exactly, and so are their values: the map is
    # symmetric.
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    radius = np.sqrt(size * size / (2 * np.pi))
    return np.asarray(1 - np.sqrt(squared) / (2 * radius), dtype=np.float32)


def context_ciou(annotations: Annotations, protocol: Protocol) -> dict[str, NDArray[np.float64]]:
    """Compute the cIoU of the context answers.

    Parameters
    ----------
    annotations
        The test set.
    protocol
        The rule.

    Returns
    -------
    dict
        Name (`CONTEXT`) to float64 [N], in the annotations' order.

    Examples
    --------
    >>> from avsl_eval.protocol_table import PROTOCOLS
    >>> from avsl_eval.truth import read_annotations
    >>> truth = read_annotations({"a_000001": [[0.0, 0.0, 1.0, 0.25]]})
    >>> {name: round(float(v[0]), 3) for name, v in context_ciou(truth, PROTOCOLS["ezvsl"]).items()}
    {'ceiling': 0.5, 'center_prior': 0.094, 'whole_image': 0.25}
    """
    n, size, unit = len(annotations.clips), protocol.map_size, annotations.unit
    statistics = {name: CiouStatistics.zeros(n) for name in CONTEXT[1:]}
    ceiling = np.empty(n)
    prior = to_probability(center_prior_map(size)[None], protocol)
    disc = binarise(prior, protocol, [0])
    everything = np.ones((1, size, size), bool)
    for row, clip in enumerate(annotations.clips):
        levels = rasterise(clip.boxes, size, annotations.truth)[None]
        counts = [int(np.count_nonzero(levels == level)) for level in range(unit + 1)]
        if protocol.threshold == "adaptive":
            disc = binarise(prior, protocol, [sum(counts[1:])])
        ceiling[row] = _best_ciou(counts, protocol)
        statistics["center_prior"].record([row], disc, levels, unit)
        statistics["whole_image"].record([row], everything, levels, unit)
    return {"ceiling": ceiling, **{name: s.ciou for name, s in statistics.items()}}


def _best_ciou(counts: Sequence[int], protocol: Protocol) -> float:
    """Compute the best cIoU from the number of pixels at each level, counts[level]."""
    unit = len(counts) - 1
    total = sum(level * counts[level] for level in range(1, unit + 1)) / unit
    area = tie_free_area(protocol, sum(counts[1:]))
    if area is None:
        return 1.0 if total else float("nan")
    intersection, left = 0.0, area
    for level in range(unit, 0, -1):
        taken = min(left, counts[level])
        intersection += taken * level / unit
        left -= taken
    denominator = total + left
    return intersection / denominator if denominator else float("nan")
