"""Write the masks that a protocol makes as COCO results, for tools that read those.

One object per clip with a mask that is not empty: ``image_id``, ``category_id`` (1 for all: localisation has
no classes, evaluate with ``useCats = 0``), ``segmentation`` (run lengths), ``bbox`` [x, y, width, height] of
the mask in pixels, and ``score``: the clip's confidence if the predictions have one, else the mean of p in
the mask, where p is what the protocol compares with its threshold.

Beside COCO annotations, ids and sizes of images are theirs (masks are resized by nearest pixels); else the
image id is the clip id and masks have the protocol's map size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.annotations.coco import CocoImage
from avsl_eval.cautions import range_fault
from avsl_eval.errors import EvalInputError, first_few
from avsl_eval.maps import at_threshold, binarise, to_probability
from avsl_eval.masks import Mask, nearest
from avsl_eval.predictions import Predictions
from avsl_eval.protocol import Protocol
from avsl_eval.truth import Annotations

CATEGORY = 1


def coco_results(
    predictions: Predictions,
    protocol: Protocol,
    annotations: Annotations | None = None,
    images: Mapping[str, CocoImage] | None = None,
    threshold: float | None = None,
) -> list[dict[str, Any]]:
    """Make COCO results of predictions.

    Parameters
    ----------
    predictions, protocol
        Maps and how they become masks.
    annotations
        The test set, to which the results are restricted. The rule ``adaptive`` needs it.
    images
        Clip id to image, if the annotations are COCO's.
    threshold
        For rules whose threshold is not part of them (``sweep``, ``universal``), or another one.

    Returns
    -------
    list of dict
        In the predictions' order; a clip with an empty mask has none.

    Raises
    ------
    EvalInputError
        If the rule needs what is not given, or a map cannot be read.
    """
    rule = _with_threshold(protocol, threshold)
    clips = {clip.clip_id: clip for clip in annotations.clips} if annotations else {}
    if rule.threshold == "adaptive" and annotations is None:
        raise EvalInputError(
            f"protocol {rule.name} thresholds by the size of the truth; give it by --annotations"
        )
    wanted = set(clips) if annotations else set(predictions.clip_ids)
    if unlisted := [i for i in predictions.clip_ids if images and i in wanted and i not in images]:
        raise EvalInputError(f"the images list no size of {first_few(unlisted)}")
    results = []
    n_read = 0
    for ids, maps in predictions.chunks(wanted):
        n_read += len(ids)
        if fault := range_fault(ids, maps.min(axis=(1, 2)), maps.max(axis=(1, 2)), rule):
            raise EvalInputError(fault)
        true_pixels = [
            int(np.count_nonzero(clips[i].levels(rule.map_size, annotations.truth))) if annotations else 0
            for i in ids
        ]
        p = to_probability(maps, rule)
        for clip_id, values, mask in zip(ids, p, binarise(p, rule, true_pixels), strict=True):
            if mask.any():
                score = (
                    predictions.confidence[clip_id] if predictions.confidence else float(values[mask].mean())
                )
                results.append(_result(clip_id, mask, score, images))
    if not n_read:
        raise EvalInputError(
            f"{predictions.where} and the annotations have no clip in common; are they of the same test set?"
        )
    return results


def to_json(results: list[dict[str, Any]]) -> str:
    """Write results as JSON."""
    return json.dumps(results, allow_nan=False) + "\n"


def _with_threshold(protocol: Protocol, threshold: float | None) -> Protocol:
    if threshold is not None:
        if not np.isfinite(threshold):
            raise EvalInputError(f"the threshold {threshold} is not a finite number")
        return at_threshold(protocol, threshold)
    if protocol.threshold in ("sweep", "universal"):
        raise EvalInputError(
            f"protocol {protocol.name} has no single threshold (its rule is {protocol.threshold}); "
            "choose one by --threshold"
        )
    return protocol


def _result(
    clip_id: str, mask: NDArray[np.bool_], score: float, images: Mapping[str, CocoImage] | None
) -> dict[str, Any]:
    from pycocotools import mask as coco

    image = images[clip_id] if images else CocoImage(clip_id, mask.shape[1], mask.shape[0])
    encoded = Mask.from_array(nearest(mask, image.height, image.width))
    size = [encoded.height, encoded.width]
    box = coco.toBbox({"size": size, "counts": encoded.counts})
    return {
        "image_id": image.image_id,
        "category_id": CATEGORY,
        "segmentation": {"size": size, "counts": encoded.counts.decode("ascii")},
        "bbox": box.tolist(),
        "score": score,
    }
