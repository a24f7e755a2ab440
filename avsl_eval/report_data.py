"""Turn results files into what the report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError
from avsl_eval.masks import LARGEST_SIDE
from avsl_eval.protocol import Protocol
from avsl_eval.protocol_table import PROTOCOLS
from avsl_eval.report_tables import missing_note
from avsl_eval.report_text import REFERENCE_NAMES
from avsl_eval.report_view import Curve, Estimate, Group, Method, Page, Panel, Reference, Source
from avsl_eval.results_file import WHOLE, Results
from avsl_eval.scores_file import read_scores
from avsl_eval.summary import compare_side_by_side

DETAILS = ("detection", "groups", "negatives", "segmentation", "sweep")
"""Further results of a scores file, in the order of the page."""


def read_page(results: Sequence[Results]) -> Page:
    """Gather everything that the page shows besides the gallery.

    Parameters
    ----------
    results
        One per method, of one test set.

    Returns
    -------
    Page
        Panels by protocol, then by subset, in the order of the first results.

    Raises
    ------
    EvalInputError
        If results do not belong together or are damaged, or a scores file that they name is.
    """
    try:
        return _page(results)
    except EvalInputError:
        raise
    # A file that somebody edited can lack or hold anything; each of these is what reading it then ends with.
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise EvalInputError(
            f"{' or '.join(str(r.path) for r in results)} is not what avsl-eval writes "
            f"({type(error).__name__}: {error}); score and collect again"
        ) from error


def _page(results: Sequence[Results]) -> Page:
    comparisons = compare_side_by_side(results)
    rules: dict[str, Mapping[str, Any]] = {}
    for comparison in comparisons:
        for protocol, rule in comparison.rules.items():
            check_rule(rule)
            if rules.setdefault(protocol, rule) != rule:
                raise EvalInputError(
                    f"subset {comparison.subset} was scored by another rule {protocol} than the others; "
                    "score them again"
                )
    panels = tuple(
        _panel(comparison.subset, protocol, results)
        for protocol in rules
        for comparison in comparisons
        if protocol in comparison.protocols
    )
    return Page(
        testset=results[0].testset,
        names=tuple(r.name for r in results),
        panels=panels,
        rules=rules,
        warnings=tuple(dict.fromkeys([*_missing(panels), *(w for r in results for w in _warnings(r))])),
        sources=tuple(source for r in results for source in _sources(r)),
        runs={r.name: r.content["provenance"]["runs"] for r in results if r.content["provenance"]["runs"]},
    )


def check_rule(rule: Mapping[str, Any]) -> None:
    """Check that fields make a rule that maps can be drawn under.

    Parameters
    ----------
    rule
        A protocol's fields, as a file embeds them.

    Raises
    ------
    TypeError, ValueError
        If a field is unknown or holds what no protocol has there.
    """
    known: dict[str, set[type]] = {}
    for protocol in PROTOCOLS.values():
        for field, value in protocol.to_dict().items():
            known.setdefault(field, set()).add(list if isinstance(value, tuple) else type(value))
    for field, value in rule.items():
        kinds = known.get(field, set())
        if type(value) not in kinds and not (type(value) is int and float in kinds):
            raise TypeError(f"rule with {field} {value!r}")
    if not 0 < rule["map_size"] <= LARGEST_SIDE:
        raise ValueError(f"rule with map_size {rule['map_size']}")
    Protocol.from_dict(rule)


def _panel(subset: str, protocol: str, results: Sequence[Results]) -> Panel:
    methods: list[Method | None] = []
    references: tuple[Reference, ...] = ()
    n_clips = n_silent = 0
    for r in results:
        found = r.subsets.get(subset, {}).get("protocols", {}).get(protocol)
        methods.append(None if found is None else _method(r.name, found))
        if found is not None:
            n_clips = int(r.subsets[subset]["n_expected"])
            n_silent = int(r.subsets[subset]["testset"]["n_silent"])
            references = references or references_of(found["context"], found.get("curve", {}))
    return Panel(subset, protocol, n_clips, tuple(methods), references, n_silent)


def _method(name: str, found: Mapping[str, Any]) -> Method:
    seeds = found["seeds"].values() if len(found["seeds"]) > 1 else ()
    large_ties = found.get("tied", {}).get("n_large")
    return Method(
        name=name,
        metrics={
            metric: estimate(pooled, [seed[metric]["value"] for seed in seeds])
            for metric, pooled in found["pooled"].items()
        },
        curve=curve_of(found.get("curve", {})),
        breakdown={
            str(division): tuple(
                Group(str(row["name"]), int(row["n"]), {m: estimate(v) for m, v in row["metrics"].items()})
                for row in rows
            )
            for division, rows in found.get("breakdown", {}).items()
        },
        n_scored=int(found["n_scored"]),
        missing=tuple(map(str, found["missing"])),
        tied_share=None if large_ties is None else large_ties / max(1, found["n_scored"]),
        details={key: found[key] for key in DETAILS if found.get(key)},
    )


def estimate(found: Any, seeds: Sequence[float] = ()) -> Estimate:
    """Understand a value of a file.

    Parameters
    ----------
    found
        A fraction, or ``{"value", "ci95"}`` of which the interval may be left out.
    seeds
        Values of the seeds.

    Returns
    -------
    Estimate
        The same.

    Raises
    ------
    ValueError
        If a value is not in [0, 1].

    Examples
    --------
    >>> estimate({"value": 0.5, "ci95": [0.4, 0.6]}).high, estimate(0.5).high
    (0.6, None)
    """
    if not isinstance(found, Mapping):
        return Estimate(_fraction(found), None, None, tuple(map(_fraction, seeds)))
    low, high = map(_fraction, found["ci95"]) if found.get("ci95") else (None, None)
    return Estimate(_fraction(found["value"]), low, high, tuple(map(_fraction, seeds)))


def _fraction(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{value} is no fraction")
    return number


def curve_of(found: Mapping[str, Any], answer: str | None = None) -> Curve:
    """Understand a success curve of a file.

    Parameters
    ----------
    found
        ``thresholds``, ``share``, and ``context`` with the shares of its answers; any may be absent.
    answer
        Whose curve of the context; None for the method's.

    Returns
    -------
    Curve
        Empty if there is none.

    Examples
    --------
    >>> curve_of({"thresholds": [0.0, 0.5], "share": [1.0, 0.25]})
    ((0.0, 1.0), (0.5, 0.25))
    """
    share = found.get("share") if answer is None else found.get("context", {}).get(answer)
    if not share:
        return ()
    return tuple((_fraction(x), _fraction(y)) for x, y in zip(found["thresholds"], share, strict=True))


def references_of(context: Mapping[str, Any], curve: Mapping[str, Any]) -> tuple[Reference, ...]:
    """Understand the answers that scores are read against.

    Parameters
    ----------
    context
        Answer to metrics.
    curve
        As for `curve_of`.

    Returns
    -------
    tuple of Reference
        Known answers first, in the order of `REFERENCE_NAMES`.
    """
    known = [key for key in REFERENCE_NAMES if key in context]
    return tuple(
        Reference(
            key,
            REFERENCE_NAMES.get(key, key),
            {m: estimate(v) for m, v in context[key].items()},
            curve_of(curve, key),
        )
        for key in [*known, *(key for key in context if key not in REFERENCE_NAMES)]
    )


def _missing(panels: Sequence[Panel]) -> list[tuple[str, str]]:
    """Say which methods lack which clips."""
    return [
        (method.name, _about(panel.subset, note))
        for panel in panels
        for _, method in panel.scored()
        if (note := missing_note(method))
    ]


def _warnings(results: Results) -> list[tuple[str, str]]:
    return [(results.name, _about(w["subset"], w["text"])) for w in results.content["warnings"]]


def _about(subset: str, text: str) -> str:
    return text if subset == WHOLE else f"{subset}: {text}"


def _sources(results: Results) -> list[Source]:
    """Say where scores come from; digests stand in the scores files, as far as those are still there."""
    several = len({file["seed"] for file in results.content["files"]}) > 1
    rows = {(file["scores"], file["subset"], file["seed"]): file for file in results.content["files"]}
    sources = []
    for (scores, subset, _), file in rows.items():
        path = Path(scores)
        content = read_scores(path).content if path.is_file() else {}
        sources.append(
            Source(
                results.name,
                int(file["seed"]) if several else None,
                subset,
                scores,
                content.get("inputs", {key: {"path": file[key]} for key in ("predictions", "annotations")}),
                content.get("versions", {}),
            )
        )
    return sources
