"""The configuration of a study: what is legal, what a message says, how layers are merged."""

from __future__ import annotations

import copy
import doctest
import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import avsl_train.explain
import avsl_train.study
from avsl_train.config import parse_config
from avsl_train.plan import Plan
from avsl_train.study import StudyError, load_study, merge, training_overrides


@pytest.fixture(scope="module")
def shipped(repository: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((repository / "config/config.yaml").read_text())
    return config


def changed(config: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy with the value at a dotted path replaced."""
    config = copy.deepcopy(config)
    *sections, key = path.split(".")
    place = config
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return config


@pytest.mark.parametrize("module", [avsl_train.study, avsl_train.explain])
def test_examples_in_docstrings_run(module: Any) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted > 0
    assert tried.failed == 0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("protocls", [], r"protocls: unknown key, did you mean 'protocols'"),
        ("datasets.demo.bukets", 2, r"datasets\.demo\.bukets: unknown key, did you mean 'buckets'"),
        ("datasets.demo.render.vidoes", 2, r"datasets\.demo\.render\.vidoes: .* 'videos'"),
        ("trainsets.demo.split.labls", 2, r"trainsets\.demo\.split\.labls: .* 'labels'"),
        ("testsets.demo.missing", "zro", r"testsets\.demo\.missing: unknown name 'zro', did you mean 'zero'"),
        (
            "testsets.demo.trainset",
            "dmo",
            r"testsets\.demo\.trainset: .* 'demo'\? \(known: demo, vggss, flickr\)",
        ),
        ("protocols", ["lsv"], r"protocols: unknown name 'lsv', did you mean 'lvs'"),
        ("report_experiments", ["xlp"], r"report_experiments: unknown name 'xlp', did you mean 'xpl'"),
        ("datasets.demo.buckets", "two", r"datasets\.demo\.buckets: .*integer.*got 'two'"),
        ("datasets.other", {"source": "demo", "buckets": 1}, r"datasets\.other\.frame_time_s: .*missing"),
        ("experiments.xpl.optim.stpes", 3, r"experiments\.xpl\.optim\.stpes: .* 'steps'"),
        ("experiments.xpl.method.name", "xlp", r"experiments\.xpl\.method\.name: .* 'xpl'"),
        ("experiments.xpl.method.bta", 0.5, r"experiments\.xpl\.method\.bta: .* 'beta'"),
        ("trainsets.demo.recipe.optim.stpes", 3, r"trainsets\.demo\.recipe\.optim\.stpes: .* 'steps'"),
        ("trainsets.demo.recipe.data.image_size", 4096, r"image_size 4096 is larger than"),
        ("testsets.with_underscore", {}, r"testsets\.with_underscore: .*pattern"),
    ],
)
def test_a_wrong_key_is_named_with_its_path(
    shipped: dict[str, Any], path: str, value: object, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(changed(shipped, path, value))


def test_a_fault_that_several_trainings_share_is_told_once(shipped: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as raised:
        load_study(changed(shipped, "trainsets.demo.recipe.optim.stpes", 3))
    assert str(raised.value).count("stpes") == 1


def test_all_faults_are_told_in_one_message(shipped: dict[str, Any]) -> None:
    config = changed(changed(shipped, "protocls", []), "datasets.demo.bukets", 2)
    with pytest.raises(StudyError, match=r"(?s)bukets.*protocls|protocls.*bukets"):
        load_study(config)


def test_a_test_set_with_its_own_split_needs_its_own_name(shipped: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"testsets\.demo: has a split of its own"):
        load_study(changed(shipped, "testsets.demo.split", {"recipe": "all-test"}))


NESTED = st.recursive(
    st.integers(),
    lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


def leaves(value: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Return every value that is not a filled mapping, by its path."""
    if isinstance(value, dict) and value:
        return {k: v for key, below in value.items() for k, v in leaves(below, (*path, key)).items()}
    return {path: value}


@given(MAPPINGS, MAPPINGS)
def test_merge_takes_every_value_of_the_second_mapping(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merged = merge(base, over)
    for path, value in leaves(over).items():
        found: Any = merged
        for key in path:
            found = found[key]
        assert value in (found, {})  # an empty mapping leaves what is below it
    assert (base, over) == before


@given(MAPPINGS)
def test_merge_with_nothing_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == base
    assert merge({}, base) == base
    assert merge(base, base) == base


def test_an_experiment_overlays_the_recipe_of_the_training_set(shipped: dict[str, Any]) -> None:
    config = changed(shipped, "experiments.xpl.optim.lr", 0.5)
    found = training_overrides(config, "demo", "xpl")
    assert found["optim"] == {**shipped["trainsets"]["demo"]["recipe"]["optim"], "lr": 0.5}
    assert found["method"] == {"name": "xpl", **shipped["trainsets"]["demo"]["methods"]["xpl"]}


def test_keys_of_a_method_reach_experiments_with_that_method_only(shipped: dict[str, Any]) -> None:
    config = changed(shipped, "trainsets.demo.methods.xpl", {"beta": 0.5, "ramp": 0.2})
    config = changed(config, "experiments.mine", {"method": {"name": "xpl", "ramp": 0.4}})
    assert training_overrides(config, "demo", "mine")["method"] == {"name": "xpl", "beta": 0.5, "ramp": 0.4}
    assert training_overrides(config, "demo", "supervised")["method"] == {"name": "supervised"}
    assert training_overrides(config, "vggss", "xpl")["method"] == {"name": "xpl"}


def test_only_what_comes_from_the_internet_uses_the_network(shipped: dict[str, Any]) -> None:
    plan = Plan(load_study(changed(shipped, "datasets.vggss.clips", "somewhere")))
    assert {name: plan.downloads(name) for name in ("demo", "vggss", "vggsound")} == {
        "demo": 0,
        "vggss": 0,
        "vggsound": 1,
    }


def test_optical_flow_is_stored_where_the_configuration_says_so(shipped: dict[str, Any]) -> None:
    """The options of other data sets, by which their shards are made anew or not, stay as they were."""
    plans = [Plan(load_study(config)) for config in (shipped, changed(shipped, "datasets.vggss.flow", True))]
    without, with_flow = (plan.preprocess_options("vggss") for plan in plans)
    assert with_flow == [*without, "--flow"]
    assert plans[0].preprocess_options("demo") == plans[1].preprocess_options("demo")


def test_commands_run_with_the_ffmpeg_of_the_configuration(shipped: dict[str, Any]) -> None:
    plan = Plan(load_study(changed(shipped, "ffmpeg", "/opt/my tools/ffmpeg")))
    said = subprocess.run(
        ["bash", "-c", plan.environment("/opt/my env/bin/python") + "echo $AVSL_FFMPEG; echo ${PATH%%:*}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == ["/opt/my tools/ffmpeg", "/opt/my env/bin"]


def test_an_unknown_experiment_is_named(shipped: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"experiments: unknown name 'xlp', did you mean 'xpl'"):
        training_overrides(shipped, "demo", "xlp")


def test_what_a_training_depends_on_is_enough_to_resolve_it_and_no_more(shipped: dict[str, Any]) -> None:
    text = Plan(load_study(shipped)).training("demo", "xpl")
    assert training_overrides(json.loads(text), "demo", "xpl") == training_overrides(shipped, "demo", "xpl")
    other = changed(changed(shipped, "protocols", ["lvs"]), "experiments.hard-pl.optim.lr", 0.5)
    assert Plan(load_study(other)).training("demo", "xpl") == text


def test_every_test_set_of_a_training_set_is_held_out(shipped: dict[str, Any]) -> None:
    shared = {"split": {"recipe": "all-test"}, "subsets": ["test"]}
    config = changed(shipped, "testsets.crossed", {"dataset": "flickr", "trainset": "vggss", **shared})
    config = changed(config, "trainsets.vggss.split.held_out", ["is3"])
    config = changed(config, "mirror", "lists")
    plan = Plan(load_study(config))
    assert plan.split_inputs("vggss") == {
        "catalogs": ["data/vggss/catalog.parquet", "data/vggsound/catalog.parquet"],
        "held_out": ["data/flickr/catalog.parquet"],
    }
    options = plan.split_options("vggss")
    held_out = [value for flag, value in pairwise(options) if flag == "--held-out"]
    assert held_out == ["data/flickr/catalog.parquet", "is3"]
    assert options[-2:] == ["--mirror", "lists"]
    # What the split itself holds out is not among them, and no folder shares a video with rendered ones.
    assert plan.held_out("demo") == plan.held_out("flickr") == plan.held_out("crossed") == []
    assert "--mirror" not in plan.split_options("demo")


def test_a_folder_of_the_user_s_own_and_another_division_are_held_out(shipped: dict[str, Any]) -> None:
    """A folder may hold VGGSound's videos; a test set with a split of its own tests what others train on."""
    split = {"split": {"recipe": "all-test"}, "subsets": ["test"], "trainset": "vggss"}
    mine = changed(shipped, "testsets.mine", {"dataset": "sample", **split})
    assert Plan(load_study(mine)).held_out("vggss") == ["data/sample/catalog.parquet"]
    whole = changed(shipped, "testsets.whole", {"dataset": "vggss", **split})
    assert Plan(load_study(whole)).held_out("vggss") == ["data/vggss/catalog.parquet"]


def test_a_division_of_the_user_s_own(shipped: dict[str, Any]) -> None:
    config = changed(shipped, "trainsets.vggss.split", {"recipe": "own", "assign": "mine.csv"})
    plan = Plan(load_study(config))
    assert plan.split_inputs("vggss")["assign"] == "mine.csv"
    assert plan.split_options("vggss")[-2:] == ["--assign", "mine.csv"]
    named = changed(shipped, "trainsets.vggss.split.recipe", "vggss-openset@ezvsl")
    assert "--mirror" not in Plan(load_study(named)).split_options("vggss")
    named["mirror"] = "lists"
    assert "--mirror" in Plan(load_study(named)).split_options("vggss")


def test_copies_that_lack_clips_are_completed_from_the_internet(shipped: dict[str, Any]) -> None:
    config = changed(shipped, "datasets.vggss.archives", ["a.tar", "b c.tar"])
    plan = Plan(load_study(config))
    assert plan.clips("vggss") == {"archives": ["a.tar", "b c.tar"]}
    assert plan.downloads("vggss") == 0
    assert plan.download_options("vggss") == ["--from-tar", "a.tar", "b c.tar"]
    plan = Plan(load_study(changed(config, "datasets.vggss.fetch_missing", True)))
    assert plan.downloads("vggss") == 1
    assert plan.download_options("vggss")[3:] == ["--fetch-missing", "--max-height", "480"]


def test_manners_of_the_download_make_no_job_run_again(shipped: dict[str, Any]) -> None:
    polite = Plan(load_study(changed(shipped, "download.sleep", [20, 40])))
    plan = Plan(load_study(shipped))
    assert polite.download_options("vggss") == plan.download_options("vggss")
    said = subprocess.run(
        ["bash", "-c", polite.environment("/opt/python") + 'echo "$AVSL_DOWNLOAD"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(said.stdout)["sleep"] == [20, 40]
    assert polite.shell_prefix("/opt/python").format() == polite.environment("/opt/python")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("download.slep", [1, 2], r"download\.slep: unknown key, did you mean 'sleep'"),
        ("download.sleep", [1], r"download\.sleep"),
        ("datasets.vggss.video_url", "https://a.org/x.mp4", r"datasets\.vggss\.video_url"),
        ("datasets.vggss.only", 0, r"datasets\.vggss\.only"),
    ],
)
def test_where_clips_come_from_is_checked(
    shipped: dict[str, Any], path: str, value: object, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(changed(shipped, path, value))


# Label budgets, ablations and benchmarks ---------------------------------------------------------------

TABLE: dict[str, Any] = {
    "testsets": ["demo-few", "demo"],
    "main": "demo",
    "experiments": ["supervised", "xpl"],
    "ablations": ["xpl-self"],
    "reference": "xpl",
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def whole(repository: Path, shipped: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration as the workflow reads it: config.yaml and config/experiments/*.yaml."""
    config = shipped
    for path in sorted((repository / "config/experiments").glob("*.yaml")):
        config = merge(config, yaml.safe_load(path.read_text()))
    return config


@pytest.fixture(scope="module")
def tabled(whole: dict[str, Any]) -> dict[str, Any]:
    """Return it with a small benchmark over two label budgets."""
    few = {"like": "demo", "split": {"labels": 5}}
    config = changed(changed(whole, "trainsets.demo-few", few), "benchmarks.small", TABLE)
    place = {"dataset": "demo", "trainset": "demo-few", "subsets": ["heard"]}
    return changed(config, "testsets.demo-few", place)


def test_a_training_set_that_is_like_another_differs_in_what_it_says(tabled: dict[str, Any]) -> None:
    few, demo = (load_study(tabled).trainsets[name] for name in ("demo-few", "demo"))
    assert few.split == demo.split.model_copy(update={"labels": 5})
    assert few.model_dump(exclude={"like", "split"}) == demo.model_dump(exclude={"like", "split"})
    plan = Plan(load_study(tabled))
    assert json.loads(plan.training("demo-few", "xpl"))["experiments"] == {"xpl": {"method": {"name": "xpl"}}}
    assert training_overrides(json.loads(plan.training("demo-few", "xpl")), "demo-few", "xpl") == (
        training_overrides(json.loads(plan.training("demo", "xpl")), "demo", "xpl")
    )
    assert plan.hub_inputs("demo")["splits"] == ["data/demo/splits/demo-semi.parquet"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainsets.demo-few.like", "dmo", r"trainsets\.demo-few\.like: .*'dmo', did you mean 'demo'"),
        ("trainsets.third", {"like": "demo-few"}, r"trainsets\.third\.like: .*'demo-few'"),
        ("trainsets.demo-few.split.labls", 1, r"trainsets\.demo-few\.split\.labls: .*'labels'"),
        ("trainsets.demo-few.recipe.optim.stpes", 1, r"trainsets\.demo-few\.recipe\.optim\.stpes"),
        ("benchmarks.small.main", "vggss", r"benchmarks\.small\.main: unknown name 'vggss'.*demo-few, demo"),
        ("benchmarks.small.experiments", ["xpl", "xlp"], r"benchmarks\.small\.experiments: .*'xlp'"),
        ("benchmarks.small.ablations", ["xpl-slf"], r"small\.ablations: .*did you mean 'xpl-self'"),
        ("benchmarks.small.reference", "hard-pl", r"small\.reference: .*known: supervised, xpl, xpl-self"),
        ("benchmarks.small.protocol", "fixd", r"small\.protocol: unknown name 'fixd', did you mean 'fixed'"),
        ("benchmarks.small.sedes", [1], r"benchmarks\.small\.sedes: .*'seeds'"),
    ],
)
def test_a_wrong_benchmark_is_named_with_its_path(
    tabled: dict[str, Any], path: str, value: object, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(changed(tabled, path, value))


def test_a_benchmark_trains_methods_for_every_budget_and_ablations_for_the_main_one(
    tabled: dict[str, Any],
) -> None:
    plan = Plan(load_study(tabled))
    assert plan.cells("small") == [
        f"results/benchmark_small/{cell}.json"
        for cell in ("supervised_demo-few", "supervised_demo", "xpl_demo-few", "xpl_demo", "xpl-self_demo")
    ]
    assert plan.runs("xpl", "demo-few", "small") == [
        f"runs/demo-few/xpl/seed{seed}/run.json" for seed in (0, 1)
    ]
    assert plan.runs("xpl", "demo-few") == ["runs/demo-few/xpl/seed0/run.json"]
    assert plan.scores("xpl", "demo-few", "small") == [
        f"results/xpl_demo-few/seed{seed}/heard.json" for seed in (0, 1)
    ]
    assert " ".join(plan.benchmark_options("small")) == (
        "--name small --reference xpl --main demo --protocol fixed --ablations xpl-self"
    )
    with pytest.raises(StudyError, match=r"benchmarks: unknown name 'smal', did you mean 'small'"):
        plan.cells("smal")


def test_every_ablation_is_xpl_without_one_part(whole: dict[str, Any]) -> None:
    parts = {
        "xpl-self": ("labels", "self"),
        "xpl-hard": ("soft", False),
        "xpl-unsharpened": ("sharpening", False),
        "xpl-no-ema": ("pl_ema", False),
        "xpl-no-curriculum": ("curriculum", False),
        "xpl-same-views": ("augmentation", "same"),
    }
    assert {name for name in whole["experiments"] if name.startswith("xpl-")} == set(parts)
    full = parse_config(training_overrides(whole, "demo", "xpl"), "xpl")
    for name, (key, value) in parts.items():
        found = parse_config(training_overrides(whole, "demo", name), name)
        assert getattr(full.method, key) != value
        assert found == full.model_copy(update={"method": full.method.model_copy(update={key: value})})
