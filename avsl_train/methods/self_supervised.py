"""What the published self-supervised methods share.

Each has a network of its own (`avsl_train.published`), or runs on a localizer in that network's shape
(`avsl_train.published_localizers`) with ``method.network: localizer``. It trains on the unlabelled clips
alone, as its publication does, and its map is the published one; `value_range` says what its values are.

Shape letters: B clips, S side of the image, C channels of the common space, h = w side of the map.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Final, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from avsl_train import losses
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.draws import Draws
from avsl_train.excerpts import Heard
from avsl_train.localizer import IMAGENET_MEAN, IMAGENET_STD, normalised
from avsl_train.losses.similarity import Features as Pair
from avsl_train.method_config_self import SelfConfig
from avsl_train.methods.method import PICTURED, Batch, Method, predicting
from avsl_train.published import SOURCES, Features
from avsl_train.published.checkpoints import localizer_state, without_prefix
from avsl_train.published_localizers import OneHead
from avsl_train.published_views import PublishedViewer
from avsl_train.seeding import stream
from avsl_train.views import View, Viewer
from avsl_train.weights import load_state, locate, read_state

Settings = TypeVar("Settings", bound=SelfConfig)

WHERE: Final = "method.start"


class SelfSupervised(Method, Generic[Settings]):
    """A method whose loss asks for no label.

    Subclasses define the two `network` builders, the `terms` of the loss, and `localize`.
    """

    value_range: Literal["probability", "cosine", "any"] = "cosine"
    """What the values of the map are: a probability, a cosine in [-1, 1], or any number."""

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        assert isinstance(config.method, SelfConfig)
        self.settings = cast("Settings", config.method)
        super().__init__(config, viewer, seed, n_unlabeled)
        self.eyes: PublishedViewer = PublishedViewer(viewer.config, viewer.device)

    @abstractmethod
    def published_network(self) -> nn.Module:
        """Return the method's own network, freshly initialised."""

    @abstractmethod
    def localizer_network(self) -> nn.Module:
        """Return a localizer in the shape of that network."""

    @abstractmethod
    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the terms of the loss of `views`, unweighted scalars by name."""

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of one step, of the unlabelled clips."""
        return self.weighted(self.terms(self.views(batch.unlabeled, step), step))

    def views(self, clips: Clips, step: int) -> tuple[View, ...]:
        """Return what a step sees of its clips; one view unless a method says else."""
        return (self.view(clips, self.draws("self", step)),)

    def heard_once(self, step: int) -> Heard:
        """Return what a method hears that makes one view, its published one being of the middle."""
        return (None if self.settings.views == "published" else self.draws("self", step),)

    def view(self, clips: Clips, draws: Draws) -> View:
        """Return one view: the method's own, or the weak or strong one of the semi-supervised methods."""
        if self.settings.views == "published":
            return self.published_view(clips, draws)
        make = self.viewer.weak if self.settings.views == "weak" else self.viewer.strong
        return make(clips, self.config.augment, draws, self.frontend("a"))

    def published_view(self, clips: Clips, draws: Draws) -> View:
        """Return the method's own view: a crop, a flip and the middle of the sound, unless it says else."""
        return self.eyes.cropped(clips, draws, self.frontend("a"))

    def pictures(self) -> dict[str, Tensor]:
        """Return frames and maps of the first unlabelled clips, maps from lowest to highest value."""
        if self.fetch is None or not self.n_unlabeled:
            return {}
        view = self.viewer.plain(
            self.fetch(torch.arange(min(PICTURED, self.n_unlabeled))), self.frontend("a")
        )
        with predicting(self.models):
            maps = self.localize(view)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return {"frame": view.image, "map": (maps - low) / (high - low).clamp(min=1e-6)}

    def features(self, view: View) -> Features:
        """Return the unit vectors of a view, in float32."""
        with self.autocast():
            found: Features = self.models["a"](image_of(view), self.sound_of(view))
        return single(found)

    def together(self, features: Features) -> Pair:
        """Return the features of all processes, so that each clip has the others of all as negatives."""
        return Pair(self.gathered(features.visual), self.gathered(features.audio))

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes with gradient, or this one's where ``optim.gather`` is false."""
        return losses.gathered(tensor, self.config.optim.gather)

    def sound_of(self, view: View) -> Tensor:
        """Return what the network hears of a view."""
        return self.viewer.heard(view, self.frontend("a")).spectrogram

    def epoch(self, step: int) -> int:
        """Return how many passes over the unlabelled clips are done before a step."""
        batch = min(self.config.optim.batch_unlabeled, max(self.n_unlabeled, 1))
        return step // max(self.n_unlabeled // batch, 1)

    def students(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the optimiser gets: frozen parts and momentum copies are none."""
        return (parameter for parameter in super().students() if parameter.requires_grad)

    def build(self) -> dict[str, nn.Module]:
        """Return the network as model ``a``; its initialisation depends on the seed only."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(self.seed, "init", "a").initial_seed())
            published = self.settings.network == "published"
            network = self.published_network() if published else self.localizer_network()
        if self.settings.start is not None:
            self.load_start(network, self.settings.start)
        return {"a": network}

    def load_start(self, network: nn.Module, start: str) -> None:
        """Give a fresh network the weights of a published checkpoint.

        Raises
        ------
        TrainInputError
            The file is missing or holds another network.
        """
        name = self.settings.name
        path, source = locate(start, WHERE), SOURCES.get(name)
        state = without_prefix(read_state(path, WHERE), source.prefix if source else "")
        what = f"checkpoint of {name}"
        if isinstance(network, OneHead):  # what the localizer has besides stays: scale and bias
            ours = network.localizer.state_dict()
            load_state(network.localizer, {**ours, **localizer_state(name, state)}, f"{WHERE}: {path}", what)
        else:
            load_state(network, state, f"{WHERE}: {path}", what)


def single(features: Features) -> Features:
    """Return features in single precision, in which similarities and losses are computed."""
    return Features(features.visual.float(), features.audio.float())


def image_of(view: View) -> Tensor:
    """Return a view's image normalised with ImageNet's mean and deviation, [B, 3, S, S]."""
    mean, std = (
        torch.tensor(values, device=view.image.device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return normalised(view.image, mean, std)
