"""Clips for training and prediction: Parquet shards and a split become batches of tensors.

This module and `shard_rows` are the ones that know the files of `avsl_data`. A clip that is missing from the
shards or broken in them is never replaced by another one: it is left out, with its reason, and
`ClipSet.excluded` says so.

Shape letters: B clips, F side of the stored frame, n samples, M boxes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avsl_train import stored_flow
from avsl_train.config import DataConfig
from avsl_train.disk_cache import DiskCache
from avsl_train.draws import key_of
from avsl_train.errors import TrainInputError
from avsl_train.excerpts import Heard, clip_samples, spans
from avsl_train.frames import decoded_frame
from avsl_train.loading import Workers
from avsl_train.shard_rows import MediaReader, read_rows

Int16 = np.ndarray[Any, np.dtype[np.int16]]
Request = tuple[Tensor, Heard | None]
"""Positions of clips, and the views that will be asked of them."""


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
        Sound of ``DataConfig.clip_s`` seconds, or of the stretch ``span`` of them.
    boxes : Tensor [B, M, 4] of float32
        xyxy in [0, 1]; unused rows are 0 and cover nothing.
    key : Tensor [B] of int64
        Hashes of the clip ids (`avsl_train.draws.key_of`): what a clip's draws depend on.
    span : Tensor [B, 2] of int64 or None
        Which samples of the clip ``waves`` begins with and ends before; what follows in a row is padding.
        None: all of them.
    flow : Tensor [B, 2, F, F] of float32 or None
        Optical flow from each frame to the next picture, x before y, in pixels of the video however large F
        is; None unless ``DataConfig.flow`` asks for it.
    """

    index: Tensor
    frames: Tensor
    waves: Tensor
    boxes: Tensor
    key: Tensor
    span: Tensor | None = None
    flow: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> Clips:
        """Return some of the clips."""
        return Clips(*(None if part is None else part[rows] for part in self._parts()))  # type: ignore[arg-type]

    @staticmethod
    def join(parts: Sequence[Clips]) -> Clips:
        """Return several batches as one, in order."""
        whole = all(part.span is None for part in parts)
        return Clips(
            torch.cat([part.index for part in parts]),
            torch.cat([part.frames for part in parts]),
            _padded([part.waves for part in parts]),
            _padded([part.boxes for part in parts]),
            torch.cat([part.key for part in parts]),
            None if whole else torch.cat([part.samples for part in parts]),
            _all_or_none([part.flow for part in parts]),
        )

    @property
    def samples(self) -> Tensor:
        """Which samples of each clip are there, [B, 2] of int64: the first, and the one after the last."""
        if self.span is not None:
            return self.span
        return torch.tensor([0, self.waves.shape[1]]).repeat(len(self), 1)

    def sound(self, start: Tensor, n: int) -> Tensor:
        """Return ``n`` samples of each clip from the samples ``start`` [B] on, [B, n] of int16, to read only.

        Raises
        ------
        ValueError
            Some of them were not decoded: another view was announced than the one that is made.
        """
        span = self.samples
        if bool((start < span[:, 0]).any()) or bool((start + n > span[:, 1]).any()):
            raise ValueError(
                "a view needs samples that were not decoded: the views that a step makes are not those that "
                "its batch was loaded for"
            )
        places = (start - span[:, 0]).tolist()
        if n == self.waves.shape[1] and not any(places):  # loaded for this view alone
            return self.waves
        return torch.stack([wave[at : at + n] for wave, at in zip(self.waves, places, strict=True)])

    def pin_memory(self) -> Clips:
        """Return the clips in page-locked memory."""
        return Clips(*(None if part is None else part.pin_memory() for part in self._parts()))  # type: ignore[arg-type]

    def _parts(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]


