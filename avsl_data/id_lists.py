"""Lists of clips as people have them: ids of every spelling, with or without labels, perhaps broken.

A list is read as columns. Lines in the plain spelling, nearly all of them, are recognised together; only the
others are parsed one by one, and only those can be faulty. What a file is, is told by its content:

- text: an id per line, in any spelling of `avsl_data.ids`, perhaps a label after a comma; vggsound.csv's four
  columns; Flickr's ``id,number``, whose number has no known meaning;
- JSON: ``vggss.json`` or this project's annotations;
- Parquet: a catalog or a split of this project.

Real copies have CRLF or LF line ends, often no final newline; an editor adds a byte-order mark; a failed
download is an HTML page.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avsl_data.errors import DataInputError
from avsl_data.ids import YOUTUBE_ID_LENGTH, is_number, make_clip_id, normalise, shown

MAX_LINE_BYTES: Final = 4096
MAX_FIELDS: Final = 4
MAX_FILE_BYTES: Final = 2**31 - 1

_PLAIN: Final = r"\A(?:[A-Za-z0-9_-]{11}_[0-9]{6}|[0-9]{8,12})\z"
_DIGITS = re.compile(r"[0-9]{1,6}")
_HTML = re.compile(rb"\s*<(!doctype|html|head|body)", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """A line that holds no clip.

    Parameters
    ----------
    line
        Its number in the file, from 1; 0 if the file has no lines.
    text
        Its beginning.
    why
        What is wrong with it.
    """

    line: int
    text: str
    why: str


@dataclass(frozen=True)
class IdList:
    """The clips that a file names, in its order, repetitions included.

    Parameters
    ----------
    ids : pyarrow.Array of string
        Normalised clip ids.
    labels : pyarrow.Array of string
        Class of each; empty where the file has none.
    faults
        The lines that hold no clip.
    """

    ids: pa.Array
    labels: pa.Array
    faults: tuple[Fault, ...] = ()


def read_list(path: Path, *, strict: bool = True, media_paths: bool = False) -> IdList:
    """Read the clips that a file names.

    Parameters
    ----------
    path
        The file.
    strict
        Raise at the first line that holds no clip; else list such lines in ``faults``.
    media_paths
        Take the name at the end of a line that is an absolute path, as in lists that were made on a disk.

    Returns
    -------
    IdList
        Ids and labels as columns.

    Raises
    ------
    DataInputError
        If the file is absent, empty, no text or an HTML page, or, where ``strict``, has a faulty line.
    """
    content = _bytes_of(path)
    if content.startswith(b"PAR1"):
        return _from_parquet(path)
    if content.lstrip()[:1] in (b"[", b"{"):
        return _from_json(path)
    lines, numbers = split_lines(content, path)
    ids, labels, faults = _parse_lines(lines, numbers, media_paths)
    if strict and faults:
        first, more = faults[0], len(faults) - 1
        others = f" ({more} more lines are faulty)" if more else ""
        raise DataInputError(f"{path}, line {first.line}: {first.why}{others}")
    return IdList(ids, labels, faults)


def _bytes_of(path: Path) -> bytes:
    if not path.exists():
        raise DataInputError(f"{path} does not exist")
    if not path.is_file():
        raise DataInputError(f"{path} is no file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DataInputError(f"{path} has more than {MAX_FILE_BYTES} bytes: cut it into several lists")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataInputError(f"{path} cannot be read ({error.strerror})") from error


def split_lines(content: bytes, path: Path) -> tuple[pa.Array, NDArray[np.int64]]:
    """Split a text file into lines, without copying one by one.

    Parameters
    ----------
    content
        Bytes of the file.
    path
        Where they come from, for messages.

    Returns
    -------
    lines : pyarrow.Array of string
        The lines that are not blank, without white space at their ends.
    numbers : int64 [n]
        Their numbers in the file, from 1.

    Raises
    ------
    DataInputError
        If the content is an HTML page, no UTF-8 text, or has a NUL, a line that is too long, or no line.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataInputError(f"{path} is UTF-16 text: save it as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(content):
        raise DataInputError(
            f"{path} is an HTML page, not a list: a failed download? Fetch the raw file, not its page"
        )
    if (at := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, at) + 1
        raise DataInputError(f"{path}, line {line}: holds a NUL byte: is it a binary file?")
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends, [len(content)]]).astype(np.int32)
    lengths = np.diff(offsets)
    if (longest := int(lengths.argmax())) >= 0 and lengths[longest] > MAX_LINE_BYTES:
        raise DataInputError(
            f"{path}, line {longest + 1}: has {lengths[longest]} bytes, more than {MAX_LINE_BYTES}: "
            "is it a list?"
        )
    raw = pa.Array.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    )
    try:
        lines = raw.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataInputError(
            f"{path}, line {_undecodable(raw)}: is no UTF-8 text: save it as UTF-8"
        ) from error
    lines = pc.utf8_trim(lines, " \t\r\n")
    full = pc.not_equal(lines, "")
    numbers = np.flatnonzero(full.to_numpy(zero_copy_only=False)) + 1
    if not len(numbers):
        raise DataInputError(f"{path} is empty: was it fetched to its end?")
    return (lines if len(numbers) == len(lines) else lines.filter(full)), numbers


