"""Contact sheets: frames with their boxes and labels at a glance, failed clips as grey tiles with the reason.

A look at one tells what no number does: whether boxes lie on what sounds, pictures are upright and colours
right.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from avsl_data.errors import DataInputError
from avsl_data.files import replacing, write_text
from avsl_data.ledger import OK
from avsl_data.shards import shard_rows
from avsl_data.sources.source import Box

if TYPE_CHECKING:
    from PIL.Image import Image

TILE: Final = (320, 240)
CAPTION: Final = 44
MARGIN: Final = 8
COLUMNS: Final = 4
JPEG_QUALITY: Final = 88
COLOURS: Final = ("#ffb000", "#00b4d8", "#e0407f", "#60d060")
GREY, INK, PAPER = "#8a8a8a", "#1a1a1a", "#ffffff"
MAX_SIDE: Final = 65_000
"""JPEG's own limit, nearly."""


@dataclass(frozen=True)
class Tile:
    """What is shown of a clip.

    Parameters
    ----------
    clip_id, label
        The clip.
    jpeg
        Its frame; None if there is none.
    boxes
        xyxy as fractions of the frame.
    remark
        Why there is no frame, or the notes on the clip.
    """

    clip_id: str
    label: str
    jpeg: bytes | None
    boxes: Sequence[Box]
    remark: str


