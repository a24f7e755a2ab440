"""What the report shows, as plain data: methods and references under each protocol.

The rendering functions (`avsl_eval.report_charts`, `avsl_eval.report_tables`) see nothing but these classes.
A method is known by its place k in the order of the command line: that decides its colour and marker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avsl_eval.results_file import WHOLE

Curve = tuple[tuple[float, float], ...]
"""Points (x, share of clips with cIoU >= x) of a success curve, by increasing x."""


@dataclass(frozen=True)
class Estimate:
    """Hold a metric's value, all fractions.

    Parameters
    ----------
    value
        The value; over several seeds their mean.
    low, high
        Bounds of the 95 % interval over clips, or None where there is none.
    seeds
        The values of the seeds, where there are several.
    """

    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    """Hold the scores of some clips of a test set, for example of one class."""

    name: str
    n: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Reference:
    """Hold what an answer reaches that scores are read against, for example the centred disc."""

    key: str
    name: str
    metrics: Mapping[str, Estimate]
    curve: Curve = ()


@dataclass(frozen=True)
class Method:
    """Hold a method's scores on one subset under one protocol.

    Parameters
    ----------
    name
        Of the method.
    metrics
        Metric to value; the first is the one that charts and breakdowns show.
    curve
        Its success curve; empty where unknown.
    breakdown
        What clips are divided by (``size``, ``n_boxes``, ``class``, given subsets) to the groups.
    n_scored
        Clips that have a prediction.
    missing
        Ids of clips that have none.
    tied_share
        Share of maps with more than 1 % of their pixels equal to the threshold, or None where unknown.
    details
        Other results by name (``detection``, ``groups``, ``negatives``, ...), as the scores file has them.
    """

    name: str
    metrics: Mapping[str, Estimate]
    curve: Curve = ()
    breakdown: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    n_scored: int = 0
    missing: tuple[str, ...] = ()
    tied_share: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """Hold one subset under one protocol.

    Parameters
    ----------
    subset, protocol
        Names.
    n_clips
        Annotated clips.
    methods
        In the order of the page; None where a method was not scored.
    references
        What scores are read against.
    n_silent
        Clips of those in which nothing sounds; no metric here is over them.
    """

    subset: str
    protocol: str
    n_clips: int
    methods: tuple[Method | None, ...]
    references: tuple[Reference, ...]
    n_silent: int = 0

    @property
    def title(self) -> str:
        """The subset and the protocol, as plain text."""
        return f"{'all clips' if self.subset == WHOLE else self.subset} under {self.protocol}"

    @property
    def clips(self) -> str:
        """How many clips there are, as plain text."""
        silent = f", in {self.n_silent} of which nothing sounds" if self.n_silent else ""
        return f"{self.n_clips} clips{silent}"

    def scored(self) -> list[tuple[int, Method]]:
        """Return the methods that were scored, with their places on the page.

        Returns
        -------
        list of (k, Method)
            By increasing k.
        """
        return [(k, method) for k, method in enumerate(self.methods) if method is not None]

    def metrics(self) -> list[str]:
        """Return the metrics that a method was scored by.

        Returns
        -------
        list of str
            The first method's come first, in its order.
        """
        return list(dict.fromkeys(metric for _, method in self.scored() for metric in method.metrics))


@dataclass(frozen=True)
class Source:
    """Say where the scores of one method, seed and subset come from.

    Parameters
    ----------
    method, seed, subset
        Whose scores; the seed is None where there is just one set of predictions.
    scores
        Path of the scores file.
    inputs
        ``predictions`` and ``annotations`` to path and sha256.
    versions
        What computed the scores.
    """

    method: str
    seed: int | None
    subset: str
    scores: str
    inputs: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """Hold everything that the page shows besides the gallery.

    Parameters
    ----------
    testset
        Its name.
    names
        Of the methods, in the order of the command line.
    panels
        By protocol, then by subset.
    rules
        Protocol to its fields.
    warnings
        (whose, one sentence) that a reader has to know first.
    sources
        Scores files.
    runs
        Method to seed to the record of its training, where there is one.
    """

    testset: str
    names: tuple[str, ...]
    panels: tuple[Panel, ...]
    rules: Mapping[str, Mapping[str, Any]]
    warnings: tuple[tuple[str, str], ...] = ()
    sources: tuple[Source, ...] = ()
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
