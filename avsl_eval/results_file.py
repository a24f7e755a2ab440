"""Results: the scores of one method on one test set over subsets, protocols, seeds; their provenance.

``results/<experiment>_<testset>.json`` (schema avsl-results/2; fractions)::

    name, testset
    subsets: {subset: {
        n_expected                annotated clips
        testset                   {name, n_clips, n_silent, truth, sha256} of the annotations
        protocols: {protocol: {
            rule                  the protocol's fields
            n_expected, n_scored, missing    clips that every seed predicted; ids that one or more did not
            pooled                {metric: {value, ci95, sd_over_seeds, n_seeds}}
            seeds                 {seed: {metric: {value, ci95}}}
            context               {ceiling | center_prior | ...: {metric: {value}}}
            tied                  {n, share, clips} of the seed that has most, where counted
            curve, breakdown, detection, groups, sweep, negatives, segmentation
                                  where scored, as in a scores file; numbers are means over seeds
    }}}}
    warnings: [{subset, seeds, text}]
    provenance: {config_digest, commit, device, versions, steps,    one value, or {seed: value}
                 checkpoint_sha256, wall_time_s, clips,             {seed: value}
                 runs, predictions,                                 {seed: run.json and validation, the
                                                                    validations in its log}, {seed: meta}
                 scorer}                                            one value, or {scores file: value}
    files: [{seed, subset, protocol, scores, per_clip, predictions, annotations}]

A scores file can stand wherever a results file can: it is one seed, 0, and one subset, ``all``.
`avsl_eval.pooling` says how seeds are pooled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError
from avsl_eval.io import read_json, write_files
from avsl_eval.pooling import pool
from avsl_eval.result import SCHEMA as SCORES_SCHEMA
from avsl_eval.scores_file import ScoresFile, read_scores, scores_file
from avsl_eval.shape import NUMBER, Each, ListOf, OrNull, faults

SCHEMA = "avsl-results/2"
WHOLE = "all"
"""The subset that a scores file stands for."""

_VALUES = Each({"value": NUMBER}, least=1)
_INTERVAL = OrNull(ListOf(NUMBER, 2))
_TESTSET = {"name": OrNull(str), "n_clips": int, "n_silent": int, "sha256": OrNull(str)}
_SCORED = {
    "rule": {"name": str, "version": int, "summary": str, "threshold": str},
    "n_expected": int,
    "n_scored": int,
    "missing": ListOf(str),
    "context": Each(_VALUES),
    "tied?": {"n": int, "share": NUMBER, "clips": ListOf(str)},
}
_SCORES_SHAPE = {
    "name": OrNull(str),
    "testset": _TESTSET,
    "inputs": {"predictions": {"path": OrNull(str)}, "annotations": {"path": OrNull(str)}},
    "predictions_meta": Each(object),
    "versions": Each(object),
    "warnings": ListOf(str),
    "protocols": Each({**_SCORED, "metrics": Each({"value": NUMBER, "ci95": _INTERVAL}, least=1)}, least=1),
}
"""What every scores file has, as far as results need it."""

_PROTOCOL = {
    **_SCORED,
    "pooled": Each(
        {"value": NUMBER, "ci95": _INTERVAL, "sd_over_seeds": OrNull(NUMBER), "n_seeds": int}, least=1
    ),
    "seeds": Each(_VALUES, least=1),
}
_SHAPE = {
    "name": str,
    "testset": str,
    "subsets": Each(
        {
            "n_expected": int,
            "testset": _TESTSET,
            "protocols": Each(_PROTOCOL, least=1),
        },
        least=1,
    ),
    "warnings": ListOf({"subset": str, "seeds": ListOf(int), "text": str}),
    "provenance": {"runs": Each(Each(object))},
    "files": ListOf({"seed": int, "subset": str, "protocol": str, "scores": str, "per_clip": str}),
}
"""What every results file has; the rest is there where it was scored."""


@dataclass(frozen=True)
class Results:
    """Hold the results of one method on one test set; `content` is the file's JSON."""

    content: Mapping[str, Any]
    path: Path | None = None

    @property
    def name(self) -> str:
        """Name of the experiment or method."""
        return str(self.content["name"])

    @property
    def testset(self) -> str:
        """Name of the test set."""
        return str(self.content["testset"])

    @property
    def subsets(self) -> Mapping[str, Mapping[str, Any]]:
        """Subset name to its clips' number and scores, see the module."""
        subsets: Mapping[str, Mapping[str, Any]] = self.content["subsets"]
        return subsets

    def files(self, subset: str, protocol: str) -> list[Mapping[str, Any]]:
        """Return the files of a subset under a protocol.

        Parameters
        ----------
        subset, protocol
            Names.

        Returns
        -------
        list of dict
            One per seed, the lowest first: keys seed, subset, protocol, scores, per_clip, predictions,
            annotations.
        """
        fitting = [f for f in self.content["files"] if (f["subset"], f["protocol"]) == (subset, protocol)]
        return sorted(fitting, key=lambda f: int(f["seed"]))

    def file(self, subset: str, protocol: str) -> Mapping[str, Any]:
        """Return the files of the lowest seed, see `files`.

        Parameters
        ----------
        subset, protocol
            Names.

        Returns
        -------
        dict
            The first of `files`.
        """
        return self.files(subset, protocol)[0]

    def save(self, path: Path) -> None:
        """Write the results file.

        Parameters
        ----------
        path
            Where to.
        """
        write_files({path: json.dumps(self.content, indent=1, allow_nan=False) + "\n"})


