"""The localizer in the shape of the published networks, so that their methods train on any encoders [ours].

Each class gives what the published network of its method gives (`avsl_train.published`), from the encoders
and projections of a `Localizer`. Differences to the originals: every frame goes through a projection, LVS's
too, so that features have both signs; a second trunk or head is of the localizer's kind.

Shape letters: B clips, S side of the image, C channels of the common space, h = w side of the map.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train.config import DataConfig, ModelConfig
from avsl_train.encoders import make_visual
from avsl_train.errors import TrainInputError
from avsl_train.localizer import Localizer
from avsl_train.losses.htf import FlowAttention
from avsl_train.losses.l2l import Heard, SoundAttention
from avsl_train.losses.pcm import PCM
from avsl_train.losses.sspl import Attended, SSPLHead, attend
from avsl_train.published import Features, Projected, TwoHeads
from avsl_train.published.features import global_maximum, unit

PCM_SIDE = 14


class OneHead(nn.Module):
    """Features as of EZ-VSL, FNAC, LVS and SSL-TIE.

    Parameters
    ----------
    model, data
        Sections of the training configuration.
    image_dropout
        Share of the visual features that are dropped out in training, before the projection.
    """

    def __init__(self, model: ModelConfig, data: DataConfig, image_dropout: float = 0.0) -> None:
        super().__init__()
        self.localizer = Localizer(model, data)
        self.img_dropout = nn.Dropout(image_dropout)

    def trunks(self, image: Tensor, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoders' features of normalised images, [B, C', h, w], and of sounds, [B, C'']."""
        image = image.contiguous(memory_format=torch.channels_last)
        return self.img_dropout(self.localizer.visual(image)), self.localizer.audio(spectrogram)

    def project(self, visual: Tensor, audio: Tensor) -> Features:
        """Return the unit vectors of the encoders' features."""
        return Features(
            unit(self.localizer.visual_projection(visual)), unit(self.localizer.audio_projection(audio))
        )

    def forward(self, image: Tensor, spectrogram: Tensor) -> Features:
        """Return the unit vectors of normalised images [B, 3, S, S] and of what the audio encoder hears."""
        return self.project(*self.trunks(image, spectrogram))


class Online(OneHead):
    """SLAVC's two heads on the same encoders."""

    def __init__(self, model: ModelConfig, data: DataConfig, image_dropout: float) -> None:
        super().__init__(model, data, image_dropout)
        self.visual_projection2 = nn.Conv2d(self.localizer.visual.channels, model.dim, 1)
        self.audio_projection2 = nn.Linear(self.localizer.audio.channels, model.dim)

    def heads(self, image: Tensor, spectrogram: Tensor) -> TwoHeads:
        """Return the unit vectors of both heads."""
        visual, audio = self.trunks(image, spectrogram)
        second = Features(unit(self.visual_projection2(visual)), unit(self.audio_projection2(audio)))
        return TwoHeads(self.project(visual, audio), second)


class Momentum(nn.Module):
    """SLAVC: two heads, and a copy of everything by a moving average, as `published.SLAVC`."""

    def __init__(self, model: ModelConfig, data: DataConfig, image_dropout: float) -> None:
        super().__init__()
        self.online = Online(model, data, image_dropout)
        self.average = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, image: Tensor, spectrogram: Tensor) -> TwoHeads:
        """Return the unit vectors of both heads, by the weights that are trained."""
        return self.online.heads(image, spectrogram)

    @torch.no_grad()
    def momentum(self, image: Tensor, spectrogram: Tensor) -> TwoHeads:
        """Return the unit vectors of both heads, by the averaged weights and without gradient."""
        return self.average.heads(image, spectrogram)

    @torch.no_grad()
    def update_momentum(self, share: float) -> None:
        """Move the copy: parameters become share * copy + (1 - share) * trained; buffers stay."""
        for theirs, ours in zip(self.average.parameters(), self.online.parameters(), strict=True):
            theirs.mul_(share).add_(ours, alpha=1 - share)


