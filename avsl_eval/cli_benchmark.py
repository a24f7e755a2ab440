"""The commands ``benchmark`` and ``benchmark-page``: a grid of trainings as one table, and as a document."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_eval.cli import Commands, add_command
from avsl_eval.errors import EvalInputError


def add_benchmark(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``benchmark``."""
    sub = add_command(
        commands,
        "benchmark",
        _benchmark,
        "put results of methods, label budgets and seeds into one table: differences, spread, cost",
        "benchmark results/benchmark_demo/*.json --name demo --reference xpl --main demo --out table.json",
    )
    sub.add_argument("results", nargs="+", type=Path, metavar="JSON", help="results files, one per cell")
    sub.add_argument("--name", required=True, help="name of the benchmark")
    sub.add_argument("--reference", required=True, metavar="METHOD", help="what the others are compared with")
    sub.add_argument("--main", required=True, metavar="TESTSET", help="test set whose budget ablations have")
    sub.add_argument(
        "--ablations", nargs="+", default=[], metavar="METHOD", help="methods at the main budget only"
    )
    sub.add_argument("--protocol", default="fixed", metavar="NAME", help="rule of the table (default: fixed)")
    sub.add_argument(
        "--partial", action="store_true", help="leave out results that do not exist yet; the table names them"
    )
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="file to write")


def _benchmark(arguments: argparse.Namespace) -> None:
    from avsl_eval.benchmark import benchmark, save_benchmark
    from avsl_eval.io import refuse_overwriting
    from avsl_eval.results_file import read_results

    refuse_overwriting([arguments.out], arguments.results)
    paths = [path for path in arguments.results if path.exists() or not arguments.partial]
    ablations = arguments.ablations
    cells = [read_results(path) for path in paths]
    if arguments.partial:
        ablations = [name for name in ablations if name in {cell.name for cell in cells}]
    content = benchmark(
        cells,
        name=arguments.name,
        reference=arguments.reference,
        main=arguments.main,
        protocol=arguments.protocol,
        ablations=ablations,
    )
    save_benchmark(content, arguments.out)


def add_benchmark_page(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``benchmark-page``."""
    sub = add_command(
        commands,
        "benchmark-page",
        _page,
        "print a benchmark's tables as Markdown, or write tables and drawings into a document",
        "benchmark-page results/benchmark_demo.json --update docs/benchmark.md",
    )
    sub.add_argument("benchmark", type=Path, metavar="JSON", help="what avsl-eval benchmark wrote")
    sub.add_argument(
        "--update",
        type=Path,
        metavar="FILE",
        help="write the tables between FILE's marks, and drawings and a copy of JSON into a folder beside it",
    )


def _page(arguments: argparse.Namespace) -> None:
    from avsl_eval.benchmark import read_benchmark
    from avsl_eval.benchmark_page import page, update
    from avsl_eval.io import write_files

    content = read_benchmark(arguments.benchmark)
    folder = f"benchmark_{content['name']}"
    text, drawings = page(content, folder)
    path: Path | None = arguments.update
    if path is None:
        print(text, end="")
        return
    try:
        document = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EvalInputError(f"cannot read --update {path}: {error.strerror}") from error
    beside = path.parent / folder
    copy = beside / "benchmark.json"
    files = {beside / file: svg for file, svg in drawings.items()}
    if not (copy.exists() and copy.samefile(arguments.benchmark)):
        files[copy] = arguments.benchmark.read_text(encoding="utf-8")
    write_files({**files, path: update(document, text, path)})
