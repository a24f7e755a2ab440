"""Recipes that follow lists, hashes and files; test sets of the whole study; what a split file records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_data.__main__ import main
from avsl_data.catalog import write_catalog
from avsl_data.errors import DataInputError
from avsl_data.files import sha256_of
from avsl_data.ids import hash_of, video_id_of
from avsl_data.published_lists import load
from avsl_data.sources import SOURCES
from avsl_data.sources.source import CatalogClip, Inputs
from avsl_data.split_inputs import read_own, split_files
from avsl_data.splits import HeldOut, Split, SplitRequest, make_split


def _clip(video: int, start: int, label: str = "a", split: str = "train") -> CatalogClip:
    video_id = f"video{video:06d}"
    return CatalogClip(f"{video_id}_{start:06d}", video_id, "https://x/y", float(start), None, label, split)


CLIPS = st.lists(
    st.builds(_clip, st.integers(0, 60), st.integers(0, 3), st.sampled_from("abc")),
    unique_by=lambda clip: clip.clip_id,
    min_size=1,
    max_size=40,
)


def _subsets(split: Split) -> dict[str, str]:
    return dict(split.rows)


@pytest.fixture(scope="module")
def mirror(shared: Path) -> Path:
    return shared / "mirror"


@pytest.fixture(scope="module")
def catalogs(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Catalogs of published sets."""
    folder, paths = tmp_path_factory.mktemp("catalogs"), {}
    for name, source, list_name in (
        ("vggss", "vggss", None),
        ("heard@acl", "vggsound", "vggsound_heard@acl"),
        ("10k@ezvsl", "vggsound", "vggsound_10k@ezvsl"),
        ("flickr", "flickr_soundnet", None),
        ("flickr144k", "flickr_soundnet", "flickr_144k@ezvsl"),
    ):
        clips = SOURCES[source].catalog(Inputs(mirror=mirror, list_name=list_name))
        paths[name] = folder / f"{name}.parquet"
        write_catalog(clips, source, 8, paths[name])
    return paths


@given(CLIPS, CLIPS, st.integers(0, 3))
@settings(deadline=None)
def test_a_side_by_hash_is_the_video_s_own(
    clips: list[CatalogClip], more: list[CatalogClip], seed: int
) -> None:
    """No clip that is added moves any other one to another side, and the side is the documented one."""
    both = list({clip.clip_id: clip for clip in (*clips, *more)}.values())
    before = _subsets(make_split("by-hash", [clips], SplitRequest(seed)))
    after = _subsets(make_split("by-hash", [both], SplitRequest(seed)))
    assert all(after[clip_id] == subset for clip_id, subset in before.items())
    for clip_id, subset in after.items():
        draw = hash_of("sides", seed, video_id_of(clip_id)) / 2**64
        assert subset == ("test" if draw < 0.2 else "val" if draw < 0.25 else "labeled")


