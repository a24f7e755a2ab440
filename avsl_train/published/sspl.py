"""SSPL's encoders, and the object prior of EZ-VSL and SLAVC.

Parameters have the names and the order of the published checkpoints. Sources: the published models, with
vectors of the originals in the tests.

Shape letters: B clips, N patches, S side of the image.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from avsl_train.encoders.resnet import ResNetTrunk
from avsl_train.encoders.vgg import VGGISH_CHANNELS, VGG16Trunk, VGGish

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
        vector: Tensor = self.fc(super().forward(patches))
        return vector


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


class ObjectPrior(ResNetTrunk):
    """Where an ImageNet ResNet-18 sees objects: EZ-VSL's object-guided localisation mixes it into a map.

    Parameters
    ----------
    weights
        ``imagenet`` in the published code.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(18, weights=weights)

    def localize(self, image: Tensor) -> Tensor:
        """Return the mean over the channels of |features|, [B, 1, S/32, S/32] of normalised images."""
        return self(image).abs().mean(1, keepdim=True)  # type: ignore[no-any-return]
