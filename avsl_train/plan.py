"""Names of files and options of commands: what the workflow's rules ask about a study.

Rules hold no logic. A rule's input function or parameter is one call of a method here, and a method is a pure
function of the configuration: planning reads no data, so that it takes seconds for any number of clips.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from avsl_eval.protocol_table import SUITES, expand
from avsl_train.errors import TrainInputError
from avsl_train.study import Split, Study, StudyError

FOLDER: Final = "folder"
"""The source whose clips and boxes are the user's own files."""

SAMPLE: Final = "sample"
"""The data set that the keys ``sample_clips`` and ``sample_annotations`` are for."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """The files and commands of a study.

    Parameters
    ----------
    study
        The validated configuration.
    """

    study: Study

    # Files ---------------------------------------------------------------------------------------------

    def split_owners(self) -> dict[str, Split]:
        """Return every split of the study by the training or test set that it belongs to."""
        own = {name: test.split for name, test in self.study.testsets.items() if test.split}
        return {name: train.split for name, train in self.study.trainsets.items()} | own

    def train_split_file(self, trainset: str) -> str:
        """Return the path of a training set's split."""
        return f"data/{trainset}/splits/{self.study.trainsets[trainset].split.recipe}.parquet"

    def split_file(self, testset: str) -> str:
        """Return the path of the split that holds a test set's subsets."""
        test = self.study.testsets[testset]
        if test.split is None:
            return self.train_split_file(test.trainset)
        return f"data/{testset}/splits/{test.split.recipe}.parquet"

    def catalogs(self, owner: str) -> list[str]:
        """Return the catalogs that a split divides: those of a training set, or a test set's one."""
        test = self.study.testsets.get(owner)
        datasets = [test.dataset] if test and test.split else self.study.trainsets[owner].datasets
        return [f"data/{name}/catalog.parquet" for name in datasets]

    def held_out(self, owner: str) -> list[str]:
        """Return the catalogs of the test sets that a training set's models are tested on.

        Their videos leave training. A test set that has the training set's split is held out by that split
        itself; one that divides the same clips in another way is not. Rendered videos are in nobody's folder.
        """
        if owner not in self.study.trainsets:
            return []
        own, datasets = self.study.trainsets[owner].datasets, self.study.datasets
        rendered = all(datasets[name].render is not None for name in own)
        others = dict.fromkeys(
            test.dataset
            for test in self.study.testsets.values()
            if test.trainset == owner and (test.split is not None or test.dataset not in own)
        )
        return [
            f"data/{name}/catalog.parquet"
            for name in others
            if not (rendered and datasets[name].source == FOLDER)
        ]

    def split_inputs(self, owner: str) -> dict[str, list[str] | str]:
        """Return the inputs of a split, by name."""
        split = self.split_owners()[owner]
        inputs: dict[str, list[str] | str] = {"catalogs": self.catalogs(owner)}
        if held_out := self.held_out(owner):
            inputs["held_out"] = held_out
        return inputs | ({"assign": split.assign} if split.assign else {})

    def shards(self, datasets: Iterable[str]) -> list[str]:
        """Return the paths of all shards of some data sets."""
        return [
            f"data/{name}/shards/{bucket:04d}.parquet"
            for name in datasets
            for bucket in range(self.study.datasets[name].buckets)
        ]

    def boxes(self, dataset: str) -> list[str]:
        """Return the annotations that a data set's shards hold: one file, or none without boxes."""
        return [f"data/{dataset}/annotations.json"] if self.study.datasets[dataset].boxes else []

    def hub_inputs(self, dataset: str) -> dict[str, list[str]]:
        """Return what a data set's folder for `datasets` is made of, by name.

        The splits are those that divide this data set's catalog and no other one, or this one and further,
        unlabelled ones: the first catalog is the annotated one.

        Raises
        ------
        StudyError
            There is no such data set.
        """
        self.study.check("datasets", dataset)
        first = f"data/{dataset}/catalog.parquet"
        recipes: dict[str, str] = {}
        for owner, split in self.split_owners().items():
            if self.catalogs(owner)[0] == first:  # of several with one name, such as label budgets, the first
                recipes.setdefault(split.recipe, f"data/{owner}/splits/{split.recipe}.parquet")
        return {
            "shards": self.shards([dataset]),
            "splits": list(recipes.values()),
            "annotations": self.boxes(dataset),
        }

    def hub_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data hub`` for a data set."""
        inputs = self.hub_inputs(dataset)
        return [
            *self.shard_options([dataset]),
            *_each("--split", inputs["splits"]),
            *_each("--annotations", inputs["annotations"]),
            *("--source", self.study.datasets[dataset].source),
        ]

    def sheet_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data sheet`` for a data set."""
        return [*self.shard_options([dataset]), *_each("--annotations", self.boxes(dataset))]

    def run_file(self, experiment: str, testset: str, seed: int | str, file: str) -> str:
        """Return the path of a file of the run whose model predicts a test set."""
        return f"runs/{self.study.testsets[testset].trainset}/{experiment}/seed{seed}/{file}"

    def runs(self, experiment: str, testset: str, benchmark: str | None = None) -> list[str]:
        """Return the records of the runs that predict a test set, one per seed."""
        return [self.run_file(experiment, testset, seed, "run.json") for seed in self.seeds(benchmark)]

    def seeds(self, benchmark: str | None = None) -> list[int]:
        """Return the seeds of the study, or those of a benchmark.

        Raises
        ------
        StudyError
            The configuration has no such benchmark.
        """
        if benchmark is None:
            return self.study.seeds
        self.study.check("benchmarks", benchmark)
        return self.study.benchmarks[benchmark].seeds

    def scores(self, experiment: str, testset: str, benchmark: str | None = None) -> list[str]:
        """Return the paths of an experiment's scores: every seed and subset, each under every protocol.

        Parameters
        ----------
        experiment, testset
            Names.
        benchmark
            Whose seeds; None: those of the study.

        Raises
        ------
        StudyError
            The configuration has no such experiment, test set or benchmark, or a suite does not allow that
            its missing clips count as 0.
        """
        self.study.check("experiments", experiment)
        self.study.check("testsets", testset)
        test = self.study.testsets[testset]
        for name in self.study.protocols:
            suite = SUITES.get(name)
            if suite and suite.missing not in {None, test.missing}:
                raise StudyError(
                    f"testsets.{testset}.missing is {test.missing!r}, but the suite {name!r} of protocols "
                    f"wants {suite.missing!r}: name its protocols one by one ({', '.join(suite.protocols)}), "
                    "or change missing"
                )
        return [
            f"results/{experiment}_{testset}/seed{seed}/{subset}.json"
            for seed in self.seeds(benchmark)
            for subset in test.subsets
        ]

    def cells(self, benchmark: str) -> list[str]:
        """Return the paths of the results that a benchmark's table is made of, experiment by experiment.

        Raises
        ------
        StudyError
            The configuration has no such benchmark, or nothing is scored under its protocol.
        """
        self.study.check("benchmarks", benchmark)
        table = self.study.benchmarks[benchmark]
        names = self.study.protocols
        if table.protocol not in expand(names):
            raise StudyError(
                f"benchmarks.{benchmark}.protocol is {table.protocol!r}, but `protocols` scores only "
                f"{', '.join(names)}: add it there"
            )
        wanted = [(name, testset) for name in table.experiments for testset in table.testsets]
        wanted += [(name, table.main) for name in table.ablations if name not in table.experiments]
        return [f"results/benchmark_{benchmark}/{name}_{testset}.json" for name, testset in wanted]

    def benchmark_options(self, benchmark: str) -> list[str]:
        """Return the options of ``avsl-eval benchmark`` that say what is compared with what."""
        self.study.check("benchmarks", benchmark)
        table = self.study.benchmarks[benchmark]
        return [
            *("--name", benchmark, "--reference", table.reference, "--main", table.main),
            *("--protocol", table.protocol),
            *(["--ablations", *table.ablations] if table.ablations else []),
        ]

    def results(self, testset: str) -> list[str]:
        """Return the paths of the results that the page of a test set shows.

        Raises
        ------
        StudyError
            The configuration has no such test set.
        """
        self.study.check("testsets", testset)
        return [f"results/{experiment}_{testset}.json" for experiment in self.study.report_experiments]

    def origin(self, dataset: str) -> dict[str, str]:
        """Return the inputs that a data set's catalog and boxes are made from, by name.

        Raises
        ------
        StudyError
            There is no such data set, or it is a folder of the user's that the configuration does not name.
        """
        self.study.check("datasets", dataset)
        data = self.study.datasets[dataset]
        if data.render:
            return {"site": f"data/{dataset}/site"}
        if data.source != FOLDER:
            return {"annotations": data.annotations} if data.annotations else {}
        ours = dataset == SAMPLE
        clips = data.clips or (self.study.sample_clips if ours else None)
        boxes = data.annotations or (self.study.sample_annotations if ours else None)
        if not clips or (data.boxes and not boxes):
            short, long = (
                "--config sample_clips=FOLDER sample_annotations=FILE",
                "its keys clips and annotations",
            )
            remedy = short if ours else long
            raise StudyError(
                f"the data set {dataset!r} is a folder of yours that is not named: give {remedy}"
            )
        return {"clips": clips} | ({"annotations": boxes} if boxes else {})

    def clips(self, dataset: str) -> dict[str, str | list[str]]:
        """Return the inputs that a data set's clips come from, by name; nothing if it is the internet."""
        data = self.study.datasets[dataset]
        origin = {key: path for key, path in self.origin(dataset).items() if key != "annotations"}
        here: dict[str, str | list[str]] = {**origin} or ({"clips": data.clips} if data.clips else {})
        return here | ({"archives": data.archives} if data.archives else {})

    # Commands ------------------------------------------------------------------------------------

    def environment(self, python: str) -> str:
        """Return what precedes every command in its shell.

        Commands are those of the environment that runs snakemake, whether it is activated or not, and decode
        with the ffmpeg of the configuration. Where either lies does not make a job run again, nor does how
        politely clips are downloaded.

        Parameters
        ----------
        python
            Path of the interpreter that runs snakemake.
        """
        path = f'export PATH={shlex.quote(str(Path(python).parent))}:"$PATH"; '
        ffmpeg = self.study.ffmpeg
        manners = self.study.download.model_dump(exclude_none=True, exclude={"max_height"})
        return (
            path
            + f"export AVSL_DOWNLOAD={shlex.quote(json.dumps(manners))}; "
            + (f"export AVSL_FFMPEG={shlex.quote(ffmpeg)}; " if ffmpeg else "")
        )

    def shell_prefix(self, python: str) -> str:
        """Return `environment` as ``shell.prefix`` takes it, which formats its text."""
        return self.environment(python).replace("{", "{{").replace("}", "}}")

    def catalog_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data catalog`` that say where its lists are."""
        origin = self.origin(dataset)
        data = self.study.datasets[dataset]
        return [
            *_option("--site", origin.get("site")),
            *_option("--clips", origin.get("clips")),
            *_option("--annotations", origin.get("annotations") if data.source == FOLDER else None),
            *_option("--list", data.published_list),
            *_option("--urls", data.urls),
            *_option("--table", data.table),
            *_option("--only", None if data.only is None else str(data.only)),
            *_option("--mirror", self._mirror(dataset)),
        ]

    def annotations_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data annotations`` that say where the boxes are."""
        origin = self.origin(dataset)
        return [
            *_option("--site", origin.get("site")),
            *_option("--annotations", origin.get("annotations")),
            *_option("--mirror", self._mirror(dataset)),
        ]

    def _mirror(self, dataset: str) -> str | None:
        """Return the folder of published lists, for a source that has some."""
        data = self.study.datasets[dataset]
        return None if data.render or data.source == FOLDER else self.study.mirror

    def download_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data download`` that say where the clips come from."""
        clips = self.clips(dataset)
        data = self.study.datasets[dataset]
        internet = bool(self.downloads(dataset))
        return [
            *_each("--site", _listed(clips.get("site"))),
            *_each("--from-folder", _listed(clips.get("clips"))),
            *(["--from-tar", *data.archives] if data.archives else []),
            *(["--fetch-missing"] if internet and clips else []),
            *_option("--video-url", data.video_url if internet else None),
            *_option("--max-height", str(self.study.download.max_height) if internet else None),
        ]

    def preprocess_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data preprocess`` that say what is stored."""
        data = self.study.datasets[dataset]
        return [
            *_each("--annotations", self.boxes(dataset)),
            *_option("--frame-time", str(data.frame_time_s)),
            *_option("--short-side", str(data.short_side)),
            *_option("--sample-rate", str(data.sample_rate)),
            *(["--flow"] if data.flow else []),
        ]

    def render_options(self, dataset: str) -> list[str]:
        """Return the options of ``avsl-data render`` that say what is drawn."""
        render = self.study.datasets[dataset].render
        drawn = {} if render is None else render.model_dump()
        return [word for key, value in drawn.items() for word in (f"--{key}", str(value))]

    def shard_options(self, datasets: Iterable[str]) -> list[str]:
        """Return ``--shards FOLDER`` for each data set."""
        return _each("--shards", [f"data/{name}/shards" for name in datasets])

    def split_options(self, owner: str) -> list[str]:
        """Return the options of ``avsl-data split`` of a split's owner."""
        split = self.split_owners()[owner]
        return [
            *_each("--catalog", self.catalogs(owner)),
            *_option("--seed", str(split.seed)),
            *_option("--labels", None if split.labels is None else str(split.labels)),
            *_option("--leakage", split.leakage),
            *_each("--held-out", [*self.held_out(owner), *split.held_out]),
            *_option("--assign", split.assign),
            # Only what names published lists reads them: where copies lie does not matter to the others.
            *_option("--mirror", self.study.mirror if "@" in split.recipe or split.held_out else None),
        ]

    def downloads(self, dataset: str) -> int:
        """Return 1 if a data set is downloaded from the internet, else 0: the rule's resource ``network``."""
        clips = self.clips(dataset)
        return 0 if clips and ("site" in clips or not self.study.datasets[dataset].fetch_missing) else 1

    def training(self, trainset: str, experiment: str) -> str:
        """Return as JSON what the training of one experiment depends on, and nothing else.

        It is the part of the configuration that `training_overrides` reads, so that a job is run again when
        something in it changed and only then.
        """
        data = self.study.trainsets[trainset]
        part = {
            "trainsets": {trainset: {"recipe": data.recipe, "methods": data.methods}},
            "experiments": {experiment: self.study.experiments[experiment]},
        }
        return json.dumps(part, sort_keys=True)


def or_exit(function: Callable[..., Result], *args: object) -> Result:
    """Call a function for the Snakefile: on bad input print its one message and exit with status 2.

    Snakemake shows an exception of an input function with a traceback and exits with status 1, as it does for
    its own faults; the project's commands say what is wrong and exit with status 2.
    """
    try:
        return function(*args)
    except TrainInputError as error:
        sys.stderr.write(f"avsl: error: {error}\n")
        raise SystemExit(2) from error


def _option(flag: str, value: str | None) -> list[str]:
    """Return a command's option, or nothing where it has no value."""
    return [] if value is None else [flag, value]


def _listed(value: str | list[str] | None) -> list[str]:
    """Return a value, several or none as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _each(flag: str, values: Iterable[str]) -> list[str]:
    """Return a command's option once for every value."""
    return [word for value in values for word in (flag, value)]
