"""The commands that show scores: ``collect``, ``summary``, ``table`` and ``gallery``."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_eval.cli import Commands, add_command
from avsl_eval.cli_report import GALLERY_SIZE


def add_collect(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``collect``."""
    sub = add_command(
        commands,
        "collect",
        _collect,
        "collect the scores of one experiment on one test set into one results file",
        "collect --name xpl --testset demo --scores seed=0,subset=heard,s/heard.json --run seed=0,run.json "
        "--out results/xpl_demo.json",
    )
    sub.add_argument("--name", required=True, help="name of the experiment or method")
    sub.add_argument("--testset", required=True, help="name of the test set")
    sub.add_argument(
        "--scores",
        nargs="+",
        required=True,
        metavar="[seed=K,subset=NAME,]JSON",
        help="scores files with their tables; a path seed<K>/<subset>.json says both itself",
    )
    sub.add_argument(
        "--run",
        nargs="+",
        default=[],
        metavar="[seed=K,]JSON",
        help="run.json of each training; a path seed<K>/run.json says its seed itself",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="results file to write")


def _collect(arguments: argparse.Namespace) -> None:
    from avsl_eval.collect import collect, parse_run, parse_scores
    from avsl_eval.io import refuse_overwriting

    scores = [parse_scores(text) for text in arguments.scores]
    runs = [parse_run(text) for text in arguments.run]
    refuse_overwriting([arguments.out], [*(s.path for s in scores), *(r.path for r in runs)])
    results = collect(arguments.name, arguments.testset, scores, runs)
    results.save(arguments.out)


def add_summary(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``summary``."""
    sub = add_command(
        commands,
        "summary",
        _summary,
        "print scores or results files as a table",
        "summary results/supervised_demo.json results/xpl_demo.json",
    )
    _add_table_arguments(sub)


def _summary(arguments: argparse.Namespace) -> None:
    print(_tables(arguments, "text", digits=1))


def add_table(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``table``."""
    sub = add_command(
        commands,
        "table",
        _table,
        "write scores or results files as a table for a paper",
        "table a.json b.json --format latex --protocol strict --metric auc --published vggss",
    )
    _add_table_arguments(sub)
    sub.add_argument(
        "--format", default="markdown", metavar="NAME", help="text, markdown or latex (default: markdown)"
    )
    sub.add_argument("--digits", type=int, choices=range(5), default=2, help="decimals (default: 2)")
    sub.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: print)")


def _table(arguments: argparse.Namespace) -> None:
    from avsl_eval.io import refuse_overwriting, write_files

    text = _tables(arguments, arguments.format, arguments.digits)
    if arguments.out is None:
        print(text)
        return
    refuse_overwriting([arguments.out], [Path(named.rpartition("=")[2]) for named in arguments.results])
    write_files({arguments.out: text + "\n"})


def _add_table_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "results", nargs="+", metavar="[NAME=]JSON", help="scores or results files of one test set"
    )
    sub.add_argument("--protocol", nargs="+", metavar="NAME", help="protocols or suites (default: all)")
    sub.add_argument("--metric", default="ciou@0.5", metavar="NAME", help="metric (default: ciou@0.5)")
    sub.add_argument(
        "--published", metavar="TESTSET", help="add published figures on a test set, such as vggss, by rule"
    )


def _tables(arguments: argparse.Namespace, form: str, digits: int) -> str:
    from avsl_eval.layout import render
    from avsl_eval.results_file import read_named
    from avsl_eval.tables import score_tables

    tables = score_tables(
        [read_named(text) for text in arguments.results],
        arguments.metric,
        arguments.protocol,
        published=arguments.published,
        digits=digits,
    )
    return render(tables, form)


def add_gallery(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``gallery``."""
    sub = add_command(
        commands,
        "gallery",
        _gallery,
        "choose the clips that a report shows",
        "gallery --scores results/supervised_demo.json results/xpl_demo.json --n 24 --out ids.txt",
    )
    sub.add_argument(
        "--scores", nargs="+", type=Path, required=True, metavar="JSON", help="results files of one test set"
    )
    sub.add_argument("--n", type=int, default=GALLERY_SIZE, help=f"number of clips (default: {GALLERY_SIZE})")
    sub.add_argument("--out", type=Path, required=True, metavar="TXT", help="file to write, one id per line")


def _gallery(arguments: argparse.Namespace) -> None:
    from avsl_eval.gallery import choose
    from avsl_eval.io import refuse_overwriting, write_files
    from avsl_eval.results_file import read_results

    refuse_overwriting([arguments.out], arguments.scores)
    picks = choose([read_results(path) for path in arguments.scores], arguments.n)
    write_files({arguments.out: "".join(f"{pick.clip_id}\n" for pick in picks)})
