"""Contact sheets: boxes where they belong, failed clips grey with the reason, labels that break nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from avsl_data.__main__ import main
from avsl_data.errors import DataInputError
from avsl_data.files import sha256_of
from avsl_data.ledger import LedgerRow
from avsl_data.options import PreprocessOptions
from avsl_data.preprocess import write_shard
from avsl_data.sheet import CAPTION, COLOURS, GREY, MARGIN, TILE, page, picture, read_tiles, write_sheet
from avsl_data.sources.source import CatalogClip

LABEL = '<script>alert("x")</script> & dog'


@pytest.fixture
def shards(make_video: Callable[..., Path], tmp_path: Path) -> Path:
    """Three clips of 64x48 pixels, which fill a tile; the second one is gone."""
    ledger, catalog = [], {}
    for number in range(3):
        clip_id = f"video{number}_000000"
        path = make_video(tmp_path / f"{clip_id}.mp4", 1, size=(48, 64))
        row = LedgerRow(clip_id, clip_id[:-7], str(path), "ok", None, None, sha256_of(path), 1.0, 1, "")
        if number == 1:
            row = LedgerRow(clip_id, clip_id[:-7], None, "failed", "gone", "<404>", None, None, 1, "")
        ledger.append(row)
        catalog[clip_id] = CatalogClip(clip_id, clip_id[:-7], "folder:///x", 0, 1, LABEL, "test")
    boxes = {"video0_000000": [(0.25, 0.5, 0.75, 1.0)]}
    write_shard(tmp_path / "shards" / "0000.parquet", ledger, catalog, boxes, PreprocessOptions(0.2))
    return tmp_path / "shards"


def test_a_box_is_drawn_where_it_is(shards: Path) -> None:
    pixels = np.asarray(picture(read_tiles(shards), columns=2)).astype(int)
    assert pixels.shape[:2] == (2 * (TILE[1] + CAPTION + MARGIN) + MARGIN, 2 * (TILE[0] + MARGIN) + MARGIN)
    tile = pixels[MARGIN : MARGIN + TILE[1], MARGIN : MARGIN + TILE[0]]
    drawn = np.abs(tile - ImageColor.getrgb(COLOURS[0])).sum(2) < 30
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert (rows[0], rows[-1]) == (TILE[1] // 2, TILE[1] - 1)
    assert (columns[0], columns[-1]) == (TILE[0] // 4, TILE[0] * 3 // 4 - 1)
    assert not drawn[TILE[1] // 2 + 4 : TILE[1] - 4, TILE[0] // 4 + 4 : TILE[0] * 3 // 4 - 4].any()
    grey = pixels[MARGIN + TILE[1] - 5, 2 * MARGIN + TILE[0] + 5]  # the second tile
    assert tuple(grey) == ImageColor.getrgb(GREY)


def test_real_clips(shared: Path, tmp_path: Path) -> None:
    """The sheet of the real clips: every one has its frame, as large as its shape allows, and one box."""
    clips = shared / "clips" / "vggss"
    command = ["dataset", str(clips), "--out", str(tmp_path / "out")]
    (tmp_path / "boxes.csv").write_text(_table(clips / "annotations.json"))
    assert main([*command, "--boxes", str(tmp_path / "boxes.csv")]) == 0
    sheet = tmp_path / "sheet.jpg"
    shards = str(tmp_path / "out" / "shards")
    assert main(["sheet", "--shards", shards, "--columns", "3", "--out", str(sheet)]) == 0
    with Image.open(sheet) as image:
        assert image.size == (3 * (TILE[0] + MARGIN) + MARGIN, 2 * (TILE[1] + CAPTION + MARGIN) + MARGIN)
    tiles = read_tiles(tmp_path / "out" / "shards")
    assert all(tile.jpeg and len(tile.boxes) == 1 and tile.label for tile in tiles)


def _table(annotations: Path) -> str:
    import json

    lines = ["clip_id,label,x0,y0,x1,y1"]
    for clip in json.loads(annotations.read_text()):
        lines += [f'{clip["file"]},"{clip["class"]}",{",".join(map(str, box))}' for box in clip["bbox"]]
    return "\n".join(lines)


def test_the_page_escapes_what_it_shows(shards: Path) -> None:
    text = page(read_tiles(shards))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "gone: &lt;404&gt;" in text
    assert "3 clips, 1 without a frame" in text
    assert text.count("<img ") == 2
    (style,) = re.findall(r'<i style="([^"]*)"', text)
    assert style.startswith("left:25.00%;top:50.00%;width:50.00%;height:50.00%")
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_which_clips(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiles = read_tiles(shards, {"video2_000000": [(0, 0, 1, 1)], "other_000000": []})
    assert [tile.clip_id for tile in tiles] == ["other_000000", "video2_000000"]
    assert tiles[0].remark == "not_prepared: it is in no shard"
    assert tiles[1].boxes == [(0, 0, 1, 1)]
    assert [tile.clip_id for tile in read_tiles(shards, limit=2)] == ["video0_000000", "video1_000000"]
    assert [tile.clip_id for tile in read_tiles(shards, ids=["video2_000000"])] == ["video2_000000"]
    (tmp_path / "ids.txt").write_text("video2_000000\n")
    command = ["sheet", "--shards", str(shards), "--ids", str(tmp_path / "ids.txt")]
    assert main([*command, "--out", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.html'}: 1 clips, 0 without a frame\n"
    assert main([*command, "--out", str(tmp_path / "a.pdf")]) == 2
    assert "a sheet is a .jpg, .png or .html file" in capsys.readouterr().err
    with pytest.raises(DataInputError, match=r"lower --limit or write \.html"):
        write_sheet(tmp_path / "b.jpg", tiles * 200, columns=1)
