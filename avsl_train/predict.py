"""Prediction: a trained model and clips to a predictions file that `avsl_eval` scores.

Shape letters: N clips, h = w side of the map.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avsl_train.checkpoint import Checkpoint, load_checkpoint
from avsl_train.config import DataConfig
from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.excerpts import PLAIN
from avsl_train.files import whole_file
from avsl_train.import_published import PublishedNetwork
from avsl_train.load import open_network
from avsl_train.methods.method import Method, predicting
from avsl_train.model import Float32
from avsl_train.ogl import Guidance, make_prior, write_guidance
from avsl_train.stored import of_checkpoint
from avsl_train.trained import TrainedNetwork, build_method

logger = logging.getLogger(__name__)

BATCH = 64
BATCH_PUBLISHED = 16
CONFIDENT_SHARE = 0.25
"""A clip's confidence is the mean of the largest quarter of its map, as in SLAVC's evaluator [code]."""


def load_method(path: Path, which: str | None = None) -> tuple[Method, Checkpoint]:
    """Build the method of a checkpoint with its trained models.

    Parameters
    ----------
    path
        A file that ``avsl-train fit`` wrote.
    which
        ``mean``, ``a`` or ``b`` for a method with two models; None: as it was configured.

    Raises
    ------
    TrainInputError
        The file cannot be used, or ``which`` is asked of a method with one model.
    """
    checkpoint = load_checkpoint(path)
    return build_method(of_checkpoint(checkpoint, ""), path, which), checkpoint


def predict(method: Method, clips: ClipSet) -> tuple[Float32, Float32]:
    """Predict every clip on its whole frame and the middle of its sound.

    Returns
    -------
    heatmap : float32 [N, h, w]
        As `Method.localize` gives it.
    confidence : float32 [N]
        Mean of the largest quarter of the map.
    """
    with predicting(method.models):
        batches = clips.in_order(BATCH, heard=PLAIN)
        return _collect((method.localize(method.viewer.plain(batch))[:, 0] for batch in batches), len(clips))


def predict_published(network: PublishedNetwork, clips: ClipSet) -> tuple[Float32, Float32]:
    """Predict every clip as the published test loader prepares it; see `predict`."""
    starts = range(0, len(clips), BATCH_PUBLISHED)
    positions = (range(start, min(start + BATCH_PUBLISHED, len(clips))) for start in starts)
    stored = (zip(*map(clips.stored, several), strict=True) for several in positions)
    return _collect((network.maps(frames, sounds) for frames, sounds in stored), len(clips))


def clips_for(
    network: TrainedNetwork | PublishedNetwork, shards: Sequence[Path], ids: Sequence[str]
) -> ClipSet:
    """Return the clips of some shards as a network takes them.

    Raises
    ------
    TrainInputError
        The shards cannot be used, or no clip is left.
    """
    if isinstance(network, TrainedNetwork):
        data = network.method.config.data
    else:
        data = DataConfig(sample_rate=network.sample_rate)
    clips = ClipSet(shards, ids, data)
    if not len(clips):
        reasons = sorted(set(clips.excluded.values()))
        raise TrainInputError(
            f"none of the {len(ids)} clips can be predicted ({', '.join(reasons) or 'none asked for'})"
        )
    return clips


def write_predictions(
    checkpoint: str | Path,
    shards: Sequence[Path],
    ids: Sequence[str],
    out: Path,
    which: str | None,
    guidance: Guidance | None = None,
) -> None:
    """Predict some clips and write the predictions file.

    The file holds ``clip_id`` [N], ``heatmap`` [N, h, w], ``confidence`` [N] and ``meta``, a JSON text with
    the checkpoint, its configuration, what the maps' values are, and every clip that was asked for and could
    not be predicted.

    Parameters
    ----------
    checkpoint
        Whatever `avsl_train.load_model` takes.
    shards, ids
        The clips.
    out
        File to write.
    which
        As in `load_method`.
    guidance
        Object maps, or a mixture with them, to write besides; None: none.

    Raises
    ------
    TrainInputError
        The checkpoint or the shards cannot be used, or no clip is left.
    """
    network = open_network(checkpoint, which)
    if guidance is not None:
        guidance.check(network.values)
        prior = make_prior(guidance.weights)  # before hours of prediction, not after
    clips = clips_for(network, shards, ids)
    if isinstance(network, TrainedNetwork):
        heatmap, confidence = predict(network.method, clips)
    else:
        heatmap, confidence = predict_published(network, clips)
    meta = {
        "schema": "avsl-predictions/1",
        **network.about,
        **network.values.record,
        "excluded": clips.excluded,
    }
    with whole_file(out) as temporary:
        np.savez_compressed(
            temporary,
            clip_id=np.array(clips.ids),
            heatmap=heatmap,
            confidence=confidence,
            meta=np.array(json.dumps(meta)),
        )
    if guidance is not None:
        write_guidance(guidance, network, clips, out, prior)


def _collect(batches: Iterable[Tensor], count: int) -> tuple[Float32, Float32]:
    """Return the maps of all batches and their confidences."""
    maps: list[Tensor] = []
    for batch in batches:
        maps.append(batch.float().cpu())
        logger.info("predicted %d/%d clips", sum(map(len, maps)), count)
    heatmap = torch.cat(maps)
    flat = heatmap.flatten(1)
    confidence = flat.topk(max(1, round(CONFIDENT_SHARE * flat.shape[1])), dim=1).values.mean(1)
    return heatmap.numpy(), confidence.numpy()
