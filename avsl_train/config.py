"""One resolved training configuration: every value that a training depends on, with its default and source.

Tags as in the papers' table of `docs/methods.md`: [paper] stated by the paper, [code] read from a published
implementation, [ours] our choice because the paper's text does not tell. Unknown keys are errors. The
configuration and its digest go into checkpoint, predictions and results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from avsl_train.config_section import Probability, Section
from avsl_train.errors import TrainInputError
from avsl_train.explain import explain
from avsl_train.method_config import SemiConfig, TwoModels
from avsl_train.method_config_self import SelfConfig, SelfMethods, check_flow, check_structure, with_structure

FrontendName = Literal["ezvsl", "logmel", "lvs", "alignment", "ssltie", "htf", "vggish", "sspl", "waveform"]


SPECTROGRAMS: Final = ("ezvsl", "logmel", "lvs", "alignment", "ssltie", "htf")
PATCH_S: Final = 0.975
"""Sound of one patch of VGGish: 96 frames of 25 ms, one every 10 ms."""
HEARS: Final = {"vggish": ("vggish", "sspl"), "soundnet": ("waveform",)}
"""Front ends that an audio encoder takes; every other one takes `SPECTROGRAMS`."""


class ModelConfig(Section):
    """The shared localizer: two encoders, a common space and a learned calibration."""

    visual: Literal["tiny", "resnet18", "resnet50", "vgg16"] = Field(
        "resnet18", description="Visual encoder [code EZ-VSL]."
    )
    audio: Literal["tiny", "resnet18", "vggish", "soundnet"] = Field(
        "resnet18", description="Audio encoder, from scratch unless `audio_weights` [code EZ-VSL]."
    )
    frontend: FrontendName | None = Field(
        None, description="Audio front end of this model; null: `data.frontend` [ours]."
    )
    dim: PositiveInt = Field(512, description="Channels of the common space [code EZ-VSL].")
    width: PositiveFloat = Field(1.0, description="Width multiplier of the tiny encoders [ours].")
    stride: Literal[16, 32] = Field(
        32, description="ResNets: 32 gives 7x7 maps of 224x224, 16 gives 14x14 [code EZ-VSL, LVS]."
    )
    weights: str | None = Field(
        None,
        description="Start of the visual encoder: `imagenet`, a file, URL#sha256=DIGEST, or null "
        "[code EZ-VSL: imagenet].",
    )
    audio_weights: str | None = Field(
        None,
        description="Start of `vggish` or `soundnet`: `audioset` (VGGish's), a file, URL#sha256=DIGEST, or "
        "null [paper DMT: pre-trained].",
    )
    freeze_visual: bool | PositiveInt = Field(
        False, description="Keep the visual trunk as its weights are: always, or for so many epochs [ours]."
    )
    freeze_audio: bool | PositiveInt = Field(
        False, description="Keep the audio trunk as its weights are: always, or for so many epochs [ours]."
    )
    scale_init: PositiveFloat = Field(10.0, description="Start of s in P = sigmoid(s*S + b) [ours].")
    prior: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="P at S = 0 before training [ours].")

    @field_validator("weights", "audio_weights")
    @classmethod
    def _none(cls, value: str | None) -> str | None:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _has_a_trunk(self) -> Self:
        for key, name in (("freeze_visual", self.visual), ("freeze_audio", self.audio)):
            if getattr(self, key) and name == "tiny":
                raise ValueError(
                    f"{key} has no use for the encoder tiny, which has no published weights to keep"
                )
        return self

    def hears(self, data: DataConfig) -> FrontendName:
        """Return the front end of this model: its own, or that of the data."""
        return self.frontend or data.frontend

    def check_hears(self, data: DataConfig) -> None:
        """Raise ValueError if the audio encoder cannot use what its front end gives."""
        wanted, frontend = HEARS.get(self.audio, SPECTROGRAMS), self.hears(data)
        if frontend not in wanted:
            key = "data.frontend" if self.frontend is None else "frontend"
            raise ValueError(
                f"the audio encoder {self.audio} hears {key} {' or '.join(wanted)}, not {frontend}"
            )
        if frontend in HEARS["vggish"] and data.audio_s < PATCH_S:
            raise ValueError(
                f"data.audio_s {data.audio_s} is shorter than a patch of {PATCH_S} s, which the front "
                f"end {frontend} makes"
            )


class DataConfig(Section):
    """What one training sample is."""

    frame_size: PositiveInt = Field(
        256, description="Side of the square frame that views are cropped from [ours]."
    )
    image_size: PositiveInt = Field(
        224, description="Side of the square image that the encoder sees [code EZ-VSL]."
    )
    sample_rate: PositiveInt = Field(16000, description="Samples per second [code EZ-VSL].")
    clip_s: PositiveFloat = Field(10.0, description="Seconds of sound kept of a clip [ours].")
    audio_s: PositiveFloat = Field(3.0, description="Seconds of sound that the encoder hears [code EZ-VSL].")
    frontend: FrontendName = Field("ezvsl", description="Audio front end [code EZ-VSL].")
    mels: PositiveInt = Field(40, description="Mel bands of the front end `logmel` [ours].")
    hop: PositiveInt = Field(320, description="Hop in samples of the front end `logmel` [ours].")
    flow: bool = Field(
        False,
        description="Load the optical flow of every clip (`avsl-data preprocess --flow`); a clip without is "
        "left out [ours].",
    )
    cache: Literal["none", "memory", "disk"] = Field(
        "none",
        description="What is kept of decoded clips: nothing, all in memory (small sets; also `true`), or all "
        "in files that trainings share [ours].",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        4, description="Processes that decode or read clips ahead; none with `cache: memory` [ours]."
    )

    @field_validator("cache", mode="before")
    @classmethod
    def _cache_by_name(cls, value: object) -> object:
        """Return the name of what was once a switch."""
        return {True: "memory", False: "none"}[value] if isinstance(value, bool) else value


class AugmentConfig(Section):
    """The strong view [values: code SSL-TIE]; `crop_weak` is the weak view's."""

    crop_weak: Probability = Field(
        0.85, description="Smallest side of the weak crop, share of the frame [ours]."
    )
    crop_scale: tuple[Probability, Probability] = Field(
        (0.3, 1.0), description="Area of the strong crop [code SSL-TIE]."
    )
    crop_aspect: PositiveFloat = Field(
        4 / 3, description="Largest aspect ratio of the strong crop, and inverse [ours]."
    )
    flip: Probability = Field(0.5, description="Probability of a horizontal flip [code SSL-TIE].")
    jitter: Probability = Field(0.8, description="Probability of colour jitter [code SSL-TIE].")
    brightness: NonNegativeFloat = Field(
        0.4, description="Half width of the brightness factor [code SSL-TIE]."
    )
    contrast: NonNegativeFloat = Field(0.4, description="Half width of the contrast factor [code SSL-TIE].")
    saturation: NonNegativeFloat = Field(
        0.4, description="Half width of the saturation factor [code SSL-TIE]."
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1, description="Largest hue shift, in turns [code SSL-TIE]."
    )
    gray: Probability = Field(0.2, description="Probability of a grey image [code SSL-TIE].")
    blur: Probability = Field(0.5, description="Probability of a Gaussian blur [code SSL-TIE].")
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.1, 2.0), description="Range of the blur's sigma in pixels of a 224-pixel image [ours]."
    )
    freq_mask: Probability = Field(
        0.15, description="Largest masked share of the frequencies (SpecAugment) [ours]."
    )
    time_mask: Probability = Field(
        0.15, description="Largest masked share of the time steps (SpecAugment) [ours]."
    )


