"""The dataset folder: `datasets` opens it in a fresh process, and it says what is missing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from avsl_data import schema
from avsl_data.__main__ import main
from avsl_data.errors import DataInputError
from avsl_data.hub import HubConfig, replacing_folder, write_folder
from avsl_data.hub_dataset import write_dataset
from avsl_data.ledger import LedgerRow
from avsl_data.options import PreprocessOptions
from avsl_data.preprocess import write_shard
from avsl_data.sources.source import CatalogClip

CLASSES = ("dog, barking", "cat")
BOXES = [[0.25, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 0.75]]


@pytest.fixture(scope="module")
def world(make_video: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of eleven clips, one of them damaged, with two splits; tests must not change it."""
    from avsl_data.files import sha256_of

    root = tmp_path_factory.mktemp("hub")
    ledger: list[LedgerRow] = []
    catalog: dict[str, CatalogClip] = {}
    for number in range(12):
        clip_id = f"video{number:06d}_000000"
        path = make_video(root / "clips" / f"{clip_id}.mp4", 1, size=(48, 64), tone=0.1 + number / 30)
        row = LedgerRow(clip_id, clip_id[:-7], str(path), "ok", None, None, sha256_of(path), 1.0, 1, "")
        if number == 5:
            row = LedgerRow(clip_id, clip_id[:-7], None, "failed", "gone", "404, gone", None, None, 1, "")
        ledger.append(row)
        label = CLASSES[number % 2] if number != 9 else ""
        catalog[clip_id] = CatalogClip(clip_id, clip_id[:-7], "folder:///x", 0.0, 1.0, label, "test")
    boxes = dict.fromkeys(list(catalog)[:6], BOXES) | {list(catalog)[6]: []}
    for shard, rows in enumerate((ledger[:6], ledger[6:11])):  # the twelfth clip was never prepared
        options = PreprocessOptions(0.5, frame_times_s=(0.0, 0.9))
        write_shard(root / "shards" / f"{shard:04d}.parquet", rows, catalog, boxes, options)  # type: ignore[arg-type]
    ids = list(catalog)
    semi = [(clip_id, ("labeled", "unlabeled", "test")[number % 3]) for number, clip_id in enumerate(ids)]
    about = {"recipe": "mine", "seed": 3, "params": {}, "removed": {"leak": ["a", "b"]}}
    _split(root / "splits" / "semi.parquet", semi, about)
    _split(
        root / "splits" / "two.parquet",
        [(clip_id, "test" if n < 4 else "train") for n, clip_id in enumerate(ids)],
    )
    return root


def _split(path: Path, rows: list[tuple[str, str]], about: dict[str, Any] | None = None) -> None:
    records = [{"clip_id": clip_id, "subset": subset} for clip_id, subset in rows]
    schema.write_rows(path, schema.SPLIT, records, about or {})


def _shard_rows(world: Path) -> dict[str, dict[str, Any]]:
    table = pa.concat_tables(pq.read_table(path) for path in sorted((world / "shards").iterdir()))
    return {row["clip_id"]: row for row in table.to_pylist()}


LOAD = """
import hashlib, io, json, sys
import numpy as np
import datasets, soundfile
folder, config, cache, streaming = sys.argv[1:]
found = {}
for split in datasets.get_dataset_split_names(folder, config):
    data = datasets.load_dataset(folder, config, split=split, cache_dir=cache, streaming=streaming == "yes")
    data = data.cast_column("audio", datasets.Audio(decode=False))
    label = data.features["label"]
    for row in data:
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        found[row["clip_id"]] = {
            "split": split,
            "pixels": hashlib.sha256(np.asarray(row["frame"]).tobytes()).hexdigest(),
            "further": [hashlib.sha256(np.asarray(frame).tobytes()).hexdigest() for frame in row["frames"]],
            "samples": [rate, hashlib.sha256(samples.tobytes()).hexdigest()],
            "boxes": row["boxes"],
            "label": None if row["label"] is None else label.int2str(row["label"]),
            "fps": row["source"]["fps"],
        }
print(json.dumps({"rows": found, "names": label.names, "configs": datasets.get_dataset_config_names(folder)}))
"""


def _fresh(code: str, *arguments: object) -> Any:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as home:
        changes = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": home}
        environment = {**os.environ, **changes}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("streaming", ["no", "yes"])