class ClipSet:
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
        rows = read_rows(shards, set(ids), config.flow)
        why = {
            clip_id: rows[clip_id].why_excluded(need_boxes, config.flow)
            if clip_id in rows
            else "not in the shards"
            for clip_id in ids
        }
        self.excluded = {clip_id: reason for clip_id, reason in why.items() if reason}
        self.ids = [clip_id for clip_id in ids if clip_id not in self.excluded]
        self.keys = torch.tensor([key_of(clip_id) for clip_id in self.ids], dtype=torch.int64)
        self._media = MediaReader([rows[clip_id] for clip_id in self.ids])
        self._idle: list[Workers[Request, Clips]] = []
        self._cached: Clips | None = None
        self._disk: DiskCache | None = None
        if config.cache == "memory" and self.ids:
            self._cached = self._decode_all()
        elif config.cache == "disk" and self.ids:
            self._disk = DiskCache(shards, self._media.rows, config, self._arrays)
        elif self.ids:
            self._decode(torch.tensor([0]))  # a wrong sample rate is told at once, not by a worker later
        self._forget_files()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Clips:
        """Return one clip as a batch of one."""
        return self.batch(torch.tensor([position]))

    def batch(self, index: Tensor, heard: Heard | None = None) -> Clips:
        """Return the clips at some positions as one batch.

        Parameters
        ----------
        index : Tensor [B] of int64
            Positions.
        heard
            The views that will be asked of them: only what these hear is decoded of the sounds. None: all.
        """
        if self._cached is not None:
            return self._cached[index]
        return self._decode(index, heard) if self._disk is None else self._read(self._disk, index, heard)

    def batches(
        self, indices: Sequence[Tensor], heard: Sequence[Heard | None] | None = None
    ) -> Iterator[Clips]:
        """Yield one batch per index tensor, in order; made ahead by processes unless kept in memory.

        ``heard`` holds the views that will be asked of each batch, as in `batch`.
        """
        requests = list(zip(indices, heard or [None] * len(indices), strict=True))
        if self._cached is not None or not self.config.workers or not requests:
            yield from (self.batch(*request) for request in requests)
            return
        # a sweep begins while the training's own batches are on their way: each has its processes
        workers = self._idle.pop() if self._idle else self._start_workers()
        yield from workers.make(requests)
        self._idle.append(workers)

    def in_order(
        self, size: int, rank: int = 0, world_size: int = 1, heard: Heard | None = None
    ) -> Iterator[Clips]:
        """Yield every clip whose position is ``rank`` modulo ``world_size``, in batches of up to ``size``."""
        own = range(rank, len(self), world_size)
        indices = [torch.tensor(own[first : first + size]) for first in range(0, len(own), size)]
        return self.batches(indices, [heard] * len(indices))

    def stored(self, position: int) -> tuple[Image.Image, Int16]:
        """Return a clip's RGB frame at its own size and all of its samples, for what prepares them itself."""
        frame, sound = self._media.read(position)
        try:
            return Image.open(io.BytesIO(frame)).convert("RGB"), self._samples(sound, position)
        except (OSError, RuntimeError) as error:  # what Pillow and soundfile raise
            raise self._broken(position, error) from error

    def close(self) -> None:
        """End the processes that wait for another pass; they also end with this process."""
        for workers in self._idle:
            workers.close()
        self._idle = []
        self._forget_files()

    def _forget_files(self) -> None:
        self._media.close()
        if self._disk is not None:
            self._disk.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the processes behind."""
        return {**self.__dict__, "_idle": []}

    def _start_workers(self) -> Workers[Request, Clips]:
        return Workers(_Decoder(self), self.config.workers, pin=torch.cuda.is_available())

    def _decode_all(self) -> Clips:
        """Return every clip, read in the order of the shards."""
        rows = self._media.rows
        order = torch.tensor(sorted(range(len(self)), key=lambda position: rows[position].place))
        return self._decode(order)[torch.argsort(order)]

    def _decode(self, index: Tensor, heard: Heard | None = None) -> Clips:
        """Return some clips, decoded from the shards."""
        span = spans(self.config, self.keys[index], heard)
        frames, waves, *flows = zip(
            *(
                self._arrays(position, first, stop)
                for position, (first, stop) in zip(index.tolist(), span.tolist(), strict=True)
            ),
            strict=True,
        )
        flow = torch.stack(flows[0]) if flows else None
        waves_of_all = pad_sequence(list(waves), batch_first=True)
        return self._clips(index, torch.stack(frames), waves_of_all, None if heard is None else span, flow)

    def _read(self, disk: DiskCache, index: Tensor, heard: Heard | None) -> Clips:
        """Return some clips, decoded before."""
        span, side = spans(self.config, self.keys[index], heard), self.config.frame_size
        frames = torch.empty((len(index), 3, side, side), dtype=torch.uint8)
        longest = int((span[:, 1] - span[:, 0]).max()) if len(index) else 0
        waves = torch.zeros((len(index), longest), dtype=torch.int16)
        flow = torch.empty((len(index), 2, side, side)) if self.config.flow else None
        for row, (position, (first, stop)) in enumerate(zip(index.tolist(), span.tolist(), strict=True)):
            parts = [(0, frames[row]), (first, waves[row, : stop - first])]
            disk.read(position, parts if flow is None else [*parts, (0, flow[row])])
        return self._clips(index, frames, waves, None if heard is None else span, flow)

    def _clips(
        self, index: Tensor, frames: Tensor, waves: Tensor, span: Tensor | None, flow: Tensor | None
    ) -> Clips:
        boxes = [
            torch.tensor(self._media.rows[position].boxes or []).view(-1, 4) for position in index.tolist()
        ]
        return Clips(
            index, frames, waves, pad_sequence(boxes, batch_first=True), self.keys[index], span, flow
        )

    def _arrays(self, position: int, first: int = 0, stop: int | None = None) -> tuple[Tensor, ...]:
        """Return frame, samples ``first`` to ``stop`` and, if they are loaded, flow of a clip.

        ``stop`` None: the end of the clip.
        """
        frame, sound = self._media.read(position)
        last = clip_samples(self.config) if stop is None else stop
        try:
            picture = decoded_frame(frame, self.config.frame_size)
            wave = torch.from_numpy(self._samples(sound, position, first, last))
            if not self.config.flow:
                return picture, wave
            flow = stored_flow.decoded(self._media.read_flow(position))
            return picture, wave, stored_flow.resized(flow, self.config.frame_size)
        except (OSError, RuntimeError) as error:  # what torchvision and soundfile raise
            raise self._broken(position, error) from error

    def _samples(self, sound: bytes, position: int, first: int = 0, stop: int | None = None) -> Int16:
        """Return samples ``first`` to ``stop`` of a FLAC file; a sound that is shorter is repeated.

        ``stop`` None: all that there are.
        """
        import soundfile

        with soundfile.SoundFile(io.BytesIO(sound)) as file:
            if file.samplerate != self.config.sample_rate:
                raise TrainInputError(
                    f"clip {self.ids[position]} has {file.samplerate} samples per second, data.sample_rate "
                    f"says {self.config.sample_rate}: preprocess the clips at that rate or change the "
                    "configuration"
                )
            wanted = file.frames if stop is None else stop
            short = wanted > file.frames
            if not short:
                file.seek(first)
            count = file.frames if short else wanted - first
            samples: Int16 = file.read(count, dtype="int16")
        if len(samples) != count:
            raise OSError(f"its sound ends after {len(samples)} of {count} samples")
        return np.resize(samples, wanted)[first:] if short else samples

    def _broken(self, position: int, error: Exception) -> TrainInputError:
        reason = str(error).strip().splitlines()[0]
        return TrainInputError(
            f"clip {self.ids[position]} cannot be decoded ({reason}): delete its shard and make it again"
        )


class _Decoder:
    """What the processes of a set do: a batch for a request."""

    def __init__(self, clips: ClipSet) -> None:
        self.clips = clips

    def __call__(self, request: Request) -> Clips:
        return self.clips.batch(*request)


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


def _all_or_none(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Return what all of several batches have as one tensor; None if one has none."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors [B, n, ...] as one, filled with 0 to the largest n."""
    longest = max(part.shape[1] for part in parts)
    if all(part.shape[1] == longest for part in parts):
        return torch.cat(list(parts))
    rows = sum(len(part) for part in parts)
    whole = parts[0].new_zeros((rows, longest, *parts[0].shape[2:]))
    first = 0
    for part in parts:
        whole[first : first + len(part), : part.shape[1]] = part
        first += len(part)
    return whole
