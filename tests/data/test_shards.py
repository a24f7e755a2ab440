"""A shard that was damaged on the way is told with one message, wherever the damage is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avsl_data import schema
from avsl_data.__main__ import main
from avsl_data.errors import DataInputError
from avsl_data.files import sha256_of
from avsl_data.ledger import LedgerRow
from avsl_data.options import PreprocessOptions
from avsl_data.preprocess import write_shard
from avsl_data.shards import check_shard, recorded_digest, row_groups, shard_rows
from avsl_data.sources.source import CatalogClip


@pytest.fixture(scope="module")
def shard(make_video: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of three clips; tests must not change it."""
    root = tmp_path_factory.mktemp("shards")
    path = make_video(root / "a.mp4", 1)
    ledger = [
        LedgerRow(f"video{k}_000000", f"video{k}", str(path), "ok", None, None, sha256_of(path), 1.0, 1, "")
        for k in range(3)
    ]
    catalog = {
        row.clip_id: CatalogClip(row.clip_id, row.video_id, "folder:///x", 0, 1, "x", "test")
        for row in ledger
    }
    write_shard(root / "shards" / "0000.parquet", ledger, catalog, {}, PreprocessOptions(0.5))
    return root / "shards" / "0000.parquet"


def test_a_whole_shard(shard: Path) -> None:
    rows, digest = check_shard(shard)
    assert rows == 3
    assert digest == recorded_digest(shard)
    assert [row["clip_id"] for row in shard_rows(shard.parent, ["clip_id"])] == [
        "video0_000000",
        "video1_000000",
        "video2_000000",
    ]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_shard(share: float, shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    path = tmp_path / "0000.parquet"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataInputError, match=r"is no readable Parquet file .*: remove it and run"):
        check_shard(path)


def test_a_flipped_byte_anywhere_in_the_pages(shard: Path, tmp_path: Path) -> None:
    """It is told, unless it lies in what no row is made of, such as statistics: then nothing changed."""
    content, whole = shard.read_bytes(), check_shard(shard)
    path = tmp_path / "0000.parquet"
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    places = [*range(4, end, end // 40), *range(end - 1500, end, 11)]
    told = 0
    for at in places:
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            assert check_shard(path) == whole
        except DataInputError as error:
            told += 1
            assert "it and run `avsl-data preprocess` again" in str(error)  # noqa: PT017 - either may happen
    assert told > 0.6 * len(places)


def test_rows_that_were_changed_afterwards(shard: Path, tmp_path: Path) -> None:
    table = pq.read_table(shard)
    labels = pa.array(["another"] * 3)
    changed = table.set_column(table.schema.get_field_index("label"), "label", labels)
    path = tmp_path / "0000.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(changed)
        writer.add_key_value_metadata({schema.DIGEST_KEY: recorded_digest(shard)})
    with pytest.raises(DataInputError, match="does not hold the rows it was written with"):
        check_shard(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataInputError, match="recorded none"):
        check_shard(path)


def test_the_layout_does_not_matter(shard: Path, tmp_path: Path) -> None:
    table = pq.read_table(shard)
    path = tmp_path / "0000.parquet"
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=1)
        writer.add_key_value_metadata({schema.DIGEST_KEY: recorded_digest(shard)})
    assert check_shard(path) == check_shard(shard)


def test_another_version(shard: Path, tmp_path: Path) -> None:
    """The first version lacked columns; its name is what the message tells."""
    table = pq.read_table(shard, columns=["clip_id", "frame", "audio"])
    meta = {b"avsl": json.dumps({"schema": "avsl-shard/1"}).encode()}
    path = tmp_path / "0000.parquet"
    pq.write_table(table.replace_schema_metadata(meta), path)
    with pytest.raises(DataInputError, match=r"is of format avsl-shard/1, expected avsl-shard/2"):
        list(row_groups(path))


def test_the_command(shard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--shards", str(shard.parent)]) == 0
    assert capsys.readouterr().out == f"{shard}: 3 rows, digest {recorded_digest(shard)}\n"
    content = shard.read_bytes()
    (tmp_path / "0000.parquet").write_bytes(content)
    (tmp_path / "0001.parquet").write_bytes(content[:-200] + bytes(200))
    assert main(["check", "--shards", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "0000.parquet: 3 rows" in said.out
    assert said.err.count("\n") == 1
    assert "0001.parquet" in said.err
