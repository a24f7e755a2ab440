"""docs/metrics.md names every metric that the modules compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avsl_eval.ciou import METRICS
from avsl_eval.detection import SUBSETS, detection_scores
from avsl_eval.groups import find_groups, group_metrics
from avsl_eval.negatives import KINDS, negative_scores, universal_thresholds
from avsl_eval.ogl import MIXING_RULES, MixingRule
from avsl_eval.segmentation import official_scores
from avsl_eval.sources import SourceStatistics, score_sample

ONE = np.ones(1)


def computed() -> set[str]:
    """Collect the names from the functions themselves."""
    yes = np.ones((1, 2, 2), bool)
    detection = detection_scores(np.ones(1, bool), ONE, ONE, ONE, ious=(0.5,))
    negative = negative_scores([KINDS[0]], ONE, 0.5, 0.5)
    sample = SourceStatistics.of(score_sample(yes, yes, yes.astype(float)))
    return {
        *METRICS,
        "pointing",
        *SUBSETS,
        *detection["all"],
        *group_metrics(find_groups(["a_1"]), ONE),
        *KINDS,
        *negative["all"],
        *universal_thresholds(ONE),
        "miou",
        *official_scores([]),
        *sample.metrics(),
        *MIXING_RULES,
    }


def test_every_name_is_explained(repository: Path) -> None:
    text = (repository / "docs" / "metrics.md").read_text()
    assert len(computed()) > 40
    assert [name for name in sorted(computed()) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("rule", list(MIXING_RULES.values()), ids=lambda rule: rule.name)
def test_mixing_rules_are_as_the_table_says(repository: Path, rule: MixingRule) -> None:
    rows = (repository / "docs" / "metrics.md").read_text().splitlines()
    (row,) = [line for line in rows if line.startswith(f"| `{rule.name}` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2].startswith(f"{rule.alpha:g}")
    assert cells[3] == ", ".join(f"`{name}`" for name in rule.scored_by)
