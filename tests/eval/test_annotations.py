"""Readers of annotations: what each format means, the published counts, and what makes two sets the same."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from avsl_eval import evaluate
from avsl_eval.annotations.coco import coco_images
from avsl_eval.annotations.pixel_lists import pixel_fraction
from avsl_eval.errors import EvalInputError
from avsl_eval.masks import Mask
from avsl_eval.truth import AnnotatedClip, read_annotations

MIRROR = "mirror/raw.githubusercontent.com"
VGGSS = f"{MIRROR}/hche11/Localizing-Visual-Sounds-the-Hard-Way"
SSLALIGNMENT = f"{MIRROR}/kaistmm/SSLalignment"


def published(shared: Path, folder: str, name: str) -> Path:
    (found,) = (shared / folder).glob(f"*/{name}")
    return found


@pytest.fixture
def vggss(shared: Path) -> Path:
    return published(shared, VGGSS, "metadata/vggss.json")


@pytest.mark.parametrize(
    ("file", "name", "n", "n_groups", "n_empty"),
    [
        ("synthetic3240_bbox.json", "is3", 6480, 3240, 0),
        ("ms3_box.json", "ms3", 320, 0, 29),
        ("s4_box.json", "s4", 3700, 0, 6),
        ("vpo_ss_bbox.json", "vpo-ss", 890, 0, 0),
        ("vpo_ms_bbox.json", "vpo-ms", 2157, 1432, 2),
    ],
)
def test_published_pixel_lists(
    file: str, name: str, n: int, n_groups: int, n_empty: int, shared: Path
) -> None:
    path = published(shared, SSLALIGNMENT, f"metadata/{file}")
    annotations = read_annotations(path)
    assert (annotations.name, annotations.truth, len(annotations.clips)) == (name, "union", n)
    assert len({clip.group for clip in annotations.clips} - {""}) == n_groups
    assert len(annotations.dropped) == n_empty
    assert annotations.n_silent == 0
    # Drawn at 224 pixels, a box covers exactly the published integer slice.
    rows = json.loads(path.read_text())
    for row, clip in list(zip(rows, annotations.clips, strict=True))[:: max(1, n // 200)]:
        x0, y0, x1, y1 = map(int, row["gt_box"])
        expected = np.zeros((224, 224), np.uint8)
        expected[y0:y1, x0:x1] = 1
        np.testing.assert_array_equal(clip.levels(224, "union"), expected)


def test_is3_groups_are_pairs_with_their_labels(shared: Path) -> None:
    clips = read_annotations(published(shared, SSLALIGNMENT, "metadata/synthetic3240_bbox.json")).clips
    assert set(Counter(clip.group for clip in clips).values()) == {2}
    first = clips[0]
    assert (first.clip_id, first.group, first.label) == (
        "accordion_female_10438_accordion",
        "accordion_female_10438",
        "accordion",
    )


def test_ms3_ids_are_those_of_avsbench(shared: Path) -> None:
    lines = published(shared, f"{MIRROR}/swimmiing/ACL-SSL", "AVSBench/metadata/avs1_ms3_test.csv")
    listed = {line.split(",")[0] for line in lines.read_text().splitlines()}
    clips = read_annotations(published(shared, SSLALIGNMENT, "metadata/ms3_box.json")).clips
    assert {clip.clip_id for clip in clips} == listed


@pytest.mark.parametrize("name", ["synthetic3240", "ms3", "s4", "vpo_ss", "vpo_ms"])
def test_published_mask_lists(name: str, shared: Path, tmp_path: Path) -> None:
    path = published(shared, SSLALIGNMENT, f"metadata/{name}_seg.json")
    with pytest.raises(EvalInputError, match="--masks FOLDER"):
        read_annotations(path)
    rows = json.loads(path.read_text())[:7]
    for row in rows:
        parts = Path(row["gt_box"]).parts
        folder = tmp_path / "masks" / parts[-2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((30, 40), np.uint8)
        pixels[:10, :20] = 255
        Image.fromarray(pixels).save(folder / parts[-1], quality=100)
    short = tmp_path / "list.json"
    short.write_text(json.dumps(rows))
    annotations = read_annotations(short, masks=tmp_path / "masks")
    assert (annotations.truth, len(annotations.clips)) == ("mask", 7)
    mask = annotations.clips[0].mask
    assert mask is not None
    assert mask.to_array().sum() == 200
    with pytest.raises(EvalInputError, match="is not in"):
        read_annotations(path, masks=tmp_path / "masks")


@pytest.mark.parametrize(
    ("boxes", "silent", "n", "mismatched", "name"),
    [
        ("vggss", "vggss_test_plus_silent.csv", 5158, 4779, "vggss_plus_silent"),
        ("flickr", "flickr_test_plus_silent.csv", 250, 250, "flickr_plus_silent"),
    ],
)
def test_extended_sets(
    boxes: str, silent: str, n: int, mismatched: int, name: str, shared: Path, vggss: Path, tmp_path: Path
) -> None:
    slavc = f"{MIRROR}/stoneMo/SLAVC"
    source = vggss
    if boxes == "flickr":  # no annotation of the 250 is public: one box each stands for them
        source = tmp_path / "Annotations"
        source.mkdir()
        box = "<bbox><name>o</name><a>10</a><b>20</b><c>100</c><d>200</d></bbox>"
        listed = published(shared, slavc, "metadata/flickr_test.csv").read_text().split()
        for line in listed:
            (source / f"{line.split(',')[0]}.xml").write_text(f"<r><a>{box}</a></r>")
    annotations = read_annotations(source, extended=published(shared, slavc, f"metadata/{silent}"))
    assert (annotations.name, len(annotations.clips), annotations.n_silent) == (name, 2 * n, n)
    kinds = Counter(clip.silence for clip in annotations.clips)
    assert (kinds[""], kinds["mismatched"], kinds["silent"]) == (n, mismatched, n - mismatched)
    assert all("+" in clip.clip_id for clip in annotations.clips if clip.is_silent)
    assert f"{mismatched} mismatched" in annotations.notes[0]


def test_a_list_of_silent_pairs_extends_its_own_set_only(shared: Path, vggss: Path) -> None:
    path = published(shared, f"{MIRROR}/stoneMo/SLAVC", "metadata/flickr_test_plus_silent.csv")
    with pytest.raises(EvalInputError, match="extends another test set: 250"):
        read_annotations(vggss, extended=path)


@pytest.mark.parametrize(
    ("folder", "file", "n"),
    [
        ("jinxiang-liu/SSL-TIE", "metadata/test_vggss_4911.txt", 4911),
        ("zjsong/SSPL", "metadata/vggss_test_4692.csv", 4692),
        ("denfed/heartheflow", "metadata/vggss_test_trimmed.csv", 4670),
        ("kaistmm/SSLalignment", "metadata/ours_vggss.txt", 4655),
        ("stoneMo/EZ-VSL", "metadata/vggss_heard_test.csv", 2564),
        ("stoneMo/EZ-VSL", "metadata/vggss_unheard_test.csv", 2575),
        ("swimmiing/ACL-SSL", "VGGSS/metadata/vggss_test.csv", 5158),
    ],
)
def test_published_denominators(folder: str, file: str, n: int, shared: Path, vggss: Path) -> None:
    path = published(shared, f"{MIRROR}/{folder}", file)
    annotations = read_annotations(vggss, only=path)
    assert len(annotations.clips) == n
    assert annotations.name == f"vggss@{path.stem}"
    assert annotations.notes == (f"restricted to the {n} of 5158 clips that {path.name} lists",)
    wanted = {clip.clip_id for clip in annotations.clips}
    assert {box.clip_id for box in annotations.dropped} <= wanted


def test_a_list_of_other_clips_is_refused(tmp_path: Path, vggss: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("zzzzzzzzzzz_000030\n")
    with pytest.raises(EvalInputError, match="1 of 1 clips that are not annotated: 'zzzzzzzzzzz_000030'"):
        read_annotations(vggss, only=path)


def test_vggss_is_recognised(vggss: Path) -> None:
    annotations = read_annotations(vggss)
    assert (annotations.name, annotations.truth, annotations.n_silent) == ("vggss", "union", 0)
    assert (len(annotations.clips), len(annotations.dropped)) == (5158, 18)
    empty = {c.clip_id for c in annotations.clips if len(c.boxes) == 0}
    assert empty == {"M1P1xla8rg0_000000", "MKC9LvRivTM_000030"}


def test_corners_in_pixels_are_drawn_where_they_were() -> None:
    for canvas in (224, 256, 300):
        for pixel in range(canvas + 1):
            fraction = pixel_fraction(pixel, canvas)
            assert int(canvas * fraction) == pixel
            assert fraction == pytest.approx(pixel / canvas, abs=1e-15)


# --- our JSON


def ours(path: Path, *clips: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"schema": "avsl-annotations/1", "clips": clips} | more))
    return path


def test_ours_with_everything(tmp_path: Path) -> None:
    rle = {"size": [2, 3], "counts": [1, 2, 3]}
    path = ours(
        tmp_path / "a.json",
        {"clip_id": "a", "label": "x", "boxes": [[0, 0, 1, 1]], "group": "g"},
        {"clip_id": "b", "silent": "mismatched"},
        {
            "clip_id": "c",
            "sources": [
                {"label": "cat", "boxes": [[0, 0, 0.5, 1]]},
                {"label": "dog", "boxes": [[0.5, 0, 1, 1]]},
            ],
        },
        {"clip_id": "d", "mask": rle},
        testset="kitchen",
        truth="mask",
    )
    annotations = read_annotations(path)
    a, b, c, d = annotations.clips
    assert (annotations.name, annotations.truth, annotations.unit) == ("kitchen", "mask", 1)
    assert (a.group, a.is_silent) == ("g", False)
    assert (b.silence, b.is_silent, len(b.boxes)) == ("mismatched", True, 0)
    assert [s.label for s in c.sources] == ["cat", "dog"]
    assert c.boxes.tolist() == [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    assert c.sources[1].levels(2, "mask").tolist() == [[0, 1], [0, 1]]
    # Runs go down the columns: one 0, two 1, three 0.
    assert d.mask is not None
    assert d.mask.to_array().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert not d.is_silent


def test_a_clip_without_truth_of_its_own_is_the_union_of_its_sources(tmp_path: Path) -> None:
    left = {"size": [2, 2], "counts": [0, 2, 2]}  # down the columns: two 1, two 0
    path = ours(
        tmp_path / "a.json",
        {"clip_id": "masks", "sources": [{"mask": left}, {"label": "off screen"}]},
        {"clip_id": "both", "sources": [{"mask": left}, {"boxes": [[0.5, 0, 1, 0.5]]}]},
        {"clip_id": "own", "boxes": [[0, 0.5, 1, 1]], "sources": [{"mask": left}]},
        {"clip_id": "none", "boxes": [], "sources": [{"boxes": [[0.5, 0, 1, 1]]}]},
        {"clip_id": "silent", "sources": [{"label": "off screen"}]},
        truth="mask",
    )
    annotations = read_annotations(path, truth="mask")
    assert [clip.clip_id for clip in annotations.clips if clip.is_silent] == ["silent"]
    drawn = {clip.clip_id: clip.levels(2, "mask").tolist() for clip in annotations.clips}
    assert drawn == {
        "masks": [[1, 0], [1, 0]],
        "both": [[1, 1], [1, 0]],
        "own": [[0, 0], [1, 1]],
        "none": [[0, 1], [0, 1]],
        "silent": [[0, 0], [0, 0]],
    }
    maps = {clip.clip_id: np.array([[1.0, 0.0]]).repeat(2, axis=0) for clip in annotations.clips}
    scores = evaluate(maps, annotations, "strict-adaptive")
    assert scores.evaluation.testset["n_silent"] == 1
    assert scores.per_clip.loc["masks", ["status", "ciou"]].tolist() == ["scored", 1.0]


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"clip_id": "a", "silent": True, "boxes": [[0, 0, 1, 1]]}, "marked silent but has boxes"),
        ({"clip_id": "a", "silent": 3}, "silent must be"),
        ({"clip_id": "a"}, "list of objects with clip_id, label and boxes"),
        ({"clip_id": "a", "boxes": [], "group": 3}, "group must be text"),
        ({"clip_id": "a", "sources": "cat"}, "sources must be a list"),
        ({"clip_id": "a", "sources": [{"boxes": 3}]}, "boxes of a source"),
        ({"clip_id": "a", "mask": "22"}, "mask must be COCO run lengths"),
        ({"clip_id": "a", "mask": {"size": [2, 2], "counts": [1]}}, "cover 1 pixels"),
        ({"clip_id": "a", "mask": {"size": [2, 2], "counts": "~~"}}, "not COCO's run-length text"),
        ({"clip_id": "a", "mask": {"size": [2, 2], "counts": "o"}}, "end within a run"),
        ({"clip_id": "a", "mask": {"size": [99999, 2], "counts": "4"}}, "not within 1 to 4096"),
        ({"clip_id": "a", "mask": {"size": "2x2", "counts": "4"}}, "two whole numbers"),
        ({"clip_id": "a", "mask": {"size": [2, 2]}}, "counts of a mask must be"),
        ({"clip_id": "a", "boxes": [[0, 0, None, 1]]}, "NaN, infinity or null"),
        ({"clip_id": "a", "boxes": [[0, 0, math.nan, 1]]}, "NaN, infinity or null"),
        ({"clip_id": "a", "boxes": [[0.5, 0.5, 0.2, 0.2]]}, "end before they begin.*width, height"),
        ({"clip_id": 3, "boxes": []}, "clip id 3 is not text"),
    ],
)
def test_ours_malformed(clip: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(EvalInputError, match=message):
        read_annotations(ours(tmp_path / "a.json", clip))


def test_truth_can_be_chosen(tmp_path: Path) -> None:
    rle = {"size": [2, 2], "counts": [0, 1, 3]}
    path = ours(tmp_path / "a.json", {"clip_id": "a", "boxes": [[0, 0, 1, 1]], "mask": rle}, truth="mask")
    assert read_annotations(path).clips[0].levels(2, "mask").sum() == 1
    as_boxes = read_annotations(path, truth="union")
    assert as_boxes.clips[0].levels(2, as_boxes.truth).sum() == 4
    boxes_only = ours(tmp_path / "b.json", {"clip_id": "a", "boxes": [[0, 0, 1, 1]]})
    with pytest.raises(EvalInputError, match="hold no mask"):
        read_annotations(boxes_only, truth="mask")
    masks_only = ours(tmp_path / "c.json", {"clip_id": "a", "mask": rle}, truth="mask")
    with pytest.raises(EvalInputError, match="hold no box"):
        read_annotations(masks_only, truth="union")


# --- masks


@given(
    st.integers(1, 12).flatmap(
        lambda h: st.integers(1, 12).flatmap(
            lambda w: st.lists(st.booleans(), min_size=h * w, max_size=h * w).map(
                lambda bits: np.array(bits).reshape(h, w)
            )
        )
    )
)
def test_rle_is_pycocotools_rle(pixels: np.ndarray) -> None:
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    text = encoded["counts"].decode()
    mask = Mask.from_rle({"size": list(pixels.shape), "counts": text}, "t")
    assert mask == Mask.from_array(pixels)
    np.testing.assert_array_equal(mask.to_array(), pixels)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30), st.integers(1, 20))
def test_any_text_is_a_mask_or_an_error(text: str, side: int) -> None:
    rle = {"size": [side, side], "counts": text}
    try:
        mask = Mask.from_rle(rle, "t")
    except EvalInputError:
        return
    assert coco_mask.area({"size": [side, side], "counts": text.encode()}) == mask.to_array().sum()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**32))
def test_masks_are_drawn_by_their_nearest_pixels(height: int, width: int, size: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.uint8)
    drawn = Mask.from_array(pixels).drawn(size)
    for i in range(size):
        for j in range(size):
            row, column = math.floor((i + 0.5) * height / size), math.floor((j + 0.5) * width / size)
            assert drawn[i, j] == pixels[row, column]


def test_folder_of_masks(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    pixels[:2] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels // 255).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(pixels > 0).save(tmp_path / "d.png")
    annotations = read_annotations(tmp_path)
    assert annotations.truth == "mask"
    assert [c.levels(2, "mask").tolist() for c in annotations.clips] == [
        [[1, 1], [0, 0]],
        [[1, 1], [0, 0]],
        [[0, 0], [0, 0]],
        [[1, 1], [0, 0]],
    ]
    assert annotations.n_silent == 0
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "e.png")
    with pytest.raises(EvalInputError, match=r"clip e.*class numbers"):
        read_annotations(tmp_path)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "e.png")
    with pytest.raises(EvalInputError, match=r"clip e.*mode RGB"):
        read_annotations(tmp_path)


# --- COCO


def coco(path: Path, annotations: list[dict[str, Any]], **image: Any) -> Path:
    content = {
        "images": [
            {"id": 7, "file_name": "frames/a.jpg", "width": 40, "height": 20} | image,
            {"id": 8, "file_name": "b.jpg", "width": 10, "height": 10},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 1} | a for i, a in enumerate(annotations)],
    }
    path.write_text(json.dumps(content))
    return path


def test_coco_boxes(tmp_path: Path) -> None:
    path = coco(tmp_path / "c.json", [{"bbox": [10, 5, 20, 10]}, {"bbox": [0, 0, 4, 2], "category_id": 2}])
    annotations = read_annotations(path)
    a, b = annotations.clips
    assert annotations.truth == "union"
    assert a.boxes.tolist() == [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.1]]
    assert (a.clip_id, a.label, [s.label for s in a.sources]) == ("a", "cat, dog", ["cat", "dog"])
    assert b.is_silent
    assert coco_images(path)["a"].image_id == 7


def test_coco_masks(tmp_path: Path) -> None:
    square = [10, 5, 30, 5, 30, 15, 10, 15]
    runs = coco_mask.encode(np.asfortranarray(np.eye(20, 40, dtype=np.uint8)))["counts"].decode()
    path = coco(
        tmp_path / "c.json",
        [
            {"bbox": [10, 5, 20, 10], "segmentation": [square]},
            {"bbox": [0, 0, 20, 20], "segmentation": {"size": [20, 40], "counts": runs}, "category_id": 2},
            {"bbox": [0, 0, 4, 2], "category_id": 2},
        ],
    )
    annotations = read_annotations(path)
    mask = annotations.clips[0].mask
    assert annotations.truth == "mask"
    assert mask is not None
    expected = np.eye(20, 40, dtype=np.uint8)
    expected[5:15, 10:30] = 1
    expected[:2, :4] = 1
    np.testing.assert_array_equal(mask.to_array(), expected)
    cat, _ = annotations.clips[0].sources
    assert cat.mask is not None
    assert cat.mask.to_array().sum() == 200


@pytest.mark.parametrize(
    ("annotation", "image", "message"),
    [
        ({"bbox": [10, 5, 20]}, {}, "must be .x, y, width, height. in pixels"),
        ({"bbox": [30, 5, -20, 4]}, {}, "negative size"),
        ({"bbox": [300, 5, 20, 4]}, {}, "far beyond the image"),
        ({"bbox": [1, 1, 2, math.inf]}, {}, "in pixels"),
        ({"bbox": [1, 1, 2, 2], "image_id": 99}, {}, "names image 99"),
        ({"bbox": [1, 1, 2, 2], "image_id": [9]}, {}, "which is not listed"),
        ({"bbox": [1, 1, 2, 2]}, {"width": 0}, "not within 1 to 4096"),
        ({"bbox": [1, 1, 2, 2]}, {"width": 1e9}, "two whole numbers"),
        ({"bbox": [1, 1, 2, 2]}, {"id": 8}, "two images have one id"),
        ({"segmentation": [[0, 0, 1e300, 1, 1, 1]]}, {}, "far outside"),
        ({"segmentation": [[0, 0, 1]]}, {}, "list of polygons"),
        ({"segmentation": {"size": [2, 2], "counts": [4]}}, {}, "a mask is 2 x 2, the image 20 x 40"),
        ({"segmentation": [[0, 0, "1", 1, 1, 1]]}, {}, "no number"),
    ],
)
def test_coco_malformed(
    annotation: dict[str, Any], image: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(EvalInputError, match=message):
        read_annotations(coco(tmp_path / "c.json", [annotation], **image))


# --- digest


def test_digest_is_of_the_truth_and_nothing_else(tmp_path: Path, vggss: Path) -> None:
    content = [c for c in json.loads(vggss.read_text()) if c["bbox"]][:20]
    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps(content))
    first = read_annotations(theirs)
    mine = ours(
        tmp_path / "mine.json",
        *({"clip_id": c["file"], "label": "other", "boxes": c["bbox"][::-1]} for c in reversed(content)),
    )
    assert read_annotations(mine).digest() == first.digest()
    content[3]["bbox"][0][0] += 1e-9
    theirs.write_text(json.dumps(content))
    assert read_annotations(theirs).digest() != first.digest()
    assert first.drawn_as("consensus").digest() != first.digest()


def test_digest_of_a_known_set() -> None:
    # Written down so that a change of the canonical form is noticed: scores files are compared by it.
    annotations = read_annotations({"b": [[0, 0, 0.5, 1]], "a": []})
    import hashlib

    lines = 'avsl-testset/1 union\n["a",[],null,0,[]]\n["b",[[0.0,0.0,0.5,1.0]],null,0,[]]\n'
    assert annotations.digest() == hashlib.sha256(lines.encode()).hexdigest()


def test_silent_is_no_box_at_all() -> None:
    annotations = read_annotations({"a": [], "b": [[0.2, 0.2, 0.2, 0.5]], "c": [[0, 0, 1, 1]]})
    assert [clip.is_silent for clip in annotations.clips] == [True, False, False]
    assert isinstance(annotations.clips[0], AnnotatedClip)
