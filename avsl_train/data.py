"""Clips for training and prediction: Parquet shards and a split become batches of tensors.

This is the one module that knows the files of `avsl_data`. A clip that is missing from the shards or broken
in them is never replaced by another one: it is left out, with its reason, and `ClipSet.excluded` says so.

Shape letters: B clips, F side of the stored frame, n samples, M boxes.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avsl_train.config import DataConfig
from avsl_train.draws import key_of
from avsl_train.errors import TrainInputError

logger = logging.getLogger(__name__)

FACTS = ("clip_id", "boxes", "status", "reason")
MEDIA = ("frame", "audio")


@dataclass(frozen=True)
class Clips:
    """A batch of clips.

    Parameters
    ----------
    index : Tensor [B] of int64
        Positions in their `ClipSet`.
    frames : Tensor [B, 3, F, F] of uint8
        RGB frames, squeezed to a square (boxes are relative, so they stay right).
    waves : Tensor [B, n] of int16
        Sound of ``DataConfig.clip_s`` seconds.
    boxes : Tensor [B, M, 4] of float32
        xyxy in [0, 1]; unused rows are 0 and cover nothing.
    key : Tensor [B] of int64
        Hashes of the clip ids (`avsl_train.draws.key_of`): what a clip's draws depend on.
    """

    index: Tensor
    frames: Tensor
    waves: Tensor
    boxes: Tensor
    key: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> Clips:
        """Return some of the clips."""
        return Clips(self.index[rows], self.frames[rows], self.waves[rows], self.boxes[rows], self.key[rows])

    @staticmethod
    def join(parts: Sequence[Clips]) -> Clips:
        """Return several batches as one, in order."""
        width = max(part.boxes.shape[1] for part in parts)
        boxes = [
            torch.nn.functional.pad(part.boxes, (0, 0, 0, width - part.boxes.shape[1])) for part in parts
        ]
        return Clips(
            torch.cat([part.index for part in parts]),
            torch.cat([part.frames for part in parts]),
            torch.cat([part.waves for part in parts]),
            torch.cat(boxes),
            torch.cat([part.key for part in parts]),
        )


@dataclass(frozen=True)
class Row:
    """What is known of a clip without its frame and sound, and where these lie."""

    boxes: list[list[float]] | None
    status: str
    reason: str | None
    file: Path
    group: int
    offset: int


class ClipSet(Dataset[Clips]):
    """Clips of some shards, in the order of the ids that were asked for.

    Parameters
    ----------
    shards
        Folders with Parquet shards of ``avsl-data preprocess``. Of a clip in several of them the first usable
        row counts, so the set with boxes comes first.
    ids
        The clips wanted.
    config
        Section ``data`` of the training configuration.
    need_boxes
        Exclude clips without boxes: a labelled clip without them would teach that nothing in it sounds.

    Raises
    ------
    TrainInputError
        A folder has no shards, or a shard or the first clip cannot be read.
    """

    def __init__(
        self, shards: Sequence[Path], ids: Sequence[str], config: DataConfig, need_boxes: bool = False
    ) -> None:
        self.config = config
        rows = _read_rows(shards, set(ids))
        why = {clip_id: _why_excluded(rows.get(clip_id), need_boxes) for clip_id in ids}
        self.excluded = {clip_id: reason for clip_id, reason in why.items() if reason}
        self.ids = [clip_id for clip_id in ids if clip_id not in self.excluded]
        self._rows = [rows[clip_id] for clip_id in self.ids]
        self._close()
        self._cached: Clips | None = None
        if config.cache and self.ids:
            self._cached = self._decode_all()
            self._close()
        if self.ids and not config.cache:
            self._decode(0)  # a wrong sample rate is told at once, not by a worker some minutes later

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Clips:
        """Return one clip as a batch of one."""
        return self._decode(position) if self._cached is None else self._cached[torch.tensor([position])]

    def batch(self, index: Tensor) -> Clips:
        """Return the clips at some positions as one batch."""
        if self._cached is not None:
            return self._cached[index]
        return Clips.join([self[int(position)] for position in index])

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Clips]:
        """Yield one batch per index tensor, in order; decoded ahead by workers unless cached."""
        if self._cached is not None or not self.config.workers or not indices:
            yield from (self.batch(index) for index in indices)
            return
        try:
            yield from DataLoader(
                self,
                batch_sampler=[index.tolist() for index in indices],
                collate_fn=Clips.join,
                num_workers=self.config.workers,
                prefetch_factor=4,
            )
        except TrainInputError as error:  # a worker's traceback stands before its message
            message = str(error).rpartition("TrainInputError: ")[2].strip()
            # the frames of the traceback would keep the workers alive until they time out
            raise TrainInputError(message) from error.with_traceback(None)

    def in_order(self, size: int) -> Iterator[Clips]:
        """Yield every clip once, in order, in batches of up to ``size``."""
        starts = range(0, len(self), size)
        return self.batches([torch.arange(start, min(start + size, len(self))) for start in starts])

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: a worker opens its own."""
        return {**self.__dict__, "_files": {}, "_group": None}

    def _close(self) -> None:
        """Forget open shards and the row group that was read last."""
        self._files: dict[Path, pq.ParquetFile] = {}
        self._group: tuple[Path, int, pa.Table] | None = None

    def _decode_all(self) -> Clips:
        """Return every clip, read in the order of the shards, so that each row group is read once."""
        places = [(row.file, row.group, row.offset) for row in self._rows]
        order = sorted(range(len(self)), key=places.__getitem__)
        decoded = Clips.join([self._decode(position) for position in order])
        return decoded[torch.argsort(torch.tensor(order))]

    def _decode(self, position: int) -> Clips:
        row = self._rows[position]
        boxes = np.asarray(row.boxes if row.boxes is not None else [], np.float32).reshape(-1, 4)
        image, samples = self._opened(row, position)
        frame = squeezed(image, self.config.frame_size)
        wave = _of_length(samples, round(self.config.clip_s * self.config.sample_rate))
        key = torch.tensor([key_of(self.ids[position])])
        return Clips(torch.tensor([position]), frame[None], wave[None], torch.from_numpy(boxes)[None], key)

    def stored(self, position: int) -> tuple[Image.Image, np.ndarray[Any, np.dtype[np.int16]]]:
        """Return a clip's RGB frame at its own size and all of its samples, for what prepares them itself."""
        return self._opened(self._rows[position], position)

    def _opened(self, row: Row, position: int) -> tuple[Image.Image, np.ndarray[Any, np.dtype[np.int16]]]:
        media = self._media(row)
        try:
            image = Image.open(io.BytesIO(media["frame"]["bytes"])).convert("RGB")
            samples, rate = _decode_wave(media["audio"]["bytes"])
        except (OSError, RuntimeError) as error:  # what Pillow and soundfile raise
            raise TrainInputError(
                f"clip {self.ids[position]} cannot be decoded ({error}): delete its shard and make it again"
            ) from error
        if rate != self.config.sample_rate:
            raise TrainInputError(
                f"clip {self.ids[position]} has {rate} samples per second, data.sample_rate says "
                f"{self.config.sample_rate}: preprocess the clips at that rate or change the configuration"
            )
        return image, samples

    def _media(self, row: Row) -> dict[str, Any]:
        """Read the frame and the sound of one row: of its shard, only the row group it lies in."""
        if self._group is None or self._group[:2] != (row.file, row.group):
            if row.file not in self._files:
                self._files[row.file] = pq.ParquetFile(
                    row.file, memory_map=True, page_checksum_verification=True
                )
            try:
                table = self._files[row.file].read_row_group(row.group, columns=list(MEDIA))
            except (OSError, pa.ArrowException) as error:  # a wrong checksum is an OSError
                reason = str(error).strip().splitlines()[0]
                raise TrainInputError(
                    f"the shard {row.file} is damaged ({reason}); delete it and make it again"
                ) from error
            self._group = (row.file, row.group, table)
        media: dict[str, Any] = self._group[2].slice(row.offset, 1).to_pylist()[0]
        return media