@given(CLIPS, CLIPS, st.sampled_from([0.1, 0.4, 3]), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_sides_are_disjoint_and_no_order_counts(
    clips: list[CatalogClip], further: list[CatalogClip], labels: float, random: object
) -> None:
    try:
        split = make_split("by-hash", [clips, further], SplitRequest(1, labels))
    except DataInputError as error:
        assert "is more than the" in str(error)  # noqa: PT017 - drawn budgets may be too large
        return
    video_side = {
        (video_id_of(clip_id), subset in ("labeled", "unlabeled")) for clip_id, subset in split.rows
    }
    assert len({video for video, _ in video_side}) == len(video_side)
    mixed = [list(clips), list(further)]
    for part in mixed:
        random.shuffle(part)  # type: ignore[attr-defined]
    assert make_split("by-hash", mixed, SplitRequest(1, labels)) == split


@given(CLIPS, st.sets(st.integers(0, 60)))
@settings(deadline=None)
def test_test_sets_of_the_study_are_held_out(clips: list[CatalogClip], held: set[int]) -> None:
    videos = {f"video{video:06d}" for video in held}
    other = HeldOut("other", pa.array(sorted(videos), pa.string()))
    alone = _subsets(make_split("by-hash", [clips], SplitRequest()))
    labeled = {clip_id for clip_id, subset in alone.items() if subset == "labeled"}
    gone = {clip_id for clip_id in labeled if video_id_of(clip_id) in videos}
    if gone == labeled != set():
        with pytest.raises(DataInputError, match="every labelled clip is of a held-out video"):
            make_split("by-hash", [clips], SplitRequest(held_out=(other,)))
        return
    split = make_split("by-hash", [clips], SplitRequest(held_out=(other,)))
    assert _subsets(split) == {clip_id: subset for clip_id, subset in alone.items() if clip_id not in gone}
    assert split.about["removed"]["leak"] == sorted(gone)
    assert split.about["leaks_by"] == {"this split": 0, "other": len(gone)}
    if gone:
        with pytest.raises(DataInputError, match=f"{len(gone)} training clips"):
            make_split("by-hash", [clips], SplitRequest(held_out=(other,), leakage="error"))
        allowed = make_split("by-hash", [clips], SplitRequest(held_out=(other,), leakage="allow"))
        assert _subsets(allowed) == alone
        assert allowed.about["leaks_allowed"] == sorted(gone)


@pytest.mark.parametrize(("project", "left_out"), [("ezvsl", 19), ("ssltie", None)])
def test_open_set(project: str, left_out: int | None, catalogs: dict[str, Path], mirror: Path) -> None:
    recipe = f"vggss-openset@{project}"
    paths = [catalogs["vggss"], catalogs["heard@acl"]]
    split = split_files(recipe, paths, SplitRequest(0, 0.1), mirror=mirror)
    label = {clip.clip_id: clip.label for clip in SOURCES["vggss"].catalog(Inputs(mirror=mirror))}
    for path in paths:
        table = pq.read_table(path)
        label |= dict(zip(table["clip_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    classes = {
        side: {
            label[clip_id] for clip_id in load(f"vggss-{side}@{project}", mirror).table["clip_id"].to_pylist()
        }
        for side in ("heard", "unheard")
    }
    found: dict[str, set[str]] = {}
    videos: dict[str, set[str]] = {}
    for clip_id, subset in split.rows:
        found.setdefault(subset, set()).add(label[clip_id])
        side = "train" if subset in ("labeled", "unlabeled") else subset
        videos.setdefault(side, set()).add(video_id_of(clip_id))
    assert found["heard"] | found["labeled"] | found["unlabeled"] | found["val"] <= classes["heard"]
    assert found["unheard"] == classes["unheard"]
    assert not videos["train"] & (videos["heard"] | videos["unheard"] | videos["val"])
    counts = split.about["counts"]
    assert counts["labeled"] == 125
    assert counts["val"] == 114
    if project == "ezvsl":
        assert (counts["heard"], counts["unheard"]) == (2564 - 1250 - 114, 2575)
        assert (
            sum(label[c] == "singing choir" for c in split.about["removed"]["not_of_a_heard_class"])
            == left_out
        )
    assert {"list": f"vggss-heard@{project}"}.items() <= split.about["sources"][2].items()


def test_flickr(catalogs: dict[str, Path], mirror: Path) -> None:
    paths = [catalogs["flickr"], catalogs["flickr144k"]]
    split = split_files("flickr-semi", paths, SplitRequest(0, 256))
    subsets: dict[str, set[str]] = {}
    for clip_id, subset in split.rows:
        subsets.setdefault(subset, set()).add(clip_id)
    assert subsets["test"] == set(load("flickr", mirror).table["clip_id"].to_pylist())
    assert (len(subsets["val"]), len(subsets["labeled"])) == (500, 256)
    assert len(subsets["labeled"] | subsets["unlabeled"]) == 4250 + 144_000 - 364
    # 20 of the 250 and 344 of the 4,750 annotated videos are in the list: they leak or are there already.
    removed = split.about["removed"]
    assert len(removed["leak"]) + len(removed["duplicate"]) == 364
    small = _subsets(split_files("flickr-semi", paths, SplitRequest(0, 0.01)))
    assert {clip_id for clip_id, subset in small.items() if subset == "labeled"} <= subsets["labeled"]
    with pytest.raises(DataInputError, match="give the catalog of source 'flickr_soundnet' first"):
        split_files("flickr-semi", paths[1:], SplitRequest())


def test_a_published_list_as_a_pool(catalogs: dict[str, Path], mirror: Path) -> None:
    split = split_files(
        "vggsound_10k@ezvsl", [catalogs["10k@ezvsl"]], SplitRequest(), held_out=["vggss"], mirror=mirror
    )
    assert split.about["counts"] == {"unlabeled": 10_000 - 240}
    assert split.about["leaks_by"] == {"this split": 0, "vggss": 240}
    none = split_files("vggsound_10k@acl", [catalogs["10k@ezvsl"]], SplitRequest(), mirror=mirror)
    listed = len(none.about["removed"]["not_listed"])
    assert none.about["counts"] == {"unlabeled": 10_000 - listed}
    with pytest.raises(DataInputError, match="leave --labels out"):
        split_files("vggsound_10k@acl", [catalogs["10k@ezvsl"]], SplitRequest(labels=3), mirror=mirror)


def test_the_file_says_how_it_was_made(catalogs: dict[str, Path], mirror: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    given = [
        "split",
        "vggss-semi",
        "--catalog",
        str(catalogs["vggss"]),
        "--catalog",
        str(catalogs["10k@ezvsl"]),
    ]
    given += ["--held-out", "avsbench-s4", "--held-out", str(catalogs["flickr"]), "--mirror", str(mirror)]
    assert main([*given, "--labels", "256", "--seed", "3", "--out", str(out)]) == 0
    about = json.loads(pq.read_schema(out).metadata[b"avsl"])
    assert (about["recipe"], about["seed"]) == ("vggss-semi", 3)
    assert about["params"] == {"pool": 2500, "val": 258, "test": 2400, "labels": 256, "leakage": "exclude"}
    assert [next(iter(source)) for source in about["sources"]] == [
        "catalog",
        "catalog",
        "held_out",
        "held_out",
    ]
    assert about["sources"][0] == {"catalog": "vggss", "clips": 5158, "sha256": sha256_of(catalogs["vggss"])}
    digests = {key: remote.sha256 for key, remote in SOURCES["avsbench-s4"].REMOTES.items()}
    assert about["sources"][2] == {"held_out": "avsbench-s4", "videos": 740, "sha256": digests}
    assert len(digests) == 2
    assert about["leaks_by"]["avsbench-s4"] > 0
    first = out.read_bytes()
    assert main([*given, "--labels", "256", "--seed", "3", "--out", str(out)]) == 0
    assert out.read_bytes() == first
    # VGG-SS is all of VGGSound's test split: with that held out, no labelled clip would be left.
    out.unlink()
    assert main([*given, "--held-out", "vggsound-test", "--out", str(out)]) == 2
    assert not out.exists()


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    catalog = tmp_path / "c.parquet"
    write_catalog([_clip(1, 0), _clip(1, 1), _clip(2, 0), _clip(3, 0), _clip(4, 0)], "mine", 1, catalog)
    mine = tmp_path / "mine.csv"
    mine.write_text("video000001_000000,labeled\r\nvideo000001_000001,test\nvideo000002_000000,unlabeled\n")
    with mine.open("a") as file:
        file.write("video000004_000000,labeled\n")
    out = tmp_path / "s.parquet"
    assert main(["split", "own", "--catalog", str(catalog), "--assign", str(mine), "--out", str(out)]) == 0
    assert pq.read_table(out).to_pylist() == [
        {"clip_id": "video000001_000001", "subset": "test"},
        {"clip_id": "video000002_000000", "subset": "unlabeled"},
        {"clip_id": "video000004_000000", "subset": "labeled"},
    ]
    about = json.loads(pq.read_schema(out).metadata[b"avsl"])
    assert about["removed"] == {
        "leak": ["video000001_000000"],
        "duplicate": [],
        "not_assigned": ["video000003_000000"],
    }
    assert about["sources"][1] == {"assign": "mine.csv", "sha256": sha256_of(mine)}
    assert read_own(out).num_rows == 3  # a split of this project is such a file, too


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video000001_000000,labelled\n", "mine.csv: unknown subset 'labelled': did you mean 'labeled'"),
        ("video000001_000000\n", "mine.csv: unknown subset ''"),
        (
            "video000001_000000,test\nvideo000001_000000,val\n",
            "1 clips more than once, first video000001_000000",
        ),
        ("video000009_000000,test\n", "1 clips of --assign are in no catalog, first video000009_000000"),
        ("../x,test\n", r"mine.csv, line 1: '\.\./x'"),
    ],
)
def test_damaged_files_of_one_s_own(text: str, message: str, tmp_path: Path) -> None:
    catalog, mine = tmp_path / "c.parquet", tmp_path / "mine.csv"
    write_catalog([_clip(1, 0)], "mine", 1, catalog)
    mine.write_text(text)
    with pytest.raises(DataInputError, match=message):
        split_files("own", [catalog], SplitRequest(), assign=mine)


def test_what_recipes_do_not_take(tmp_path: Path) -> None:
    catalog, mine = tmp_path / "c.parquet", tmp_path / "mine.csv"
    write_catalog([_clip(1, 0)], "mine", 1, catalog)
    mine.write_text("video000001_000000,test\n")
    with pytest.raises(DataInputError, match="does not use --assign"):
        split_files("all-test", [catalog], SplitRequest(), assign=mine)
    with pytest.raises(DataInputError, match="add --assign FILE"):
        split_files("own", [catalog], SplitRequest())
    with pytest.raises(DataInputError, match="did you mean 'vggss-openset@ezvsl'"):
        split_files("vggss-openset@ezvs", [catalog], SplitRequest())
    with pytest.raises(DataInputError, match="unknown list or file 'vgss'"):
        split_files("all-test", [catalog], SplitRequest(), held_out=["vgss"])


def test_labels_of_a_table(mirror: Path, shared: Path) -> None:
    """vggsound.csv gives labels and the official split to a list, or stands for all clips."""
    table = shared / "derived" / "vggsound_partial.csv"
    source = SOURCES["vggsound"]
    assert len(source.catalog(Inputs(table=table))) == 89_089
    name = "vggsound_10k@ssltie"
    without = source.catalog(Inputs(mirror=mirror, list_name=name))
    with_table = source.catalog(Inputs(mirror=mirror, list_name=name, table=table))
    assert [clip.clip_id for clip in without] == [clip.clip_id for clip in with_table]
    known = {clip.clip_id: (clip.label, clip.official_split) for clip in source.catalog(Inputs(table=table))}
    labelled = [clip for clip in with_table if clip.clip_id in known]
    assert len(labelled) > 3000
    assert all((clip.label, clip.official_split) == known[clip.clip_id] for clip in labelled)
    assert (
        Counter(bool(clip.label) for clip in without)[True] < Counter(bool(c.label) for c in with_table)[True]
    )


def test_classes_of_vggsound(mirror: Path) -> None:
    from avsl_data.sources.vggsound import classes

    counts = classes(mirror)
    assert (len(counts), sum(counts.values())) == (309, 199_176)
    assert counts["bird chirping, tweeting"] == 1050
