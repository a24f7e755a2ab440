"""The configuration of a study: which data, trainings, test sets, seeds and protocols the workflow runs.

``config/config.yaml`` holds it, and ``config/experiments/*.yaml`` add experiments and tables of them; this
module defines what may stand there. The JSON schema that Snakemake validates with is generated from the
models here::

    python -m avsl_train.study --schema > schemas/config.schema.json

A training configuration is written in two layers: the *recipe* of the training set (encoders, image size,
number of steps) and the overrides of the experiment (method and its switches). `training_overrides` merges
them; ``avsl-train resolve`` validates the result and writes it down with every default filled in.

The module imports neither torch nor any other heavy package: planning a study stays a matter of seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from avsl_eval.protocol_table import PROTOCOLS, SUITES
from avsl_train.config import ExperimentConfig
from avsl_train.errors import TrainInputError
from avsl_train.explain import Fault, explain, nearest

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]*$")]
"""A name that becomes part of a path: letters, digits and ``+._-``."""

TestsetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+-]*$")]
"""Name of a test set: in ``results/<experiment>_<testset>.json`` the last underscore is the border."""

RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+.@_-]*$")]
"""A recipe of ``avsl-data split``; some are named after the project whose list they follow."""

Overrides = dict[str, Any]
"""Part of a training configuration; `avsl_train.config.ExperimentConfig` says what is legal in it."""


class StudyError(TrainInputError):
    """The configuration of the study is wrong; the message names key, nearest known name and place."""


class _Strict(BaseModel):
    """Base of every section: an unknown key is an error, and a loaded study does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Render(_Strict):
    """What is rendered for a data set that the project draws itself (source ``demo``)."""

    seed: NonNegativeInt = Field(7, description="Seed of every pixel, sample and box.")
    videos: PositiveInt = Field(80, description="Number of videos.")
    scenes: PositiveInt = Field(20, description="Scenes per video; each becomes one clip.")
    val: NonNegativeInt = Field(4, description="Videos of them for validation.")
    test: PositiveInt = Field(20, description="Videos of them for the test subsets.")


class Dataset(_Strict):
    """Clips of one source, cut and stored in one way."""

    source: str = Field(description="Source of `avsl-data catalog`.")
    buckets: PositiveInt = Field(description="Number of shards; a clip's bucket is a hash of its video id.")
    frame_time_s: float = Field(ge=0, description="Time of the stored frame within the clip, in seconds.")
    short_side: PositiveInt = Field(256, description="Short side of the stored frame, in pixels.")
    sample_rate: PositiveInt = Field(16000, description="Samples per second of the stored sound.")
    flow: bool = Field(False, description="Whether to store optical flow to the next picture, for `htf`.")
    boxes: bool = Field(True, description="Whether the source publishes boxes.")
    published_list: str | None = Field(None, description="Published list of clips; null: all of the source.")
    only: PositiveInt | str | None = Field(
        None, description="A pilot: so many clips, or those of a file of ids; null: all."
    )
    clips: str | None = Field(None, description="Folder of clips on this machine; null: none.")
    archives: list[str] = Field([], description="Archives of clips on this machine: tar, tar.gz.")
    fetch_missing: bool = Field(False, description="Download what the folder and the archives lack.")
    video_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s{}]*\{video_id\}[^\s{}]*$",
        description="Where videos are instead: an address with {video_id} in it; null: the source's own.",
    )
    annotations: str | None = Field(None, description="File with the boxes; null: the source's own.")
    urls: str | None = Field(None, description="Flickr: a copy of SoundNet's urls_public.txt; null: none.")
    table: str | None = Field(None, description="VGGSound: a copy of vggsound.csv; null: none.")
    render: Render | None = Field(None, description="What to render; null: the source is real.")


