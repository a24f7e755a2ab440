"""docs/benchmark.md and its drawings are what its own benchmark.json gives."""

from __future__ import annotations

from pathlib import Path

from avsl_eval.benchmark import read_benchmark
from avsl_eval.benchmark_page import BEGIN, END, page


def test_the_document_is_written_from_its_file(repository: Path) -> None:
    folder = repository / "docs/benchmark_demo"
    text, drawings = page(read_benchmark(folder / "benchmark.json"), folder.name)
    document = (repository / "docs/benchmark.md").read_text(encoding="utf-8")
    remedy = "run avsl-eval benchmark-page docs/benchmark_demo/benchmark.json --update docs/benchmark.md"
    assert BEGIN + text + END in document, remedy
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")} == drawings, remedy
