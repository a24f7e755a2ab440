"""Stage 3: from verified clips to a Parquet shard of frames, sounds and boxes.

One ffmpeg call per clip reads the file twice: sought to the frame's time for the picture, from the start
for the sound. The frame is the first one at or after the stated time, the same that reading at 25 frames
per second gives for VGG-SS's 4.96 s. A clip that failed stays as a row without frame and sound.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from avsl_data import schema
from avsl_data.decode import BadMediaError, media_url, run_ffmpeg
from avsl_data.errors import DataInputError
from avsl_data.files import replacing, sha256_of
from avsl_data.ledger import FAILED, OK, LedgerRow
from avsl_data.progress import Progress
from avsl_data.sources.source import Box, CatalogClip

JPEG_QUALITY: Final = 2
"""ffmpeg's scale, 2 (best) to 31."""

SILENCE_DB: Final = -120.0
"""Loudness that is written for sound below it; digital silence has no logarithm."""

SAMPLE_RATES: Final = (8_000, 48_000)
SHORT_SIDES: Final = (16, 4_096)


@dataclass(frozen=True)
class PreprocessOptions:
    """What a shard's frames and sounds are like.

    Parameters
    ----------
    frame_time_s
        Seconds from the clip's start; 4.96 for VGG-SS.
    short_side
        Largest shorter side of the frame in pixels; larger frames are scaled down, smaller ones kept.
    sample_rate
        Samples per second of the mono sound.
    """

    frame_time_s: float = 4.96
    short_side: int = 256
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.frame_time_s) and self.frame_time_s >= 0):
            raise DataInputError(
                f"--frame-time {self.frame_time_s} is not a time from the clip's start in seconds"
            )
        for flag, value, (low, high) in (
            ("--short-side", self.short_side, SHORT_SIDES),
            ("--sample-rate", self.sample_rate, SAMPLE_RATES),
        ):
            if not low <= value <= high:
                raise DataInputError(f"{flag} {value} is not in {low}..{high}")


def write_shard(
    path: Path,
    ledger: Sequence[LedgerRow],
    catalog: Mapping[str, CatalogClip],
    boxes: Mapping[str, Sequence[Box]],
    options: PreprocessOptions,
    workers: int = 1,
) -> dict[str, int]:
    """Preprocess the clips of a ledger into a shard.

    Parameters
    ----------
    path
        The Parquet file, written atomically.
    ledger
        Rows of the bucket.
    catalog
        Clip of each id, for its label.
    boxes
        Boxes of each annotated clip, xyxy in [0, 1]. A clip that is not annotated gets a null.
    options
        What frames and sounds are like.
    workers
        ffmpeg calls side by side.

    Returns
    -------
    dict of str to int
        Number of clips by how they ended, ``ok`` or failure class.

    Raises
    ------
    DataInputError
        If the ledger names a clip that the catalog does not.
    """
    strangers = [row.clip_id for row in ledger if row.clip_id not in catalog]
    if strangers:
        raise DataInputError(
            f"the ledger has {len(strangers)} clips that the catalog lacks, first {strangers[0]}: "
            "do both belong to the same set?"
        )
    ordered = sorted(ledger, key=lambda row: row.clip_id)
    counts: dict[str, int] = {}
    with replacing(path) as temporary, Progress(len(ordered), f"preprocess {path.name}") as progress:
        rows = _rows(ordered, catalog, boxes, options, workers)
        _write(temporary, _counted(rows, counts, progress), options)
    return counts


def _rows(
    ledger: Sequence[LedgerRow],
    catalog: Mapping[str, CatalogClip],
    boxes: Mapping[str, Sequence[Box]],
    options: PreprocessOptions,
    workers: int,
) -> Iterator[dict[str, Any]]:
    """Yield the shard's rows in order, at most one row group ahead of the writer."""
    with tempfile.TemporaryDirectory(prefix="avsl-") as folder, ThreadPoolExecutor(workers) as pool:
        work = partial(_row, folder=Path(folder), catalog=catalog, boxes=boxes, options=options)
        try:
            for start in range(0, len(ledger), schema.SHARD_ROWS_PER_GROUP):
                yield from pool.map(work, ledger[start : start + schema.SHARD_ROWS_PER_GROUP])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _counted(
    rows: Iterable[dict[str, Any]], counts: dict[str, int], progress: Progress
) -> Iterator[dict[str, Any]]:
    for row in rows:
        kind = row["reason"] or row["status"]
        counts[kind] = counts.get(kind, 0) + 1
        progress.step(kind)
        yield row


def _write(path: Path, rows: Iterable[dict[str, Any]], options: PreprocessOptions) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = schema.with_metadata(
        schema.SHARD,
        {"preprocess": asdict(options)},
        {b"huggingface": schema.huggingface_features(options.sample_rate)},
    )
    # Frames and sounds are compressed already; compressing them again costs time and gains nothing.
    with pq.ParquetWriter(path, columns, compression="none") as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, schema.SHARD_ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=columns))