class Download(_Strict):
    """How clips are fetched from the internet; but for the height, nothing here makes a job run again."""

    max_height: PositiveInt = Field(480, description="Largest height of the picture, in pixels.")
    attempts: PositiveInt = Field(3, description="For transient failures.")
    sleep: tuple[NonNegativeFloat, NonNegativeFloat] | None = Field(
        None, description="Seconds between videos of a host, over all processes; null: 5 to 10."
    )
    sleep_requests: NonNegativeFloat | None = Field(
        None, description="Seconds between the requests of one video; null: 0.75."
    )
    rate_limit: PositiveInt | str | None = Field(
        None, description="Bytes per second of one process, such as 2M; null: no limit."
    )
    cooldown: NonNegativeFloat = Field(
        3600, description="Seconds of pause after a refusal that does not say how long."
    )
    wait: bool = Field(False, description="Whether to sleep through a pause instead of stopping.")
    backoff: NonNegativeFloat = Field(2, description="Seconds before the second attempt, then doubled.")
    timeout: PositiveFloat = Field(20, description="Seconds without an answer.")
    cookies: str | None = Field(None, description="Cookie file in Netscape's format; null: none.")
    proxy: str | None = Field(None, description="Address of a proxy; null: none.")
    js_runtime: str | None = Field(None, description="deno, node, bun or quickjs, or NAME:PATH; null: deno.")
    player_client: list[str] | None = Field(None, description="YouTube's clients to ask as; null: default.")
    source_address: str | None = Field(None, description="Address of this machine to ask from; null: any.")


class Split(_Strict):
    """A division of the clips into subsets, by a hash of the video id."""

    recipe: RecipeName = Field(description="Recipe of `avsl-data split`, or the name of a published list.")
    seed: NonNegativeInt = Field(0, description="Seed of the hash.")
    labels: PositiveInt | Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Labelled clips: a count, or a fraction up to 1.0; null: the recipe's own."
    )
    leakage: Literal["exclude", "error", "allow"] = Field(
        "exclude", description="What happens to training clips whose video is in a validation or test set."
    )
    held_out: list[str] = Field(
        [],
        description="Further test sets whose videos leave training: published names or files of ids. Those "
        "that the study tests a training set on are held out without being named.",
    )
    assign: str | None = Field(
        None, description="For the recipe own: a file with a clip id and a subset per line."
    )


class Trainset(_Strict):
    """What models are trained on, and the part of their configuration that suits these data."""

    like: Name | None = Field(
        None, description="Training set whose keys hold where this one says nothing else; null: none."
    )
    datasets: list[Name] = Field(min_length=1, description="Data sets whose clips are used.")
    split: Split
    threads: PositiveInt = Field(1, description="CPU threads of one training.")
    mem_mb: PositiveInt = Field(4000, description="Memory of one training, in MB.")
    recipe: Overrides = Field(default_factory=dict, description="Training configuration for these data.")
    methods: dict[Name, Overrides] = Field(
        default_factory=dict, description="Keys of the section `method` for these data, by the method's name."
    )


class Testset(_Strict):
    """What is predicted and scored, and by models of which training set."""

    dataset: Name = Field(description="Data set whose clips are predicted.")
    trainset: Name = Field(description="Training set whose checkpoints predict.")
    split: Split | None = Field(None, description="Split of the test clips; null: the training set's own.")
    subsets: list[Name] = Field(min_length=1, description="Subsets of the split; each is scored by itself.")
    missing: Literal["error", "zero"] = Field("error", description="What a clip without prediction does.")


class Benchmark(_Strict):
    """A table of experiments over label budgets and seeds: ``results/benchmark_<name>.json``."""

    testsets: list[TestsetName] = Field(
        min_length=1, description="Test sets whose training sets differ in their labels, the fewest first."
    )
    main: TestsetName = Field(description="The one of them that ablations are trained for.")
    experiments: list[Name] = Field(min_length=1, description="Experiments that are trained for each.")
    ablations: list[Name] = Field([], description="Experiments that are trained for the main one only.")
    reference: Name = Field(description="Experiment that all others are compared with.")
    protocol: Name = Field("fixed", description="Protocol of the table.")
    seeds: list[NonNegativeInt] = Field([0, 1, 2], min_length=1, description="A training per seed and cell.")


