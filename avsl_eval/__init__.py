"""The scorer of audio-visual source localization: cIoU under named, versioned protocols.

>>> import numpy as np
>>> import avsl_eval
>>> left = np.tile(np.linspace(1.0, 0.0, 14), (14, 1))
>>> scores = avsl_eval.evaluate({"a_000001": left}, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, protocol="fixed")
>>> scores.metrics["ciou@0.5"]
1.0
"""

from avsl_eval.evaluate import evaluate
from avsl_eval.protocol import Protocol
from avsl_eval.protocol_table import PROTOCOLS, get_protocol
from avsl_eval.result import Scores

__all__ = ["PROTOCOLS", "Protocol", "Scores", "evaluate", "get_protocol"]
