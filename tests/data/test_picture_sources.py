"""Flickr-SoundNet, the extended sets and the sets of pictures: published facts, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsl_data.annotations import build_annotations
from avsl_data.catalog import read_catalog, write_catalog
from avsl_data.errors import DataInputError
from avsl_data.sources import SOURCES, flickr_soundnet
from avsl_data.sources.extended import read_negatives
from avsl_data.sources.flickr_xml import read_boxes, read_folder
from avsl_data.sources.picture_sets import fraction_of, read_entries
from avsl_data.sources.pictures import Media, find_media, media_of, media_url_of
from avsl_data.sources.source import Inputs


@pytest.fixture
def mirror(shared: Path) -> Path:
    return shared / "mirror"


def test_flickr_facts(mirror: Path) -> None:
    source = SOURCES["flickr_soundnet"]
    clips = source.catalog(Inputs(mirror=mirror))
    assert len(clips) == 5000
    assert Counter(clip.official_split for clip in clips) == {"test": 250, "train": 4750}
    names = {name: flickr_soundnet.read_ids(name, mirror).to_pylist() for name in source.REMOTES}
    test, pool = set(names["flickr@slavc"]), set(names["flickr-pool@slavc"])
    assert (len(test), len(pool), len(test | pool)) == (250, 4750, 5000)
    assert test | pool == set(names["flickr-5k@ssltie"]) == {clip.clip_id for clip in clips}
    # The typo of the original list, and what became of it.
    assert set(names["flickr-typo@ardasnck"]) ^ test == {"3908875357", "3908875350"}
    assert "3908875357" in names["flickr-typo@ardasnck"]
    assert test - set(names["flickr-249@lvs"]) == {"3908875350"}
    assert len(names["flickr@ardasnck"]) == 280
    assert set(names["flickr@ardasnck"]) == test == set(names["flickr@sslalign"])
    # What the training lists hold.
    for name, in_test, in_pool in (
        ("flickr_144k@ezvsl", 20, 344),
        ("flickr_144k@ardasnck", 0, 3065),
        ("flickr_10k@ezvsl", 1, 13),
        ("flickr_144k@htf", 0, 217),
    ):
        ids = set(names[name])
        assert len(ids) == (10_000 if "10k" in name else 144_000)
        assert (len(ids & test), len(ids & pool)) == (in_test, in_pool)


def test_flickr_addresses(mirror: Path, tmp_path: Path) -> None:
    source = SOURCES["flickr_soundnet"]
    first, second, third = (clip.clip_id for clip in source.catalog(Inputs(mirror=mirror))[:3])
    urls = tmp_path / "urls.txt"
    url = f"http://www.flickr.com/photos/x@N01/{first}/play/orig/0a1b"
    urls.write_text(f"http://www.flickr.com/photos/x@N01/123/play/orig/0a1b\n{url}\n")
    for folder, name in (
        ("Data/3", f"{second}.jpg"),
        ("Data/3", f"{second}.wav"),
        ("Data/4", f"{third}.jpg"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).touch()
    clips = source.catalog(Inputs(mirror=mirror, urls=urls, clips=tmp_path))
    assert [clip.url for clip in clips[:3]] == [
        url,
        f"folder:///Data/3/{second}.jpg?audio=Data/3/{second}.wav",
        f"folder:///{third}",
    ]
    write_catalog(clips, source.NAME, 2, tmp_path / "c.parquet")
    assert len(read_catalog(tmp_path / "c.parquet")) == 5000
    urls.write_text("<!DOCTYPE html>")
    with pytest.raises(DataInputError, match=r"urls\.txt, line 1: .* is no address of SoundNet's list"):
        source.catalog(Inputs(mirror=mirror, urls=urls))
    with pytest.raises(DataInputError, match=r"does not exist: fetch http://data\.csail\.mit\.edu"):
        source.catalog(Inputs(mirror=mirror, urls=tmp_path / "absent"))
    with pytest.raises(DataInputError, match="did you mean 'flickr_144k@ezvsl'"):
        source.catalog(Inputs(mirror=mirror, list_name="flickr_144k@ezvs"))


def test_flickr_boxes(shared: Path) -> None:
    folder = shared / "golden" / "eval" / "flickr_xml"
    clips = SOURCES["flickr_soundnet"].boxes(Inputs(annotations=folder))
    assert len(clips) == 16
    assert clips[1].boxes[0] == (69 / 256, 84 / 256, 256 / 256, 158 / 256)
    assert len(clips[0].boxes) == 9
    annotations = build_annotations(clips, "flickr_soundnet", truth="consensus")
    assert annotations["truth"] == "consensus"
    with pytest.raises(DataInputError, match="fetched by hand"):
        SOURCES["flickr_soundnet"].boxes(Inputs())


BOX = "<bbox><name>x</name><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bbox>"
BOMB = '<!DOCTYPE a [<!ENTITY b "' + "x" * 100 + '"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a document type"),
        ("<a><b>", "is not well-formed XML"),
        ("", "is not well-formed XML"),
        ("<!DOCTYPE html><html></html>", "declares a document type"),
        (f"<a><b>{BOX.replace('<ymax>4</ymax>', '')}</b></a>", "a bbox is '1 2 3'; expected"),
        (f"<a><b>{BOX.replace('4', '0.5')}</b></a>", "expected a name and then four whole numbers"),
        (f"<a><b>{BOX.replace('4', '٤')}</b></a>", "expected a name and then four whole numbers"),
        (f"<a><b>{BOX.replace('4', '9' * 5000)}</b></a>", "expected a name and then four whole numbers"),
        ("<a>" + " " * (1 << 20) + "</a>", "more than 1048576 bytes"),
    ],
)
def test_damaged_xml(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "10000130166.xml"
    path.write_text(text)
    with pytest.raises(DataInputError, match=rf"10000130166\.xml.*{message}") as raised:
        read_boxes(path)
    assert len(str(raised.value)) < 400


def test_xml_with_other_parts(tmp_path: Path) -> None:
    path = tmp_path / "10000130166.xml"
    path.write_text(f"<a><filename>x</filename><b><note/>{BOX}{BOX}</b><c>{BOX}</c></a>")
    assert read_folder(tmp_path)[0].boxes == ((1 / 256, 2 / 256, 3 / 256, 4 / 256),) * 3
    path.rename(tmp_path / "readme.xml")
    with pytest.raises(DataInputError, match=r"readme\.xml: 'readme' is no clip id"):
        read_folder(tmp_path)
    with pytest.raises(DataInputError, match="is no folder"):
        read_folder(path)
    (tmp_path / "readme.xml").unlink()
    with pytest.raises(DataInputError, match=r"holds no \.xml file"):
        read_folder(tmp_path)


def test_vggss_extended(mirror: Path, tmp_path: Path) -> None:
    source = SOURCES["vggss-extended"]
    inputs = Inputs(mirror=mirror)
    clips, entries = source.catalog(inputs), source.boxes(inputs)
    assert len(clips) == 5158 + 379
    assert len(entries) == 2 * 5158
    assert Counter(entry.silent for entry in entries) == {"": 5158, "mismatched": 4779, "silent": 379}
    known = {clip.clip_id for clip in clips}
    negatives = [entry for entry in entries if entry.silent]
    assert all({entry.frame_of, entry.audio_of} <= known and not entry.boxes for entry in negatives)
    assert len({entry.audio_of for entry in negatives if entry.silent == "mismatched"}) == 3092
    vggss = {clip.clip_id for clip in SOURCES["vggss"].catalog(inputs)}
    in_table = {clip.clip_id for clip in clips} - vggss
    assert in_table == {entry.frame_of for entry in negatives if entry.silent == "silent"}
    write_catalog(clips, source.NAME, 8, tmp_path / "c.parquet")
    annotations = build_annotations(entries, source.NAME)
    pair = next(entry for entry in annotations["clips"] if entry.get("silent") == "mismatched")
    assert pair["clip_id"] == f"{pair['frame_of']}+{pair['audio_of']}"
    assert pair["boxes"] == []


def test_flickr_extended(mirror: Path, shared: Path) -> None:
    source = SOURCES["flickr-extended"]
    inputs = Inputs(mirror=mirror, annotations=shared / "golden" / "eval" / "flickr_xml")
    assert len(source.catalog(inputs)) == 250
    entries = source.boxes(inputs)  # the golden files are of other videos
    assert Counter(entry.silent for entry in entries) == {"mismatched": 250}
    assert len({entry.audio_of for entry in entries}) == 160


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n", "line 1: expected the header video,audio,label"),
        ("", "line 1: expected the header"),
        ("video,audio,label\n1,2\n", "line 2: expected a frame's clip"),
        ("video,audio,label\n10000130166,10437048305,sounding\n", "line 2: expected"),
        ("video,audio,label\n../x,10437048305,non-sounding\n", r"line 2: '\.\./x' is no clip id"),
        ("video,audio,label\n" + "10000130166,10437048305,non-sounding\n" * 2, "line 3: .* comes twice"),
    ],
)
def test_damaged_negatives(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text(text)
    with pytest.raises(DataInputError, match=message):
        read_negatives(path)


@pytest.mark.parametrize(
    ("name", "clips", "videos", "classes", "empty", "groups"),
    [
        ("is3", 6480, 3240, 111, 0, 3240),
        ("avsbench-s4", 3700, 740, 23, 6, 1),
        ("avsbench-ms3", 320, 54, None, 29, 1),
        ("vpo-ss", 890, None, 1, 0, 1),
        ("vpo-ms", 2157, 1432, 1, 2, 1432),
    ],
)
def test_picture_sets(
    name: str,
    clips: int,
    videos: int | None,
    classes: int | None,
    empty: int,
    groups: int,
    mirror: Path,
    tmp_path: Path,
) -> None:
    source, inputs = SOURCES[name], Inputs(mirror=mirror)
    listed, entries = source.catalog(inputs), source.boxes(inputs)
    assert len({clip.clip_id for clip in listed}) == len(listed) == clips
    assert [entry.clip_id for entry in entries] == [clip.clip_id for clip in listed]
    if videos is not None:
        assert len({clip.video_id for clip in listed}) == videos
    if classes is not None:
        assert len({clip.label for clip in listed}) == classes
    assert len({entry.group for entry in entries}) == groups
    annotations = build_annotations(entries, name)
    assert sum(not clip["boxes"] for clip in annotations["clips"]) == empty
    write_catalog(listed, name, 4, tmp_path / "c.parquet")
    media = media_of(read_catalog(tmp_path / "c.parquet")[0].url)
    assert media is not None
    assert media.audio.endswith(".wav")
    assert not Path(media.frame).is_absolute()


def test_picture_ids_and_times(mirror: Path) -> None:
    inputs = Inputs(mirror=mirror)
    is3 = SOURCES["is3"].catalog(inputs)[0]
    assert (is3.clip_id, is3.video_id, is3.label) == (
        "accordion_female_10438_accordion",
        "accordion_female_10438",
        "accordion",
    )
    assert is3.url == (
        "folder:///visual_frames/accordion_female_10438_accordion.jpg"
        "?audio=audio_wav/accordion_female_10438_accordion.wav"
    )
    s4 = SOURCES["avsbench-s4"].catalog(inputs)[1]
    assert (s4.clip_id, s4.video_id, s4.label) == ("0d9u2CymIxc_2", "0d9u2CymIxc", "helicopter")
    assert (s4.start_s, s4.end_s) == (1.0, 2.0)
    ms3 = SOURCES["avsbench-ms3"].catalog(inputs)[0]
    assert (ms3.clip_id, ms3.video_id) == ("rq5RDUm2Hnk_1_1", "rq5RDUm2Hnk")
    assert ms3.url.startswith("folder:///visual_frames/rq5RDUm2Hnk_1/rq5RDUm2Hnk_1.mp4_1.png?audio=")


@given(st.integers(0, 224))
def test_corners_are_drawn_where_they_were(pixel: int) -> None:
    assert int(224 * fraction_of(pixel)) == pixel


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "is no list"),
        ([{"image": "/x/root/a.jpg", "audio": "/x/root/a.wav"}], "entry 1: is not"),
        ([{"image": "/x/a.jpg", "audio": "/x/root/a.wav", "gt_box": [0, 0, 1, 1]}], "is not below root"),
        ([{"image": "/root/../a.jpg", "audio": "/root/a.wav", "gt_box": [0, 0, 1, 1]}], "is not below root"),
        ([{"image": "/root/a.jpg", "audio": "/root/a.wav", "gt_box": [0, 0, 1, 225]}], r"not in \[0, 224\]"),
        ([{"image": "/root/a.jpg", "audio": "/root/a.wav", "gt_box": [0, 0, 1]}], "entry 1"),
        ([{"image": "/root/a;b.jpg", "audio": "/root/a.wav", "gt_box": [0, 0, 1, 1]}], "'a;b' is no clip id"),
        ([1], "entry 1"),
    ],
)
def test_damaged_picture_lists(rows: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataInputError, match=message):
        read_entries(path, "root")


def test_addresses_of_pictures(tmp_path: Path) -> None:
    media = Media("a b/ü?.jpg", "c&d/e=f.wav")
    assert media_of(media_url_of(media)) == media
    assert media_of("https://x.org/a?audio=b") is None
    assert media_of("folder:///a.mp4") is None
    for bad in ("folder:///../a.jpg?audio=b", "folder:///a.jpg?audio=/etc/passwd", "folder:////a?audio=b"):
        with pytest.raises(DataInputError, match="leaves its folder"):
            media_of(bad)
    for name in ("x/a.jpg", "y/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataInputError, match="have the same name"):
        find_media(tmp_path)
