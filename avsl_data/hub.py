"""Stage 5: a folder that `datasets.load_dataset` opens and the Hugging Face hub shows.

A *config* is a split file, its *splits* are the subsets. A clip is stored once, however many configs have
it: clips that belong to the same subsets of every config lie in files of their own, and the card says which
files make up which split. A clip without usable media is in no split; ``exclusions.csv`` names it and why.

The folder is built beside its place and renamed, so it is whole or not there.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from avsl_data import schema
from avsl_data.errors import DataInputError
from avsl_data.features import features_of
from avsl_data.files import write_text
from avsl_data.ledger import OK
from avsl_data.shards import all_have_flow, recorded_digest, row_groups, shard_files
from avsl_data.sources.source import Box

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_FILE_MB: Final = 500
ROWS_PER_GROUP: Final = 64
"""About 15 MB of ten-second clips; the hub's viewer reads a group at a time."""

MARKER: Final = "avsl_hub.json"
MARKER_SCHEMA: Final = "avsl-hub/1"
EXCLUSIONS: Final = "exclusions.csv"
ANNOTATIONS: Final = "annotations.json"
WHOLE: Final = "clips"
"""Name of the only split where no split file was given; `datasets` keeps ``all`` for itself."""

MEDIA_COLUMNS: Final = ("frame", "frames", "frames_at_s", "audio", schema.FLOW)
STATUS_COLUMNS: Final = ("status", "reason", "detail")

NOT_PREPARED: Final = "not_prepared"


@dataclass(frozen=True)
class HubConfig:
    """A way to divide the clips: one config of the dataset.

    Parameters
    ----------
    name
        Name of the config.
    subsets
        Subsets of each clip; several only where a split allows leaks.
    about
        Metadata of the split file.
    """

    name: str
    subsets: Mapping[str, tuple[str, ...]]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class HubContents:
    """What a finished folder holds.

    Parameters
    ----------
    classes
        Names of the labels, in the order of their numbers.
    files
        For each config and split, the files.
    counts
        For each config and split, the number of clips.
    excluded
        Clip, config, split, reason and detail of each clip without usable media.
    notes
        Number of stored clips by each note.
    clips, boxes
        Clips stored, and boxes of them.
    options
        What frames and sounds are like, from the shards.
    shards
        Digest of each shard.
    """

    classes: list[str]
    files: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    excluded: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    clips: int = 0
    boxes: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    shards: dict[str, str | None] = field(default_factory=dict)


def read_config(path: Path) -> HubConfig:
    """Read a split file as a config, named by the file.

    Parameters
    ----------
    path
        The split file.

    Returns
    -------
    HubConfig
        The config.

    Raises
    ------
    DataInputError
        If it is no split.
    """
    table = schema.read_table(path, schema.SPLIT, ["clip_id", "subset"])
    subsets: defaultdict[str, list[str]] = defaultdict(list)
    for clip_id, subset in zip(table["clip_id"].to_pylist(), table["subset"].to_pylist(), strict=True):
        subsets[clip_id].append(subset)
    sets = {clip_id: tuple(sorted(names)) for clip_id, names in subsets.items()}
    return HubConfig(path.stem, sets, schema.about_table(table))


