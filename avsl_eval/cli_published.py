"""The command ``published``."""

from __future__ import annotations

import argparse
import csv
import sys

from avsl_eval.cli import Commands, add_command


def add_published(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``published``.

    Parameters
    ----------
    commands
        The program's subparsers.
    """
    sub = add_command(
        commands,
        "published",
        _published,
        "list published figures, each with its rule and source",
        "published --testset vggss --method ezvsl --markdown",
    )
    sub.add_argument("--testset", metavar="NAME", help="of this test set only, such as vggss")
    sub.add_argument("--method", metavar="NAME", help="of this method only, such as ezvsl")
    forms = sub.add_mutually_exclusive_group()
    for form, text in (
        ("csv", "comma-separated, values as fractions"),
        ("markdown", "Markdown"),
        ("latex", "LaTeX with booktabs"),
    ):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=text)
    sub.set_defaults(form="text")


def _published(arguments: argparse.Namespace) -> None:
    from avsl_eval.layout import render
    from avsl_eval.published import COLUMNS, published_figures, published_table

    figures = published_figures(arguments.testset, arguments.method)
    if arguments.form != "csv":
        print(render([published_table(figures)], arguments.form))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for figure in figures:
        values = [getattr(figure, column) for column in COLUMNS]
        writer.writerow("" if value is None else value for value in values)
