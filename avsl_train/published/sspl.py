"""SSPL's encoders, and the object prior of EZ-VSL and SLAVC.

Parameters have the names and the order of the published checkpoints. Sources: the published models, with
vectors of the originals in the tests.

Shape letters: B clips, N patches, S side of the image.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from avsl_train.encoders.resnet import ResNetTrunk
from avsl_train.encoders.vgg import VGGISH_CHANNELS, VGG16Trunk, VGGish
from avsl_train.losses.pcm import PCM
from avsl_train.losses.sspl import Attended, SSPLHead, attend

CHANNELS: Final = 512


class SSPLSound(VGGish):
    """SSPL's sound network: VGGish, frozen, and two linear layers that are trained.

    Parameters
    ----------
    weights
        Start of VGGish; ``audioset`` in the published training.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(weights, where="weights")
        self.fc = nn.Sequential(
            *(nn.Linear(VGGISH_CHANNELS, CHANNELS), nn.ReLU(inplace=True), nn.Linear(CHANNELS, CHANNELS))
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Return one vector per patch, [N, 512] of [N, 1, 96, 64]."""
        return self.both(patches)[1]

    def both(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return VGGish's embedding [N, 128] and the vector [N, 512] of each patch."""
        embedding = super().forward(patches)
        return embedding, self.fc(embedding)


class SSPLFrame(nn.Module):
    """SSPL's frame network: VGG-16 up to its last convolution, frozen; features of both signs.

    Parameters
    ----------
    weights
        Start of VGG-16, see `VGG16Trunk`; ``imagenet`` in the published training.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.feat_extractor = VGG16Trunk(weights).features
        self.feat_extractor.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512, S/16, S/16] of normalised images."""
        features: Tensor = self.feat_extractor(image)
        return features


class SSPL(nn.Module):
    """All of SSPL; its checkpoints are one file per part, named ``<part>_best.pth``.

    Parameters
    ----------
    weights, audio_weights
        Starts of VGG-16 and VGGish; ``imagenet`` and ``audioset`` in the published training.
    pcm
        Whether the predictive coding module draws the frame's features towards the sound.
    frozen
        Whether VGG-16 and VGGish stay as they are, in this order; both in the published training.
    """

    def __init__(
        self,
        weights: str | None = None,
        audio_weights: str | None = None,
        pcm: bool = True,
        frozen: tuple[bool, bool] = (True, True),
    ) -> None:
        super().__init__()
        self.frame = SSPLFrame(weights)
        self.sound = SSPLSound(audio_weights)
        self.pcm = PCM() if pcm else None
        self.ssl_head = SSPLHead(CHANNELS)
        self.frame.requires_grad_(not frozen[0])
        for part in (self.sound.features, self.sound.embeddings):
            part.requires_grad_(not frozen[1])

    def hear(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return what PCM and the attention hear of a sound, [B, 128] of unit length and [B, 512].

        Means over the patches [B, N, 96, 64] of a clip.
        """
        embedding, vector = self.sound.both(patches.flatten(0, 1)[:, None])
        clips, count = patches.shape[:2]
        means = [part.view(clips, count, -1).mean(1) for part in (embedding, vector)]
        return functional.normalize(means[0], dim=1), means[1]

    def look(self, image: Tensor, heard: tuple[Tensor, Tensor]) -> Attended:
        """Return the attention of a sound to normalised images [B, 3, S, S]."""
        visual = self.frame(image)
        if self.pcm is not None:
            visual = self.pcm(visual, heard[0])
        return attend(visual, heard[1])

    def forward(self, image: Tensor, patches: Tensor) -> Attended:
        """Return the attention of sounds [B, N, 96, 64] to normalised images [B, 3, S, S]."""
        return self.look(image, self.hear(patches))

    def localize(self, image: Tensor, patches: Tensor) -> Tensor:
        """Return the published map, cosine similarities [B, 1, S/16, S/16]."""
        return self(image, patches).similarity  # type: ignore[no-any-return]


class ObjectPrior(ResNetTrunk):
    """Where an ImageNet ResNet-18 sees objects: EZ-VSL's object-guided localisation mixes it into a map.

    Parameters
    ----------
    weights
        ``imagenet`` in the published code.
    where
        The option that names them, for messages.
    """

    def __init__(self, weights: str | None = None, where: str = "weights") -> None:
        super().__init__(18, weights=weights, where=where)

    def localize(self, image: Tensor) -> Tensor:
        """Return the mean over the channels of |features|, [B, 1, S/32, S/32] of normalised images."""
        return self(image).abs().mean(1, keepdim=True)  # type: ignore[no-any-return]
