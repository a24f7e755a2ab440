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
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from avsl_data import schema
from avsl_data.decode import BadMediaError
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.extract import read_clip
from avsl_data.files import replacing, sha256_of
from avsl_data.ledger import FAILED, OK, LedgerRow
from avsl_data.notes import notes_on
from avsl_data.presets import MIDDLE, START, preset_named
from avsl_data.progress import Progress
from avsl_data.sources.source import Box, CatalogClip
from avsl_data.workers import WorkerDiedError, in_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SILENCE_DB: Final = -120.0
"""Loudness that is written for sound below it; digital silence has no logarithm."""

SAMPLE_RATES: Final = (8_000, 48_000)
SHORT_SIDES: Final = (16, 4_096)
MAX_FRAMES: Final = 1_000
CLIPS_AHEAD: Final = 6
"""Finished clips that may wait to be written, per worker: enough that none waits for the slowest."""


@dataclass(frozen=True)
class PreprocessOptions:
    """What a shard's frames and sounds are like.

    Parameters
    ----------
    frame_time_s
        Seconds from the clip's start, 4.96 for VGG-SS; None is the middle of the clip.
    short_side
        Largest shorter side of the frame in pixels; larger frames are scaled down, smaller ones kept.
    sample_rate
        Samples per second of the mono sound.
    audio_s
        Seconds of sound that are kept; None keeps all.
    audio_from
        ``start`` or ``middle``: where in the sound they are.
    frame_times_s
        Times of further frames, for the column ``frames``.
    frames_per_clip
        Number of further frames, in the middles of as many equal parts of the clip; 0 stores none.
    preset
        Name of the preset that the values come from, for the record.
    """

    frame_time_s: float | None = 4.96
    short_side: int = 256
    sample_rate: int = 16_000
    audio_s: float | None = None
    audio_from: str = START
    frame_times_s: tuple[float, ...] = ()
    frames_per_clip: int = 0
    preset: str | None = None

    def __post_init__(self) -> None:
        for flag, values in (
            ("--frame-time", (self.frame_time_s,)),
            ("--frame-times", self.frame_times_s),
        ):
            for value in values:
                if value is not None and not (math.isfinite(value) and value >= 0):
                    raise DataInputError(f"{flag} {value} is not a time from the clip's start in seconds")
        for flag, number, (low, high) in (
            ("--short-side", self.short_side, SHORT_SIDES),
            ("--sample-rate", self.sample_rate, SAMPLE_RATES),
            ("--frames-per-clip", self.frames_per_clip, (0, MAX_FRAMES)),
        ):
            if not low <= number <= high:
                raise DataInputError(f"{flag} {number} is not in {low}..{high}")
        if self.audio_s is not None and not 0 < self.audio_s < math.inf:
            raise DataInputError(f"--audio-seconds {self.audio_s} is no length in seconds")
        if self.audio_from not in {START, MIDDLE}:
            raise DataInputError(f"--audio-from {self.audio_from}: give {START} or {MIDDLE}")
        if self.frames_per_clip and self.frame_times_s:
            raise DataInputError("--frames-per-clip and --frame-times both choose frames: give one of them")

    @classmethod
    def of_preset(cls, name: str, **values: Any) -> PreprocessOptions:
        """Return the options of a published project.

        Parameters
        ----------
        name
            A key of `avsl_data.presets.PRESETS`.
        **values
            Fields that differ from it.

        Returns
        -------
        PreprocessOptions
            The options.

        Examples
        --------
        >>> PreprocessOptions.of_preset("ezvsl", sample_rate=11_025).audio_s
        3.0
        """
        preset = preset_named(name)
        own = {field: getattr(preset, field) for field in preset.sources}
        return cls(**{**own, "preset": name, **values})

    def times(self, clip_s: float) -> tuple[float, ...]:
        """Return the times of the frame and of the further frames of a clip.

        Parameters
        ----------
        clip_s
            Its length in seconds.

        Returns
        -------
        tuple of float
            The frame's first.

        Examples
        --------
        >>> PreprocessOptions(None, frames_per_clip=2).times(10.0)
        (5.0, 2.5, 7.5)
        """
        first = clip_s / 2 if self.frame_time_s is None else self.frame_time_s
        n = self.frames_per_clip
        return (first, *(self.frame_times_s or ((k + 0.5) / n * clip_s for k in range(n))))


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
        If the ledger names a clip that the catalog does not.
    StopEverythingError
        If a worker process was killed.
    """
    strangers = [row.clip_id for row in ledger if row.clip_id not in catalog]
    if strangers:
        raise DataInputError(
            f"the ledger has {len(strangers)} clips that the catalog lacks, first {strangers[0]}: "
            "do both belong to the same set?"
        )
    ordered = sorted(ledger, key=lambda row: row.clip_id)
    counts: dict[str, int] = {}
    with (
        replacing(path) as temporary,
        Progress(len(ordered), f"preprocess {path.name}") as progress,
        closing(_rows(ordered, catalog, boxes, options, workers)) as rows,
    ):
        about = {
            "preprocess": dataclasses.asdict(options),
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
    whole = json.dumps([schema.SHARD.name, dataclasses.asdict(options), clips])
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
        Metadata of the shard; ``preprocess`` has the sample rate.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = schema.huggingface_features(about["preprocess"]["sample_rate"])
    columns = schema.with_metadata(schema.SHARD, about, {b"huggingface": features})
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
    media = read_clip(path, options.times, options.short_side, options.sample_rate)
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
    clip_s = 0.0 if clip.end_s is None else clip.end_s - clip.start_s
    return found | {"notes": notes_on(media.facts, found["rms_db"], clip_s, None in frames)}


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