def _undecodable(raw: pa.Array) -> int:
    for number, line in enumerate(raw, start=1):
        try:
            line.as_py().decode()
        except UnicodeDecodeError:
            return number
    return 0


def _parse_lines(
    lines: pa.Array, numbers: NDArray[np.int64], media_paths: bool
) -> tuple[pa.Array, pa.Array, tuple[Fault, ...]]:
    """Return ids, labels and faults; lines in the plain spelling are not looked at one by one."""
    plain = pc.match_substring_regex(lines, _PLAIN).to_numpy(zero_copy_only=False)
    if plain.all():
        return lines, pa.repeat(pa.scalar("", pa.string()), len(lines)), ()
    odd = np.flatnonzero(~plain)
    found_ids, found_labels, faults = [], [], []
    good = np.ones(len(lines), bool)
    for place, text in zip(odd.tolist(), _texts(lines, odd), strict=True):
        try:
            clip_id, label = parse_line(text, media_paths)
        except DataInputError as error:
            faults.append(Fault(int(numbers[place]), text[:80], str(error)))
            good[place] = False
            clip_id = label = ""
        found_ids.append(clip_id)
        found_labels.append(label)
    mask, none = pa.array(~plain), pa.repeat(pa.scalar("", pa.string()), len(lines))
    ids = pc.replace_with_mask(lines, mask, pa.array(found_ids, pa.string()))
    labels = pc.replace_with_mask(none, mask, pa.array(found_labels, pa.string()))
    if faults:
        ids, labels = ids.filter(pa.array(good)), labels.filter(pa.array(good))
    return ids, labels, tuple(faults)


def _texts(lines: pa.Array, places: NDArray[np.int64]) -> Iterator[str]:
    for start in range(0, len(places), 65_536):
        yield from lines.take(pa.array(places[start : start + 65_536])).to_pylist()


def parse_line(text: str, media_paths: bool = False) -> tuple[str, str]:
    """Read one line of a list.

    Parameters
    ----------
    text
        The line.
    media_paths
        As `read_list`.

    Returns
    -------
    clip_id, label : str
        The normalised id; the label is empty where the line has none.

    Raises
    ------
    DataInputError
        If the line holds no clip.

    Examples
    --------
    >>> parse_line('-0BIyqJj9ZU,30,"female speech, woman speaking",train')
    ('-0BIyqJj9ZU_000030', 'female speech, woman speaking')
    >>> parse_line("10000130166,202")
    ('10000130166', '')
    """
    try:
        fields = next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise DataInputError(f"{shown(text)} is no line of a list: {error} (quotes?)") from error
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise DataInputError(f"{shown(text)} has {len(fields)} columns, expected 1 to {MAX_FIELDS}")
    head, rest = fields[0].strip(" \t"), fields[1:]
    if media_paths and head.startswith("/") and ".." not in (path := PurePosixPath(head)).parts:
        head = path.name
    if rest and _DIGITS.fullmatch(rest[0]) and len(head) == YOUTUBE_ID_LENGTH:
        if len(rest) == 1 and is_number(head):
            return head, ""
        return make_clip_id(head, int(rest[0])), _label(rest[1:])
    clip_id = normalise(head)
    return clip_id, "" if is_number(clip_id) and len(rest) == 1 and rest[0].isdigit() else _label(rest)


