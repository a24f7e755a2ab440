"""Training methods, one file each, in the order of their paper."""

from __future__ import annotations

from typing import Final

from avsl_train.methods.alignment import Alignment
from avsl_train.methods.attention10k import Attention10k
from avsl_train.methods.dmt import DMT
from avsl_train.methods.ezvsl import EZVSL
from avsl_train.methods.fixmatch import FixMatch
from avsl_train.methods.fnac import FNAC
from avsl_train.methods.hard_pl import HardPL
from avsl_train.methods.htf import HTF
from avsl_train.methods.lvs import LVS
from avsl_train.methods.mean_teacher import MeanTeacher
from avsl_train.methods.method import Method
from avsl_train.methods.slavc import SLAVC
from avsl_train.methods.ssltie import SSLTIE
from avsl_train.methods.sspl import SSPL
from avsl_train.methods.supervised import Supervised
from avsl_train.methods.xpl import XPL

METHODS: Final[dict[str, type[Method]]] = {
    "supervised": Supervised,
    "hard-pl": HardPL,
    "mean-teacher": MeanTeacher,
    "fixmatch": FixMatch,
    "dmt": DMT,
    "xpl": XPL,
    "ezvsl": EZVSL,
    "lvs": LVS,
    "slavc": SLAVC,
    "fnac": FNAC,
    "attention10k": Attention10k,
    "sspl": SSPL,
    "ssltie": SSLTIE,
    "alignment": Alignment,
    "htf": HTF,
}
"""Every method by the name that configurations use."""

__all__ = [
    "DMT",
    "EZVSL",
    "FNAC",
    "HTF",
    "LVS",
    "METHODS",
    "SLAVC",
    "SSLTIE",
    "SSPL",
    "XPL",
    "Alignment",
    "Attention10k",
    "FixMatch",
    "HardPL",
    "MeanTeacher",
    "Method",
    "Supervised",
]
