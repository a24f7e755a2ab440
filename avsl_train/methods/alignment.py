"""Alignment: frames and sounds of a clip, of an augmented view and of its nearest neighbours, all aligned.

Source: Senocak et al., "Sound Source Localization is All about Cross-Modal Alignment", ICCV 2023, and its
published code (kaistmm/ssl_kccv).

The published neighbours stand in lists that were made once and are not published. Here they are found by the
network's own projected vectors, of frames among frames and of sounds among sounds, anew every few passes
[ours]; ``neighbours: false`` leaves them out.

Shape letters: B clips, n unlabelled clips, C channels of the common space, h = w side of the map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from avsl_train import published
from avsl_train.config import ExperimentConfig
from avsl_train.data import Clips
from avsl_train.distributed import gather_rows
from avsl_train.draws import Draws
from avsl_train.losses.alignment import AlignmentView, alignment_logits
from avsl_train.losses.similarity import diagonal_cross_entropy
from avsl_train.method_config_self import AlignmentConfig
from avsl_train.methods.method import State, Sweep, predicting
from avsl_train.methods.self_supervised import SelfSupervised, image_of, single
from avsl_train.published import Projected
from avsl_train.published_localizers import Whole
from avsl_train.views import View, Viewer

KINDS = ("image", "audio")


class Alignment(SelfSupervised[AlignmentConfig]):
    """L = sum of CE over every pair of a frame's view and a sound's view, locally and as wholes [code].

    Three views give 18 terms; the softmax runs over sounds only.
    """

    def __init__(self, config: ExperimentConfig, viewer: Viewer, seed: int, n_unlabeled: int) -> None:
        super().__init__(config, viewer, seed, n_unlabeled)
        self.bank: dict[str, Tensor] = {}

    def published_network(self) -> nn.Module:
        """Return Alignment's network: SSL-TIE's, with a projection of each side's global maximum [code]."""
        return published.Alignment(self.config.model.weights)

    def localizer_network(self) -> nn.Module:
        """Return a localizer with projections of whole frames and sounds."""
        return Whole(self.config.model, self.config.data)

    def begin_epoch(self, step: int, sweep: Sweep) -> dict[str, float]:
        """Remember what the unlabelled clips look and sound like, to find neighbours, every few passes."""
        if not self.settings.neighbours or (self.epoch(step) % self.settings.neighbours_every and self.bank):
            return {}
        index, found = [], []
        with predicting(self.models):
            for clips in sweep():
                projected = self.projected(self.viewer.plain(clips, self.frontend("a")))
                index.append(clips.index)
                found.append(torch.stack([projected.image, projected.audio]).half().cpu())
        places = gather_rows(torch.cat(index))
        vectors = gather_rows(torch.cat(found, dim=1).transpose(0, 1).contiguous())  # [n, 2, C]
        ordered = torch.empty_like(vectors)
        ordered[places] = vectors
        self._keep(dict(zip(KINDS, ordered.unbind(1), strict=True)))
        return {}

    def views(self, clips: Clips, step: int) -> tuple[View, ...]:
        """Return the clips themselves and, where configured, their augmented view and their neighbours."""
        views = [self.view(clips, self.draws("self", step))]
        if self.settings.augmented:
            views.append(self._augmented(clips, self.draws("augmented", step)))
        if self.settings.neighbours:
            views.append(self._neighbours(clips, step))
        return tuple(views)

    def terms(self, views: tuple[View, ...], step: int) -> dict[str, Tensor]:
        """Return the terms ``local`` and, where configured, ``projected`` and ``intra``, sums over views."""
        del step
        s = self.settings
        seen = [self._together(self.projected(view)) for view in views]
        augmented = seen[1] if s.augmented else None
        neighbours = seen[-1] if s.neighbours else None
        logits = alignment_logits(seen[0], augmented, neighbours, s.projected, s.intra)
        pairs = len(seen) ** 2
        parts = {
            "local": logits[:pairs],
            "projected": logits[pairs : 2 * pairs] if s.projected else [],
            "intra": logits[pairs * (1 + s.projected) :],
        }
        return {
            name: torch.stack([diagonal_cross_entropy(term) for term in terms]).sum()
            for name, terms in parts.items()
            if terms
        }

    def localize(self, view: View) -> Tensor:
        """Return the published map, cosine similarities [B, 1, h, w]."""
        return self.projected(view).local.own

    def projected(self, view: View) -> Projected:
        """Return the local features and the vectors of whole frames and sounds, in float32."""
        network: Any = self.models["a"]
        with self.autocast():
            found: Projected = network.projected(image_of(view), self.sound_of(view))
        return Projected(single(found.local), found.image.float(), found.audio.float())

    def nearest(self, index: Tensor, kind: str, draws: Draws, keys: Tensor) -> Tensor:
        """Return one of the ``k`` nearest other clips of each clip, [B] of int64.

        Parameters
        ----------
        index : Tensor [B] of int64
            The clips among the unlabelled ones.
        kind
            ``image`` or ``audio``: by what they are alike.
        draws, keys
            Which of the nearest it is.
        """
        bank = self.bank[kind]
        alike = bank[index.to(bank.device)] @ bank.T  # [B, n]
        alike.scatter_(1, index.to(bank.device)[:, None], -torch.inf)
        k = min(self.settings.k, len(bank) - 1)
        chosen = (draws.uniform(keys, 1) * k).long().to(bank.device)  # [B, 1]
        return alike.topk(k, dim=1).indices.gather(1, chosen)[:, 0].cpu()

    def state(self) -> State:
        """Return what the unlabelled clips looked and sounded like."""
        return (
            {"bank": {kind: vectors.half().cpu() for kind, vectors in self.bank.items()}} if self.bank else {}
        )

    def load(self, state: State) -> None:
        """Take over what the unlabelled clips looked and sounded like."""
        self._keep(state.get("bank", {}))

    def _keep(self, vectors: dict[str, Tensor]) -> None:
        """Keep vectors [n, C] by kind where neighbours are sought: CPUs multiply no half precision."""
        device = self.viewer.device
        kind = torch.float32 if device.type == "cpu" else torch.float16
        self.bank = {name: found.to(device, kind) for name, found in vectors.items()}

    def _together(self, found: Projected) -> AlignmentView:
        local = self.together(found.local)
        return AlignmentView(*local, self.gathered(found.image), self.gathered(found.audio))

    def _augmented(self, clips: Clips, draws: Draws) -> View:
        if self.settings.views != "published":
            return self.viewer.strong(clips, self.config.augment, draws, self.frontend("a"))
        return self.eyes.disturbed(clips, draws, self.settings.jitter == "published", self.frontend("a"))

    def _neighbours(self, clips: Clips, step: int) -> View:
        """Return frames of clips that look alike with sounds of clips that sound alike."""
        if self.fetch is None or not self.bank:
            raise RuntimeError(
                "neighbours are found by `begin_epoch` and read by `fetch`, which the loop sets"
            )
        parts = {}
        for kind in KINDS:
            draws = self.draws("neighbour", kind, step)
            others = self.fetch(self.nearest(clips.index, kind, draws, clips.key))
            parts[kind] = self.view(others, draws)
        return replace(parts["image"], spectrogram=parts["audio"].spectrogram, wave=parts["audio"].wave)