class OptimConfig(Section):
    """Optimiser, length and batches. The same for every method, so that a comparison isolates the method."""

    steps: PositiveInt = Field(20000, description="Optimiser steps [ours].")
    batch_labeled: PositiveInt = Field(
        32, description="Labelled clips per step, over all processes and micro-batches [ours]."
    )
    batch_unlabeled: PositiveInt = Field(
        96, description="Unlabelled clips per step, over all processes and micro-batches [ours]."
    )
    accumulate: PositiveInt = Field(
        1,
        description="Micro-batches that a step splits its clips into, to save memory; negatives are those of "
        "a micro-batch [ours].",
    )
    gather: bool = Field(
        True,
        description="Negatives from all processes; false: from a clip's own, as the published runs [ours].",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimiser [code EZ-VSL].")
    lr: PositiveFloat = Field(1e-4, description="Learning rate [code EZ-VSL].")
    weight_decay: NonNegativeFloat = Field(1e-4, description="Weight decay [code FNAC].")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of `sgd` [ours].")
    schedule: Literal["constant", "cosine", "step"] = Field(
        "cosine", description="Learning rate over the steps [ours]."
    )
    warmup_steps: NonNegativeInt = Field(
        0, description="Steps over which the learning rate rises linearly to `lr` [ours]."
    )
    decay_every: PositiveInt = Field(10000, description="Schedule `step`: steps between two decays [ours].")
    decay: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Schedule `step`: factor of a decay [ours]."
    )
    clip_norm: PositiveFloat | None = Field(
        5.0, description="Largest norm of the gradient; null: no limit [ours]."
    )
    val_every: PositiveInt | None = Field(
        None, description="Steps between validations on the split's subset `val`; null: none [ours]."
    )
    val_protocol: str | None = Field(
        None,
        description="Protocol of the validation; null: `fixed` for probabilities, else `ezvsl` [ours].",
    )
    choose: Literal["last", "best"] = Field(
        "last", description="Which weights are the result: the last, or those of the best validation [ours]."
    )
    patience: PositiveInt | None = Field(
        None, description="Stop after so many validations without a better one; null: never [ours]."
    )

    @model_validator(mode="after")
    def _validates(self) -> Self:
        wanted = [f"choose is {self.choose}"] if self.choose == "best" else []
        wanted += [f"patience is {self.patience}"] if self.patience else []
        if wanted and self.val_every is None:
            raise ValueError(f"{' and '.join(wanted)}, which needs validations: set val_every")
        return self


