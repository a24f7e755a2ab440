"""Visual and audio encoders behind one interface (`encoder.Encoder`), chosen by the configuration's names.

============  ===========================================  ====================  =========================
visual        features of a 224x224 image                  ``weights``           source
============  ===========================================  ====================  =========================
``tiny``      56x56, sum of four levels                    none                  ours
``resnet18``  512 x 7x7, or 14x14 with ``stride: 16``      ``imagenet``, a file  EZ-VSL, LVS
``resnet50``  2048 x 7x7, or 14x14 with ``stride: 16``     ``imagenet``, a file  torchvision
``vgg16``     512 x 14x14, of both signs                   ``imagenet``, a file  SSPL, Attention10k
============  ===========================================  ====================  =========================

============  =======================================  ================================  ==================
audio         hears (``frontend``)                     ``audio_weights``                 source
============  =======================================  ================================  ==================
``tiny``      any spectrogram                          none                              ours
``resnet18``  any spectrogram                          none, from scratch                EZ-VSL
``vggish``    ``vggish`` or ``sspl`` (patches)         ``audioset``, a file              AudioSet, DMT, SSPL
``soundnet``  ``waveform``                             a file of a port                  Attention10k, DMT
============  =======================================  ================================  ==================
"""

from __future__ import annotations

import math

from avsl_train.config import DataConfig, ModelConfig
from avsl_train.encoders.encoder import Encoder
from avsl_train.encoders.resnet import ResNet18Audio, ResNetVisual
from avsl_train.encoders.soundnet import SoundNetAudio
from avsl_train.encoders.tiny import TinyAudio, TinyVisual
from avsl_train.encoders.vgg import VGG16Visual, VGGishAudio
from avsl_train.errors import TrainInputError
from avsl_train.frontends import frequencies

__all__ = ["Encoder", "make_audio", "make_visual"]


def make_visual(config: ModelConfig) -> Encoder:
    """Return the visual encoder that a configuration names, frozen where it says so.

    Raises
    ------
    TrainInputError
        Its weights cannot be used, or it takes none.
    """
    if config.visual == "tiny":
        _takes_no_weights("weights", config.weights, "visual", config.visual)
        encoder: Encoder = TinyVisual(config.width)
    elif config.visual == "vgg16":
        encoder = VGG16Visual(config.weights)
    else:
        encoder = ResNetVisual(50 if config.visual == "resnet50" else 18, config.stride, config.weights)
    return encoder.freeze(_epochs(config.freeze_visual)) if config.freeze_visual else encoder


def make_audio(config: ModelConfig, data: DataConfig) -> Encoder:
    """Return the audio encoder that a configuration names, frozen where it says so.

    Raises
    ------
    TrainInputError
        Its weights cannot be used, or it takes none.
    """
    if config.audio == "vggish":
        encoder: Encoder = VGGishAudio(config.audio_weights)
    elif config.audio == "soundnet":
        encoder = SoundNetAudio(config.audio_weights)
    else:
        _takes_no_weights("audio_weights", config.audio_weights, "audio", config.audio)
        rows = frequencies(data, config.frontend)
        encoder = TinyAudio(rows, config.width) if config.audio == "tiny" else ResNet18Audio()
    return encoder.freeze(_epochs(config.freeze_audio)) if config.freeze_audio else encoder


def _epochs(freeze: bool | int) -> float:
    """Return for how many epochs a trunk is frozen: always, or as many as the key says."""
    return math.inf if freeze is True else freeze


def _takes_no_weights(key: str, weights: str | None, kind: str, name: str) -> None:
    if weights is not None:
        raise TrainInputError(
            f"model.{key} is {weights!r}, but the {kind} encoder {name} starts from random weights: use null"
        )
