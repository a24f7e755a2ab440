"""Cards of the gallery, frames, and pictures by the standard library."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsl_eval.errors import EvalInputError
from avsl_eval.gallery_data import read_frame
from avsl_eval.picture import outline_path, overlay_png, picture_size
from avsl_eval.report_gallery import Card, Frame, GalleryClip, clip_article, controls, gallery_list

VALUES = np.array([[0.0, 1.0], [2.0, 0.5]])
MASK = np.array([[False, True], [True, True]])


def encoded(form: str, size: tuple[int, int] = (320, 180)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, form)
    return out.getvalue()


def a_clip(*cards: Card, frame: Frame | None = None) -> GalleryClip:
    boxes = np.array([[0.25, 0.5, 0.75, 2.0]])
    return GalleryClip("abc_000001", "dog", "heard", "best", boxes, frame or Frame(320, 240), cards)


def test_a_card_shows_map_mask_and_boxes() -> None:
    text = clip_article(a_clip(Card(0, "ours", 0.5, VALUES, MASK)), 3, several_subsets=False)
    assert 'd="M0 1H1M1 0V1"' in text  # the outline of the mask, in pixels of the map
    assert "scale(160 120)" in text
    assert text.count('x="80.0" y="120.0" width="160.0" height="120.0"') == 2  # clipped at the border
    assert "cIoU 0.50" in text
    (uri,) = re.findall(r'href="data:image/png;base64,([^"]+)"', text)
    with Image.open(io.BytesIO(base64.b64decode(uri))) as shown:
        assert shown.size == (2, 2)
        alpha = np.asarray(shown.convert("RGBA"))[:, :, 3]
    assert alpha[0, 0] == 0
    assert alpha[0, 1] == alpha[1, 0] == alpha.max() > alpha[1, 1] > 0


def test_a_true_mask_is_outlined_in_the_place_of_boxes() -> None:
    clip = dataclasses.replace(a_clip(Card(0, "ours", 0.5, VALUES, MASK)), true_mask=~MASK)
    text = clip_article(clip, 0, several_subsets=False)
    assert '<path class="truth" d="M0 1H1M1 0V1"/>' in text
    assert "<rect" not in text


def test_a_frame_is_inside_once() -> None:
    frame = Frame(320, 180, encoded("JPEG"), "image/jpeg")
    cards = [Card(k, f"method {k}", 0.1 * k, VALUES, MASK) for k in range(5)]
    text = clip_article(a_clip(*cards, frame=frame), 7, several_subsets=True)
    assert text.count("data:image/jpeg") == 1
    assert text.count('<use href="#frame7"/>') == 5
    assert text.count('id="frame7"') == 1
    assert 'data-spread="0.4"' in text
    assert 'data-m4="0.4"' in text


def test_what_is_absent_is_said() -> None:
    frame = Frame(320, 240, why_absent="no folder of frames was given")
    card = Card(0, "ours", 0.0, why_absent="no_audio")
    text = clip_article(a_clip(card, Card(1, "b", float("nan"), VALUES, MASK), frame=frame), 0, False)
    assert "no prediction: no_audio" in text
    assert text.count("no folder of frames was given") == 4  # in words and for screen readers, twice
    assert "cIoU 0/0" in text
    assert "<use" not in text


def test_one_method_has_no_difference() -> None:
    text = gallery_list([a_clip(Card(0, "ours", 0.5, VALUES, MASK))], 1, several_subsets=False)
    assert "difference" not in text
    assert 'class="kind"' in text
    assert "--n:1" in text
    assert "difference" not in controls(["ours"])
    assert "ours: worst first" in controls(["ours", "theirs"])


def test_frames_are_found_by_their_id(tmp_path: Path) -> None:
    (tmp_path / "a_000001.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "b_000001.png").write_bytes(encoded("PNG", (64, 48)))
    (tmp_path / "c_000001.jpg").write_bytes(b"GIF89a")
    found = read_frame(tmp_path, "a_000001")
    assert (found.width, found.height, found.media_type) == (320, 180, "image/jpeg")
    found = read_frame(tmp_path, "b_000001")
    assert (found.width, found.height, found.media_type) == (64, 48, "image/png")
    assert read_frame(tmp_path, "x").why_absent == f"no x.jpg in {tmp_path}"
    assert "no folder" in read_frame(None, "x").why_absent
    with pytest.raises(EvalInputError, match=r"c_000001\.jpg is neither JPEG nor PNG"):
        read_frame(tmp_path, "c_000001")


@pytest.mark.parametrize("clip_id", ["../secret", "/etc/secret", "..", ".", "sub/../../secret", "a\0b"])
def test_an_id_never_leads_out_of_the_folder(tmp_path: Path, clip_id: str) -> None:
    folder = tmp_path / "frames"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(encoded("JPEG"))
    assert not read_frame(folder, clip_id).content


def test_png_by_hand() -> None:
    content = overlay_png(VALUES)
    position, chunks = 8, {}
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", checksum)[0]
        chunks[kind], position = data, position + 12 + length
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 0, 63, 0, 63, 32])
    assert len(chunks[b"PLTE"]) == 3 * len(chunks[b"tRNS"])
    assert chunks[b"tRNS"][0] == 0


def test_outline_goes_along_the_edges_of_pixels() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert sorted(re.findall(r"M[^M]+", outline_path(mask))) == ["M1 1H4", "M1 1V3", "M1 3H4", "M4 1V3"]
    assert outline_path(np.ones((3, 3), bool)) == ""


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_sizes_of_pictures(form: str) -> None:
    assert picture_size(encoded(form), "x") == (320, 180)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(30),
        b"\xff\xd8\xff\xc0\x00",
        b"\xff\xd8\xff\xe0\xff\xff",
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x00\x01\x01\x11\x00\xff\xd9",
    ],
)
def test_damaged_pictures_are_refused(content: bytes) -> None:
    with pytest.raises(EvalInputError, match=r"x\.jpg is neither JPEG nor PNG"):
        picture_size(content, "x.jpg")
