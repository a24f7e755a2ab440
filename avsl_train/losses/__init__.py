"""Loss terms that the methods compose: pure functions, one file per published method.

A file's docstrings hold the formulas and where they come from: [paper], [code] of the published
implementation, [ours]. `contrastive` gives those that a method can be built on by name; `gathered` gives them
the clips of every process.

===============  =============================================================================================
file             holds
===============  =============================================================================================
``supervised``   cross-entropy of maps against ground truth or pseudo-labels
``ezvsl``        EZ-VSL's multiple-instance loss
``lvs``          LVS's trimap loss
``slavc``        SLAVC's loss of two heads with momentum features; its semi-supervised loss as published
``fnac``         FNAC's loss, its three L1 terms apart
``ssltie``       SSL-TIE's loss, its transform and how it is drawn
``alignment``    Alignment's loss of up to 18 terms, and its optional terms within a modality
``htf``          Hear The Flow's loss, and its attention by optical flow
``sspl``         SSPL's attention, head and loss; SimSiam's loss
``pcm``          SSPL's predictive coding module
``l2l``          Attention10k's attention, triplet loss and supervised loss
``gather``       features across processes
===============  =============================================================================================

A function bears the name of its file. Import more of a file from the file itself, as in
``from avsl_train.losses.lvs import trimap_logits``.

Examples
--------
>>> import torch
>>> features = torch.eye(2)  # two clips, one position each, nothing in common
>>> round(contrastive("ezvsl")(features[:, :, None, None], features).item(), 4)
0.0
"""

from __future__ import annotations

from avsl_train.losses.alignment import AlignmentView, alignment
from avsl_train.losses.contrastive import CONTRASTIVE, Context, Contrastive, contrastive
from avsl_train.losses.ezvsl import TAU, ezvsl
from avsl_train.losses.fnac import fnac
from avsl_train.losses.gather import gathered
from avsl_train.losses.htf import FlowAttention, htf
from avsl_train.losses.l2l import SoundAttention, l2l
from avsl_train.losses.lvs import lvs
from avsl_train.losses.pcm import PCM
from avsl_train.losses.similarity import Features, own_similarity, similarity
from avsl_train.losses.slavc import slavc, slavc_supervised_as_published
from avsl_train.losses.ssltie import Transform, draw_transform, ssltie
from avsl_train.losses.sspl import SSPLHead, simsiam, sspl
from avsl_train.losses.supervised import masked_cross_entropy, mean_of_chosen, pixel_mean, supervised

__all__ = [
    "CONTRASTIVE",
    "PCM",
    "TAU",
    "AlignmentView",
    "Context",
    "Contrastive",
    "Features",
    "FlowAttention",
    "SSPLHead",
    "SoundAttention",
    "Transform",
    "alignment",
    "contrastive",
    "draw_transform",
    "ezvsl",
    "fnac",
    "gathered",
    "htf",
    "l2l",
    "lvs",
    "masked_cross_entropy",
    "mean_of_chosen",
    "own_similarity",
    "pixel_mean",
    "similarity",
    "simsiam",
    "slavc",
    "slavc_supervised_as_published",
    "ssltie",
    "sspl",
    "supervised",
]
