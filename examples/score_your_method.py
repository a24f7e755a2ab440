"""Score a method of your own: write one heatmap per clip, then evaluate them against the annotations.

Usage: python examples/score_your_method.py ANNOTATIONS
"""

import sys

import numpy as np

import avsl_eval
from avsl_eval.truth import read_annotations

annotations = read_annotations(sys.argv[1])

# Your model goes here. This one looks at nothing and says "the middle": a Gaussian blob on a 14 x 14 grid.
grid = np.linspace(-1, 1, 14)
heatmap = np.exp(-2 * (grid[:, None] ** 2 + grid[None, :] ** 2))
clip_id = np.array([clip.clip_id for clip in annotations.clips])
np.savez_compressed("predictions.npz", clip_id=clip_id, heatmap=np.stack([heatmap] * len(clip_id)))

for protocol in ("ezvsl", "fixed"):
    scores = avsl_eval.evaluate("predictions.npz", annotations, protocol=protocol)
    print(protocol, {name: round(100 * value, 2) for name, value in scores.metrics.items()})
