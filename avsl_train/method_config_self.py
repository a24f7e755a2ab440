"""Sections of the configuration of the published self-supervised methods.

Tags as in `avsl_train.config`: [paper], [code], [ours]. Defaults are those of the published commands; where
the published code has a defect that changes numbers, a key chooses and its default is the sound form.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from avsl_train.config_section import Probability, Section

Cosine = Annotated[float, Field(ge=-1, le=1)]

TRAINED: Final = {"freeze_visual": False, "freeze_audio": False}
FROZEN: Final = {"freeze_visual": True, "freeze_audio": True}
RESNETS: Final = {"visual": "resnet18", "audio": "resnet18", "dim": 512}
STRUCTURES: Final[dict[str, dict[str, Any]]] = {
    "ezvsl": {**RESNETS, **TRAINED, "stride": 32, "frontend": "ezvsl"},
    "lvs": {**RESNETS, **TRAINED, "stride": 16, "frontend": "lvs"},
    "slavc": {**RESNETS, **TRAINED, "stride": 32, "frontend": "ezvsl"},
    "fnac": {**RESNETS, **TRAINED, "stride": 32, "frontend": "ezvsl"},
    "attention10k": {"visual": "vgg16", "audio": "soundnet", **FROZEN, "frontend": "waveform"},
    "sspl": {"visual": "vgg16", "audio": "vggish", "dim": 512, **FROZEN, "frontend": "sspl"},
    "ssltie": {**RESNETS, **TRAINED, "stride": 16, "frontend": "ssltie"},
    "alignment": {**RESNETS, **TRAINED, "stride": 16, "frontend": "alignment"},
    "htf": {**RESNETS, "stride": 32, "freeze_visual": True, "freeze_audio": False, "frontend": "htf"},
}
"""What the section `model` says where the network is the published one [code]."""
SEE_FLOW: Final = ("htf",)
"""Methods that see the optical flow of clips."""
FIT_LOCALIZERS: Final = ("ezvsl", "fnac")
"""Methods whose published checkpoints a localizer can start from too."""


class SelfConfig(Section):
    """What the self-supervised methods share."""

    name: str
    network: Literal["published", "localizer"] = Field(
        "published",
        description="The method's own network, under the names of its checkpoints [code], or our localizer "
        "with the encoders of `model` [ours].",
    )
    start: str | None = Field(
        None,
        description="Published checkpoint that the training starts from: a file (SSPL: a folder of its "
        "files), URL#sha256=DIGEST, or null [ours].",
    )
    views: Literal["published", "weak", "strong"] = Field(
        "published",
        description="What a training sees: the method's own augmentation [code], or the weak or strong view "
        "of the semi-supervised methods.",
    )

    @model_validator(mode="after")
    def _can_start(self) -> SelfConfig:
        if self.start is not None and self.network == "localizer" and self.name not in FIT_LOCALIZERS:
            raise ValueError(
                f"start needs network: published, for the checkpoints of {self.name} hold another network "
                "than a localizer (those of ezvsl and fnac fit both)"
            )
        return self


class EZVSLConfig(SelfConfig):
    """EZ-VSL: multiple-instance contrastive learning."""

    name: Literal["ezvsl"]
    tau: PositiveFloat = Field(0.03, description="Temperature [code].")


class TrimapConfig(SelfConfig):
    """LVS's trimap, which SSL-TIE and HTF share."""

    positive: Cosine = Field(0.65, description="Similarity above which a position sounds [code].")
    negative: Cosine = Field(0.4, description="Similarity below which a position is a hard negative [code].")
    hard_negatives: bool = Field(
        True, description="Whether the own frame's silent positions are negatives [code]."
    )
    diagonal: Literal["published", "masked"] = Field(
        "masked",
        description="How the own pair leaves the negatives: multiplied by -99 [code], which turns into a "
        "reward where the similarity is negative, or not there at all [ours].",
    )


class LVSConfig(TrimapConfig):
    """LVS: a differentiable trimap."""

    name: Literal["lvs"]


class SLAVCConfig(SelfConfig):
    """SLAVC: two heads, momentum copies and strong dropout."""

    name: Literal["slavc"]
    tau: PositiveFloat = Field(0.03, description="Temperature [code].")
    momentum: Probability = Field(
        0.999, description="Weight of the past in the momentum copy [code: the published command's]."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="Share of the visual features that are dropped out [code]."
    )
    branch: Literal["online", "momentum"] = Field(
        "online", description="Whose map is the prediction [code: the published test commands']."
    )


class FNACConfig(SelfConfig):
    """FNAC: what is alike within a modality is no negative across them."""

    name: Literal["fnac"]
    tau: PositiveFloat = Field(0.03, description="Temperature of all four terms [code].")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="Share of the visual features that are dropped out [code]."
    )
    warmup_epochs: NonNegativeInt = Field(
        3, description="Passes before the three L1 terms [code: 3 by default, 5 in the published scripts]."
    )
    lambda_audio: NonNegativeFloat = Field(
        100.0, description="Weight of the suppression by sounds, l1 [code]."
    )
    lambda_foreground: NonNegativeFloat = Field(
        100.0, description="Weight of the enhancement of true negatives, l2 [code]."
    )
    lambda_visual: NonNegativeFloat = Field(
        100.0, description="Weight of the suppression by frames, l3 [code]."
    )
    mask: PositiveInt = Field(
        10, description="The two masks of the spectrogram are narrower than this; 1: none [code]."
    )
    mask_axes: Literal["sound", "published"] = Field(
        "sound",
        description="Limits of where a mask begins: those of its axis [ours], or of the other one, by which "
        "high frequencies are masked less often [code].",
    )


