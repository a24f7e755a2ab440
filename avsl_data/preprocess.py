"""Stage 3: from verified clips to a Parquet shard of frames, sounds and boxes.

`avsl_data.extract` reads each clip once, in this process or in several. A clip that failed stays as a row
without frame and sound, with a reason; one that is usable but peculiar has notes. The same clips give the
same bytes, whatever the number of workers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from avsl_data import schema
from avsl_data.decode import BadMediaError
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.extract import read_clip
from avsl_data.features import huggingface_features
from avsl_data.files import replacing, sha256_of
from avsl_data.flow import opencv
from avsl_data.ledger import FAILED, OK, LedgerRow
from avsl_data.notes import notes_on
from avsl_data.options import PreprocessOptions
from avsl_data.presets import MIDDLE
from avsl_data.progress import Progress
from avsl_data.sources.source import Box, CatalogClip
from avsl_data.workers import WorkerDiedError, in_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SILENCE_DB: Final = -120.0
"""Loudness that is written for sound below it; digital silence has no logarithm."""

CLIPS_AHEAD: Final = 6
"""Finished clips that may wait to be written, per worker: enough that none waits for the slowest."""


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
        Processes; 1 works in this one.

    Returns
    -------
    dict of str to int
        Number of clips by how they ended (``ok`` or failure class), and by each note.

    Raises
    ------
    DataInputError
        If the ledger names a clip that the catalog does not, or flow is asked for without OpenCV.
    StopEverythingError
        If a worker process was killed.
    """
    strangers = [row.clip_id for row in ledger if row.clip_id not in catalog]
    if strangers:
        raise DataInputError(
            f"the ledger has {len(strangers)} clips that the catalog lacks, first {strangers[0]}: "
            "do both belong to the same set?"
        )
    if options.flow:
        opencv()  # told at once rather than by a worker
    ordered = sorted(ledger, key=lambda row: row.clip_id)
    counts: dict[str, int] = {}
    with (
        replacing(path) as temporary,
        Progress(len(ordered), f"preprocess {path.name}") as progress,
        closing(_rows(ordered, catalog, boxes, options, workers)) as rows,
    ):
        about = {
            "preprocess": options.record(),
            "inputs": inputs_digest(ordered, catalog, boxes, options),
        }
        write_shard_rows(temporary, _counted(rows, counts, progress), about)
    return counts


def inputs_digest(
    ledger: Sequence[LedgerRow],
    catalog: Mapping[str, CatalogClip],
    boxes: Mapping[str, Sequence[Box]],
    options: PreprocessOptions,
) -> str:
    """Digest everything that a shard's content depends on.

    Parameters
    ----------
    ledger, catalog, boxes, options
        As for `write_shard`. Where a clip's file lies and when it was verified do not matter.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    clips = []
    for row in sorted(ledger, key=lambda row: row.clip_id):
        clip = catalog[row.clip_id]
        length_s = None if clip.end_s is None else clip.end_s - clip.start_s
        made_of = (row.clip_id, row.status, row.reason, row.detail, row.sha256, clip.label, length_s)
        clips.append((*made_of, boxes.get(row.clip_id)))
    whole = json.dumps([schema.SHARD.name, options.record(), clips])
    return hashlib.sha256(whole.encode()).hexdigest()


def _rows(
    ledger: Sequence[LedgerRow],
    catalog: Mapping[str, CatalogClip],
    boxes: Mapping[str, Sequence[Box]],
    options: PreprocessOptions,
    workers: int,
) -> Generator[dict[str, Any], None, None]:
    """Yield the shard's rows in order, a few per worker ahead of the writer."""
    work = partial(_row, options=options)
    jobs = ((row, catalog[row.clip_id], boxes.get(row.clip_id)) for row in ledger)
    if workers == 1:
        yield from map(work, jobs)
        return
    # Threads would take turns: decoding a sound is hundreds of short calls.
    try:
        yield from in_order(work, jobs, workers, CLIPS_AHEAD * workers)
    except WorkerDiedError as error:
        clip_id = error.job[0].clip_id
        raise StopEverythingError(
            f"a worker process was killed at {clip_id}, perhaps for want of memory (--workers 1 needs less)"
        ) from error


def _counted(
    rows: Iterable[dict[str, Any]], counts: dict[str, int], progress: Progress
) -> Iterator[dict[str, Any]]:
    for row in rows:
        kind = row["reason"] or row["status"]
        for name in (kind, *(row["notes"] or ())):
            counts[name] = counts.get(name, 0) + 1
        progress.step(kind)
        yield row


