"""A benchmark's tables as Markdown and its drawings, written into a document between two marks.

Nothing is typed by hand: the same ``benchmark.json`` gives the same text, so that a test can compare them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avsl_eval.benchmark import ABLATION
from avsl_eval.benchmark_charts import budget_lines, chart, learning_lines
from avsl_eval.errors import EvalInputError
from avsl_eval.layout import Table, render

BEGIN = "<!-- begin: avsl-eval benchmark-page -->\n"
END = "<!-- end -->\n"
EMPTY = "-"


def page(content: Mapping[str, Any], figures: str) -> tuple[str, dict[str, str]]:
    """Write the tables and drawings of a benchmark.

    Parameters
    ----------
    content
        Of ``benchmark.json``.
    figures
        Folder of the drawings as the document names it, such as ``benchmark_demo``.

    Returns
    -------
    text : str
        Markdown.
    drawings : dict
        File name to SVG.
    """
    drawings = _drawings(content)
    shown = [f"![{name}]({figures}/{file})" for file, (name, _) in drawings.items()]
    tables = [main_table(content), difference_table(content)]
    tables += [budget_table(content, subset) for subset in content["subsets"]]
    if any(method["kind"] == ABLATION for method in content["methods"]):
        tables.append(ablation_table(content))
    text = "\n\n".join([*(render([table], "markdown") for table in tables), *shown, _made_of(content)])
    return text + "\n", {file: svg for file, (_, svg) in drawings.items()}


def update(document: str, text: str, path: Path) -> str:
    """Replace what stands between a document's marks.

    Raises
    ------
    EvalInputError
        If the document, which is that of `path`, lacks a mark.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise EvalInputError(
            f"{path} has no marks {BEGIN.strip()} and {END.strip()}; write them in their place"
        )
    return head + BEGIN + text + END + tail


def main_table(content: Mapping[str, Any]) -> Table:
    """Return the methods at the main budget: score, interval, spread over seeds and late steps, cost."""
    subsets, rule = list(content["subsets"]), content["protocol"]
    adaptive = "adaptive" if _all_have(content, "adaptive") else None
    header = ["", *(f"{subset} [95 %], sd" for subset in subsets)]
    header += [f"{subset}, {adaptive}" for subset in subsets if adaptive]
    header += ["sd over late steps", "seconds"]
    rows = []
    for method in _methods(content):
        cell = _cell(content, method, content["main"])
        if cell is None:
            rows.append((method, *[EMPTY] * (len(header) - 1)))
            continue
        row = [_whole(cell["subsets"][subset][rule]) for subset in subsets]
        row += [_percent(cell["subsets"][subset][adaptive]["value"]) for subset in subsets if adaptive]
        late = cell["late_sd"]
        row += [EMPTY if late is None else _percent(_mean(late.values()), 2)]
        row += [f"{_mean(cell['seconds'].values()):.0f}" if cell["seconds"] else EMPTY]
        rows.append((method, *row))
    context = "; ".join(
        f"{subset}: {held['n']} clips"
        + "".join(
            f", {title} {_percent(held['context'][key])}"
            for key, title in (("center_prior", "centred disc"), ("ceiling", "ceiling"))
            if key in held["context"]
        )
        for subset, held in content["subsets"].items()
    )
    return Table(
        f"cIoU@0.5 in percent under {rule}, {_labels(content, content['main'])}, mean of {_seeds(content)}",
        tuple(header),
        (tuple(rows),),
        (
            f"{context}.",
            "Brackets: bootstrap over clips of each clip's mean over seeds. sd: over seeds. sd over late "
            "steps: of the validation score after three quarters of the steps, mean of the seeds. Seconds: "
            "of one training, mean.",
        ),
    )


def difference_table(content: Mapping[str, Any]) -> Table:
    """Return how far the reference is above every other method at the main budget, clip by clip."""
    others = [method for method in _methods(content) if method != content["reference"]]
    return Table(
        f"{content['reference']} minus the others in points, {_labels(content, content['main'])}",
        ("", *content["subsets"]),
        (tuple(_difference_row(content, method) for method in others),),
        ("Paired over clips; brackets: 95 % bootstrap; p: sign-flip test, Holm's correction.",),
    )


def budget_table(content: Mapping[str, Any], subset: str) -> Table:
    """Return the methods over label budgets on one subset."""
    budgets = [budget["testset"] for budget in content["budgets"]]
    rows = []
    for method in _methods(content):
        cells = [_cell(content, method, testset) for testset in budgets]
        values = [EMPTY if c is None else _whole(c["subsets"][subset][content["protocol"]]) for c in cells]
        rows.append((method, *values))
    header = ("", *(_labels(content, testset) for testset in budgets))
    return Table(f"{subset}, by label budget", header, (tuple(rows),))


