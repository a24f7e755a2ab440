"""ResNet-18 trunks for images and for spectrograms.

The trunk ends after the last residual block: no pooling, no classifier. The stride-16 variant takes the
stride out of the last stage, so that a 224x224 image gives 14x14 features instead of 7x7 (LVS).

Sources: EZ-VSL's model (stride 32), LVS's model (stride 16); weights by torchvision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from avsl_train.errors import TrainInputError
from avsl_train.files import DAMAGED

CHANNELS = 512


class ResNet18Visual(nn.Module):
    """ResNet-18 without pooling and classifier: images [B, 3, S, S] to features [B, 512, S/stride, S/stride].

    Parameters
    ----------
    stride
        32 or 16.
    weights
        ``imagenet``, the path of a state_dict of torchvision's ResNet-18, or None for random ones.
    """

    def __init__(self, stride: int = 32, weights: str | None = None) -> None:
        super().__init__()
        self.trunk = _trunk(stride, weights)
        self.channels = CHANNELS

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512, h, w] of images normalised with ImageNet's mean and deviation."""
        features: Tensor = self.trunk(image)
        return features


class ResNet18Audio(nn.Module):
    """ResNet-18 with a one-channel stem, from scratch, and global maximum: [B, 1, F, T] to [B, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _trunk(32, None)
        self.trunk[0] = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.channels = CHANNELS

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Return the maximum over time and frequency of the features."""
        return self.trunk(spectrogram).amax(dim=(2, 3))  # type: ignore[no-any-return]


def _trunk(stride: int, weights: str | None) -> nn.Sequential:
    network = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1 if weights == "imagenet" else None)
    if weights not in (None, "imagenet"):
        try:
            network.load_state_dict(_read_weights(Path(str(weights))))
        except RuntimeError as error:
            raise TrainInputError(
                f"model.weights: {weights} is no state_dict of torchvision's resnet18 "
                f"({str(error).splitlines()[-1].strip()})"
            ) from error
    if stride == 16:
        block = network.layer4[0]
        block.conv1.stride = (1, 1)
        block.downsample[0].stride = (1, 1)
    return nn.Sequential(*list(network.children())[:-2])


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainInputError(
            f"model.weights: no file {path}; use `imagenet` to let torchvision download them, or null"
        ) from error
    except DAMAGED as error:
        raise TrainInputError(f"model.weights: {path} cannot be read as a state_dict") from error
    return state