MethodConfig = Annotated[SemiConfig | SelfMethods, Field(discriminator="name")]
"""The section of a method, known by its name."""


HOW_IT_RUNS: Final[dict[str, Any]] = {
    **dict.fromkeys(("device", "devices", "num_nodes", "channels_last", "compile"), True),
    **dict.fromkeys(("checkpoint_every", "log_every", "pictures_every"), True),
    "data": {"cache": True, "workers": True, "flow": True},  # what is done with a flow, the method says
}
"""Keys that a digest leaves out, as pydantic wants them."""


class ExperimentConfig(Section):
    """Everything that a training depends on except its data and its seed."""

    method: MethodConfig
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA where there is one [ours]."
    )
    devices: PositiveInt | Literal["auto"] = Field(
        1, description="Processes of a node, one per GPU; auto: one per GPU that is there [ours]."
    )
    num_nodes: PositiveInt = Field(1, description="Nodes, each with as many devices [ours].")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="bf16, fp16: autocast of the networks; fp16 needs CUDA [ours]."
    )
    channels_last: bool = Field(
        True,
        description="Keep images and weights with the channels innermost: faster on most devices [ours].",
    )
    compile: bool = Field(False, description="Compile the encoders by torch.compile [ours].")
    checkpoint_every: PositiveInt = Field(200, description="Steps between two working checkpoints [ours].")
    log_every: PositiveInt = Field(20, description="Steps between two lines of the metrics log [ours].")
    pictures_every: PositiveInt | None = Field(
        1000, description="Steps between two image strips of the method's maps; null: none [ours]."
    )

    @model_validator(mode="before")
    @classmethod
    def _structure(cls, values: Any) -> Any:
        return with_structure(values)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.method, SelfConfig):
            check_structure(self.method, self.model)
        check_flow(self.method.name, self.data.flow)
        if self.data.image_size > self.data.frame_size:
            raise ValueError(
                f"data.image_size {self.data.image_size} is larger than data.frame_size "
                f"{self.data.frame_size}: a view is cropped from the frame, so the frame must not be smaller"
            )
        if self.data.audio_s > self.data.clip_s:
            raise ValueError(
                f"data.audio_s {self.data.audio_s} is longer than data.clip_s {self.data.clip_s}"
            )
        self.model.check_hears(self.data)
        if isinstance(self.method, TwoModels):
            try:
                self.model_b().check_hears(self.data)
            except ValidationError as error:
                faults = explain(ModelConfig, error)
                raise ValueError("; ".join(f"method.model_b.{fault}" for fault in faults)) from error
        return self

    def model_b(self) -> ModelConfig:
        """Return the configuration of the second model: ``model`` with the keys of ``method.model_b``.

        Raises
        ------
        TypeError
            The method has one model.
        """
        if not isinstance(self.method, TwoModels):
            raise TypeError(f"method {self.method.name} has no second model")
        return ModelConfig.model_validate({**self.model.model_dump(), **self.method.model_b})

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of the configuration as sorted JSON.

        Keys that say where and how a training runs, but not what is computed, are left out
        (`HOW_IT_RUNS`): a training may go on with another number of devices. Another device or layout rounds
        differently, so results are equal to the bit only where these keys are equal too.
        """
        values = self.model_dump(mode="json", exclude=HOW_IT_RUNS)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def parse_config(values: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Validate a training configuration.

    Parameters
    ----------
    values
        Nested mapping; what is left out has its default.
    where
        Where the values come from, for messages.

    Raises
    ------
    TrainInputError
        Names every wrong key, the nearest known name and the place.

    Examples
    --------
    >>> parse_config({"method": {"name": "xpl", "beta": 0.8}}, "an example").method.beta
    0.8
    """
    try:
        return ExperimentConfig.model_validate(values)
    except ValidationError as error:
        lines = explain(ExperimentConfig, error)
        raise TrainInputError(f"{where}: " + "; ".join(map(str, lines))) from error


def load_config(path: Path) -> ExperimentConfig:
    """Read a configuration that ``avsl-train resolve`` wrote, or any JSON or YAML file of the same keys.

    Raises
    ------
    TrainInputError
        The file is missing, not JSON or YAML, or has a wrong key.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainInputError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainInputError(f"{path} is neither JSON nor YAML: {error}") from error
    if not isinstance(values, dict):
        raise TrainInputError(f"{path} holds no mapping of keys: did you pass the right file?")
    return parse_config(values, str(path))