class SSLTIEConfig(TrimapConfig):
    """SSL-TIE: invariance and equivariance of a moved view."""

    name: Literal["ssltie"]
    max_degrees: NonNegativeInt = Field(30, description="Largest rotation, to either side [code].")
    lambda_equivariance: NonNegativeFloat = Field(1.0, description="Weight of the moved map's term [code].")
    spec_mask: Probability = Field(
        0.8, description="Probability that a sound's spectrogram is masked (SpecAugment) [code]."
    )


class AlignmentConfig(SelfConfig):
    """Alignment: up to three views of a clip are aligned across modalities."""

    name: Literal["alignment"]
    augmented: bool = Field(True, description="Whether an augmented view takes part [code].")
    neighbours: bool = Field(
        True, description="Whether nearest neighbours in frame and sound take part [code]."
    )
    projected: bool = Field(True, description="Whether whole frames and sounds are aligned too [code].")
    intra: bool = Field(False, description="Adds the terms within a modality [code: off].")
    jitter: Literal["sound", "published"] = Field(
        "sound",
        description="Colours of the augmented view: changed by up to .4 either way [ours], or multiplied by "
        "0 to .4, which leaves most frames almost black [code].",
    )
    k: PositiveInt = Field(1000, description="Neighbours that one is drawn from, at most [code].")
    neighbours_every: PositiveInt = Field(
        5,
        description="Passes between two searches for neighbours, by the network's own features; the "
        "original's lists are not published [ours].",
    )


class Attention10kConfig(SelfConfig):
    """Attention10k: a sound attends to a frame, and a triplet or a person judges it."""

    name: Literal["attention10k"]
    lambda_sup: NonNegativeFloat = Field(
        0.0, description="Weight of the labelled clips; 0: unsupervised, 1: semi-supervised [code: 1]."
    )
    sup_mean: Literal["labeled", "batch"] = Field(
        "labeled",
        description="Over what the labelled clips' loss is averaged: them [ours], or all clips, by which a "
        "label's weight depends on the batch [code].",
    )


class SSPLConfig(SelfConfig):
    """SSPL: two views of a clip predict each other, without negatives."""

    name: Literal["sspl"]
    pcm: bool = Field(True, description="Whether the predictive coding module is there [code: both forms].")
    head_rate: PositiveFloat | None = Field(
        None,
        description="Learning rate of SimSiam's head as a multiple of the others'; null: 2.5 with PCM, 4 "
        "without [code: 5e-5 and 2e-5, 2e-3 and 5e-4].",
    )


class HTFConfig(TrimapConfig):
    """Hear The Flow: a frame's positions attend to its optical flow."""

    name: Literal["htf"]
    views: Literal["published"] = Field(
        "published", description="What a training sees: frame and flow in one crop [code]."
    )
    flow_values: Literal["signed", "published"] = Field(
        "signed",
        description="What the network sees of the flow: pixels / 255, mirrored with the frame [ours], or "
        "whole pixels above 0 only, as stored in pictures, and not mirrored [code].",
    )


def uses_labels(method: Section) -> bool:
    """Return whether a method learns from labels, by its section of the configuration."""
    if isinstance(method, Attention10kConfig):
        return method.lambda_sup > 0
    return not isinstance(method, SelfConfig)


SelfMethods = (
    EZVSLConfig
    | LVSConfig
    | SLAVCConfig
    | FNACConfig
    | Attention10kConfig
    | SSPLConfig
    | SSLTIEConfig
    | AlignmentConfig
    | HTFConfig
)
"""Any of these sections."""


def with_structure(values: Any) -> Any:
    """Return a configuration's values with what the method fixes filled in.

    That is what its published network is like, in ``model``, and ``data.flow``. What is given stays, so that
    `check_structure` and `check_flow` can say what is wrong with it.
    """
    if not isinstance(values, dict) or not isinstance(values.get("method"), dict):
        return values
    if values["method"].get("name") in SEE_FLOW and isinstance(values.get("data", {}), dict):
        values = {**values, "data": {"flow": True, **values.get("data", {})}}
    method, model = values["method"], values.get("model", {})
    structure = STRUCTURES.get(str(method.get("name")))
    if structure is None or method.get("network", "published") != "published" or not isinstance(model, dict):
        return values
    fixed = {**structure, **model}
    for side in ("visual", "audio"):  # `check_structure` is to speak of the encoder, not of freezing it
        if fixed[side] != structure[side] and f"freeze_{side}" not in model:
            fixed.pop(f"freeze_{side}")
    return {**values, "model": fixed}


def check_flow(name: str, flow: bool) -> None:
    """Raise ValueError if a method sees the optical flow and ``data.flow`` loads none."""
    if name in SEE_FLOW and not flow:
        raise ValueError(
            f"the method {name} sees the optical flow of every clip: data.flow must be true, or left out, "
            "and shards be made with `avsl-data preprocess --flow`"
        )


def check_structure(method: SelfConfig, model: Section) -> None:
    """Raise ValueError where ``model`` asks for another network than the published one.

    Every spectrogram fits a published ResNet, and what is frozen may be trained; all else is fixed.
    """
    if method.network != "published":
        return
    different = [
        f"model.{key} {wanted} and not {getattr(model, key)}"
        for key, wanted in STRUCTURES[method.name].items()
        if key != "frontend" and not _fits(getattr(model, key), wanted)
    ]
    if different:
        raise ValueError(
            f"the published network of {method.name} has {', '.join(different)}: leave the key out, or set "
            "method.network to localizer"
        )


def _fits(value: Any, wanted: Any) -> bool:
    """Return whether a value of ``model`` is that of a structure; what is frozen may also be trained."""
    if isinstance(wanted, bool):
        return isinstance(value, bool) and value <= wanted
    return bool(value == wanted)