def read_tiles(
    shards: Path,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    ids: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[Tile]:
    """Read what a sheet shows.

    Parameters
    ----------
    shards
        Folder of shards.
    boxes
        Usable boxes of each annotated clip, shown instead of the shards' own; then only these clips are.
    ids
        The clips to show; all by default.
    limit
        How many at most.

    Returns
    -------
    list of Tile
        In the order of ``ids``, else of the clip ids. A clip that is in no shard is one with a remark.

    Raises
    ------
    DataInputError
        If there are no shards or no clips to show.
    """
    if ids is None:
        found = boxes if boxes is not None else [row["clip_id"] for row in shard_rows(shards, ["clip_id"])]
        ids = sorted(found)
    wanted = list(ids)[:limit]
    if not wanted:
        raise DataInputError(f"{shards} has no clips to show")
    columns = ["clip_id", "label", "frame", "boxes", "status", "reason", "detail", "notes"]
    places, tiles = set(wanted), dict[str, Tile]()
    for row in shard_rows(shards, columns):
        clip_id = row["clip_id"]
        if clip_id not in places:
            continue
        usable = row["status"] == OK
        remark = ", ".join(row["notes"] or ()) if usable else f"{row['reason']}: {row['detail']}"
        own = row["boxes"] if boxes is None else boxes.get(clip_id)
        jpeg = row["frame"]["bytes"] if usable else None
        tiles[clip_id] = Tile(clip_id, row["label"] or "", jpeg, [tuple(box) for box in own or ()], remark)
    lost = "not_prepared: it is in no shard"
    return [tiles.get(clip_id) or Tile(clip_id, "", None, (), lost) for clip_id in wanted]


def write_sheet(path: Path, tiles: Sequence[Tile], columns: int = COLUMNS) -> None:
    """Write a sheet as a picture or a page.

    Parameters
    ----------
    path
        Ends in ``.jpg``, ``.png`` or ``.html``.
    tiles
        From `read_tiles`.
    columns
        Tiles side by side, in a picture.

    Raises
    ------
    DataInputError
        If the name ends in something else, or the picture would be larger than JPEG can be.
    """
    if path.suffix == ".html":
        write_text(path, page(tiles))
        return
    if path.suffix not in {".jpg", ".png"}:
        raise DataInputError(f"--out {path}: a sheet is a .jpg, .png or .html file")
    sheet = picture(tiles, columns)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG" if path.suffix == ".png" else "JPEG", quality=JPEG_QUALITY)


def picture(tiles: Sequence[Tile], columns: int = COLUMNS) -> Image:
    """Draw a sheet.

    Parameters
    ----------
    tiles
        From `read_tiles`.
    columns
        Tiles side by side.

    Returns
    -------
    Image
        RGB.
    """
    from PIL import Image

    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    step = (TILE[0] + MARGIN, TILE[1] + CAPTION + MARGIN)
    size = (columns * step[0] + MARGIN, rows * step[1] + MARGIN)
    if max(size) > MAX_SIDE:
        raise DataInputError(
            f"{len(tiles)} tiles make a picture of {size[0]}x{size[1]} pixels: lower --limit or write .html"
        )
    sheet = Image.new("RGB", size, PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        _draw(sheet, tile, (MARGIN + column * step[0], MARGIN + row * step[1]))
    return sheet


def _draw(sheet: Image, tile: Tile, corner: tuple[int, int]) -> None:
    """Draw one tile with its caption."""
    from PIL import Image, ImageDraw, ImageFont

    left, top = corner
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    if tile.jpeg is None:
        pen.rectangle((left, top, left + TILE[0] - 1, top + TILE[1] - 1), fill=GREY)
        text = "\n".join(textwrap.wrap(tile.remark, 40)[:8])
        pen.multiline_text((left + 10, top + 10), text, fill=PAPER, font=font)
    else:
        frame = Image.open(io.BytesIO(tile.jpeg)).convert("RGB")
        scale = min(TILE[0] / frame.width, TILE[1] / frame.height)
        width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        x, y = left + (TILE[0] - width) // 2, top + (TILE[1] - height) // 2
        sheet.paste(frame.resize((width, height)), (x, y))
        for number, (x0, y0, x1, y1) in enumerate(tile.boxes):
            place = (x + x0 * width, y + y0 * height, x + x1 * width - 1, y + y1 * height - 1)
            pen.rectangle(place, outline=COLOURS[number % len(COLOURS)], width=3)
    shown = "" if tile.jpeg is None or not tile.remark else f"  ({tile.remark})"
    pen.text((left, top + TILE[1] + 3), textwrap.shorten(tile.label + shown, 48), fill=INK, font=font)
    name = tile.clip_id if len(tile.clip_id) <= 40 else f"{tile.clip_id[:20]}...{tile.clip_id[-17:]}"
    pen.text((left, top + TILE[1] + 21), name, fill=GREY, font=font)


def page(tiles: Sequence[Tile]) -> str:
    """Return a sheet as one HTML page that needs no other file.

    Parameters
    ----------
    tiles
        From `read_tiles`.

    Returns
    -------
    str
        The page.
    """
    figures = "\n".join(_figure(tile) for tile in tiles)
    failed = sum(tile.jpeg is None for tile in tiles)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Contact sheet</title><style>
body {{ font: 14px sans-serif; color: {INK}; background: {PAPER}; margin: 1em }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 1em }}
figure {{ margin: 0 }}
div {{ position: relative }}
img {{ display: block; width: 100% }}
i {{ position: absolute; box-sizing: border-box; border: 3px solid }}
p {{ background: {GREY}; color: {PAPER}; margin: 0; padding: 1em; min-height: 8em; overflow-wrap: anywhere }}
small {{ color: {GREY}; display: block; overflow-wrap: anywhere }}
</style></head><body><h1>{len(tiles)} clips, {failed} without a frame</h1><main>
{figures}
</main></body></html>
"""


def _figure(tile: Tile) -> str:
    remark = html.escape(tile.remark)
    caption = f"<figcaption>{html.escape(tile.label)}<small>{html.escape(tile.clip_id)}</small>"
    if tile.jpeg is None:
        return f"<figure><p>{remark}</p>{caption}</figcaption></figure>"
    frames = "".join(
        f'<i style="left:{100 * x0:.2f}%;top:{100 * y0:.2f}%;width:{100 * (x1 - x0):.2f}%;'
        f'height:{100 * (y1 - y0):.2f}%;border-color:{COLOURS[number % len(COLOURS)]}"></i>'
        for number, (x0, y0, x1, y1) in enumerate(tile.boxes)
    )
    data = base64.b64encode(tile.jpeg).decode()
    picture = f'<img alt="{html.escape(tile.label)}" src="data:image/jpeg;base64,{data}">'
    return f"<figure><div>{picture}{frames}</div>{caption}<small>{remark}</small></figcaption></figure>"