def test_datasets_gives_what_the_shards_hold(streaming: str, world: Path, tmp_path: Path) -> None:
    splits = [world / "splits" / "semi.parquet", world / "splits" / "two.parquet"]
    write_dataset(tmp_path / "hub", world / "shards", splits, max_file_mb=0.001)
    assert len(list((tmp_path / "hub" / "data").iterdir())) >= 6  # labeled, unlabeled, test x test, train
    stored = _shard_rows(world)
    for config, path in zip(("semi", "two"), splits, strict=True):
        got = _fresh(LOAD, tmp_path / "hub", config, tmp_path / "cache", streaming)
        subset = {row["clip_id"]: row["subset"] for row in pq.read_table(path).to_pylist()}
        assert got["configs"] == ["semi", "two"]
        assert got["names"] == sorted(CLASSES)
        assert set(got["rows"]) == {clip_id for clip_id, row in stored.items() if row["status"] == "ok"}
        for clip_id, row in got["rows"].items():
            truth = stored[clip_id]
            assert row["split"] == subset[clip_id]
            assert row["pixels"] == _pixels(truth["frame"])
            assert row["further"] == [_pixels(frame) for frame in truth["frames"]]
            samples, rate = soundfile.read(io.BytesIO(truth["audio"]["bytes"]), dtype="int16")
            assert row["samples"] == [rate, _digest(samples.tobytes())]
            assert row["boxes"] == truth["boxes"]
            assert row["label"] == (truth["label"] or None)
            assert row["fps"] == pytest.approx(10)


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _pixels(file: dict[str, bytes]) -> str:
    return _digest(np.asarray(Image.open(io.BytesIO(file["bytes"]))).tobytes())


TORCH = """
import json, sys
import datasets
data = datasets.load_dataset(sys.argv[1], split="test", cache_dir=sys.argv[2])
data = data.remove_columns("audio").with_format("torch")
row = data[0]
shapes = [list(row["frame"].shape), [list(box.shape) for box in row["boxes"]]]
print(json.dumps([str(row["frame"].dtype), *shapes, str(row["label"].dtype), float(row["boxes"][0][2])]))
"""


def test_torch_format(world: Path, tmp_path: Path) -> None:
    """Pictures are uint8 [3, H, W], boxes float32 rows, labels int64; the first config is the default one."""
    write_dataset(tmp_path / "hub", world / "shards", [world / "splits" / "two.parquet"])
    assert _fresh(TORCH, tmp_path / "hub", tmp_path / "cache") == [
        "torch.uint8", [3, 48, 64], [[4], [4]], "torch.int64", 0.5
    ]  # fmt: skip


def test_the_lines_in_the_card_and_the_docs_run(world: Path, tmp_path: Path, repository: Path) -> None:
    write_dataset(tmp_path / "hub", world / "shards", [world / "splits" / "two.parquet"])
    card = (tmp_path / "hub" / "README.md").read_text()
    docs = (repository / "docs" / "hub.md").read_text(encoding="utf-8")
    shown = {"print(json.dumps([rate, len(samples), row['frame'].size]))"}
    for text, place, config in (
        (card, "FOLDER or USER/NAME", "two"),
        (docs, "data/vggss/hub", "vggss-semi"),
    ):
        code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
        assert place in code
        code = code.replace(place, str(tmp_path / "hub")).replace(f'"{config}"', '"two"')
        rate, length, size = _fresh("\n".join(["import json", code, *shown]))
        assert (rate, size) == (16000, [64, 48])
        assert length == pytest.approx(16000, abs=1100)


def test_what_is_missing_is_listed_and_counted(world: Path, tmp_path: Path) -> None:
    _, contents = write_dataset(tmp_path / "hub", world / "shards", [world / "splits" / "semi.parquet"])
    with (tmp_path / "hub" / "exclusions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["clip_id"], row["split"], row["reason"], row["detail"]) for row in rows] == [
        ("video000005_000000", "test", "gone", "404, gone"),
        ("video000011_000000", "test", "not_prepared", "it is in no shard"),
    ]
    assert contents.counts == {"semi": {"labeled": 4, "test": 2, "unlabeled": 4}}
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "| semi | test | 2 | 2 |" in card
    assert "gone 1, not_prepared 1" in card
    assert '`{"leak": 2}`' in card
    assert "xyxy" in card


