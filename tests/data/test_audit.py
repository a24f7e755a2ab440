"""The audit of lists: counts against an independent slow count, and every published number."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_data.__main__ import main
from avsl_data.annotations import build_annotations, write_annotations
from avsl_data.audit import SCHEMA, facts_of, find_leaks
from avsl_data.catalog import write_catalog
from avsl_data.errors import DataInputError
from avsl_data.ids import start_of, video_id_of
from avsl_data.published_lists import LISTS, NamedClips, known_labels, load, videos_of
from avsl_data.sources import SOURCES
from avsl_data.sources.source import Inputs

CLIPS = st.lists(
    st.tuples(st.sampled_from(["aaaaaaaaaaa", "-bbbbbbbb_b", "ccccccccccc"]), st.integers(0, 40)),
    min_size=1,
    max_size=15,
)


def _named(name: str, ids: list[str], labels: list[str] | None = None) -> NamedClips:
    column = pa.array(ids, pa.string())
    columns = [column, videos_of(column), pa.array(labels or [""] * len(ids), pa.string())]
    return NamedClips(name, pa.table(columns, ["clip_id", "video_id", "label"]))


@given(CLIPS, CLIPS)
@settings(deadline=None)
def test_counts_against_pairs(train: list[tuple[str, int]], test: list[tuple[str, int]]) -> None:
    ours, theirs = ([f"{video}_{start:06d}" for video, start in part] for part in (train, test))
    leak = find_leaks(_named("a", ours), _named("b", theirs))
    distinct = set(ours)
    assert leak.same_clip == len(distinct & set(theirs))
    assert leak.same_seconds == sum(
        any(
            video_id_of(other) == video_id_of(clip) and abs(start_of(other) - start_of(clip)) < 10
            for other in theirs
        )
        for clip in distinct
    )
    videos = {video_id_of(clip) for clip in theirs}
    assert leak.ids.to_pylist() == sorted(clip for clip in distinct if video_id_of(clip) in videos)
    assert leak.clips_of_test_videos == len(leak.ids)
    assert leak.shared_videos == len(videos & {video_id_of(clip) for clip in ours})
    facts = facts_of(_named("a", ours), pa.array(theirs))
    assert (facts.lines, facts.clips, facts.duplicates) == (
        len(ours),
        len(distinct),
        len(ours) - len(distinct),
    )
    assert facts.unknown == len(distinct - set(theirs))


def test_classes() -> None:
    test = _named("t", ["aaaaaaaaaaa_000001", "ccccccccccc_000001"], ["dog", "cat, big"])
    train = _named("l", ["bbbbbbbbbbb_000001", "ddddddddddd_000001"])
    assert find_leaks(train, test).covered is None
    labels = pa.table({"clip_id": ["bbbbbbbbbbb_000001"], "label": ["dog"]})
    leak = find_leaks(train, test, labels)
    assert (leak.covered, leak.classes, leak.labels_known) == (1, 2, 1)
    assert find_leaks(train, train).classes is None


def test_times_of_pictures_are_not_known(shared: Path) -> None:
    leak = find_leaks(_named("a", ["0d9u2CymIxc_000030"]), load("avsbench-s4", shared / "mirror"))
    assert (leak.same_seconds, leak.shared_videos, leak.classes) == (None, 1, None)


FACTS = [  # list, test set, same clip, same video, shared videos
    ("vggsound_144k@ezvsl", "vggss", 3709, 3810, 3655),
    ("vggsound_144k@ezvsl", "vggsound-test", 11163, 11168, 10839),
    ("vggsound_144k@fnac", "vggss", 3715, 3816, 3645),
    ("vggsound_144k@fnac", "vggsound-test", 10948, 10954, 10602),
    ("vggsound_10k@ezvsl", "vggss", 238, 240, 240),
    ("vggsound_10k@fnac", "vggss", 229, 233, 233),
    ("vggsound_144k@ssltie", "vggss", 0, 2, 2),
    ("vggsound_144k@htf", "vggss", 0, 0, 0),
    ("vggsound_144k@htf", "vggsound-test", 7310, 7311, 7132),
    ("vggsound_10k@acl", "vggss", 0, 0, 0),
    ("vggsound_10k@acl", "vggsound-test", 0, 0, 0),
    ("vggsound_heard@acl", "vggss", 0, 60, 60),
    ("vggsound_heard@acl", "vggsound-test", 2665, 2667, 2607),
    ("vggsound_heard@ssltie", "vggss-heard@ssltie", 2299, 2360, 2245),
    ("flickr_144k@ezvsl", "flickr", 20, 20, 20),
    ("flickr_144k@ezvsl", "flickr-pool@slavc", 344, 344, 344),
    ("flickr_144k@ardasnck", "flickr", 0, 0, 0),
    ("flickr_144k@ardasnck", "flickr-pool@slavc", 3065, 3065, 3065),
]


@pytest.mark.parametrize(("name", "test", "same_clip", "same_video", "videos"), FACTS)
def test_published_facts(
    name: str, test: str, same_clip: int, same_video: int, videos: int, shared: Path
) -> None:
    leak = find_leaks(load(name, shared / "mirror"), load(test, shared / "mirror"))
    assert (leak.same_clip, leak.clips_of_test_videos, leak.shared_videos) == (same_clip, same_video, videos)


@pytest.mark.parametrize(
    ("name", "derived"),
    [
        ("vggsound_144k@ezvsl", "leak_ezvsl_vggss_144k_in_vggss.txt"),
        ("vggsound_144k@fnac", "leak_fnac_vggss_144k_in_vggss.txt"),
        ("vggsound_10k@ezvsl", "leak_ezvsl_vggss_10k_in_vggss.txt"),
        ("vggsound_10k@fnac", "leak_fnac_vggss_10k_in_vggss.txt"),
    ],
)
def test_the_very_clips(name: str, derived: str, shared: Path) -> None:
    leak = find_leaks(load(name, shared / "mirror"), load("vggss", shared / "mirror"))
    known = set((shared / "derived" / derived).read_text().split())
    vggss = set(load("vggss", shared / "mirror").table["clip_id"].to_pylist())
    assert set(leak.ids.to_pylist()) & vggss == known


def test_heard_classes(shared: Path) -> None:
    """101 of 110: the nine that are missing are those with a comma in their name."""
    mirror = shared / "mirror"
    labels = known_labels(mirror)
    test = load("vggss-heard@ezvsl", mirror)
    found = {
        name: find_leaks(load(name, mirror), test, labels)
        for name in ("vggsound_heard@ezvsl", "vggsound_heard@acl")
    }
    assert [(leak.covered, leak.classes) for leak in found.values()] == [(101, 110), (110, 110)]
    assert found["vggsound_heard@ezvsl"].labels_known == 59_468
    heard = json.loads((shared / "derived" / "ezvsl_heard_unheard_classes.json").read_text())["heard"]
    assert found["vggsound_heard@ezvsl"].uncovered == tuple(sorted(name for name in heard if "," in name))
    assert len(found["vggsound_heard@ezvsl"].uncovered) == 9
    acl = set(load("vggsound_heard@acl", mirror).table["clip_id"].to_pylist())
    assert set(load("vggsound_heard@ezvsl", mirror).table["clip_id"].to_pylist()) <= acl


def test_class_groups_of_the_projects(shared: Path) -> None:
    """221 classes; each project leaves one out, and 52 heard ones are common."""
    mirror = shared / "mirror"
    label = {clip.clip_id: clip.label for clip in SOURCES["vggss"].catalog(Inputs(mirror=mirror))}
    groups = {
        name: {label[clip_id] for clip_id in load(name, mirror).table["clip_id"].to_pylist()}
        for name in LISTS
        if name.startswith(("vggss-heard", "vggss-unheard"))
    }
    for project, left_out in (
        ("ezvsl", "singing choir"),
        ("acl", "singing choir"),
        ("ssltie", "playing trombone"),
    ):
        heard, unheard = groups[f"vggss-heard@{project}"], groups[f"vggss-unheard@{project}"]
        assert (len(heard), len(unheard), heard & unheard) == (110, 110, set())
        assert set(label.values()) - heard - unheard == {left_out}
    assert len(groups["vggss-heard@ezvsl"] & groups["vggss-heard@ssltie"]) == 52
    assert list(label.values()).count("singing choir") == 19


def test_the_committed_tables(shared: Path, repository: Path, tmp_path: Path) -> None:
    page = repository / "docs" / "audit.md"
    copy = tmp_path / "audit.md"
    copy.write_text(re.sub(r"(?s)(begin: .*?-->\n).*(<!-- end)", r"\1\2", page.read_text()))
    assert copy.read_text() != page.read_text()
    assert main(["audit", "--published", "--update", str(copy), "--mirror", str(shared / "mirror")]) == 0
    assert copy.read_text() == page.read_text()


def test_every_published_list_of_the_mirror_has_a_name(shared: Path) -> None:
    listed = {remote.url for remote in LISTS.values()}
    listed |= {remote.url for source in SOURCES.values() for remote in source.REMOTES.values()}
    import csv

    with (shared / "mirror" / "SOURCES.csv").open(newline="") as file:
        unused = {row["url"].rpartition("/")[2] for row in csv.DictReader(file) if row["url"] not in listed}
    # Lists of masks, from which the boxes were drawn, and the classes that VGGSound shares with AudioSet.
    assert unused == {f"{name}_seg.json" for name in ("synthetic3240", "ms3", "s4", "vpo_ms", "vpo_ss")} | {
        "Common.txt"
    }


def test_the_command(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = str(shared / "mirror")
    mine = tmp_path / "mine.txt"
    mine.write_text("zpWuikVorYg_000032\r\nzpWuikVorYg_000030\nzpWuikVorYg_000032\nrubbish\n-xxxxxxxxxx,7")
    table = tmp_path / "t.csv"
    table.write_text("zpWuikVorYg,32,elk bugling,test\n-xxxxxxxxxx,7,dog,train\n")
    ids = tmp_path / "ids.txt"
    given = ["audit", str(mine), "--test", "vggss", "--mirror", mirror, "--table", str(table)]
    assert main([*given, "--json", "--ids", str(ids)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == SCHEMA
    assert said["lists"] == [
        {
            "name": "mine.txt",
            "lines": 5,
            "clips": 3,
            "videos": 2,
            "duplicates": 1,
            "malformed": 1,
            "unknown": 1,
        }
    ]
    (row,) = said["rows"]
    assert (row["same_clip"], row["same_seconds"], row["clips_of_test_videos"]) == (1, 2, 2)
    assert (row["covered"], row["classes"]) == (1, 221)
    assert [(fault["line"], fault["text"]) for fault in said["faults"]] == [(4, "rubbish")]
    assert ids.read_text() == "zpWuikVorYg_000030\nzpWuikVorYg_000032\n"
    with pytest.raises(SystemExit) as ended:
        main([*given, "--fail-on-leak"])
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert "mine.txt, line 4: 'rubbish' is no clip id" in text
    assert main([*given, "--markdown", "--out", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text().startswith("| list | lines |")
    clean = ["audit", str(mine), "--test", "flickr", "--mirror", mirror, "--fail-on-leak"]
    assert main(clean) == 0


def test_other_formats(shared: Path, tmp_path: Path) -> None:
    mirror = shared / "mirror"
    inputs = Inputs(mirror=mirror)
    write_catalog(SOURCES["vggss"].catalog(inputs), "vggss", 1, tmp_path / "c.parquet")
    paths = {
        tmp_path / "c.parquet": 5158,
        next(mirror.rglob("vggss.json")): 5158,
        next(mirror.rglob("vggss_test_plus_silent.csv")): 5373,
        shared / "derived" / "vggsound_partial.csv": 89_089,
    }
    for path, clips in paths.items():
        assert facts_of(load(str(path), mirror)).clips == clips
    leak = find_leaks(load(str(tmp_path / "c.parquet")), load("vggss", mirror))
    assert (leak.same_clip, leak.covered) == (5158, None)


def test_the_videos_of_a_test_set_in_a_file(shared: Path, tmp_path: Path) -> None:
    """Pairs are of the videos of both their clips; ids that do not tell their video are refused."""
    mirror = shared / "mirror"
    inputs = Inputs(mirror=mirror)
    path = tmp_path / "a.json"
    write_annotations(path, build_annotations(SOURCES["vggss-extended"].boxes(inputs), "vggss-extended"))
    found = load(str(path), mirror).table
    catalog = load("vggss-extended", mirror).table
    for column in ("clip_id", "video_id"):
        assert set(found[column].to_pylist()) == set(catalog[column].to_pylist())
    assert set(found["label"].to_pylist()) == {clip.label for clip in SOURCES["vggss"].boxes(inputs)} | {""}
    for name in ("avsbench-s4", "avsbench-ms3", "is3", "vpo-ms"):
        write_annotations(path, build_annotations(SOURCES[name].boxes(inputs), name))
        with pytest.raises(DataInputError, match=r"a\.json: the id .* does not tell its video"):
            load(str(path), mirror)


def test_names(tmp_path: Path) -> None:
    with pytest.raises(DataInputError, match="did you mean 'vggsound_144k@ezvsl'"):
        load("vggsound_144k@ezvs")
    with pytest.raises(DataInputError, match=r"absent\.txt' does not exist"):
        load(str(tmp_path / "absent.txt"))
    with pytest.raises(DataInputError, match="is no file"):
        load(str(tmp_path))


def test_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    for arguments, message in (
        ((), "name a list to audit"),
        (("--published", "x.txt"), "leave LIST, --test and --ids out"),
        (
            ("--published", "--update", str(tmp_path / "absent"), "--mirror", str(shared / "mirror")),
            "does not exist",
        ),
        (("--published", "--update", str(page), "--mirror", str(shared / "mirror")), "has no marks"),
    ):
        assert main(["audit", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert page.read_text() == "no marks\n"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_data_cards(name: str, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", name, "--mirror", str(shared / "mirror"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["schema"] == "avsl-data-card/1"
    assert card["name"] == name
    assert all(card[key] for key in ("summary", "size", "how_made", "known_faults", "licence", "truth"))
    assert [remote["copy"] for remote in card["remotes"]] == ["verified"] * len(SOURCES[name].REMOTES)
    assert main(["describe", name, "--mirror", "/nonexistent"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ")
    for remote in card["remotes"]:
        assert f"{remote['sha256']}  absent    {remote['name']}" in text


def test_all_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(SOURCES)
    assert main(["describe", "--json"]) == 0
    assert [card["name"] for card in json.loads(capsys.readouterr().out)] == sorted(SOURCES)
    assert main(["describe", "vgss"]) == 2
    assert "did you mean 'vggss'" in capsys.readouterr().err


def test_a_damaged_copy_is_told(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = SOURCES["vggss-extended"].REMOTES["vggss_test_plus_silent.csv"]
    path = tmp_path / remote.url.removeprefix("https://")
    path.parent.mkdir(parents=True)
    path.write_text("<!DOCTYPE html>")
    assert main(["describe", "vggss-extended", "--mirror", str(tmp_path)]) == 0
    assert "  damaged   vggss_test_plus_silent.csv" in capsys.readouterr().out
    assert (
        main(["catalog", "flickr_soundnet", "--mirror", str(tmp_path), "--buckets", "1", "--out", "x"]) == 2
    )
    assert "has no copy of" in capsys.readouterr().err
