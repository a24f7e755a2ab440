"""Splits are pure, video-disjoint, nested and stable."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_data.errors import DataInputError
from avsl_data.ids import hash_of
from avsl_data.recipes import RECIPES, Recipe
from avsl_data.sources import SOURCES
from avsl_data.sources.source import CatalogClip, Inputs
from avsl_data.split_files import read_subset, write_split
from avsl_data.split_order import parse_budget, stratified_order
from avsl_data.splits import HeldOut, Split, SplitRequest, make_split

LABELS = "abcd"


def _clip(video: int, start: int, label: str, split: str) -> CatalogClip:
    video_id = f"video{video:06d}"
    clip_id = f"{video_id}_{start:06d}"
    return CatalogClip(clip_id, video_id, f"https://x/{video_id}", float(start), start + 1.0, label, split)


@st.composite
def catalogs(draw: st.DrawFn) -> list[CatalogClip]:
    """Draw up to 30 videos, each on one side of the official split, of one to four clips."""
    clips = []
    for video in draw(st.sets(st.integers(0, 999), min_size=3, max_size=30)):
        split = draw(st.sampled_from(["train", "train", "train", "val", "test"]))
        clips += [
            _clip(video, start, draw(st.sampled_from(LABELS)), split)
            for start in range(draw(st.integers(1, 4)))
        ]
    if not any(clip.official_split == "train" for clip in clips):
        clips.append(_clip(1000, 0, "a", "train"))
    return clips


def _subset(split: Split, name: str) -> set[str]:
    return {clip_id for clip_id, subset in split.rows if subset == name}


def _demo(clips: Sequence[CatalogClip], labels: float | int = 0.3, seed: int = 0) -> Split:
    return make_split("demo-semi", [clips], SplitRequest(seed, labels))


@given(catalogs(), st.integers(0, 5), st.randoms())
def test_determined_by_the_set_of_clips(clips: list[CatalogClip], seed: int, random: object) -> None:
    shuffled = list(clips)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _demo(clips, seed=seed) == _demo(shuffled, seed=seed)


@given(catalogs(), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 3))
def test_budgets_are_nested(clips: list[CatalogClip], first: float, second: float, seed: int) -> None:
    small, large = sorted((first, second))
    smaller, larger = _demo(clips, small, seed), _demo(clips, large, seed)
    assert _subset(smaller, "labeled") <= _subset(larger, "labeled")
    n_train = sum(clip.official_split == "train" for clip in clips)
    assert len(_subset(larger, "labeled")) == max(1, round(large * n_train))
    for name in ("val", "heard", "unheard"):
        assert _subset(smaller, name) == _subset(larger, name)


@given(
    catalogs(),
    st.lists(st.tuples(st.integers(2000, 2003), st.integers(0, 9), st.sampled_from(LABELS)), max_size=4),
)
def test_adding_clips_moves_no_other(clips: list[CatalogClip], added: list[tuple[int, int, str]]) -> None:
    """No clip changes its side; of the labelled ones, at most as many are replaced as clips were added."""
    new = list({clip.clip_id: clip for clip in (_clip(*item, "train") for item in added)}.values())
    before, after = _demo(clips), _demo([*clips, *new])
    side = {"labeled": "train", "unlabeled": "train", "heard": "test", "unheard": "test", "val": "val"}
    sides = {clip_id: side[subset] for clip_id, subset in after.rows}
    assert all(sides[clip_id] == side[subset] for clip_id, subset in before.rows)
    assert len(_subset(before, "labeled") - _subset(after, "labeled")) <= len(new)


@given(catalogs(), st.integers(0, 3))
def test_training_videos_are_not_held_out(clips: list[CatalogClip], seed: int) -> None:
    held = [clip for clip in clips if clip.official_split != "train"]
    copies = [dataclasses.replace(clip, clip_id=f"{clip.clip_id[:-1]}9") for clip in held]
    split = make_split("demo-semi", [clips, [*copies, *held]], SplitRequest(seed, 0.5))
    video = {clip.clip_id: clip.video_id for clip in [*clips, *copies]}
    training = {video[clip_id] for name in ("labeled", "unlabeled") for clip_id in _subset(split, name)}
    held_out = {video[clip_id] for name in ("val", "heard", "unheard") for clip_id in _subset(split, name)}
    assert not training & held_out
    assert split.about["removed"]["leak"] == sorted({clip.clip_id for clip in [*copies, *held]})


def _order(clips: Sequence[CatalogClip], seed: int) -> list[int]:
    keys, labels = ([getattr(clip, name) for clip in clips] for name in ("clip_id", "label"))
    return stratified_order(pa.array(keys), pa.array(labels), seed, "x").tolist()


@given(catalogs(), st.integers(0, 3))
def test_the_order_is_the_documented_one(clips: list[CatalogClip], seed: int) -> None:
    """Against the definition, one clip at a time."""
    ranked = []
    for label in {clip.label for clip in clips}:
        members = sorted(
            (hash_of("x", seed, clip.clip_id), clip.clip_id) for clip in clips if clip.label == label
        )
        tie = hash_of("x", seed, "class", label)
        ranked += [
            ((rank + 0.5) / len(members), tie, label, clip_id) for rank, (_, clip_id) in enumerate(members)
        ]
    assert [clips[place].clip_id for place in _order(clips, seed)] == [item[-1] for item in sorted(ranked)]


@given(catalogs(), st.integers(0, 3))
@settings(max_examples=30)
def test_the_order_is_stratified(clips: list[CatalogClip], seed: int) -> None:
    """Every beginning holds each class in its share, to within one clip."""
    order = [clips[place] for place in _order(clips, seed)]
    totals = Counter(clip.label for clip in clips)
    for n in range(len(order) + 1):
        found = Counter(clip.label for clip in order[:n])
        for label, total in totals.items():
            assert abs(found[label] - total * n / len(order)) <= 1.0 + 1e-9 + (len(totals) - 1) / 2


def test_a_seed_changes_the_labels() -> None:
    clips = [_clip(video, start, "a", "train") for video in range(20) for start in range(5)]
    drawn = {frozenset(_subset(_demo(clips, 10, seed), "labeled")) for seed in range(5)}
    assert len(drawn) == 5


def test_heard_and_unheard_by_class() -> None:
    clips = [
        _clip(1, 0, "a", "train"),
        _clip(2, 0, "a", "test"),
        _clip(2, 1, "b", "test"),
        _clip(3, 0, "b", "val"),
    ]
    assert dict(_demo(clips, 1).rows) == {
        "video000001_000000": "labeled",
        "video000002_000000": "heard",
        "video000002_000001": "unheard",
        "video000003_000000": "val",
    }


def test_leakage_rules() -> None:
    clips = [_clip(1, 0, "a", "train"), _clip(2, 0, "a", "test")]
    further = [
        _clip(2, 0, "a", "train"),
        _clip(2, 5, "a", "train"),
        _clip(1, 0, "a", "train"),
        _clip(4, 0, "", "train"),
    ]
    excluded = make_split("demo-semi", [clips, further], SplitRequest(labels=1))
    assert excluded.about["removed"] == {
        "leak": ["video000002_000000", "video000002_000005"],
        "duplicate": ["video000001_000000"],
    }
    assert excluded.about["counts"] == {"heard": 1, "labeled": 1, "unlabeled": 1}
    with pytest.raises(DataInputError, match="2 training clips are of videos in val or test"):
        make_split("demo-semi", [clips, further], SplitRequest(labels=1, leakage="error"))
    allowed = make_split("demo-semi", [clips, further], SplitRequest(labels=1, leakage="allow"))
    assert ("video000002_000000", "heard") in allowed.rows
    assert ("video000002_000000", "unlabeled") in allowed.rows
    assert allowed.about["leaks_allowed"] == excluded.about["removed"]["leak"]
    assert allowed.about["removed"]["leak"] == []
    with pytest.raises(DataInputError, match="did you mean 'exclude'"):
        make_split("demo-semi", [clips], SplitRequest(leakage="exclud"))


@pytest.fixture(scope="module")
def vggss(shared: Path) -> list[CatalogClip]:
    return SOURCES["vggss"].catalog(Inputs(mirror=shared / "mirror"))


@pytest.mark.parametrize(
    ("recipe", "sizes"), [("vggss-semi", (2500, 258, 2400)), ("vggss-dmt", (4250, 250, 658))]
)
def test_vggss_recipes(recipe: str, sizes: tuple[int, int, int], vggss: list[CatalogClip]) -> None:
    split = make_split(recipe, [vggss], SplitRequest(0, 0.1))
    labeled, unlabeled = _subset(split, "labeled"), _subset(split, "unlabeled")
    pool = labeled | unlabeled
    assert (len(pool), len(_subset(split, "val")), len(_subset(split, "test"))) == sizes
    assert len(labeled) == round(sizes[0] / 10)
    label = {clip.clip_id: clip.label for clip in vggss}
    totals = Counter(label.values())
    for part in (pool, _subset(split, "val"), _subset(split, "test")):
        counts = Counter(label[clip_id] for clip_id in part)
        share = len(part) / len(vggss)
        assert all(abs(counts[name] - total * share) < 3 for name, total in totals.items())
    # Sides are video-disjoint without any removal: nothing of the 5,158 is lost.
    assert split.about["removed"] == {"leak": [], "duplicate": []}
    assert len(split.rows) == len(vggss)


def test_vggss_sides_do_not_depend_on_further_catalogs(vggss: list[CatalogClip], shared: Path) -> None:
    further = SOURCES["vggsound"].catalog(Inputs(mirror=shared / "mirror", list_name="vggsound_10k@ezvsl"))
    alone = make_split("vggss-semi", [vggss], SplitRequest(0, 256))
    both = make_split("vggss-semi", [vggss, further], SplitRequest(0, 256))
    assert set(alone.rows) <= set(both.rows)
    removed = both.about["removed"]
    # Of the list's 10,000 clips, 238 are in VGG-SS: they are in the pool already, or they leak.
    assert len(both.rows) == len(vggss) + 10_000 - len(removed["leak"]) - len(removed["duplicate"])
    in_vggss = {clip.clip_id for clip in vggss}
    assert len(in_vggss & {*removed["leak"], *removed["duplicate"]}) == 238


def test_a_recipe_wants_its_own_catalog() -> None:
    clips = [_clip(1, 0, "a", "train")]
    with pytest.raises(DataInputError, match="give the catalog of source 'vggss' first"):
        make_split("vggss-semi", [clips], SplitRequest())
    with pytest.raises(DataInputError, match="no clip of the official split 'train'"):
        make_split("demo-semi", [[_clip(1, 0, "a", "test")]], SplitRequest())
    with pytest.raises(DataInputError, match="official split 'dev'"):
        make_split("demo-semi", [[_clip(1, 0, "a", "dev")]], SplitRequest())
    with pytest.raises(DataInputError, match="--labels 2 is more than the 1 training clips"):
        make_split("demo-semi", [clips], SplitRequest(labels=2))
    with pytest.raises(DataInputError, match="leave --labels out"):
        make_split("all-test", [clips], SplitRequest(labels=2))
    with pytest.raises(DataInputError, match="did you mean 'demo-semi'"):
        make_split("demo_semi", [clips], SplitRequest())


def test_all_test() -> None:
    split = make_split("all-test", [[_clip(1, 0, "a", "")], [_clip(2, 0, "a", "")]], SplitRequest())
    assert split.about["counts"] == {"test": 2}


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "0.0", "abc", "200%", "", "nan"])
def test_bad_budgets(text: str) -> None:
    with pytest.raises(DataInputError, match="is no budget"):
        parse_budget(text)


def test_one_as_a_number_and_as_a_fraction() -> None:
    assert parse_budget("1") == 1
    assert isinstance(parse_budget("1"), int)
    assert isinstance(parse_budget("1.0"), float)


def test_the_file(tmp_path: Path) -> None:
    clips = [_clip(1, start, "a", "train") for start in range(9)] + [_clip(2, 0, "a", "test")]
    path = tmp_path / "s.parquet"
    write_split(path, _demo(clips, 2, 4))
    about = json.loads(pq.read_schema(path).metadata[b"avsl"])
    assert about["recipe"] == "demo-semi"
    assert about["seed"] == 4
    assert about["params"] == {"labels": 2, "leakage": "exclude"}
    assert about["counts"] == {"heard": 1, "labeled": 2, "unlabeled": 7}
    assert len(read_subset(path, "labeled,heard")) == 3
    with pytest.raises(DataInputError, match="did you mean 'labeled'"):
        read_subset(path, "labelled")
    first = path.read_bytes()
    write_split(path, _demo(clips, 2, 4))
    assert path.read_bytes() == first


def test_every_recipe_says_what_it_does() -> None:
    assert all(isinstance(recipe, Recipe) and recipe.summary for recipe in RECIPES.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_study_whose_labelled_clips_are_all_held_out_is_refused(seed: int) -> None:
    clips = [_clip(k, 0, "a", "train" if k < 8 else "test") for k in range(12)]
    request = SplitRequest(seed, labels=1.0)
    trained = pa.array([clip.video_id for clip in clips[:8]])
    some = dataclasses.replace(request, held_out=(HeldOut("some", trained.slice(1)),))
    left = make_split("demo-semi", [clips], some)
    assert len(_subset(left, "labeled")) == 1
    assert left.about["labels_lost"] == 7
    assert "labels_lost" not in make_split("demo-semi", [clips], request).about
    every = dataclasses.replace(request, held_out=(HeldOut("every", trained),))
    with pytest.raises(DataInputError, match=r"every labelled clip is of a held-out video \(.*every\)"):
        make_split("demo-semi", [clips], every)