def _label(fields: list[str]) -> str:
    if fields and not fields[0].isprintable():
        raise DataInputError(f"the label {shown(fields[0])} has a character that cannot be printed")
    return fields[0] if fields else ""


def _from_parquet(path: Path) -> IdList:
    import pyarrow.parquet as pq

    from avsl_data.catalog import clips_of
    from avsl_data.schema import CATALOG, SPLIT, read_table

    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError):
        names = []  # `read_table` says what is wrong
    if "subset" in names:
        ids = read_table(path, SPLIT)["clip_id"].combine_chunks()
        return IdList(ids, pa.repeat(pa.scalar("", pa.string()), len(ids)))
    clips = clips_of(read_table(path, CATALOG), path)
    return IdList(clips.column("clip_id").combine_chunks(), clips.column("label").combine_chunks())


def _from_json(path: Path) -> IdList:
    from avsl_data.sources.published import read_annotations

    clips = read_annotations(path)
    ids, labels = ([getattr(clip, name) for clip in clips] for name in ("clip_id", "label"))
    return IdList(pa.array(ids, pa.string()), pa.array(labels, pa.string()))


def read_vggsound_table(path: Path) -> pa.Table:
    """Read a file in vggsound.csv's format: video id, start seconds, label, split; no header.

    Parameters
    ----------
    path
        The CSV file.

    Returns
    -------
    pyarrow.Table
        Columns ``clip_id``, ``label`` and ``split`` in file order.

    Raises
    ------
    DataInputError
        If a line has not four columns, or its first two make no clip id.
    """
    from pyarrow import csv as arrow_csv

    content = _bytes_of(path)
    split_lines(content, path)
    names = ["video", "start", "label", "split"]
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(content.removeprefix(b"\xef\xbb\xbf")),
            arrow_csv.ReadOptions(column_names=names),
            arrow_csv.ParseOptions(),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise _table_fault(path, content) or DataInputError(f"{path} is no CSV table: {error}") from error
    good = pc.and_(
        pc.match_substring_regex(table["video"], r"\A[A-Za-z0-9_-]{1,64}\z"),
        pc.match_substring_regex(table["start"], r"\A[0-9]{1,6}\z"),
    )
    if not pc.all(good).as_py():
        raise _table_fault(path, content) or DataInputError(f"{path} is no table of clips")
    start = pc.utf8_lpad(table["start"], 6, "0")
    clip_id = pc.binary_join_element_wise(table["video"], start, "_")
    return pa.table([clip_id, table["label"], table["split"]], ["clip_id", "label", "split"])


def _table_fault(path: Path, content: bytes) -> DataInputError | None:
    """Find the first line that is not a row of vggsound.csv; slow, and only done when there is one."""
    lines, numbers = split_lines(content, path)
    for number, text in zip(numbers.tolist(), lines.to_pylist(), strict=True):
        try:
            row = next(csv.reader([text], strict=True))
            if len(row) == MAX_FIELDS and _DIGITS.fullmatch(row[1]):
                make_clip_id(row[0], int(row[1]))
                continue
        except csv.Error:
            row = [text]
        except DataInputError as error:
            return DataInputError(f"{path}, line {number}: {error}")
        return DataInputError(
            f"{path}, line {number}: expected video id, start seconds, label, split; "
            f"got {shown(','.join(row))}"
        )
    return None
