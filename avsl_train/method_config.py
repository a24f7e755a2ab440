"""Sections of the configuration of the methods that learn from labels: supervised and semi-supervised ones.

Tags as in `avsl_train.config`: [paper], [code], [ours].
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from avsl_train.config_section import Probability, Section

Share = Annotated[float, Field(ge=0, lt=1)]
"""A weight of the past: 1 would never learn anything new."""


class Losses(Section):
    """Loss terms that every method shares."""

    lambda_con: NonNegativeFloat = Field(1.0, description="Weight of the contrastive loss [ours]; 0: none.")
    contrastive: Literal["ezvsl", "lvs", "slavc", "fnac", "htf", "ssltie", "alignment"] = Field(
        "ezvsl", description="Contrastive loss over all clips of the batch, by its method [code EZ-VSL]."
    )
    fnac_warmup: Probability = Field(
        0.1, description="Share of the steps before FNAC's L1 terms [code FNAC: 3 of 30 epochs]."
    )
    momentum: Share = Field(0.999, description="Weight of the past in SLAVC's momentum copy [code SLAVC].")
    loss_at: Literal["map", "image"] = Field("map", description="Resolution of the supervised loss [ours].")


class SupervisedConfig(Losses):
    """Labelled clips only; with `lambda_con` above 0 the contrastive loss sees all clips."""

    name: Literal["supervised"]
    lambda_con: NonNegativeFloat = Field(
        0.0, description="Weight of the contrastive loss; 0: labelled clips only [ours]."
    )


class HardPLConfig(Losses):
    """Vanilla hard pseudo-labelling: one model, its own labels, thresholded."""

    name: Literal["hard-pl"]
    lambda_pl: NonNegativeFloat = Field(1.0, description="Weight of the pseudo-label loss [ours].")
    threshold: Probability = Field(0.5, description="Pixels at or above it are positive [ours].")
    warmup: Probability = Field(0.1, description="Share of the steps before pseudo-labels are used [ours].")


class TeacherConfig(Losses):
    """A student and a teacher that is its moving average."""

    lambda_u: NonNegativeFloat = Field(1.0, description="Weight of the unlabelled clips' loss [ours].")
    ema: Share = Field(0.999, description="Weight of the past in the teacher [code SLAVC].")
    warmup: Probability = Field(
        0.1, description="Share of the steps before the teacher teaches; until then it is the student [ours]."
    )


class MeanTeacherConfig(TeacherConfig):
    """Mean teacher: the student's map follows that of its moving average."""

    name: Literal["mean-teacher"]
    lambda_u: NonNegativeFloat = Field(10.0, description="Weight of the consistency loss [ours].")
    ramp: Probability = Field(
        0.2, description="Share of the steps after warm-up over which lambda_u grows [ours]."
    )


class FixMatchConfig(Losses):
    """FixMatch: confident pixels of the weak view teach the strong view."""

    name: Literal["fixmatch"]
    lambda_u: NonNegativeFloat = Field(
        1.0, description="Weight of the unlabelled clips' loss [paper FixMatch]."
    )
    positive: Probability = Field(0.8, description="Pixels with P at or above it are confidently 1 [ours].")
    negative: Probability = Field(0.2, description="Pixels with P at or below it are confidently 0 [ours].")
    warmup: Probability = Field(0.1, description="Share of the steps before pixels teach [ours].")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.negative >= self.positive:
            raise ValueError(
                f"negative {self.negative} is not below positive {self.positive}: a pixel between them would "
                "be sure of being both"
            )
        return self


class TwoModels(Section):
    """Keys of the methods with two models."""

    inference: Literal["mean", "a", "b"] = Field("mean", description="Whose map is the prediction [ours].")
    model_b: dict[str, Any] = Field(
        default_factory=dict,
        description="What model B has different from `model` (keys of that section) [ours].",
    )


class DMTConfig(TwoModels, TeacherConfig):
    """Dual mean-teacher: two pairs, and labels only where both teachers agree."""

    name: Literal["dmt"]
    delta: Probability = Field(
        0.6, description="Pixels of a teacher's min-max map at or above it are positive [ours]."
    )
    tau: Probability = Field(
        0.7, description="A clip is accepted if the IoU of both masks is at or above it [ours]."
    )


class XPLConfig(TwoModels, Losses):
    """Cross pseudo-labelling; one key for every part that the paper's ablation switches."""

    name: Literal["xpl"]
    lambda_x: NonNegativeFloat = Field(1.0, description="Weight of the cross pseudo-label loss [ours].")
    labels: Literal["cross", "self"] = Field(
        "cross", description="Whose label a model trains on [paper: cross]."
    )
    soft: bool = Field(True, description="Soft labels [paper], or thresholded at `threshold`.")
    threshold: Probability = Field(0.5, description="Threshold of labels that are not soft [ours].")
    sharpening: bool = Field(True, description="Sharpen the predictions [paper].")
    temperature: PositiveFloat = Field(0.5, description="T of the sharpening [ours].")
    pl_ema: bool = Field(True, description="Average the labels over the epochs [paper].")
    beta: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Weight of the previous label [ours].")
    curriculum: bool = Field(True, description="Feed the most reliable clips first [paper].")
    rho_start: Probability = Field(
        0.1, description="Share of the clips that the curriculum starts with [ours]."
    )
    ramp: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Share of the steps after warm-up over which rho grows to 1 [ours]."
    )
    augmentation: Literal["separate", "same"] = Field(
        "separate", description="Own policies and draws of A and B [paper], or the same for both."
    )
    warmup: Probability = Field(0.1, description="Share of the steps before pseudo-labels are used [ours].")


SemiConfig = SupervisedConfig | HardPLConfig | MeanTeacherConfig | FixMatchConfig | DMTConfig | XPLConfig
"""Any of these sections."""
