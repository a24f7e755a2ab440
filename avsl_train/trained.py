"""A trained method as the network of a `Model`: it sees a user's clip as it sees stored ones.

Shape letters: B clips, F side of the square frame, n samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avsl_train.config import ExperimentConfig, parse_config
from avsl_train.data import Clips
from avsl_train.engine import choose_device
from avsl_train.errors import TrainInputError
from avsl_train.frames import squeezed
from avsl_train.inputs import Int16
from avsl_train.method_config import TwoModels
from avsl_train.methods import HTF, METHODS
from avsl_train.methods.method import Method, predicting
from avsl_train.model import ATTENTION, COSINE, PROBABILITY, WHOLE, Region, Values, cosine_over
from avsl_train.stored import StoredModel
from avsl_train.views import Viewer

Device = Literal["auto", "cpu", "cuda"]


def build_method(
    model: StoredModel, where: Path | str, which: str | None = None, device: Device | None = None
) -> Method:
    """Return the method of a training with its trained models.

    Parameters
    ----------
    model
        Of a training.
    where
        Where it comes from, for messages.
    which
        ``mean``, ``a`` or ``b`` for a method with two models; None: as it was configured.
    device
        None: as it was configured.

    Raises
    ------
    TrainInputError
        The configuration is not understood, the weights are of another one, or ``which`` is asked of a
        method with one model.
    """
    values = _inference(model.facts["config"], which)
    if device is not None:
        values = {**values, "device": device}
    config = parse_config(values, str(where))
    viewer = Viewer(config.data, choose_device(config.device))
    method = METHODS[config.method.name](config, viewer, model.facts["seed"], 0)
    try:
        method.models.load_state_dict(model.weights)
    except RuntimeError as error:
        raise TrainInputError(
            f"{where}: the weights are not those of its configuration ({str(error).splitlines()[0]}): were "
            "they changed, or written by another version?"
        ) from error
    return method


def _inference(values: dict[str, Any], which: str | None) -> dict[str, Any]:
    """Return the configuration with another choice of the predicting model, and without weights to fetch."""
    fetched = {"weights": None, "audio_weights": None}
    method, model = dict(values["method"]), {**values["model"], **fetched}
    if "model_b" in method:
        method["model_b"] = {key: value for key, value in method["model_b"].items() if key not in fetched}
    if "start" in method:
        method["start"] = None
    if which is not None:
        if "inference" not in method:
            raise TrainInputError(
                f"--which {which} needs a method with two models, the checkpoint has {method['name']}"
            )
        method["inference"] = which
    return {**values, "method": method, "model": model}


class TrainedNetwork:
    """A method of this package and what it was trained as.

    Parameters
    ----------
    method
        With its trained models.
    model
        Where it comes from.
    """

    def __init__(self, method: Method, model: StoredModel) -> None:
        self.method = method
        self.sample_rate = method.config.data.sample_rate
        self.window_s = method.config.data.audio_s
        self.values = values_of(method)
        self.about: Mapping[str, Any] = {
            "method": model.method,
            "checkpoint_sha256": model.sha256,
            "config_digest": model.facts["config_digest"],
            "seed": model.facts["seed"],
            "step": model.facts["step"],
            "inference": which_models(method.config),
        }

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.method.viewer.device

    def region(self, width: int, height: int) -> Region:  # noqa: ARG002 - whatever its size
        """Return the whole frame: it is squeezed to a square."""
        return WHOLE

    def maps(self, frames: Sequence[Image.Image], sounds: Sequence[Int16]) -> Tensor:
        """Return the maps [B, h, w] of RGB frames and sounds at `sample_rate`."""
        if isinstance(self.method, HTF):
            raise TrainInputError(
                "htf needs the optical flow of a clip, which a frame and a sound do not have: prepare clips "
                "with `avsl-data preprocess --flow` and use `avsl-train predict`"
            )
        data, many = self.method.config.data, len(frames)
        clips = Clips(
            index=torch.arange(many),
            frames=torch.stack([squeezed(frame, data.frame_size) for frame in frames]),
            waves=torch.stack([self._clip(sound) for sound in sounds]),
            boxes=torch.zeros(many, 0, 4),
            key=torch.zeros(many, dtype=torch.int64),  # nothing is drawn
        )
        with predicting(self.method.models):
            return self.method.localize(self.method.viewer.plain(clips))[:, 0]

    def _clip(self, sound: Int16) -> Tensor:
        """Return a sound [n] as a clip of the configured length: its middle in the clip's middle."""
        data = self.method.config.data
        heard, whole = (round(s * self.sample_rate) for s in (data.audio_s, data.clip_s))
        wave = np.resize(sound, heard) if len(sound) < heard else sound
        if len(wave) > whole:
            wave = wave[(len(wave) - whole) // 2 :][:whole]
        # the views hear clip[(whole - heard) // 2:], which is to be wave[(len(wave) - heard) // 2:]
        start = (whole - heard) // 2 - (len(wave) - heard) // 2
        clip = np.zeros(whole, np.int16)
        clip[start : start + len(wave)] = wave
        return torch.from_numpy(clip)


def values_of(method: Method) -> Values:
    """Return what a method's maps hold: probabilities, unless it says otherwise by its ``value_range``."""
    stated = getattr(method, "value_range", "probability")
    if stated == "probability":
        return PROBABILITY
    if stated == "cosine":
        return COSINE
    tau = getattr(method.config.method, "tau", None)
    return ATTENTION if tau is None else cosine_over(tau)


def which_models(config: ExperimentConfig) -> str:
    """Return whose map is the prediction."""
    return config.method.inference if isinstance(config.method, TwoModels) else "a"
