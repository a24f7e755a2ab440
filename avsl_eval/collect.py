"""Collect the scores of one experiment on one test set into one results file.

`avsl_eval.results_file` says what the file holds, `avsl_eval.pooling` how seeds become one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError, unknown_name
from avsl_eval.io import read_json
from avsl_eval.per_clip import PerClip, read_tables
from avsl_eval.pooling import agrees, pool
from avsl_eval.results_file import (
    SCHEMA,
    Results,
    collected_warnings,
    file_rows,
    read_checked_scores,
    subset_of,
)
from avsl_eval.scores_file import ScoresFile
from avsl_eval.training_log import LOG, validations

_SEED_FOLDER = re.compile(r"seed(\d+)")
_COMMON_KEYS = ("config_digest", "commit", "device", "versions", "steps")
_SEED_KEYS = ("checkpoint_sha256", "wall_time_s", "clips")


@dataclass(frozen=True)
class ScoresSource:
    """Name a scores file and what it is the score of."""

    path: Path
    seed: int
    subset: str


@dataclass(frozen=True)
class RunSource:
    """Name a run.json; its seed is None where only the file itself says it."""

    path: Path
    seed: int | None


def _split_fields(text: str, known: Sequence[str]) -> tuple[dict[str, str], Path]:
    """Split ``key=value,key=value,PATH``; a path may hold commas and equal signs itself."""
    fields: dict[str, str] = {}
    rest = text
    while match := re.match(r"(\w+)=([^,/]*),", rest):
        if match[1] not in known:
            raise unknown_name(f"field of {text!r}", match[1], known)
        fields[match[1]] = match[2]
        rest = rest[match.end() :]
    return fields, Path(rest)


def _seed(fields: Mapping[str, str], path: Path) -> int | None:
    match = _SEED_FOLDER.fullmatch(path.parent.name)
    text = fields.get("seed", match[1] if match else None)
    if text is None:
        return None
    if not text.isdecimal():
        raise EvalInputError(f"seed {text!r} of {path} is not a whole number")
    return int(text)


def parse_scores(text: str) -> ScoresSource:
    """Understand an argument that names a scores file.

    Parameters
    ----------
    text
        ``seed=0,subset=heard,PATH``; a field may be left out where the path is
        ``.../seed<K>/<subset>.json``.

    Returns
    -------
    ScoresSource
        The file, its seed and subset.

    Raises
    ------
    EvalInputError
        If a field is unknown, or neither fields nor path say what the file is.

    Examples
    --------
    >>> parse_scores("seed=3,subset=heard,x.json").seed, parse_scores("a/seed0/unheard.json").subset
    (3, 'unheard')
    """
    fields, path = _split_fields(text, ("seed", "subset"))
    seed = _seed(fields, path)
    subset = fields.get("subset") or (
        path.name.split(".")[0] if _SEED_FOLDER.fullmatch(path.parent.name) else ""
    )
    if seed is None or not subset:
        raise EvalInputError(
            f"cannot tell seed and subset of {path} from its path (.../seed<K>/<subset>.json); "
            f"write seed=K,subset=NAME,{path}"
        )
    return ScoresSource(path, seed, subset)


def parse_run(text: str) -> RunSource:
    """Understand an argument that names a run.json.

    Parameters
    ----------
    text
        ``seed=0,PATH``, or just the path where it is ``.../seed<K>/run.json`` or the file has a key ``seed``.

    Returns
    -------
    RunSource
        The file, and its seed where the argument tells it.

    Examples
    --------
    >>> parse_run("runs/demo/xpl/seed2/run.json").seed
    2
    """
    fields, path = _split_fields(text, ("seed",))
    return RunSource(path, _seed(fields, path))


def collect(name: str, testset: str, scores: Sequence[ScoresSource], runs: Sequence[RunSource]) -> Results:
    """Collect the scores of one experiment on one test set.

    Parameters
    ----------
    name, testset
        Of the experiment and the test set.
    scores
        Scores files, each with its per_clip.csv beside it.
    runs
        Records of the trainings, at most one per seed; validations are read from the log beside each.

    Returns
    -------
    Results
        See `avsl_eval.results_file`.

    Raises
    ------
    EvalInputError
        If a file is damaged, two are of the same thing, or seeds differ in annotations, clips or rule.
    """
    read = [_Scored.read(source) for source in scores]
    _check_once(read)
    subsets: dict[str, Any] = {}
    for subset in dict.fromkeys(one.source.subset for one in read):
        of_subset = [one for one in read if one.source.subset == subset]
        first = of_subset[0]
        for other in of_subset[1:]:
            if other.testset["sha256"] != first.testset["sha256"]:
                raise EvalInputError(
                    f"{other.source.path} and {first.source.path} were scored against different annotations, "
                    f"subset {subset}; score them again"
                )
        protocols = dict.fromkeys(protocol for one in of_subset for protocol in one.scores.protocols)
        subsets[subset] = subset_of(
            first.testset, {protocol: _pool(of_subset, protocol) for protocol in protocols}
        )
    return Results(
        {
            "schema": SCHEMA,
            "name": name,
            "testset": testset,
            "subsets": subsets,
            "warnings": collected_warnings(
                [(one.source.subset, one.source.seed, one.scores) for one in read]
            ),
            "provenance": _provenance(runs, read),
            "files": [
                row for one in read for row in file_rows(one.scores, one.source.seed, one.source.subset)
            ],
        }
    )


@dataclass(frozen=True)
class _Scored:
    """Hold a scores file and its per-clip table, checked against each other."""

    source: ScoresSource
    scores: ScoresFile
    tables: Mapping[str, PerClip]

    @property
    def testset(self) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self.scores.content["testset"]
        return described

    @classmethod
    def read(cls, source: ScoresSource) -> _Scored:
        scores = read_checked_scores(source.path)
        tables = read_tables(scores.per_clip)
        for protocol, stated in scores.protocols.items():
            if protocol not in tables or not agrees(tables[protocol], stated["metrics"]):
                raise EvalInputError(
                    f"{scores.per_clip} and {scores.path} are of different evaluations (under {protocol}); "
                    "write both by one avsl-eval score"
                )
        return cls(source, scores, tables)


def _check_once(read: Iterable[_Scored]) -> None:
    """Check that no seed, subset and protocol comes from two files."""
    seen: dict[tuple[int, str, str], Path] = {}
    for one in read:
        for protocol in one.scores.protocols:
            key = (one.source.seed, one.source.subset, protocol)
            if key in seen:
                raise EvalInputError(
                    f"{one.source.path} and {seen[key]} are both of seed {key[0]}, subset {key[1]}, "
                    f"protocol {protocol}"
                )
            seen[key] = one.source.path


def _pool(of_subset: Sequence[_Scored], protocol: str) -> dict[str, Any]:
    """Pool the seeds that were scored under a protocol, which must be of one rule and the same clips."""
    scored = [one for one in of_subset if protocol in one.scores.protocols]
    first = scored[0]
    for other in scored[1:]:
        rules = [one.scores.protocols[protocol]["rule"] for one in (first, other)]
        if rules[0] != rules[1] or other.tables[protocol].clip_id != first.tables[protocol].clip_id:
            raise EvalInputError(
                f"{other.source.path} and {first.source.path} differ in rule or clips under {protocol}; "
                "score them again"
            )
    return pool(
        {one.source.seed: one.scores.protocols[protocol] for one in scored},
        {one.source.seed: one.tables[protocol] for one in scored},
    )


def _provenance(runs: Sequence[RunSource], read: Sequence[_Scored]) -> dict[str, Any]:
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        record = read_json(run.path, None, "avsl-train fit")
        seed = run.seed if run.seed is not None else record.get("seed")
        if seed is None:
            raise EvalInputError(f"cannot tell the seed of {run.path}; write seed=K,{run.path}")
        if str(seed) in records:
            raise EvalInputError(f"{run.path} is a second record of seed {seed}; give one per seed")
        found = validations(run.path.with_name(LOG))
        records[str(seed)] = {**record, "validation": found} if found else record
    metas = {str(one.source.seed): one.scores.content["predictions_meta"] for one in read}
    return {
        **{key: _common({seed: record.get(key) for seed, record in records.items()}) for key in _COMMON_KEYS},
        **{key: {seed: record.get(key) for seed, record in records.items()} for key in _SEED_KEYS},
        "runs": records,
        "predictions": {seed: meta for seed, meta in metas.items() if meta},
        "scorer": _common({str(one.source.path): one.scores.content["versions"] for one in read}),
    }


def _common(values: Mapping[str, Any]) -> Any:
    """Return the one value that all share, or all of them by their keys."""
    distinct = list(values.values())
    if not distinct:
        return None
    return distinct[0] if all(value == distinct[0] for value in distinct) else dict(values)
