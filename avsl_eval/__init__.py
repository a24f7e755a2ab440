"""The scorer of audio-visual source localization: cIoU under named, versioned protocols.

>>> import numpy as np
>>> import avsl_eval
>>> left = np.tile(np.linspace(1.0, 0.0, 14), (14, 1))
>>> scores = avsl_eval.evaluate({"a_000001": left}, {"a_000001": [[0.0, 0.0, 0.5, 1.0]]}, protocol="fixed")
>>> scores.metrics["ciou@0.5"]
1.0
"""

from avsl_eval.accumulator import Accumulator
from avsl_eval.evaluate import evaluate, evaluate_all, evaluate_many
from avsl_eval.protocol import Protocol, ProtocolSuite
from avsl_eval.protocol_table import PROTOCOLS, SUITES, get_protocol
from avsl_eval.result import Scores, save_scores
from avsl_eval.scores_file import ScoresFile, read_scores

__all__ = [
    "PROTOCOLS",
    "SUITES",
    "Accumulator",
    "Protocol",
    "ProtocolSuite",
    "Scores",
    "ScoresFile",
    "evaluate",
    "evaluate_all",
    "evaluate_many",
    "get_protocol",
    "read_scores",
    "save_scores",
]