class Study(_Strict):
    """The whole configuration of the workflow."""

    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="One training per seed.")
    protocols: list[Name] = Field(
        min_length=1, description="Protocols, or suites of them, that every result is scored under."
    )
    report_testsets: list[Name] = Field(["demo"], description="Test sets of the default target.")
    report_experiments: list[Name] = Field(min_length=1, description="Experiments shown on a page.")
    mirror: str | None = Field(None, description="Folder with copies of the published lists.")
    ffmpeg: str | None = Field(None, description="The ffmpeg program; null: the one that came with pip.")
    sample_clips: str | None = Field(None, description="Folder of clips of the data set `sample`.")
    sample_annotations: str | None = Field(None, description="File with the boxes of the data set `sample`.")
    download: Download = Field(default_factory=lambda: Download())  # noqa: PLW0108 - mypy's plugin needs it
    datasets: dict[Name, Dataset]
    trainsets: dict[Name, Trainset]
    experiments: dict[Name, Overrides]
    testsets: dict[TestsetName, Testset]
    benchmarks: dict[Name, Benchmark] = Field(default_factory=dict)

    def check(self, section: str, name: str) -> None:
        """Raise a StudyError that suggests the nearest name unless a section of the study has this one."""
        if name not in getattr(self, section):
            raise StudyError(f"{section}: unknown name {name!r}{nearest(name, getattr(self, section))}")


def training_overrides(study: Mapping[str, Any], trainset: str, experiment: str) -> Overrides:
    """Return what an experiment on a training set changes in the default training configuration.

    Parameters
    ----------
    study
        A configuration as read from a file, or the part of one that `avsl_train.plan.Plan.training` returns.
    trainset, experiment
        Names in its sections ``trainsets`` and ``experiments``.

    Returns
    -------
    dict
        The training set's recipe, overlaid with its keys for the experiment's method and then with the
        experiment's own values.

    Raises
    ------
    StudyError
        A name is unknown; the message suggests the nearest one.

    Examples
    --------
    >>> study = {
    ...     "trainsets": {"demo": {"recipe": {"optim": {"steps": 300, "lr": 0.001}}}},
    ...     "experiments": {"xpl": {"optim": {"lr": 0.0005}, "method": {"name": "xpl"}}},
    ... }
    >>> training_overrides(study, "demo", "xpl")
    {'optim': {'steps': 300, 'lr': 0.0005}, 'method': {'name': 'xpl'}}
    """
    for section, name in (("trainsets", trainset), ("experiments", experiment)):
        known = study.get(section, {})
        if name not in known:
            raise StudyError(f"{section}: unknown name {name!r}{nearest(name, known)}")
    data, own = study["trainsets"][trainset], study["experiments"][experiment]
    recipe = data.get("recipe", {})
    method = merge(recipe, own).get("method")
    chosen = method.get("name") if isinstance(method, Mapping) else None
    for_method = data.get("methods", {}).get(chosen)
    return merge(merge(recipe, {"method": for_method}) if for_method else recipe, own)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay one nested mapping on another.

    Where both hold a mapping the two are merged, else the second value replaces the first.

    Examples
    --------
    >>> merge({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}})
    {'a': {'x': 1, 'y': 5}, 'b': 3}
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def load_study(config: Mapping[str, Any]) -> Study:
    """Validate a configuration, the training configuration of every experiment included.

    Parameters
    ----------
    config
        Nested mapping as Snakemake merges it from ``config/config.yaml``, ``--configfile`` and ``--config``.

    Raises
    ------
    StudyError
        One message that names every wrong key by its path, and the nearest known name.
    """
    try:
        study = Study.model_validate({**config, "trainsets": _whole_trainsets(config.get("trainsets"))})
    except ValidationError as error:
        raise StudyError(_one_message(explain(Study, error))) from error
    if faults := [*_broken_references(study), *_wrong_trainings(study)]:
        raise StudyError(_one_message(faults))
    return study


