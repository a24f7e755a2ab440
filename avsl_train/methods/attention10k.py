"""Attention10k ("learning to localize"): a sound attends to a frame; what it finds resembles the sound.

Source: Senocak et al., "Learning to Localize Sound Source in Visual Scenes", CVPR 2018, and its published
code (ardasnck/learning_to_localize_sound_source). The published training reads SoundNet's scores from files;
here SoundNet hears the clip. Its negative is a random other clip of the data set, ours a random other one of
the batch, of all processes [ours].

Shape letters: B clips, h = w side of the map, A channels of a sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from avsl_train import published
from avsl_train.data import Clips
from avsl_train.distributed import gather_rows, total, world_size
from avsl_train.draws import Draws
from avsl_train.encoders.encoder import Encoder
from avsl_train.encoders.soundnet import OBJECTS, SoundNet
from avsl_train.losses.l2l import Heard, triplet
from avsl_train.method_config_self import Attention10kConfig, uses_labels
from avsl_train.methods.method import Batch
from avsl_train.methods.self_supervised import SelfSupervised, image_of
from avsl_train.published_localizers import Attending
from avsl_train.views import View, rasterise

NOBODY: Final = torch.zeros(0, dtype=torch.int64)


class SoundScores(Encoder):
    """SoundNet's scores of objects, averaged over time; frozen, its BatchNorm keeps its statistics.

    Parameters
    ----------
    weights
        A file or address of SoundNet, or None for random ones.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.trunk = SoundNet(weights)
        self.channels = OBJECTS

    def forward(self, wave: Tensor) -> Tensor:
        """Return [B, 1000] of the front end ``waveform``."""
        scores: Tensor = self.trunk(wave[:, 0])
        return scores.mean(-1)


@dataclass(frozen=True)
class ContrastedView(View):
    """A view, and where among the clips of all processes the negative of each clip is, [B] of int64."""

    other: Tensor = NOBODY


class Attention10k(SelfSupervised[Attention10kConfig]):
    """L = triplet(attended frame; own sound, other sound) + lambda_sup * -sum of truth log attention [code].

    ``value_range`` is ``any``: the published map is an attention, which sums to 1 over the positions.
    """

    value_range = "any"

    def published_network(self) -> nn.Module:
        """Return Attention10k's network: VGG-16, frozen, and four linear layers [code]."""
        model = self.config.model
        return published.Attention10k(model.weights, bool(model.freeze_visual))

    def localizer_network(self) -> nn.Module:
        """Return a localizer's encoders with those layers."""
        return Attending(self.config.model, self.config.data)

    def build(self) -> dict[str, nn.Module]:
        """Return the network and, where that has none of its own, SoundNet as model ``sound``."""
        models: dict[str, Any] = super().build()
        if self.settings.network == "published":
            models["sound"] = SoundScores(self.config.model.audio_weights)
            if self.config.model.freeze_audio:
                models["sound"].freeze()
        return models

    def published_view(self, clips: Clips, draws: Draws) -> View:
        """Return the whole frame and the middle of the sound: nothing is augmented [code]."""
        del draws
        return self.viewer.plain(clips, self.frontend("a"))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted terms ``triplet`` and, of the labelled clips, ``sup``."""
        if not uses_labels(self.settings):
            return super().losses(batch, step)
        (view,) = self.views(batch.clips, step)
        heard, sound = self.attend(view)
        truth = rasterise(batch.clips.boxes.to(sound.device), view.geometry, heard.attention.shape[-1])
        labeled = batch.labeled.to(sound.device)
        return {
            "triplet": self.triplet(heard, sound, view),
            "sup": self.settings.lambda_sup * self.likelihood(heard.attention, truth, labeled),
        }

    def views(self, clips: Clips, step: int) -> tuple[View, ...]:
        """Return one view, which knows whose sound is its clips' negative [ours]."""
        view = self.view(clips, self.draws("self", step))
        keys = gather_rows(clips.key) if self.config.optim.gather else clips.key
        return (ContrastedView(**vars(view), other=others(clips.key, keys, self.draws("other", step))),)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the term ``triplet``."""
        del step
        return {"triplet": self.triplet(*self.attend(views[0]), views[0])}

    def attend(self, view: View) -> tuple[Heard, Tensor]:
        """Return the attention of a view's sounds to its frames, and the sounds' vectors, [B, A]."""
        network: Any = self.models["a"]
        with self.autocast():
            if "sound" in self.models:
                sound = self.models["sound"](self.sound_of(view))
            else:
                sound = network.hear(self.sound_of(view))
            heard: Heard = network(image_of(view), sound)
        return Heard(heard.attention.float(), heard.embedding.float()), sound.float()

    def triplet(self, heard: Heard, sound: Tensor, view: View) -> Tensor:
        """Return the triplet loss against the other sounds that a view knows."""
        assert isinstance(view, ContrastedView)
        return triplet(heard.embedding, sound, self.gathered(sound)[view.other.to(sound.device)])

    def likelihood(self, attention: Tensor, truth: Tensor, labeled: Tensor) -> Tensor:
        """Return the mean of -sum_p truth(p) log attention(p), over the clips that ``sup_mean`` names."""
        per_clip = -(truth * attention.log()).sum((1, 2, 3))
        if self.settings.sup_mean == "batch":
            return (labeled * per_clip).mean()
        return (labeled * per_clip).sum() / (total(labeled.sum()) / world_size()).clamp(min=1)

    def localize(self, view: View) -> Tensor:
        """Return the published map, the attention, [B, 1, h, w]; it sums to 1."""
        return self.attend(view)[0].attention


def others(own: Tensor, every: Tensor, draws: Draws) -> Tensor:
    """Return the place of a random other clip for each clip, [B] of int64, whichever process has which clip.

    Parameters
    ----------
    own, every : Tensor [B] and [N] of int64
        Keys of this process's clips and of those of all processes, in the order of their features.
    draws
        Say how far ahead the other one is, in the order of the keys.
    """
    order = every.argsort()
    place = torch.searchsorted(every[order], own)
    ahead = 1 + (draws.uniform(own, 1)[:, 0] * (len(every) - 1)).long()
    return order[(place + ahead) % len(every)]