def read_results(path: Path) -> Results:
    """Read a results file, or a scores file as results.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Results
        Its content.

    Raises
    ------
    EvalInputError
        If it is neither.
    """
    made_by = "avsl-eval score or collect"
    content = read_json(path, None, made_by)
    schema = content.get("schema")
    if schema == SCORES_SCHEMA:
        return results_of_scores(_checked(scores_file(content, path)))
    if schema != SCHEMA:
        older = str(schema).startswith(("avsl-results/", "avsl-scores/"))
        raise EvalInputError(
            f"{path} has schema {schema!r}, not {SCHEMA} or {SCORES_SCHEMA}"
            + ("; an older version wrote it: write it again by " if older else "; such files are written by ")
            + made_by
        )
    _refuse(path, [*faults(content, _SHAPE)], "collect")
    results = Results(content, path)
    _refuse(path, [*_disagreements(results)], "collect")
    return results


def read_checked_scores(path: Path) -> ScoresFile:
    """Read a scores file and check all that results need of it.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    ScoresFile
        Its content.

    Raises
    ------
    EvalInputError
        If it is not one, or something in it is of another kind.
    """
    return _checked(read_scores(path))


def _checked(scores: ScoresFile) -> ScoresFile:
    _refuse(scores.path, [*faults(scores.content, _SCORES_SHAPE)], "score")
    return scores


def _disagreements(results: Results) -> Iterator[str]:
    for subset, held in results.subsets.items():
        for protocol, scores in held["protocols"].items():
            seeds = {str(file["seed"]) for file in results.files(subset, protocol)}
            if seeds != set(scores["seeds"]):
                yield f"files and seeds of {subset} under {protocol} differ"
            for metric, pooled in scores["pooled"].items():
                if pooled["n_seeds"] > 1 and pooled["sd_over_seeds"] is None:
                    yield f"subsets.{subset}.protocols.{protocol}.pooled.{metric} lacks sd_over_seeds"


def _refuse(path: Path, found: Sequence[str], command: str) -> None:
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise EvalInputError(f"{path}: {found[0]}{more}; write it again by avsl-eval {command}")


def read_named(text: str) -> Results:
    """Read a file that an argument names, with another name for its method if the argument has one.

    Parameters
    ----------
    text
        ``PATH`` or ``NAME=PATH``.

    Returns
    -------
    Results
        Of the file, under that name.
    """
    name, separator, path = text.partition("=")
    if not separator or not name or "/" in name or Path(text).exists():
        return read_results(Path(text))
    found = read_results(Path(path))
    return replace(found, content={**found.content, "name": name})


def results_of_scores(scores: ScoresFile) -> Results:
    """Regard a scores file as results of one seed and one subset.

    Parameters
    ----------
    scores
        The scores file.

    Returns
    -------
    Results
        With seed 0 and subset ``all``.
    """
    content, meta = scores.content, scores.content["predictions_meta"]
    annotations = content["inputs"]["annotations"]["path"] or "unnamed"
    pooled = {name: pool({0: found}) for name, found in scores.protocols.items()}
    return Results(
        {
            "schema": SCHEMA,
            "name": content.get("name") or scores.path.stem,
            "testset": content["testset"]["name"] or Path(annotations).stem,
            "subsets": {WHOLE: subset_of(content["testset"], pooled)},
            "warnings": collected_warnings([(WHOLE, 0, scores)]),
            "provenance": {
                **dict.fromkeys(("config_digest", "commit", "device", "versions", "steps")),
                **{key: {} for key in ("checkpoint_sha256", "wall_time_s", "clips", "runs")},
                "predictions": {"0": meta} if meta else {},
                "scorer": content["versions"],
            },
            "files": file_rows(scores, 0, WHOLE),
        },
        scores.path,
    )


def subset_of(testset: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the scores of one subset together.

    Parameters
    ----------
    testset
        The annotations, as a scores file describes them.
    protocols
        Protocol to pooled scores.

    Returns
    -------
    dict
        One of ``subsets``.
    """
    return {
        "n_expected": next(iter(protocols.values()))["n_expected"],
        "testset": testset,
        "protocols": protocols,
    }


def collected_warnings(scored: Sequence[tuple[str, int, ScoresFile]]) -> list[dict[str, Any]]:
    """Collect the warnings of several scores files, each once per subset.

    Parameters
    ----------
    scored
        (subset, seed, scores file).

    Returns
    -------
    list of dict
        Keys subset, seeds, text.
    """
    seeds: dict[tuple[str, str], list[int]] = {}
    for subset, seed, scores in scored:
        for text in scores.content["warnings"]:
            seeds.setdefault((subset, text), []).append(seed)
    return [
        {"subset": subset, "seeds": sorted(set(found)), "text": text}
        for (subset, text), found in seeds.items()
    ]


def file_rows(scores: ScoresFile, seed: int, subset: str) -> list[dict[str, Any]]:
    """Say where the scores of one seed and subset come from.

    Parameters
    ----------
    scores
        The scores file.
    seed, subset
        Of what it is the score.

    Returns
    -------
    list of dict
        Rows of ``files``, one per protocol.
    """
    inputs = scores.content["inputs"]
    return [
        {
            "seed": seed,
            "subset": subset,
            "protocol": protocol,
            "scores": str(scores.path),
            "per_clip": str(scores.per_clip),
            "predictions": inputs["predictions"]["path"],
            "annotations": inputs["annotations"]["path"],
        }
        for protocol in scores.protocols
    ]