def write_folder(
    out: Path,
    shards: Path,
    configs: Sequence[HubConfig],
    truth: Mapping[str, Sequence[Box]] | None,
    card: Callable[[HubContents], str],
    *,
    extra: Mapping[str, bytes] | None = None,
    metadata_only: bool = False,
    max_file_mb: float = MAX_FILE_MB,
) -> HubContents:
    """Write the dataset's folder.

    Parameters
    ----------
    out
        The folder. One that was written before is replaced; another one is left alone.
    shards
        Folder of shards.
    configs
        The divisions; with none, one config ``default`` has one split ``clips``.
    truth
        Usable boxes of each annotated clip, which then replace the shards' own; None keeps those.
    card
        Makes the text of README.md.
    extra
        Further files by name.
    metadata_only
        Whether to leave out frames and sounds, and keep failed clips as rows with their status.
    max_file_mb
        When a Parquet file is closed and the next one begun.

    Returns
    -------
    HubContents
        What was written.

    Raises
    ------
    DataInputError
        If a shard cannot be read, two configs have one name, nothing is left to write, or ``out`` is
        something else.
    """
    paths = shard_files(shards)
    known = _known_clips(paths)
    _check_names(configs)
    if not configs:
        configs = [HubConfig("default", dict.fromkeys([*known, *(truth or {})], (WHOLE,)))]
    contents = HubContents(sorted({label for label, *_ in known.values() if label}))
    _exclude(contents, configs, known)
    with replacing_folder(out) as folder:
        _write_rows(folder, paths, configs, truth, contents, metadata_only, max_file_mb)
        if not contents.clips:
            raise DataInputError(f"no clip of {shards} is usable and in a split: there is nothing to write")
        _write_exclusions(folder / EXCLUSIONS, contents.excluded)
        write_text(folder / "README.md", card(contents))
        for name, content in (extra or {}).items():
            (folder / name).write_bytes(content)
        about = {"schema": MARKER_SCHEMA, "shards": contents.shards, "metadata_only": metadata_only}
        write_text(folder / MARKER, json.dumps(about, indent=1) + "\n")
    return contents


def _check_names(configs: Sequence[HubConfig]) -> None:
    twice = [name for name, n in Counter(config.name for config in configs).items() if n > 1]
    if twice:
        raise DataInputError(f"two split files are called {twice[0]}: their names become the configs' names")
    for config in configs:
        for subset in sorted({name for names in config.subsets.values() for name in names}):
            if not re.fullmatch(r"\w+", subset) or subset in {"all", "none"}:
                raise DataInputError(
                    f"the subset {subset!r} of {config.name} cannot be a split's name for `datasets`: "
                    "letters, digits and _ are possible, and neither 'all' nor 'none'"
                )


@contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of ``out`` if the block succeeds.

    Parameters
    ----------
    out
        The folder; absent, empty or written by `write_folder`.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    DataInputError
        If ``out`` is something else, which must not be lost.
    """
    if out.exists() and not (out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))):
        raise DataInputError(
            f"{out} was not written by this command: give another folder, or remove it yourself"
        )
    work = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    work.mkdir(parents=True)
    try:
        yield work
        if out.exists():
            old = out.rename(work.with_suffix(".old"))
            work.rename(out)
            shutil.rmtree(old)
        else:
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _known_clips(paths: Sequence[Path]) -> dict[str, tuple[str, str, str, str]]:
    """Return label, status, reason and detail of every clip."""
    known: dict[str, tuple[str, str, str, str]] = {}
    for path in paths:
        for table in row_groups(path, ["clip_id", "label", *STATUS_COLUMNS]):
            for row in table.to_pylist():
                if row["clip_id"] in known:
                    raise DataInputError(f"{path}: clip {row['clip_id']} is in two shards of this folder")
                facts = (row["label"], row["status"], row["reason"], row["detail"])
                known[row["clip_id"]] = tuple(fact or "" for fact in facts)  # type: ignore[assignment]
    return known


def _exclude(
    contents: HubContents, configs: Sequence[HubConfig], known: Mapping[str, tuple[str, str, str, str]]
) -> None:
    """Note every clip of a split that has no usable media, and why."""
    for config in configs:
        for clip_id, subsets in sorted(config.subsets.items()):
            _, status, reason, detail = known.get(clip_id, ("", "", NOT_PREPARED, "it is in no shard"))
            if status != OK:
                contents.excluded += [(clip_id, config.name, name, reason, detail) for name in subsets]


def _write_rows(
    folder: Path,
    paths: Sequence[Path],
    configs: Sequence[HubConfig],
    truth: Mapping[str, Sequence[Box]] | None,
    contents: HubContents,
    metadata_only: bool,
    max_file_mb: float,
) -> None:
    """Write the Parquet files and count what is in them."""
    numbers = {name: number for number, name in enumerate(contents.classes)}
    counts: dict[str, Counter[str]] = {config.name: Counter() for config in configs}
    columns = schema.shard_format(flow=all_have_flow(paths)).columns
    with _Files(folder, contents.classes, columns, metadata_only, max_file_mb) as files:
        for path in paths:
            contents.shards[path.name] = recorded_digest(path)
            for table in row_groups(path):
                options = schema.about_table(table).get("preprocess", {})
                contents.options = contents.options or options
                files.sample_rate = options.get("sample_rate", files.sample_rate)
                for row in table.to_pylist():
                    places = [config.subsets.get(row["clip_id"], ()) for config in configs]
                    if not any(places) or (row["status"] != OK and not metadata_only):
                        continue
                    boxes = row["boxes"] if truth is None else truth.get(row["clip_id"])
                    row |= {"boxes": boxes, "label": numbers.get(row["label"])}
                    files.add(".".join("+".join(names) or "none" for names in places), row)
                    for config, names in zip(configs, places, strict=True):
                        counts[config.name].update(names)
                    contents.clips += 1
                    contents.boxes += len(boxes or ())
                    contents.notes.update(row["notes"] or ())
    contents.counts = {name: dict(sorted(counted.items())) for name, counted in counts.items()}
    for number, config in enumerate(configs):
        contents.files[config.name] = {
            subset: sorted(
                name
                for group, names in files.written.items()
                if subset in group.split(".")[number].split("+")
                for name in names
            )
            for subset in contents.counts[config.name]
        }


class _Files:
    """The Parquet files of each group of clips, closed and begun anew when they get large."""

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        columns: pa.Schema,
        metadata_only: bool,
        max_file_mb: float,
    ) -> None:
        self._folder, self._classes = folder / "data", classes
        left_out = MEDIA_COLUMNS if metadata_only else STATUS_COLUMNS
        self._stored = [column for column in columns if column.name not in left_out]
        self._names = [column.name for column in self._stored]
        self._max_bytes = max_file_mb * 1e6
        self._rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._open: dict[str, tuple[Path, pq.ParquetWriter]] = {}
        self.written: defaultdict[str, list[str]] = defaultdict(list)
        self.sample_rate = 16_000
        self._folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for group in list(self._rows):
                self._flush(group)
        for _file, writer in self._open.values():
            writer.close()

    def add(self, group: str, row: Mapping[str, Any]) -> None:
        """Add a row to the files of a group."""
        self._rows[group].append({name: row[name] for name in self._names})
        if len(self._rows[group]) == ROWS_PER_GROUP:
            self._flush(group)

    def _flush(self, group: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = self._columns()
        if group not in self._open:
            name = f"{group}-{len(self.written[group]):05d}.parquet"
            self.written[group].append(f"data/{name}")
            path = self._folder / name
            self._open[group] = (path, pq.ParquetWriter(path, columns, compression="none"))
        file, writer = self._open[group]
        writer.write_table(pa.Table.from_pylist(self._rows.pop(group), schema=columns))
        if file.stat().st_size >= self._max_bytes:
            del self._open[group]
            writer.close()

    def _columns(self) -> pa.Schema:
        import pyarrow as pa

        features = features_of(self._names, self.sample_rate)
        features["label"] = {"names": list(self._classes), "_type": "ClassLabel"}
        number = pa.field("label", pa.int64())
        fields = [number if column.name == "label" else column for column in self._stored]
        return pa.schema(fields, {b"huggingface": json.dumps({"info": {"features": features}}).encode()})


def _write_exclusions(path: Path, excluded: Sequence[tuple[str, str, str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "config", "split", "reason", "detail"])
        writer.writerows(excluded)
