"""Prediction: a checkpoint and clips to a predictions file that `avsl_eval` scores.

Shape letters: N clips, h = w side of the map.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsl_train.checkpoint import Checkpoint, file_digest, load_checkpoint
from avsl_train.config import ExperimentConfig, parse_config
from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.files import whole_file
from avsl_train.fit import choose_device
from avsl_train.method_config import TwoModels
from avsl_train.methods import METHODS
from avsl_train.methods.method import Method, predicting
from avsl_train.views import Viewer

logger = logging.getLogger(__name__)

BATCH = 64
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
    config = parse_config(_inference(checkpoint.config, which), str(path))
    viewer = Viewer(config.data, choose_device(config.device))
    method = METHODS[config.method.name](config, viewer, checkpoint.seed, 0)
    method.models.load_state_dict(checkpoint.models)
    return method, checkpoint


def _inference(values: dict[str, Any], which: str | None) -> dict[str, Any]:
    """Return the configuration with another choice of the predicting model, and without weights to fetch."""
    fetched = {"weights": None, "audio_weights": None}
    method, model = dict(values["method"]), {**values["model"], **fetched}
    if "model_b" in method:
        method["model_b"] = {key: value for key, value in method["model_b"].items() if key not in fetched}
    if which is not None:
        if "inference" not in method:
            raise TrainInputError(
                f"--which {which} needs a method with two models, the checkpoint has {method['name']}"
            )
        method["inference"] = which
    return {**values, "method": method, "model": model}


def predict(method: Method, clips: ClipSet) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Predict every clip on its whole frame and the middle of its sound.

    Returns
    -------
    heatmap : float32 [N, h, w]
        P in [0, 1].
    confidence : float32 [N]
        Mean of the largest quarter of the map.
    """
    maps = []
    with predicting(method.models):
        for batch in clips.in_order(BATCH):
            maps.append(method.localize(method.viewer.plain(batch))[:, 0].cpu())
            logger.info("predicted %d/%d clips", sum(map(len, maps)), len(clips))
    heatmap = torch.cat(maps)
    flat = heatmap.flatten(1)
    confidence = flat.topk(max(1, round(CONFIDENT_SHARE * flat.shape[1])), dim=1).values.mean(1)
    return heatmap.numpy(), confidence.numpy()


def write_predictions(
    checkpoint: Path, shards: Sequence[Path], ids: Sequence[str], out: Path, which: str | None
) -> None:
    """Predict some clips and write the predictions file.

    The file holds ``clip_id`` [N], ``heatmap`` [N, h, w], ``confidence`` [N] and ``meta``, a JSON text with
    the checkpoint, its configuration and every clip that was asked for and could not be predicted.

    Raises
    ------
    TrainInputError
        The checkpoint or the shards cannot be used, or no clip is left.
    """
    method, state = load_method(checkpoint, which)
    clips = ClipSet(shards, ids, method.config.data)
    if not len(clips):
        reasons = sorted(set(clips.excluded.values()))
        raise TrainInputError(
            f"none of the {len(ids)} clips can be predicted ({', '.join(reasons) or 'none asked for'})"
        )
    heatmap, confidence = predict(method, clips)
    meta = {
        "schema": "avsl-predictions/1",
        "checkpoint_sha256": file_digest(checkpoint),
        "config_digest": state.digest,
        "method": method.config.method.name,
        "seed": state.seed,
        "step": state.step,
        "inference": _which_models(method.config),
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


def _which_models(config: ExperimentConfig) -> str:
    return config.method.inference if isinstance(config.method, TwoModels) else "a"