def read_split(path: Path) -> dict[str, list[str]]:
    """Return the clip ids of every subset of a split file, sorted.

    Raises
    ------
    TrainInputError
        The file is missing or no split.
    """
    try:
        table = pq.read_table(path, columns=["clip_id", "subset"])
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise TrainInputError(
            f"cannot read the split {path}: {reason}; make one with `avsl-data split`"
        ) from error
    subsets: dict[str, list[str]] = {}
    for clip_id, subset in zip(*(table[name].to_pylist() for name in ("clip_id", "subset")), strict=True):
        subsets.setdefault(subset, []).append(clip_id)
    return {name: sorted(ids) for name, ids in sorted(subsets.items())}


def _read_rows(shards: Sequence[Path], ids: set[str]) -> dict[str, Row]:
    """Return the rows of some clips, without frames and sounds: of 144,000 clips these are 25 GB."""
    rows: dict[str, Row] = {}
    for folder in shards:
        files = sorted(folder.glob("*.parquet"))
        if not files:
            raise TrainInputError(f"no shards (*.parquet) in {folder}: make them with `avsl-data preprocess`")
        for file in files:
            try:
                for clip_id, row in _rows_of(file):
                    known = rows.get(clip_id)
                    if clip_id in ids and (known is None or (known.status != "ok" and row.status == "ok")):
                        rows[clip_id] = row
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise TrainInputError(
                    f"cannot read the shard {file}: {reason}; delete it and make it again"
                ) from error
    return rows


def _rows_of(file: Path) -> Iterator[tuple[str, Row]]:
    """Yield the clip ids and rows of one shard."""
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            facts = parquet.read_row_group(group, columns=list(FACTS)).to_pylist()
            for offset, fact in enumerate(facts):
                place = (file, group, offset)
                yield fact["clip_id"], Row(fact["boxes"], fact["status"], fact["reason"], *place)


def _why_excluded(row: Row | None, need_boxes: bool) -> str:
    """Return why a clip cannot be used, or an empty string."""
    if row is None:
        return "not in the shards"
    if row.status != "ok":
        return str(row.reason)
    return "no boxes" if need_boxes and not row.boxes else ""


def squeezed(image: Image.Image, size: int) -> Tensor:
    """Return an RGB picture as uint8 [3, size, size]."""
    small = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def _decode_wave(data: bytes) -> tuple[np.ndarray[Any, np.dtype[np.int16]], int]:
    """Return the int16 samples of a FLAC file and how many there are per second."""
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    return samples, int(rate)


def _of_length(samples: np.ndarray[Any, np.dtype[np.int16]], n: int) -> Tensor:
    """Return the first ``n`` samples; a shorter sound is repeated."""
    return torch.from_numpy(np.resize(samples, n) if len(samples) < n else samples[:n].copy())