def write_shard_rows(path: Path, rows: Iterable[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write rows of the shard format a group at a time, with their digest.

    Parameters
    ----------
    path
        The Parquet file; written in place.
    rows
        Every column of each row.
    about
        Metadata of the shard; ``preprocess`` has the sample rate, and says if there is a column ``flow``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = about["preprocess"]
    shard = schema.shard_format(flow=made.get("flow", False))
    features = huggingface_features(made["sample_rate"], shard.columns.names)
    columns = schema.with_metadata(shard, about, {b"huggingface": features})
    digest = schema.RowDigest()
    # Frames and sounds are compressed already; compressing them again costs time and gains nothing.
    with pq.ParquetWriter(path, columns, compression="none", write_page_checksum=True) as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, schema.SHARD_ROWS_PER_GROUP)):
            table = pa.Table.from_pylist(group, schema=columns)
            digest.update(table)
            writer.write_table(table)
        writer.add_key_value_metadata({schema.DIGEST_KEY: digest.hexdigest()})


def _row(
    job: tuple[LedgerRow, CatalogClip, Sequence[Box] | None], options: PreprocessOptions
) -> dict[str, Any]:
    """Build one clip's row of the shard."""
    row, clip, boxes = job
    result: dict[str, Any] = dict.fromkeys(schema.SHARD.columns.names)
    result |= {
        "clip_id": row.clip_id,
        "video_id": row.video_id,
        "label": clip.label,
        "boxes": None if boxes is None else [list(box) for box in boxes],
        "frame_time_s": options.frame_time_s,
    }
    if row.status != OK:
        return result | {"status": FAILED, "reason": row.reason, "detail": row.detail}
    try:
        return result | _media(row, clip, options) | {"status": OK}
    except BadMediaError as error:
        return result | {"status": FAILED, "reason": error.reason, "detail": error.detail}


def _media(row: LedgerRow, clip: CatalogClip, options: PreprocessOptions) -> dict[str, Any]:
    """Read frames and sound of one clip and describe them."""
    path = Path(row.path or "")
    if not path.is_file():
        raise BadMediaError("missing", f"{path} is not there: run the download again")
    if sha256_of(path) != row.sha256:
        raise BadMediaError(
            "damaged", f"{path} is not the file that the ledger verified: run the download again"
        )
    media = read_clip(path, options.times, options.short_side, options.sample_rate, flow=options.flow)
    (frame_time_s, *times_s), (frame, *frames) = media.times_s, media.pictures
    if frame is None:
        raise BadMediaError(
            "too_short", f"no frame at {frame_time_s:g} s: the clip lasts {media.facts.video_s:.2f} s"
        )
    begin, samples = _window(media.sound, options)
    found: dict[str, Any] = {
        "frame": _file(frame.jpeg, f"{row.clip_id}.jpg"),
        "width": frame.width,
        "height": frame.height,
        "frame_time_s": frame_time_s,
        "frame_begins_s": frame.begins_s,
        "audio": _file(_flac(samples, options.sample_rate), f"{row.clip_id}.flac"),
        "audio_from_s": begin / options.sample_rate,
        "audio_s": len(samples) / options.sample_rate,
        "rms_db": rms_db(samples),
        "source": dataclasses.asdict(media.facts),
    }
    if times_s:
        found["frames_at_s"] = times_s
        found["frames"] = [
            None if picture is None else _file(picture.jpeg, f"{row.clip_id}.{number}.jpg")
            for number, picture in enumerate(frames)
        ]
    if options.flow:
        found["flow"] = frame.flow
    clip_s = 0.0 if clip.end_s is None else clip.end_s - clip.start_s
    missing = {"frames_missing": None in frames, "no_flow": options.flow and frame.flow is None}
    return found | {"notes": notes_on(media.facts, found["rms_db"], clip_s, missing)}


def _file(content: bytes, name: str) -> dict[str, Any]:
    return {"bytes": content, "path": name}


def _window(sound: NDArray[np.int16], options: PreprocessOptions) -> tuple[int, NDArray[np.int16]]:
    """Return where the kept part of a sound begins, in samples, and the part."""
    n = len(sound)
    if options.audio_s is not None:
        n = min(n, round(options.audio_s * options.sample_rate))
    begin = (len(sound) - n) // 2 if options.audio_from == MIDDLE else 0
    return begin, sound[begin : begin + n]


def _flac(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def rms_db(samples: NDArray[np.int16]) -> float:
    """Return how loud a sound is.

    Parameters
    ----------
    samples : ndarray [n] of int16
        The sound.

    Returns
    -------
    float
        ``20 log10(rms / 32768)`` in dB of full scale, at least `SILENCE_DB`.

    Examples
    --------
    >>> import numpy as np
    >>> round(rms_db(np.array([16384, -16384], np.int16)), 2)
    -6.02
    """
    power = float((samples.astype("float64") ** 2).mean()) / 32768**2
    return max(SILENCE_DB, 10 * math.log10(power)) if power > 0 else SILENCE_DB