class Whole(OneHead):
    """Alignment: features of positions, and of whole frames and sounds by projections of their own."""

    def __init__(self, model: ModelConfig, data: DataConfig) -> None:
        super().__init__(model, data)
        self.img_proj = nn.Linear(self.localizer.visual.channels, model.dim)
        self.aud_proj = nn.Linear(self.localizer.audio.channels, model.dim)

    def projected(self, image: Tensor, spectrogram: Tensor) -> Projected:
        """Return the local features and the projected vectors."""
        visual, audio = self.trunks(image, spectrogram)
        return Projected(
            self.project(visual, audio),
            unit(self.img_proj(global_maximum(visual))),
            unit(self.aud_proj(audio)),
        )


class Flowing(OneHead):
    """HTF: the frame attends to the flow, which goes through a visual encoder of its own.

    That encoder sees the flow as the first two channels of an image.
    """

    def __init__(self, model: ModelConfig, data: DataConfig) -> None:
        super().__init__(model, data)
        self.flow = make_visual(model.model_copy(update={"freeze_visual": False}))
        self.attention = FlowAttention(self.localizer.visual.channels)

    def forward(self, image: Tensor, spectrogram: Tensor, flow: Tensor | None = None) -> Features:
        """Return unit vectors of normalised images, sounds and flow [B, 2, S, S]."""
        assert flow is not None
        visual, audio = self.trunks(image, spectrogram)
        attended, _ = self.attention(visual, self.flow(functional.pad(flow, (0, 0, 0, 0, 0, 1))))
        return self.project(visual + attended, audio)


class Predictive(OneHead):
    """SSPL, as `published.SSPL`; frames and sounds meet in the localizer's common space."""

    def __init__(self, model: ModelConfig, data: DataConfig, pcm: bool) -> None:
        super().__init__(model, data)
        self.pcm = PCM(model.dim, self.localizer.audio.channels) if pcm else None
        self.ssl_head = SSPLHead(model.dim)

    def hear(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Return what PCM and the attention hear of a sound, [B, C''] of unit length and [B, C]."""
        audio = self.localizer.audio(spectrogram)
        return unit(audio), self.localizer.audio_projection(audio)

    def look(self, image: Tensor, heard: tuple[Tensor, Tensor]) -> Attended:
        """Return the attention of a sound to normalised images [B, 3, S, S].

        Raises
        ------
        TrainInputError
            The map has another side than the predictive coding module is made for.
        """
        image = image.contiguous(memory_format=torch.channels_last)
        visual = self.localizer.visual_projection(self.localizer.visual(image))
        if self.pcm is not None:
            if visual.shape[-1] != PCM_SIDE:
                raise TrainInputError(
                    f"SSPL's predictive coding module is made for {PCM_SIDE}x{PCM_SIDE} features, these have "
                    f"side {visual.shape[-1]}: set method.pcm to false, or choose model.stride and "
                    "data.image_size so that the map fits"
                )
            visual = self.pcm(visual, heard[0])
        return attend(visual, heard[1])

    def forward(self, image: Tensor, spectrogram: Tensor) -> Attended:  # type: ignore[override]
        """Return the attention of sounds to normalised images."""
        return self.look(image, self.hear(spectrogram))


class Attending(OneHead):
    """Attention10k: the sound's vector is the audio encoder's own; nothing is projected."""

    def __init__(self, model: ModelConfig, data: DataConfig) -> None:
        super().__init__(model, data)
        self.attention = SoundAttention(self.localizer.visual.channels, self.localizer.audio.channels)

    def hear(self, spectrogram: Tensor) -> Tensor:
        """Return the vectors of sounds, [B, C'']."""
        vector: Tensor = self.localizer.audio(spectrogram)
        return vector

    def forward(self, image: Tensor, sound: Tensor) -> Heard:  # type: ignore[override]
        """Return the attention of sounds' vectors to normalised images."""
        image = image.contiguous(memory_format=torch.channels_last)
        heard: Heard = self.attention(self.localizer.visual(image), sound)
        return heard
