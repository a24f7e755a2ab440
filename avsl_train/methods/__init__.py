"""Training methods, one file each, in the order of their paper."""

from __future__ import annotations

from typing import Final

from avsl_train.methods.hard_pl import HardPL
from avsl_train.methods.method import Method
from avsl_train.methods.supervised import Supervised
from avsl_train.methods.xpl import XPL

METHODS: Final[dict[str, type[Method]]] = {"supervised": Supervised, "hard-pl": HardPL, "xpl": XPL}
"""Every method by the name that configurations use."""

__all__ = ["METHODS", "XPL", "HardPL", "Method", "Supervised"]
