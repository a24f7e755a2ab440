"""Results: the scores of one experiment on one test set over subsets, protocols, seeds; their provenance.

``results/<experiment>_<testset>.json`` (schema avsl-results/1)::

    name, testset
    subsets: {subset: {n_expected, protocols: {protocol: {
        rule                   the protocol's fields
        pooled                 {metric: {value, ci95, sd_over_seeds, n_seeds}}
        seeds                  {seed: {metric: {value, ci95}}}
        context                {ceiling | center_prior | whole_image: {metric: {value}}}
        n_scored, missing      clips that every seed predicted; ids that one seed or more did not
    }}}}
    provenance: {config_digest, commit, device, versions, steps,    one value, or {seed: value}
                 checkpoint_sha256, wall_time_s, clips,             {seed: value}
                 runs, predictions}                                 {seed: run.json}, {seed: meta}
    files: [{seed, subset, protocol, scores, per_clip, predictions, annotations}]

A pooled value is the mean over seeds; its interval is the bootstrap over clips of each clip's mean over
seeds, so it says how much another draw of clips would change the value. ``sd_over_seeds`` says what another
training would do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avsl_eval.bootstrap import mean_intervals
from avsl_eval.ciou import METRICS, per_clip_metrics
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.io import read_json, write_files
from avsl_eval.per_clip import PerClip, read_per_clip
from avsl_eval.result import read_scores

SCHEMA = "avsl-results/1"
_SEED_FOLDER = re.compile(r"seed(\d+)")
_COMMON_KEYS = ("config_digest", "commit", "device", "versions", "steps")
_SEED_KEYS = ("checkpoint_sha256", "wall_time_s", "clips")


@dataclass(frozen=True)
class ScoresSource:
    """Name a scores file and what it is the score of."""

    path: Path
    seed: int
    subset: str

    @property
    def per_clip(self) -> Path:
        """The table beside the scores file."""
        return self.path.with_suffix(".csv")


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
        ``.../seed<K>/<subset>.<protocol>.json``.

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
    >>> parse_scores("seed=3,subset=heard,x.json").seed, parse_scores("a/seed0/unheard.lvs.json").subset
    (3, 'unheard')
    """
    fields, path = _split_fields(text, ("seed", "subset"))
    seed = _seed(fields, path)
    subset = fields.get("subset") or (path.name.split(".")[0] if path.name.count(".") == 2 else "")
    if seed is None or not subset:
        raise EvalInputError(
            f"cannot tell seed and subset of {path} from its path (.../seed<K>/<subset>.<protocol>.json); "
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


@dataclass(frozen=True)
class Results:
    """Hold the results of one experiment on one test set; `content` is the file's JSON."""

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

    def file(self, subset: str, protocol: str) -> Mapping[str, Any]:
        """Return the files of a subset under a protocol, of the lowest seed.

        Parameters
        ----------
        subset, protocol
            Names.

        Returns
        -------
        dict
            Keys seed, subset, protocol, scores, per_clip, predictions, annotations.
        """
        fitting = [f for f in self.content["files"] if f["subset"] == subset and f["protocol"] == protocol]
        return min(fitting, key=lambda f: int(f["seed"]))

    def save(self, path: Path) -> None:
        """Write the results file.

        Parameters
        ----------
        path
            Where to.
        """
        write_files({path: json.dumps(self.content, indent=1, allow_nan=False) + "\n"})


def read_results(path: Path) -> Results:
    """Read a results file.

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
        If it is not one.
    """
    content = read_json(path, SCHEMA, "avsl-eval collect")
    if lacking := {"name", "testset", "subsets", "files", "provenance"} - content.keys():
        raise EvalInputError(
            f"{path} lacks {first_few(sorted(lacking))}; write it again by avsl-eval collect"
        )
    return Results(content, path)


def collect(name: str, testset: str, scores: Sequence[ScoresSource], runs: Sequence[RunSource]) -> Results:
    """Collect the scores of one experiment on one test set.

    Parameters
    ----------
    name, testset
        Of the experiment and the test set.
    scores
        Scores files, each with its per_clip.csv beside it.
    runs
        Records of the trainings, at most one per seed.

    Returns
    -------
    Results
        See the module.

    Raises
    ------
    EvalInputError
        If a file is damaged, two are of the same thing, or seeds differ in clips or rule.
    """
    groups: dict[str, dict[str, dict[int, tuple[ScoresSource, dict[str, Any]]]]] = {}
    for source in scores:
        for content in _by_protocol(source.path):
            by_seed = groups.setdefault(source.subset, {}).setdefault(content["protocol"]["name"], {})
            if source.seed in by_seed:
                raise EvalInputError(
                    f"{source.path} and {by_seed[source.seed][0].path} are both of seed {source.seed}, "
                    f"subset {source.subset}, protocol {content['protocol']['name']}"
                )
            by_seed[source.seed] = (source, content)
    subsets: dict[str, Any] = {}
    for subset, by_protocol in groups.items():
        pooled = {protocol: _pool(by_seed) for protocol, by_seed in by_protocol.items()}
        expected = {
            content["n_expected"] for by_seed in by_protocol.values() for _, content in by_seed.values()
        }
        if len(expected) > 1:
            raise EvalInputError(
                f"subset {subset} has {sorted(expected)} clips in different scores; score them again"
            )
        subsets[subset] = {"n_expected": expected.pop(), "protocols": pooled}
    scored = [
        pair
        for by_protocol in groups.values()
        for by_seed in by_protocol.values()
        for pair in by_seed.values()
    ]
    content = {
        "schema": SCHEMA,
        "name": name,
        "testset": testset,
        "subsets": subsets,
        "provenance": _provenance(runs, scored),
        "files": [_files(source, content) for source, content in scored],
    }
    return Results(content)


def _by_protocol(path: Path) -> list[dict[str, Any]]:
    """Read a scores file: one entry per protocol, with what all of them share."""
    content = read_scores(path).content
    shared = {key: content[key] for key in ("inputs", "predictions_meta", "versions")}
    return [
        {
            **shared,
            **{key: entry[key] for key in ("n_expected", "missing", "context")},
            "protocol": entry["rule"],
            "metrics": {metric: entry["metrics"][metric] for metric in METRICS},
        }
        for entry in content["protocols"].values()
    ]


def _pool(by_seed: Mapping[int, tuple[ScoresSource, Mapping[str, Any]]]) -> dict[str, Any]:
    """Pool the seeds of one subset under one protocol."""
    tables = {seed: _checked_table(source, content) for seed, (source, content) in by_seed.items()}
    (first_source, first), *others = by_seed.values()
    for source, content in others:
        if (
            content["protocol"] != first["protocol"]
            or tables[source.seed].clip_id != tables[first_source.seed].clip_id
        ):
            raise EvalInputError(
                f"{source.path} and {first_source.path} differ in rule or clips; score them again"
            )
    values = np.stack([per_clip_metrics(table.ciou) for table in tables.values()])  # [seeds, N, metrics]
    means = values.mean(axis=1)
    bounds = mean_intervals(values.mean(axis=0)).tolist()
    several = len(tables) > 1
    missing = dict.fromkeys(i for _, content in by_seed.values() for i in content["missing"])
    return {
        "rule": first["protocol"],
        "pooled": {
            metric: {
                "value": float(means[:, k].mean()),
                "ci95": bounds[k],
                "sd_over_seeds": float(means[:, k].std(ddof=1)) if several else None,
                "n_seeds": len(tables),
            }
            for k, metric in enumerate(METRICS)
        },
        "seeds": {str(seed): content["metrics"] for seed, (_, content) in sorted(by_seed.items())},
        "context": first["context"],
        "n_scored": first["n_expected"] - len(missing),
        "missing": list(missing),
    }


def _checked_table(source: ScoresSource, content: Mapping[str, Any]) -> PerClip:
    table = read_per_clip(source.per_clip, content["protocol"]["name"])
    found = per_clip_metrics(table.ciou).mean(axis=0)
    stated = [content["metrics"][metric]["value"] for metric in METRICS]
    if not np.allclose(found, stated, rtol=0, atol=1e-9):
        raise EvalInputError(
            f"{source.per_clip} and {source.path} are of different evaluations; write both by one "
            "avsl-eval score"
        )
    return table


def _provenance(
    runs: Sequence[RunSource], scored: Sequence[tuple[ScoresSource, Mapping[str, Any]]]
) -> dict[str, Any]:
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        record = read_json(run.path, None, "avsl-train fit")
        seed = run.seed if run.seed is not None else record.get("seed")
        if seed is None:
            raise EvalInputError(f"cannot tell the seed of {run.path}; write seed=K,{run.path}")
        if str(seed) in records:
            raise EvalInputError(f"{run.path} is a second record of seed {seed}; give one per seed")
        records[str(seed)] = record
    metas = {str(source.seed): content["predictions_meta"] for source, content in scored}
    return {
        **{key: _common({seed: record.get(key) for seed, record in records.items()}) for key in _COMMON_KEYS},
        **{key: {seed: record.get(key) for seed, record in records.items()} for key in _SEED_KEYS},
        "runs": records,
        "predictions": {seed: meta for seed, meta in metas.items() if meta},
        "scorer": _common({str(source.path): content["versions"] for source, content in scored}),
    }


def _common(values: Mapping[str, Any]) -> Any:
    """Return the one value that all share, or all of them by their keys."""
    distinct = list(values.values())
    if not distinct:
        return None
    return distinct[0] if all(value == distinct[0] for value in distinct) else dict(values)


def _files(source: ScoresSource, content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seed": source.seed,
        "subset": source.subset,
        "protocol": content["protocol"]["name"],
        "scores": str(source.path),
        "per_clip": str(source.per_clip),
        "predictions": content["inputs"]["predictions"]["path"],
        "annotations": content["inputs"]["annotations"]["path"],
    }
