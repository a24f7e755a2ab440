"""ResNet-18 and ResNet-50 trunks for images and for spectrograms.

The trunk ends after the last residual block: no pooling, no classifier. The stride-16 variant takes the
stride out of the last stage, so that a 224x224 image gives 14x14 features instead of 7x7 (LVS).

Sources: EZ-VSL's model (stride 32), LVS's model (stride 16); weights by torchvision.
"""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50

from avsl_train.encoders.encoder import Encoder, published_init_
from avsl_train.weights import load_state, locate, read_state, torchvision_state

Depth = Literal[18, 50]

CHANNELS: Final = {18: 512, 50: 2048}
_MAKERS: Final = {18: resnet18, 50: resnet50}
_IMAGENET: Final = {18: ResNet18_Weights.IMAGENET1K_V1, 50: ResNet50_Weights.IMAGENET1K_V1}


class ResNetTrunk(nn.Module):
    """A ResNet up to its last block, under torchvision's names.

    Parameters
    ----------
    depth
        18 or 50.
    stride
        32 or 16.
    inputs
        Channels of the input; another number than 3 has a fresh stem, whatever the weights.
    weights
        ``imagenet``, a file or address of a state_dict of torchvision's network, or None for random ones.
    where
        The configuration's key, for messages.
    """

    def __init__(
        self,
        depth: Depth = 18,
        stride: int = 32,
        inputs: int = 3,
        weights: str | None = None,
        where: str = "model.weights",
    ) -> None:
        super().__init__()
        network = _MAKERS[depth](weights=None)
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1 = network.layer1
        self.layer2 = network.layer2
        self.layer3 = network.layer3
        self.layer4 = network.layer4
        if weights is not None:
            if weights == "imagenet":
                state = torchvision_state(_IMAGENET[depth], where)
            else:
                state = read_state(locate(weights, where), where)
            what = f"state_dict of torchvision's resnet{depth}"
            load_state(self, state, f"{where}: {weights}", what, unused=("fc.",))
        if inputs != 3:
            self.conv1 = nn.Conv2d(inputs, 64, 7, 2, 3, bias=False)
        if stride == 16:
            block = self.layer4[0]
            (block.conv1 if depth == 18 else block.conv2).stride = (1, 1)
            block.downsample[0].stride = (1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512 or 2048, h, w] >= 0 of images or spectrograms [B, inputs, H, W]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


class ResNetVisual(Encoder):
    """A ResNet without pooling and classifier: images [B, 3, S, S] to features [B, C, S/stride, S/stride].

    Parameters
    ----------
    depth
        18 (C = 512) or 50 (C = 2048).
    stride
        32 or 16.
    weights
        ``imagenet``, a file or address of a state_dict of torchvision's network, or None for random ones.
    """

    def __init__(self, depth: Depth = 18, stride: int = 32, weights: str | None = None) -> None:
        super().__init__()
        self.trunk = ResNetTrunk(depth, stride, weights=weights)
        self.channels = CHANNELS[depth]

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, C, h, w] of images normalised with ImageNet's mean and deviation."""
        features: Tensor = self.trunk(image)
        return features


class ResNet18Audio(Encoder):
    """ResNet-18 with a one-channel stem, from scratch, and global maximum: [B, 1, F, T] to [B, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNetTrunk(18, inputs=1)
        published_init_(self.trunk)
        self.channels = CHANNELS[18]

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Return the maximum over time and frequency of the features."""
        features: Tensor = self.trunk(spectrogram)
        return features.amax(dim=(2, 3))
