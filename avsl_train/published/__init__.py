"""Networks of published methods, as their checkpoints hold them.

A network here has the parameters of the original under the original's names and gives the original's maps, so
that a published checkpoint can be loaded, scored and compared with one's own: `load_published` for the
network, `avsl_train.frontends.published` for its sound, `images` for its frames.
"""

from __future__ import annotations

from avsl_train.published.attention10k import Attention10k
from avsl_train.published.checkpoints import SOURCES, Source, load_published, localizer_state
from avsl_train.published.features import Features
from avsl_train.published.htf import HTF
from avsl_train.published.lvs import LVS, SSLTIE, Alignment, Projected
from avsl_train.published.sspl import SSPL, ObjectPrior, SSPLFrame, SSPLSound
from avsl_train.published.two_streams import EZVSL, FNAC, SLAVC, TwoHeads

__all__ = [
    "EZVSL",
    "FNAC",
    "HTF",
    "LVS",
    "SLAVC",
    "SOURCES",
    "SSLTIE",
    "SSPL",
    "Alignment",
    "Attention10k",
    "Features",
    "ObjectPrior",
    "Projected",
    "SSPLFrame",
    "SSPLSound",
    "Source",
    "TwoHeads",
    "load_published",
    "localizer_state",
]