def _whole_trainsets(trainsets: Any) -> Any:
    """Return the training sets, those that are ``like`` another one with what they share filled in.

    What is no mapping is returned as it is: validation says so.
    """
    if not isinstance(trainsets, Mapping):
        return trainsets
    whole = dict(trainsets)
    for name, own in trainsets.items():
        like = own.get("like") if isinstance(own, Mapping) else None
        if like is None:
            continue
        whole_ones = [
            known
            for known, keys in trainsets.items()
            if isinstance(keys, Mapping) and keys.get("like") is None
        ]
        if like not in whole_ones:
            fault = Fault(
                ("trainsets", name, "like"), f"unknown name {like!r}{nearest(str(like), whole_ones)}"
            )
            raise StudyError(_one_message([fault]))
        whole[name] = merge(trainsets[like], own)
    return whole


def _broken_references(study: Study) -> list[Fault]:
    """Find the names in the study that nothing defines."""
    uses: list[tuple[tuple[str, ...], Sequence[str], Mapping[str, Any]]] = [
        (("protocols",), study.protocols, {**PROTOCOLS, **SUITES}),
        (("report_experiments",), study.report_experiments, study.experiments),
        (("report_testsets",), study.report_testsets, study.testsets),
    ]
    for name, train in study.trainsets.items():
        uses.append((("trainsets", name, "datasets"), train.datasets, study.datasets))
    for name, test in study.testsets.items():
        uses.append((("testsets", name, "dataset"), [test.dataset], study.datasets))
        uses.append((("testsets", name, "trainset"), [test.trainset], study.trainsets))
    for name, table in study.benchmarks.items():
        here, compared = ("benchmarks", name), [*table.experiments, *table.ablations]
        uses.append(((*here, "testsets"), table.testsets, study.testsets))
        uses.append(((*here, "main"), [table.main], dict.fromkeys(table.testsets)))
        uses.append(((*here, "experiments"), table.experiments, study.experiments))
        uses.append(((*here, "ablations"), table.ablations, study.experiments))
        uses.append(((*here, "reference"), [table.reference], dict.fromkeys(compared)))
        uses.append(((*here, "protocol"), [table.protocol], PROTOCOLS))
    unknown = [
        Fault(path, f"unknown name {name!r}{nearest(name, known)}")
        for path, names, known in uses
        for name in names
        if name not in known
    ]
    clash = [
        Fault(
            ("testsets", name), "has a split of its own and the name of a training set: rename one of the two"
        )
        for name, test in study.testsets.items()
        if test.split and name in study.trainsets
    ]
    return unknown + clash


def _wrong_trainings(study: Study) -> list[Fault]:
    """Find what is wrong in the training configurations, each fault once and where it is written."""
    faults: dict[Fault, None] = {}
    for trainset, train in study.trainsets.items():
        if train.like and train.recipe == study.trainsets[train.like].recipe:
            continue  # the other one's faults
        for experiment, own in study.experiments.items():
            try:
                ExperimentConfig.model_validate(merge(train.recipe, own))
            except ValidationError as error:
                for fault in explain(ExperimentConfig, error):
                    ours = not fault.path or _holds(own, fault.path)
                    layer = ("experiments", experiment) if ours else ("trainsets", trainset, "recipe")
                    faults[Fault((*layer, *fault.path), fault.text)] = None
    return list(faults)


def _holds(overrides: Any, path: Sequence[str]) -> bool:
    """Return whether a nested mapping has a key path."""
    for key in path:
        if not isinstance(overrides, Mapping) or key not in overrides:
            return False
        overrides = overrides[key]
    return True


def _one_message(faults: Sequence[Fault]) -> str:
    """Return one message for one or several faults, with where to look."""
    body = str(faults[0]) if len(faults) == 1 else "".join(f"\n  {fault}" for fault in faults)
    where = "config/config.yaml, in config/experiments/ and in what you passed by --config or --configfile"
    return f"{body}\n  Look in {where}."


def main(argv: Sequence[str] | None = None) -> None:
    """Print the JSON schema of the configuration."""
    parser = argparse.ArgumentParser(prog="python -m avsl_train.study", description=main.__doc__)
    parser.add_argument("--schema", action="store_true", required=True, help="print the schema")
    parser.parse_args(argv)
    sys.stdout.write(schema_text())


def schema_text() -> str:
    """Return the JSON schema of the configuration, as it stands in ``schemas/config.schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Study.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    main()
