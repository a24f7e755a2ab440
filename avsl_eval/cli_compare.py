"""The command ``compare``."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_eval.cli import Commands, add_command


def add_compare(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``compare``.

    Parameters
    ----------
    commands
        The program's subparsers.
    """
    sub = add_command(
        commands,
        "compare",
        _compare,
        "test whether methods differ, on the clips that both predicted",
        "compare results/supervised_demo.json results/xpl_demo.json --protocol strict --out comparison.json",
    )
    sub.add_argument(
        "scores",
        nargs="+",
        metavar="[NAME=]JSON",
        help="scores or results files of one test set, two or more",
    )
    sub.add_argument(
        "--protocol", nargs="+", metavar="NAME", help="protocols or suites (default: all that two share)"
    )
    sub.add_argument("--metric", nargs="+", metavar="NAME", help="metrics that are printed (default: all)")
    sub.add_argument(
        "--details",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="print sizes, classes and clips that differ most (default: for two methods under one rule)",
    )
    sub.add_argument(
        "--published",
        metavar="TESTSET",
        help="print published figures on a test set, such as vggss, that have one of the rules",
    )
    sub.add_argument("--out", type=Path, metavar="JSON", help="file to write, with all metrics and details")
    forms = sub.add_mutually_exclusive_group()
    for form, text in (("markdown", "print Markdown"), ("latex", "print LaTeX with booktabs")):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=text)
    sub.set_defaults(form="text")


def _compare(arguments: argparse.Namespace) -> None:
    from avsl_eval.compare import compare, save_comparison
    from avsl_eval.compare_text import comparison_tables
    from avsl_eval.io import refuse_overwriting
    from avsl_eval.layout import render
    from avsl_eval.published import figures_beside, published_table
    from avsl_eval.results_file import read_named

    results = [read_named(text) for text in arguments.scores]
    if arguments.out:
        refuse_overwriting([arguments.out], [r.path for r in results if r.path])
    content = compare(results, arguments.protocol)
    tables = comparison_tables(content, arguments.metric, arguments.details)
    if arguments.published:
        rules = list(dict.fromkeys(rule for found in content["subsets"].values() for rule in found))
        figures = [
            figure
            for metric in arguments.metric or ["ciou@0.5"]
            for figure in figures_beside(arguments.published, rules, metric)
        ]
        tables.append(published_table(figures))
    if arguments.out:
        save_comparison(content, arguments.out)
    print(render(tables, arguments.form))
