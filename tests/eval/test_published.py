"""The published figures: every one has a rule, a source and a size that the rule's protocol knows."""

from __future__ import annotations

import doctest
import re

import pytest

import avsl_eval.published
from avsl_eval import PROTOCOLS
from avsl_eval.ciou import METRICS
from avsl_eval.errors import EvalInputError
from avsl_eval.layout import render
from avsl_eval.published import UNSTATED, PublishedFigure, figures_beside, published_figures, published_table

FIGURES = published_figures()
SUBSET_SIZES = {"vggss-heard": 2564, "vggss-unheard": 2575}
"""Clips of EZ-VSL's published lists."""


def test_examples_in_docstrings_run() -> None:
    tried = doctest.testmod(avsl_eval.published)
    assert tried.attempted > 0
    assert tried.failed == 0


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f"{f.method}-{f.trainset}-{f.testset}-{f.metric}")
def test_a_figure_says_what_it_is(figure: PublishedFigure) -> None:
    assert figure.method
    assert figure.trainset
    assert figure.metric in (*METRICS, "ap", "max_f1", "precision")
    assert 0 < figure.value < 1
    assert re.search(r"README|issue \d+|Table \d+|chart", figure.source)
    if figure.rule == UNSTATED:
        assert "neither rule" in figure.note
        return
    sizes = dict(PROTOCOLS[figure.rule].published_sizes) | SUBSET_SIZES
    assert figure.n_clips == sizes[figure.testset] or str(figure.n_clips) in figure.note


def test_no_figure_stands_twice() -> None:
    keys = [(f.method, f.trainset, f.testset, f.metric, f.source) for f in FIGURES]
    assert len(set(keys)) == len(keys)


def test_figures_that_the_specification_quotes() -> None:
    found = {(f.method, f.testset, f.metric): f.value for f in FIGURES if f.method == "SLAVC"}
    extended = {
        "flickr-extended": {"ap": 0.5163, "max_f1": 0.591, "precision": 0.836},
        "vggss-extended": {"ap": 0.3295, "max_f1": 0.4, "precision": 0.3779},
    }
    for testset, values in extended.items():
        for metric, value in values.items():
            assert found["SLAVC", testset, metric] == value


def test_chosen_by_test_set_and_method() -> None:
    assert {f.testset for f in published_figures("vggss")} == {
        *("vggss", "vggss-heard", "vggss-unheard", "vggss-extended")
    }
    assert {f.method for f in published_figures(method="ssl-align")} == {
        f"SSLalignment ({kind})"
        for kind in (
            "supervised encoder",
            "self-supervised encoder",
            "supervised encoder, pre-trained vision",
        )
    }
    with pytest.raises(EvalInputError, match="unknown test set 'vgss'; did you mean 'vggss'"):
        published_figures("vgss")
    with pytest.raises(EvalInputError, match="unknown method 'EZVL'; did you mean 'EZ-VSL'"):
        published_figures(method="EZVL")
    with pytest.raises(EvalInputError, match="unknown method '-'"):
        published_figures(method="-")


def test_figures_of_another_rule_are_refused() -> None:
    beside = figures_beside("vggss", ["fixed", "ezvsl"], "ciou@0.5")
    assert {(f.rule, f.testset, f.metric) for f in beside} == {("ezvsl", "vggss", "ciou@0.5")}
    with pytest.raises(
        EvalInputError, match=r"under fixed; rules with figures: acl, ezvsl, sslalignment, sspl"
    ):
        figures_beside("vggss", ["fixed"], "ciou@0.5")
    with pytest.raises(EvalInputError, match="rules with figures: none"):
        figures_beside("flickr", ["lvs"], "mean_iou")
    with pytest.raises(EvalInputError, match="under unstated"):
        figures_beside("vggss", [UNSTATED], "auc")


def test_a_row_of_unstated_rule_never_stands_beside_scores() -> None:
    for testset in ("vggss", "flickr"):
        rules = [*PROTOCOLS, UNSTATED]
        assert UNSTATED not in {f.rule for f in figures_beside(testset, rules, "ciou@0.5")}


def test_the_table_has_a_block_per_rule_and_names_sources() -> None:
    table = published_table(published_figures("flickr", "SL"))
    assert [block[0][0] for block in table.blocks] == ["slavc", UNSTATED]
    text = render([table], "text")
    assert "51.63" in text
    assert "[1] stoneMo/SLAVC README.md, Model Zoo: relative prediction" in text
    assert "do not compare" in text
