"""Values of Parquet files where they lie: the same bytes as a Parquet reader's, and damage is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsl_train.parquet_values import (
    MappedFile,
    NotPlainError,
    WrongChecksumError,
    chunk_of,
    read_hybrid,
    read_struct,
    read_varint,
)

TYPE = pa.schema([("frame", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("n", pa.int64())])


def write(path: Path, values: list[bytes | None], **options: Any) -> Path:
    rows = [{"frame": None if v is None else {"bytes": v, "path": None}, "n": 0} for v in values]
    settings = {"compression": "none", "write_page_checksum": True, **options}
    pq.write_table(pa.Table.from_pylist(rows, TYPE), path, **settings)
    return path


def read(path: Path) -> list[bytes | None]:
    """Return every value of the file, after its pages' checksums were checked."""
    mapped, metadata, found = MappedFile(path), pq.read_metadata(path), []
    for group in range(metadata.num_row_groups):
        chunk = chunk_of(metadata, group, "frame.bytes")
        assert chunk is not None
        values = mapped.values(chunk)
        rows = [
            row for page in dict.fromkeys(values.page_of(row) for row in range(chunk.rows)) for row in page[1]
        ]
        assert rows == list(range(chunk.rows))
        for page in [*values.pages, *filter(None, [values.dictionary])]:
            mapped.check(page)
        found += [None if place is None else mapped.read(place) for place in values.places]
    return found


@given(
    values=st.lists(
        st.one_of(st.none(), st.binary(max_size=40), st.sampled_from([b"", b"twice" * 30, b"x" * 3000])),
        min_size=1,
        max_size=60,
    ),
    rows=st.integers(1, 40),
    dictionary=st.booleans(),
    page=st.sampled_from([1, 200, 2**20]),
    batch=st.sampled_from([1, 7, 1024]),
    limit=st.sampled_from([64, 2**20]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_is_what_a_parquet_reader_gives(
    tmp_path: Path,
    values: list[bytes | None],
    rows: int,
    dictionary: bool,
    page: int,
    batch: int,
    limit: int,
) -> None:
    path = write(
        tmp_path / "a.parquet",
        values,
        row_group_size=rows,
        use_dictionary=dictionary,
        data_page_size=page,
        write_batch_size=batch,
        dictionary_pagesize_limit=limit,
    )
    assert read(path) == values


def test_what_is_not_stored_plainly_is_left_to_a_reader(tmp_path: Path) -> None:
    for options in ({"compression": "snappy"}, {"column_encoding": {"n": "PLAIN"}, "use_dictionary": False}):
        metadata = pq.read_metadata(write(tmp_path / "a.parquet", [b"a", None], **options))
        assert (chunk_of(metadata, 0, "frame.bytes") is None) == ("compression" in options)
        assert chunk_of(metadata, 0, "n") is None
        assert chunk_of(metadata, 0, "sound.bytes") is None
    lists = pa.table({"frame": pa.array([[b"a"], []], pa.list_(pa.binary()))})
    pq.write_table(lists, tmp_path / "b.parquet", compression="none")
    assert chunk_of(pq.read_metadata(tmp_path / "b.parquet"), 0, "frame.list.element") is None
    for options in (
        {"data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"frame.bytes": "DELTA_LENGTH_BYTE_ARRAY"}},
    ):
        path = write(tmp_path / "c.parquet", [b"a", None], **options)
        chunk = chunk_of(pq.read_metadata(path), 0, "frame.bytes")
        assert chunk is not None
        with pytest.raises(NotPlainError):
            MappedFile(path).values(chunk)


@pytest.mark.parametrize("dictionary", [True, False])
def test_no_changed_byte_of_a_column_goes_unnoticed(tmp_path: Path, dictionary: bool) -> None:
    """Whatever byte of the column's pages changes: its values are the same, or the damage is told."""
    values = [b"a frame", None, b"a sound", b"a frame", b""]
    path = write(tmp_path / "a.parquet", values, use_dictionary=dictionary)
    chunk = chunk_of(pq.read_metadata(path), 0, "frame.bytes")
    assert chunk is not None
    content, told = path.read_bytes(), 0
    for at in range(chunk.start, chunk.stop):
        for bit in (1, 0x80):
            damaged = bytearray(content)
            damaged[at] ^= bit
            (tmp_path / "b.parquet").write_bytes(damaged)
            try:
                assert read(tmp_path / "b.parquet") == values
            except (ValueError, NotPlainError):
                told += 1
    assert told > 0.7 * 2 * (chunk.stop - chunk.start)


def test_a_wrong_checksum_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [b"a frame of a clip"] * 2, use_dictionary=False)
    length = (17).to_bytes(4, "little")  # which stands before a value, and not before its copy in a header
    path.write_bytes(path.read_bytes().replace(length + b"a frame of", length + b"a frame or", 1))
    with pytest.raises(WrongChecksumError, match=r"wrong checksum of the page at byte \d+: .* instead of"):
        read(path)


def test_numbers_of_pages() -> None:
    assert read_varint(bytes([0xAC, 0x02]), 0) == (300, 2)
    assert read_hybrid(bytes([8, 5]), 0, 2, 3, 4) == [5, 5, 5, 5]
    with pytest.raises(ValueError, match="too few"):
        read_hybrid(bytes([2, 5]), 0, 2, 3, 4)
    fields, end = read_struct(bytes([0x15, 6, 0x11, 0x1C, 0x18, 2, 65, 66, 0, 0]), 0)
    assert (fields, end) == ({1: 3, 2: True, 3: {1: b"AB"}}, 10)
    with pytest.raises(ValueError, match="field of type 9"):
        read_struct(bytes([0x19, 0]), 0)
