"""Every source keeps to one shape, and the published ones have the published facts."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from avsl_data.annotations import build_annotations
from avsl_data.catalog import write_catalog
from avsl_data.copies import find_clips
from avsl_data.errors import DataInputError
from avsl_data.ids import start_of, video_id_of
from avsl_data.sources import SOURCES, source_named
from avsl_data.sources.demo_scenes import DemoSpec, demo_videos
from avsl_data.sources.published import read_annotations, read_id_list, read_vggsound_csv
from avsl_data.sources.source import Inputs
from avsl_data.sources.vggsound import LISTS


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_conformance(name: str) -> None:
    source = SOURCES[name]
    text = source.__doc__ or ""
    for heading in ("**Size.**", "**How made.**", "**Known faults.**"):
        assert heading in text
    assert text.index("**Size.**") < text.index("**How made.**") < text.index("**Known faults.**")
    assert name == source.NAME
    assert source.LICENSE
    assert {field.name for field in dataclasses.fields(Inputs)} >= source.INPUTS
    assert source.TRUTH in ("union", "consensus")
    assert bool(source.REMOTES) == ("mirror" in source.INPUTS)
    assert bool(source.BIBTEX) == bool(source.REMOTES)
    for remote in source.REMOTES.values():
        assert re.fullmatch(r"https://\S+/[0-9a-f]{40}/\S+", remote.url), "a url names a fixed commit"
        assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256)
        assert remote.licence


def test_remotes_are_those_of_the_mirror(shared: Path) -> None:
    import csv

    with (shared / "mirror" / "SOURCES.csv").open(newline="") as file:
        published = {row["url"]: (row["sha256"], row["licence"]) for row in csv.DictReader(file)}
    for source in SOURCES.values():
        for remote in source.REMOTES.values():
            assert published[remote.url] == (remote.sha256, remote.licence)


def test_unknown_sources_and_useless_inputs() -> None:
    with pytest.raises(
        DataInputError, match=r"did you mean 'vggss'.*avsbench-ms3, .*, vggss, vggss-extended"
    ):
        source_named("vgg-ss", Inputs())
    with pytest.raises(DataInputError, match="'vggss' does not use --list, --site: it takes --mirror"):
        source_named("vggss", Inputs(site=Path(), list_name="x"))
    with pytest.raises(DataInputError, match="did you mean 'vggsound_144k@ssltie'"):
        SOURCES["vggsound"].catalog(Inputs(list_name="vggsound_144k@sslti"))
    with pytest.raises(DataInputError, match="has no boxes"):
        SOURCES["vggsound"].boxes(Inputs())


def test_vggss_facts(shared: Path) -> None:
    inputs = Inputs(mirror=shared / "mirror")
    clips = SOURCES["vggss"].catalog(inputs)
    assert len(clips) == 5158
    assert len({clip.label for clip in clips}) == 221
    assert {clip.official_split for clip in clips} == {"test"}
    first = clips[0]
    assert (first.clip_id, first.url) == ("zpWuikVorYg_000032", "https://www.youtube.com/watch?v=zpWuikVorYg")
    assert (first.start_s, first.end_s, first.label) == (32.0, 42.0, "elk bugling")
    boxes = SOURCES["vggss"].boxes(inputs)
    assert sum(len(clip.boxes) for clip in boxes) == 5941

    annotations = build_annotations(boxes, "vggss")
    assert len(annotations["clips"]) == 5158
    assert sum(len(clip["boxes"]) for clip in annotations["clips"]) == 5941 - 18
    assert [clip["clip_id"] for clip in annotations["clips"] if not clip["boxes"]] == [
        "M1P1xla8rg0_000000",
        "MKC9LvRivTM_000030",
    ]
    whys = [item["why"] for item in annotations["dropped"]]
    assert (whys.count("a coordinate is not in [0, 1]"), whys.count("no area")) == (12, 6)
    bad = json.loads((shared / "derived" / "vggss_bad_boxes.json").read_text())
    assert {(item["clip_id"], *item["box"]) for item in annotations["dropped"]} == {
        (item["file"], *item["bbox"]) for item in bad
    }
    assert len({item["clip_id"] for item in annotations["dropped"]}) == 18


LEAKS = {  # clips of VGG-SS in a list, and of VGGSound's test table
    "vggsound_10k@ezvsl": (238, None),
    "vggsound_10k@fnac": (229, None),
    "vggsound_144k@ezvsl": (3709, 11163),
    "vggsound_144k@fnac": (3715, 10948),
    "vggsound_144k@htf": (0, 7310),
    "vggsound_144k@ssltie": (0, 0),
    "vggsound_10k@acl": (0, 0),
    "vggsound_heard@acl": (None, 2665),
}


@pytest.mark.parametrize("name", sorted(LISTS))
def test_vggsound_lists(name: str, shared: Path) -> None:
    inputs = Inputs(mirror=shared / "mirror", list_name=name)
    clips = SOURCES["vggsound"].catalog(inputs)
    expected = (
        144_000 if "144k" in name else 10_000 if "10k" in name else 59_468 if "ezvsl" in name else 70_000
    )
    assert len({clip.clip_id for clip in clips}) == len(clips) == expected
    assert all(
        clip.video_id == video_id_of(clip.clip_id) and clip.end_s == clip.start_s + 10 for clip in clips
    )
    vggss = {clip.clip_id for clip in SOURCES["vggss"].boxes(Inputs(mirror=shared / "mirror"))}
    in_vggss, in_test = LEAKS.get(name, (None, None))
    if in_vggss is not None:
        assert sum(clip.clip_id in vggss for clip in clips) == in_vggss
    if in_test is not None:
        assert sum(clip.official_split == "test" for clip in clips) == in_test
    if name.endswith("@acl"):
        assert all(clip.label for clip in clips)


def test_ids_of_a_real_table(shared: Path) -> None:
    """Known facts: 199,124 clips of 161,578 videos; ids contain and begin with '-' and '_'."""
    clips = [clip_id for clip_id, _ in read_id_list(shared / "derived" / "vggsound_known_clip_ids.txt")]
    assert (len(set(clips)), len({video_id_of(clip_id) for clip_id in clips})) == (199_124, 161_578)
    table = read_vggsound_csv(shared / "derived" / "vggsound_partial.csv")
    assert len(table) == 89_089
    assert ("--9O4XZOge4_000030", "female speech, woman speaking", "train") in table[:10]


def test_demo(tiny_site: Path, tiny_spec: DemoSpec) -> None:
    inputs = Inputs(site=tiny_site)
    clips = SOURCES["demo"].catalog(inputs)
    scenes = [(video, scene) for video in demo_videos(tiny_spec) for scene in video.scenes]
    assert [(c.clip_id, c.label, c.official_split) for c in clips] == [
        (scene.clip_id, scene.label, video.official_split) for video, scene in scenes
    ]
    assert all(c.start_s == start_of(c.clip_id) and c.end_s == c.start_s + tiny_spec.scene_s for c in clips)
    assert all(
        re.fullmatch(rf"demo:///videos/{c.video_id}\.mp4\?sha256=[0-9a-f]{{16}}", c.url) for c in clips
    )
    boxes = SOURCES["demo"].boxes(inputs)
    assert [clip.boxes for clip in boxes] == [tuple(scene.boxes) for _, scene in scenes]


def test_demo_without_a_site(tmp_path: Path) -> None:
    with pytest.raises(DataInputError, match="give --site DIR"):
        SOURCES["demo"].catalog(Inputs())
    with pytest.raises(DataInputError, match="run `avsl-data render"):
        SOURCES["demo"].catalog(Inputs(site=tmp_path))
    (tmp_path / "site.json").write_text('{"schema": "avsl-site/0"}')
    with pytest.raises(DataInputError, match="not of schema avsl-site/1"):
        SOURCES["demo"].boxes(Inputs(site=tmp_path))


def test_folder_keeps_annotated_clips_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc_000000.mp4").touch()
    (tmp_path / "ab-_def_000001.mkv").touch()
    entries = [
        {"file": name, "class": "dog", "bbox": [[0, 0, 1, 1]]} for name in ("abc_000000", "gone_000002")
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    inputs = Inputs(clips=tmp_path, annotations=tmp_path / "boxes.json")
    clips = SOURCES["folder"].catalog(inputs)
    assert [(clip.clip_id, clip.label, clip.end_s) for clip in clips] == [
        ("ab-_def_000001", "", None),
        ("abc_000000", "dog", None),
        ("gone_000002", "dog", None),
    ]


def test_folder_takes_every_spelling_of_a_clip_id(tmp_path: Path) -> None:
    """A training clip in another spelling must not hide whose video it is."""
    for name in ("1aDnyPubxdY_118000_128000.mp4", "3JYjNHFJfO4,363.webm", "6zlMP_kQ_-w_000030.mkv"):
        (tmp_path / name).touch()
    clips = SOURCES["folder"].catalog(Inputs(clips=tmp_path))
    assert [(clip.clip_id, clip.video_id, clip.start_s) for clip in clips] == [
        ("1aDnyPubxdY_000118", "1aDnyPubxdY", 118.0),
        ("3JYjNHFJfO4_000363", "3JYjNHFJfO4", 363.0),
        ("6zlMP_kQ_-w_000030", "6zlMP_kQ_-w", 30.0),
    ]
    assert set(find_clips(tmp_path)) == {clip.clip_id for clip in clips}  # what the download looks for
    (tmp_path / "1aDnyPubxdY_000118.mp4").touch()
    with pytest.raises(DataInputError, match="are the same clip: keep one of them"):
        SOURCES["folder"].catalog(Inputs(clips=tmp_path))


def test_folder_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataInputError, match="has no clips"):
        SOURCES["folder"].catalog(Inputs(clips=tmp_path))
    (tmp_path / "abc_000000.mp4").touch()
    (tmp_path / "abc_000000.mkv").touch()
    with pytest.raises(DataInputError, match="are the same clip"):
        SOURCES["folder"].catalog(Inputs(clips=tmp_path))
    (tmp_path / "abc_000000.mkv").rename(tmp_path / "holiday.mp4")
    with pytest.raises(DataInputError, match=r"holiday.mp4: .* no clip id.*Rename it"):
        SOURCES["folder"].catalog(Inputs(clips=tmp_path))
    with pytest.raises(DataInputError, match="is no folder"):
        SOURCES["folder"].catalog(Inputs(clips=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("{}", "is neither a list"),
        ('[{"file": "abc_000000", "bbox": []}]', r"an entry is not \{file, class, bbox"),
        ('[{"file": "abc_000000", "class": "x", "bbox": [[1, 2, 3]]}]', "an entry is not"),
        ('[{"file": "../x", "class": "x", "bbox": []}]', "no clip id"),
        (
            '[{"file": "a_000000", "class": "", "bbox": []}, {"file": "a_000000", "class": "", "bbox": []}]',
            "twice",
        ),
        ('["abc_000000"]', "an entry is not"),
    ],
)
def test_bad_annotations(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataInputError, match=message):
        read_annotations(path)


def test_bad_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("n88E2blrCiU_000001\r\n\r\nrubbish")
    with pytest.raises(DataInputError, match="line 3: 'rubbish' is no clip id"):
        read_id_list(path)
    path.write_text("n88E2blrCiU,1.5,dog,train\n")
    with pytest.raises(DataInputError, match="line 1: expected video id, start seconds"):
        read_vggsound_csv(path)
    with pytest.raises(DataInputError, match="does not exist"):
        read_id_list(tmp_path / "absent")


def test_a_catalog_names_a_clip_once(tiny_site: Path, tmp_path: Path) -> None:
    clips = SOURCES["demo"].catalog(Inputs(site=tiny_site))
    with pytest.raises(DataInputError, match="twice"):
        write_catalog([*clips, clips[0]], "demo", 1, tmp_path / "c.parquet")
    with pytest.raises(DataInputError, match="no clips"):
        write_catalog([], "demo", 1, tmp_path / "c.parquet")
    assert not list(tmp_path.iterdir())