def test_annotations_replace_the_boxes_and_are_copied(world: Path, tmp_path: Path) -> None:
    clip_id = "video000000_000000"
    annotations = {
        "schema": "avsl-annotations/1",
        "dataset": "vggss",
        "subset": None,
        "truth": "union",
        "clips": [{"clip_id": clip_id, "label": "cat", "boxes": [[0, 0, 0.5, 0.5]]}],
        "dropped": [{"clip_id": clip_id, "box": [0, 0, 0, 1], "why": "no area"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    facts, contents = write_dataset(tmp_path / "hub", world / "shards", [], tmp_path / "a.json", name="Mine")
    assert (facts.source, facts.passes_on_videos, contents.boxes) == ("vggss", True, 1)
    table = pq.read_table(tmp_path / "hub" / "data")
    boxes = dict(zip(table["clip_id"].to_pylist(), table["boxes"].to_pylist(), strict=True))
    assert boxes[clip_id] == [[0, 0, 0.5, 0.5]]
    assert boxes["video000001_000000"] is None
    assert json.loads((tmp_path / "hub" / "annotations.json").read_text()) == annotations
    card = (tmp_path / "hub" / "README.md").read_text()
    for text in (
        "# Mine",
        "1 published boxes were dropped: no area",
        "chen2021localizing",
        "belong to their uploaders",
    ):
        assert text in card


def test_metadata_only_has_every_clip_and_no_media(world: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub", world / "shards", [world / "splits" / "two.parquet"], metadata_only=True)
    table = pq.read_table(tmp_path / "hub" / "data")
    assert not {"frame", "frames", "audio"} & set(table.column_names)
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    assert len(rows) == 11
    assert (rows["video000005_000000"]["status"], rows["video000005_000000"]["reason"]) == ("failed", "gone")
    assert sum(path.stat().st_size for path in (tmp_path / "hub").rglob("*.parquet")) < 60_000
    got = _fresh(METADATA, tmp_path / "hub", tmp_path / "cache")
    assert got == {"test": 4, "train": 7}


METADATA = """
import json, sys, datasets
data = datasets.load_dataset(sys.argv[1], "two", cache_dir=sys.argv[2])
print(json.dumps({name: len(split) for name, split in data.items()}))
"""


def test_a_clip_in_two_subsets_is_stored_once(world: Path, tmp_path: Path) -> None:
    ids = sorted(_shard_rows(world))
    both = HubConfig("leaky", {ids[0]: ("test", "train"), ids[1]: ("train",)})
    contents = write_folder(tmp_path / "hub", world / "shards", [both], None, lambda _: "")
    assert contents.counts == {"leaky": {"test": 1, "train": 2}}
    assert contents.clips == 2
    assert contents.files["leaky"] == {
        "test": ["data/test+train-00000.parquet"],
        "train": ["data/test+train-00000.parquet", "data/train-00000.parquet"],
    }


def test_the_same_input_gives_the_same_folder(world: Path, tmp_path: Path) -> None:
    splits = [world / "splits" / "semi.parquet"]
    for name in ("a", "b", "a"):  # the third one replaces the first
        write_dataset(tmp_path / name, world / "shards", splits, name="x")
    files = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    ]
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_of_somebody_else_is_left_alone(world: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(DataInputError, match="was not written by this command"):
        write_dataset(tmp_path / "precious", world / "shards", [])

    def fail() -> None:
        with replacing_folder(tmp_path / "new") as folder:
            (folder / "half").write_text("x")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == ["precious", "thesis.tex"]


def test_bad_input_has_one_message(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split, shards, out = world / "splits" / "two.parquet", world / "shards", tmp_path / "out"
    (tmp_path / "empty").mkdir()
    _split(tmp_path / "all.parquet", [("video000000_000000", "all")])
    _split(tmp_path / "other.parquet", [("stranger000_000000", "test")])
    _split(tmp_path / "copy" / "two.parquet", [("video000000_000000", "test")])
    cases = {
        "holds no shards": ("--shards", tmp_path / "empty"),
        "does not exist: run `avsl-data split`": ("--shards", shards, "--split", tmp_path / "no.parquet"),
        "cannot be a split's name": ("--shards", shards, "--split", tmp_path / "all.parquet"),
        "there is nothing to write": ("--shards", shards, "--split", tmp_path / "other.parquet"),
        "two split files are called two": (
            *("--shards", shards, "--split", split, "--split", tmp_path / "copy" / "two.parquet"),
        ),
        "unknown source 'vgss': did you mean 'vggss'": ("--shards", shards, "--source", "vgss"),
        "--max-file-mb 0.0 is no size": ("--shards", shards, "--max-file-mb", 0),
        "--public says how to push": ("--shards", shards, "--public"),
        "is no readable JSON": ("--shards", shards, "--annotations", tmp_path / "no.json"),
    }
    for message, arguments in cases.items():
        assert main(["hub", *map(str, arguments), "--out", str(out)]) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not out.exists()


def test_the_command(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = str(world / "splits" / "semi.parquet")
    arguments = ["hub", "--shards", str(world / "shards"), "--split", split, "--out", str(tmp_path / "hub")]
    assert main(arguments) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'hub'}: 10 clips, 10 boxes, 2 classes; 2 left out\n"
        "semi: labeled 4, test 2, unlabeled 4\n"
    )