def _row(
    row: LedgerRow,
    folder: Path,
    catalog: Mapping[str, CatalogClip],
    boxes: Mapping[str, Sequence[Box]],
    options: PreprocessOptions,
) -> dict[str, Any]:
    """Build one clip's row of the shard."""
    clip_boxes = boxes.get(row.clip_id)
    result: dict[str, Any] = dict.fromkeys(schema.SHARD.columns.names)
    result |= {
        "clip_id": row.clip_id,
        "video_id": row.video_id,
        "label": catalog[row.clip_id].label,
        "boxes": None if clip_boxes is None else [list(box) for box in clip_boxes],
        "frame_time_s": options.frame_time_s,
    }
    if row.status != OK:
        return result | {"status": FAILED, "reason": row.reason, "detail": row.detail}
    try:
        return result | _media(row, folder, options) | {"status": OK}
    except BadMediaError as error:
        return result | {"status": FAILED, "reason": error.reason, "detail": error.detail}


def _media(row: LedgerRow, folder: Path, options: PreprocessOptions) -> dict[str, Any]:
    """Extract frame and sound of one clip and check what came back."""
    clip = Path(row.path or "")
    if not clip.is_file():
        raise BadMediaError("missing", f"{clip} is not there: run the download again")
    if sha256_of(clip) != row.sha256:
        raise BadMediaError(
            "damaged", f"{clip} is not the file that the ledger verified: run the download again"
        )
    frame, sound = folder / f"{row.clip_id}.jpg", folder / f"{row.clip_id}.flac"
    try:
        extract(clip, frame, sound, options)
        return {**_checked_frame(frame, row, options), **_checked_sound(sound, row)}
    finally:
        frame.unlink(missing_ok=True)
        sound.unlink(missing_ok=True)


def extract(clip: Path, frame: Path, sound: Path, options: PreprocessOptions) -> None:
    """Write a clip's frame and its sound, with one ffmpeg call.

    Parameters
    ----------
    clip
        The clip.
    frame
        JPEG file to write; absent afterwards if the clip ends before the frame's time.
    sound
        FLAC file to write, mono.
    options
        Which frame, how large, how many samples per second.

    Raises
    ------
    BadMediaError
        ``damaged`` if ffmpeg fails.
    """
    import ffmpeg

    side = options.short_side
    picture = ffmpeg.input(media_url(clip), ss=options.frame_time_s, threads=1)["v:0"].filter(
        "scale",
        f"if(lt(iw,ih),min(iw,{side}),-1)",
        f"if(lt(iw,ih),-1,min(ih,{side}))",
        flags="area",
        out_color_matrix="bt601",  # what JPEG means by its colours, whatever the video meant
        out_range="pc",
    )
    run_ffmpeg(
        ffmpeg.merge_outputs(
            ffmpeg.output(
                picture,
                media_url(frame),
                format="image2",
                update=1,
                vframes=1,
                vcodec="mjpeg",
                pix_fmt="yuvj420p",
                **{"q:v": JPEG_QUALITY},
                threads=1,
            ),
            ffmpeg.output(
                ffmpeg.input(media_url(clip), threads=1)["a:0"],
                media_url(sound),
                format="flac",
                ac=1,
                ar=options.sample_rate,
                sample_fmt="s16",
                threads=1,
            ),
        )
    )


def _checked_frame(frame: Path, row: LedgerRow, options: PreprocessOptions) -> dict[str, Any]:
    from PIL import Image, UnidentifiedImageError

    if not frame.is_file() or not frame.stat().st_size:
        raise BadMediaError(
            "too_short", f"no frame at {options.frame_time_s:g} s: the clip lasts {row.duration_s or 0:.2f} s"
        )
    content = frame.read_bytes()
    try:
        with Image.open(frame) as image:
            width, height = image.size
    except UnidentifiedImageError as error:
        raise BadMediaError("damaged", f"the frame is no picture: {error}") from error
    return {"frame": {"bytes": content, "path": f"{row.clip_id}.jpg"}, "width": width, "height": height}


def _checked_sound(sound: Path, row: LedgerRow) -> dict[str, Any]:
    import soundfile

    if not sound.is_file():
        raise BadMediaError("no_audio", "ffmpeg gave no sound")
    samples, sample_rate = soundfile.read(sound, dtype="float32")
    if not len(samples):
        raise BadMediaError("no_audio", "the audio stream holds no samples")
    power = float((samples.astype("float64") ** 2).mean())
    return {
        "audio": {"bytes": sound.read_bytes(), "path": f"{row.clip_id}.flac"},
        "audio_s": len(samples) / sample_rate,
        "rms_db": max(SILENCE_DB, 10 * math.log10(power)) if power > 0 else SILENCE_DB,
    }
