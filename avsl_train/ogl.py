"""Object-guided localisation for every method: a second predictions file beside the model's.

It holds the object maps of the same clips, mean over the channels of ``|layer4|`` of an ImageNet ResNet-18
on the frame that the model sees, or those maps mixed with the model's by a published rule (`avsl_eval.ogl`).
The first can be mixed later by ``avsl-eval mix``; the second is scored as it is.

Sources: EZ-VSL and SLAVC, paper and test code. What the published code does not say, because each of its
methods has one kind of map: the rule ``slavc`` mixes scores that are not stretched, so it takes the maps that
it was made for, cosine / tau, and no others.

Shape letters: N clips.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.files import whole_file
from avsl_train.import_published import PublishedNetwork
from avsl_train.model import Float32, Values
from avsl_train.published import ObjectPrior, images
from avsl_train.trained import TrainedNetwork

logger = logging.getLogger(__name__)

BATCH: Final = 16
WHERE: Final = "--ogl-weights"


@dataclass(frozen=True)
class Guidance:
    """What is written beside the predictions.

    Parameters
    ----------
    out
        File to write.
    rule
        Name of a rule of `avsl_eval.ogl`; None: the object maps alone.
    alpha
        Weight of the model's maps in [0, 1]; None: the published one.
    weights
        Of the ResNet-18: ``imagenet``, a file, or URL#sha256=DIGEST.
    """

    out: Path
    rule: str | None = None
    alpha: float | None = None
    weights: str = "imagenet"

    def check(self, values: Values) -> None:
        """Raise TrainInputError where maps of these values cannot be mixed so."""
        from avsl_eval.errors import EvalInputError
        from avsl_eval.ogl import check_alpha, get_rule

        if self.rule is None:
            if self.alpha is not None:
                raise TrainInputError(
                    "--ogl-alpha is the weight of the model's maps in a mixture: say how to mix by "
                    "--ogl-rule, or give it to `avsl-eval mix`"
                )
            return
        try:
            rule = get_rule(self.rule)
            check_alpha(rule.alpha if self.alpha is None else self.alpha)
        except EvalInputError as error:
            raise TrainInputError(f"--ogl-rule: {error}") from error
        if not rule.per_map and not values.name.startswith("cosine/"):
            raise TrainInputError(
                f"--ogl-rule {rule.name} mixes cosine / tau as they are, and the values of this model's maps "
                f"are: {values.name}. Take --ogl-rule ezvsl, which stretches every map to [0, 1] first"
            )


def object_maps(network: TrainedNetwork | PublishedNetwork, clips: ClipSet, prior: ObjectPrior) -> Float32:
    """Return the object maps [N, 7, 7] of some clips, on the frame as the model sees it.

    A model of this package sees the whole frame, as EZ-VSL's; a published one what its test loader gives.
    """
    prepare = network.image if isinstance(network, PublishedNetwork) else images.ezvsl
    prior = prior.eval().to(network.device)
    maps: list[Tensor] = []
    for start in range(0, len(clips), BATCH):
        frames = [clips.stored(place)[0] for place in range(start, min(start + BATCH, len(clips)))]
        maps.append(_maps(prior, [prepare(frame) for frame in frames], network.device))
        logger.info("object maps of %d/%d clips", sum(map(len, maps)), len(clips))
    return torch.cat(maps).numpy()


def make_prior(weights: str) -> ObjectPrior:
    """Return the object network.

    Raises
    ------
    TrainInputError
        There are no such weights.
    """
    return ObjectPrior(weights, where=WHERE)


def write_guidance(
    guidance: Guidance,
    network: TrainedNetwork | PublishedNetwork,
    clips: ClipSet,
    predictions: Path,
    prior: ObjectPrior,
) -> None:
    """Write object maps, or their mixture with predictions that were written.

    Parameters
    ----------
    guidance
        What to write.
    network, clips
        Of the predictions.
    predictions
        Their file.
    prior
        From `make_prior`.

    Raises
    ------
    TrainInputError
        The file cannot be written.
    """
    maps = object_maps(network, clips, prior)
    if guidance.rule is None:
        _write_objects(guidance, network, clips, maps)
        return
    from avsl_eval.errors import EvalInputError
    from avsl_eval.ogl import mix

    try:
        mix(
            predictions,
            dict(zip(clips.ids, maps, strict=True)),
            guidance.out,
            guidance.rule,
            guidance.alpha,
        )
    except EvalInputError as error:
        raise TrainInputError(f"object-guided localisation: {error}") from error


def _write_objects(
    guidance: Guidance, network: TrainedNetwork | PublishedNetwork, clips: ClipSet, maps: Float32
) -> None:
    meta: dict[str, Any] = {
        "schema": "avsl-predictions/1",
        "method": "object_prior",
        "weights": guidance.weights,
        "frames_of": {"method": network.about["method"], "checkpoint": network.about["checkpoint_sha256"]},
        "excluded": clips.excluded,
    }
    with whole_file(guidance.out) as temporary:
        np.savez_compressed(
            temporary, clip_id=np.array(clips.ids), heatmap=maps, meta=np.array(json.dumps(meta))
        )


@torch.no_grad()
def _maps(prior: ObjectPrior, prepared: Sequence[Tensor], device: torch.device) -> Tensor:
    return prior.localize(torch.stack(list(prepared)).to(device))[:, 0].cpu()
