"""VGG networks: the trunk of VGG-16 for images, VGGish for patches of log mel spectrograms.

Sources: torchvision's VGG-16 without what follows its last convolution, as SSPL and Attention10k cut it;
AudioSet's VGGish in the layout of its PyTorch port (torchvggish, names read from its code).

Shape letters: B clips, N patches of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from avsl_train.encoders.encoder import Encoder, flattened
from avsl_train.weights import load_state, locate, read_state, torchvision_state

POOL: Final = 0
VGG16_PLAN: Final = (
    *(64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL),
    *(512, 512, 512, POOL, 512, 512, 512),
)
VGGISH_PLAN: Final = (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL)
VGGISH_GRID: Final = 6 * 4
"""What four poolings leave of a patch of 96 x 64."""
VGGISH_CHANNELS: Final = 128
VGGISH_HEAD: Final = 512
AUDIOSET: Final = (
    "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth#sha256=10086976"
)
"""The port's weights. The address is read from its code; the digest is what torch's convention makes of the
file's name, and was not compared with the file."""
_UNUSED: Final = ("pproc.", "fc.")
"""Names in files of VGGish's port (whitening) and of SSPL (its projection) that the network does not have."""


def convolutions(inputs: int, plan: Sequence[int]) -> nn.Sequential:
    """Return 3x3 convolutions with ReLU, and 2x2 maximum poolings where the plan says `POOL`."""
    layers: list[nn.Module] = []
    for channels in plan:
        if channels == POOL:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = channels
    return nn.Sequential(*layers)


class VGG16Trunk(nn.Module):
    """VGG-16 up to its last convolution, without the ReLU after it: features of both signs at stride 16.

    Parameters
    ----------
    weights
        ``imagenet``, a file or address of a state_dict of torchvision's vgg16, or None for random ones.
    where
        The configuration's key, for messages.
    """

    def __init__(self, weights: str | None = None, where: str = "model.weights") -> None:
        super().__init__()
        self.features = convolutions(3, VGG16_PLAN)[:-1]
        for layer in self.features.children():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if weights is not None:
            if weights == "imagenet":
                state = torchvision_state(VGG16_Weights.IMAGENET1K_V1, where)
            else:
                state = read_state(locate(weights, where), where)
            what = "state_dict of torchvision's vgg16"
            load_state(self, state, f"{where}: {weights}", what, unused=("classifier.",))

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512, S/16, S/16] of images [B, 3, S, S]."""
        features: Tensor = self.features(image)
        return features


class VGG16Visual(Encoder):
    """`VGG16Trunk` as a visual encoder."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.trunk = VGG16Trunk(weights)
        self.channels = 512

    def forward(self, image: Tensor) -> Tensor:
        """Return features [B, 512, S/16, S/16] of images normalised with ImageNet's mean and deviation."""
        features: Tensor = self.trunk(image)
        return features


class VGGish(nn.Module):
    """Convolutions and three linear layers with ReLU each: patches [N, 1, 96, 64] to [N, 128] >= 0.

    Parameters
    ----------
    weights
        ``audioset``, a file or address of the port's weights, or None for random ones.
    where
        The configuration's key, for messages.
    """

    def __init__(self, weights: str | None = None, where: str = "model.audio_weights") -> None:
        super().__init__()
        self.features = convolutions(1, VGGISH_PLAN)
        self.embeddings = nn.Sequential(
            *(nn.Linear(512 * VGGISH_GRID, 4096), nn.ReLU(inplace=True)),
            *(nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
            *(nn.Linear(4096, VGGISH_CHANNELS), nn.ReLU(inplace=True)),
        )
        if weights is not None:
            path = locate(AUDIOSET if weights == "audioset" else weights, where)
            what = "file of VGGish (torchvggish's vggish-10086976.pth)"
            load_state(self, read_state(path, where), f"{where}: {path}", what, _UNUSED)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the embedding of each patch."""
        embedding: Tensor = self.embeddings(flattened(self.features(patches)))
        return embedding


class VGGishAudio(Encoder):
    """VGGish, the mean over a clip's patches [ours], FC 512 and ReLU [paper DMT]: [B, N, 96, 64] to [B, 512].

    The second FC of the paper's head is the localizer's projection.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.trunk = VGGish(weights)
        self.head = nn.Sequential(nn.Linear(VGGISH_CHANNELS, VGGISH_HEAD), nn.ReLU(inplace=True))
        self.channels = VGGISH_HEAD

    def forward(self, patches: Tensor) -> Tensor:
        """Return one vector per clip of the front end ``vggish`` or ``sspl``."""
        clips, count = patches.shape[:2]
        embedding = self.trunk(patches.flatten(0, 1)[:, None]).unflatten(0, (clips, count)).mean(1)
        vector: Tensor = self.head(embedding)
        return vector
