"""Attention10k ("learning to localize"): a sound's vector attends to the features of a frame.

Parameters have the names of the published checkpoints. The sound network, SoundNet, is no part of
them: the published training reads its output from files. Source: the published model, with vectors of the
original's attention and losses in the tests.

Shape letters: B clips, S side of the image, h = w = S/16 side of the map.
"""

from __future__ import annotations

from torch import Tensor, nn

from avsl_train.encoders.vgg import VGG16Trunk
from avsl_train.losses.l2l import Heard, SoundAttention


class VisionEmbedding(nn.Module):
    """VGG-16 up to its last convolution, without the ReLU after it.

    Parameters
    ----------
    weights
        Start of VGG-16, see `VGG16Trunk`; ``imagenet`` in the published training.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.feature_extraction = VGG16Trunk(weights).features

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512, S/16, S/16] of normalised images."""
        features: Tensor = self.feature_extraction(image)
        return features


class Attention10k(SoundAttention):
    """Attention10k.

    Parameters
    ----------
    weights
        Start of VGG-16; ``imagenet`` in the published training.
    frozen
        Whether VGG-16 stays as it is; it does in the published training.
    """

    def __init__(self, weights: str | None = None, frozen: bool = True) -> None:
        super().__init__()
        self.vision_embedding_model = VisionEmbedding(weights)
        self.vision_embedding_model.requires_grad_(not frozen)

    def forward(self, image: Tensor, sound: Tensor) -> Heard:
        """Attend.

        Parameters
        ----------
        image : Tensor [B, 3, S, S]
            Normalised; S is 320 in the published training.
        sound : Tensor [B, 1000]
            Raw scores of SoundNet, the mean over time.
        """
        return super().forward(self.vision_embedding_model(image), sound)

    def localize(self, image: Tensor, sound: Tensor) -> Tensor:
        """Return the published map, an attention [B, 1, h, w] that sums to 1."""
        return self(image, sound).attention  # type: ignore[no-any-return]