def ablation_table(content: Mapping[str, Any]) -> Table:
    """Return the reference and what it is without its parts, at the main budget."""
    rule, subsets = content["protocol"], list(content["subsets"])
    ablations = [method["name"] for method in content["methods"] if method["kind"] == ABLATION]
    rows = []
    for method in [content["reference"], *ablations]:
        cell = _cell(content, method, content["main"])
        found = [EMPTY if cell is None else _whole(cell["subsets"][subset][rule]) for subset in subsets]
        lost = _difference_row(content, method)[1:]
        late = None if cell is None else cell["late_sd"]
        rows.append((method, *found, *lost, EMPTY if late is None else _percent(_mean(late.values()), 2)))
    lacks = tuple(f"{content['reference']} minus it, {subset}" for subset in subsets)
    return Table(
        f"{content['reference']} without its parts, {_labels(content, content['main'])}",
        ("", *subsets, *lacks, "sd over late steps"),
        (tuple(rows),),
    )


def _drawings(content: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return file name to (what is shown, SVG)."""
    found: dict[str, tuple[str, str]] = {}
    for subset in content["subsets"]:
        if lines := budget_lines(content, subset):
            title = f"{subset}: cIoU@0.5 ({content['protocol']}, percent) over labelled clips"
            found[f"{subset}.svg"] = (title, chart(lines, title, "labelled clips", log=True))
    if lines := learning_lines(content):
        title = f"validation clips: cIoU@0.5 ({content['protocol']}, percent) over steps"
        found["learning.svg"] = (title, chart(lines, title, "steps"))
    return found


def _made_of(content: Mapping[str, Any]) -> str:
    """Return what the tables were made of, in one line."""
    cells = content["cells"]
    trainings = sum(len(cell["seeds"]) for cell in cells)
    seconds = sum(sum(cell["seconds"].values()) for cell in cells)
    commits = sorted({str(cell["commit"])[:12] for cell in cells if cell["commit"]})
    devices = sorted({str(cell["device"]) for cell in cells if cell["device"]})
    lacking = [f"{one['method']} on {one['testset']}" for one in content["missing"]]
    parts = [f"{trainings} trainings, {seconds / 3600:.1f} hours one after the other"]
    parts += [f"device: {', '.join(devices)}"] if devices else []
    parts += [f"commit {', '.join(commits)}"] if commits else []
    parts += [f"not there: {', '.join(lacking)}"] if lacking else []
    return "; ".join(parts) + "."


def _methods(content: Mapping[str, Any]) -> list[str]:
    return [method["name"] for method in content["methods"] if method["kind"] != ABLATION]


def _cell(content: Mapping[str, Any], method: str, testset: str) -> Mapping[str, Any] | None:
    for cell in content["cells"]:
        if (cell["method"], cell["testset"]) == (method, testset):
            return dict(cell)
    return None


def _all_have(content: Mapping[str, Any], protocol: str) -> bool:
    return all(protocol in found for cell in content["cells"] for found in cell["subsets"].values())


def _difference_row(content: Mapping[str, Any], method: str) -> tuple[str, ...]:
    cell = _cell(content, method, content["main"])
    row = [method]
    for subset in content["subsets"]:
        found = None if cell is None or cell["differences"] is None else cell["differences"].get(subset)
        row.append(EMPTY if found is None else _difference(found))
    return tuple(row)


def _difference(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    p = found["p_holm"]
    said = "p < .001" if p < 0.001 else f"p {p:.3f}".replace("0.", ".", 1)
    return f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], {said}"


def _whole(found: Mapping[str, Any]) -> str:
    bounds = found["ci95"]
    interval = "" if bounds is None else f" [{_percent(bounds[0])}, {_percent(bounds[1])}]"
    spread = "" if found["sd_over_seeds"] is None else f", {_percent(found['sd_over_seeds'])}"
    return f"{_percent(found['value'])}{interval}{spread}"


def _labels(content: Mapping[str, Any], testset: str) -> str:
    budget = next(budget for budget in content["budgets"] if budget["testset"] == testset)
    return f"{100 * budget['labeled'] / budget['clips']:.0f} % labels ({budget['labeled']} clips)"


def _seeds(content: Mapping[str, Any]) -> str:
    counts = sorted({len(cell["seeds"]) for cell in content["cells"]})
    return f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def _mean(values: Any) -> float:
    listed: Sequence[float] = list(values)
    return sum(listed) / len(listed)
