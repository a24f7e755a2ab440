"""Readers of predictions: every format gives back the same maps, in little memory."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from avsl_eval.errors import EvalInputError
from avsl_eval.evaluate import evaluate_all
from avsl_eval.extras import need
from avsl_eval.predictions import CHUNK_BYTES, checked_heatmap, open_predictions

IDS = ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040", "ccccccccccc_000000", "ddddddddddd_000001", "e"]
RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(5, 6, 9)).astype(np.float32)
STACKS = RNG.normal(size=(5, 3, 6, 9)).astype(np.float32)
CONFIDENCE = [0.5, -1.0, 2.0, 0.0, 7.25]

Write = Callable[[Path, np.ndarray, bool], Path]


def npz(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    more = {"confidence": np.array(CONFIDENCE)} if confidence else {}
    np.savez_compressed(folder / "p.npz", clip_id=np.array(IDS), heatmap=maps, **more)
    return folder / "p.npz"


def npz_stored(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    more = {"confidence": np.array(CONFIDENCE)} if confidence else {}
    np.savez(folder / "p.npz", clip_id=np.array(IDS, "S"), heatmap=np.asfortranarray(maps), **more)
    return folder / "p.npz"


def write_confidence(folder: Path) -> None:
    with (folder / "confidence.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clip_id", "confidence"), *zip(IDS, CONFIDENCE, strict=True)])


def npy(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    for clip_id, heatmap in zip(IDS, maps, strict=True):
        np.save(folder / f"{clip_id}.npy", heatmap)
    if confidence:
        write_confidence(folder)
    return folder


def hdf5(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    with h5py.File(folder / "p.h5", "w") as file:
        file["clip_id"] = IDS
        file.create_dataset("heatmap", data=maps, chunks=(2, *maps.shape[1:]), compression="gzip")
        if confidence:
            file["confidence"] = CONFIDENCE
    return folder / "p.h5"


def hdf5_fixed_text(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    with h5py.File(folder / "p.h5", "w") as file:
        file["clip_id"], file["heatmap"] = np.array(IDS, "S"), maps
        if confidence:
            file["confidence"] = CONFIDENCE
    return folder / "p.h5"


def hdf5_one_by_one(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    assert not confidence, "this layout has no place for confidences"
    with h5py.File(folder / "p.h5", "w") as file:
        for clip_id, heatmap in zip(IDS, maps, strict=True):
            file[clip_id] = heatmap
    return folder / "p.h5"


def columns(maps: np.ndarray, confidence: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"clip_id": IDS, "heatmap": [m.tolist() for m in maps], "other": list("abcde")}
    return found | ({"confidence": CONFIDENCE} if confidence else {})


def parquet(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    pq.write_table(pa.table(columns(maps, confidence)), folder / "p.parquet", row_group_size=2)
    return folder / "p.parquet"


def parquet_flat(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    table = columns(maps, confidence) | {
        "heatmap": [m.ravel() for m in maps],
        "shape": [list(m.shape) for m in maps],
    }
    pq.write_table(pa.table(table), folder / "p.parquet")
    return folder / "p.parquet"


def parquet_shards(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    table = pa.table(columns(maps, confidence))
    pq.write_table(table.slice(0, 3), folder / "0.parquet")
    pq.write_table(table.slice(3), folder / "1.parquet")
    return folder


def parquet_fixed(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    kind: pa.DataType = pa.float32()
    for length in maps.shape[:0:-1]:
        kind = pa.list_(kind, length)
    table = pa.table(columns(maps, confidence))
    table = table.set_column(1, "heatmap", pa.array([m.tolist() for m in maps], kind))
    pq.write_table(table, folder / "p.parquet")
    return folder / "p.parquet"


def saved_dataset(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns(maps, confidence)).save_to_disk(folder / "d", num_shards=2)
    return folder / "d"


def saved_dataset_array2d(folder: Path, maps: np.ndarray, confidence: bool) -> Path:
    import datasets

    datasets.disable_progress_bars()
    kind = {3: datasets.Array2D, 4: datasets.Array3D}[maps.ndim]
    table = columns(maps, confidence)
    features = datasets.Features(
        {"clip_id": datasets.Value("string"), "heatmap": kind(maps.shape[1:], "float32")}
        | {"other": datasets.Value("string")}
        | ({"confidence": datasets.Value("float64")} if confidence else {})
    )
    datasets.Dataset.from_dict(table, features=features).save_to_disk(folder / "d")
    return folder / "d"


FORMATS: list[Write] = [
    npz,
    npz_stored,
    npy,
    hdf5,
    hdf5_fixed_text,
    hdf5_one_by_one,
    parquet,
    parquet_flat,
    parquet_shards,
    parquet_fixed,
    saved_dataset,
    saved_dataset_array2d,
]


@pytest.mark.parametrize("write", FORMATS, ids=lambda f: f.__name__)
def test_every_format_gives_the_maps_back(write: Write, tmp_path: Path) -> None:
    predictions = open_predictions(write(tmp_path, MAPS, False))
    # Files of a folder and datasets of a file are listed by name.
    assert sorted(predictions.clip_ids) == sorted(IDS)
    assert predictions.confidence is None
    found = {i: m for ids, maps in predictions.chunks(IDS) for i, m in zip(ids, maps, strict=True)}
    for clip_id, expected in zip(IDS, MAPS, strict=True):
        assert found[clip_id].dtype == np.float32
        np.testing.assert_array_equal(found[clip_id], expected)
    some = [ids for ids, _ in predictions.chunks([IDS[1], IDS[3], "stranger"], size=1)]
    assert sorted(map(tuple, some)) == sorted([(IDS[1],), (IDS[3],)])
    for clip_id, stack in predictions.stacks(IDS):
        np.testing.assert_array_equal(stack, MAPS[IDS.index(clip_id)][None])


@pytest.mark.parametrize("write", FORMATS, ids=lambda f: f.__name__)
def test_every_format_has_stacks_of_several_sources(write: Write, tmp_path: Path) -> None:
    predictions = open_predictions(write(tmp_path, STACKS, False))
    found = dict(predictions.stacks(IDS))
    for clip_id, expected in zip(IDS, STACKS, strict=True):
        np.testing.assert_array_equal(found[clip_id], expected)
    with pytest.raises(EvalInputError, match="are these 3 sources"):
        list(predictions.chunks(IDS))


@pytest.mark.parametrize("write", [f for f in FORMATS if f is not hdf5_one_by_one], ids=lambda f: f.__name__)
def test_every_format_has_confidences(write: Write, tmp_path: Path) -> None:
    predictions = open_predictions(write(tmp_path, MAPS, True))
    assert predictions.confidence == dict(zip(IDS, CONFIDENCE, strict=True))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 3)])
def test_pictures(suffix: str, tolerance: int, tmp_path: Path) -> None:
    y, x = np.mgrid[:16, :24]
    values = {clip_id: ((x + y + i) * 5).astype(np.uint8) for i, clip_id in enumerate(IDS)}
    for clip_id, pixels in values.items():
        Image.fromarray(pixels).save(tmp_path / f"{clip_id}{suffix}", quality=100)
    write_confidence(tmp_path)
    predictions = open_predictions(tmp_path)
    assert "tie at a threshold" in predictions.notes[0]
    assert predictions.confidence == dict(zip(IDS, CONFIDENCE, strict=True))
    for ids, maps in predictions.chunks(IDS):
        for clip_id, heatmap in zip(ids, maps, strict=True):
            np.testing.assert_allclose(heatmap * 255, values[clip_id], atol=tolerance + 1e-4)


def test_pictures_of_16_and_1_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535, 32768]], np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.array([[False, True, True]])).save(tmp_path / "b.png")
    found = {
        i: m
        for ids, maps in open_predictions(tmp_path).chunks(["a", "b"])
        for i, m in zip(ids, maps, strict=True)
    }
    np.testing.assert_allclose(found["a"], [[0, 1, 32768 / 65535]], rtol=1e-6)
    np.testing.assert_array_equal(found["b"], [[0, 1, 1]])


def test_a_chunk_of_large_maps_is_small() -> None:
    side = 2400
    assert side * side * 4 * 2 > CHUNK_BYTES
    maps = {i: np.zeros((side, side), np.float32) for i in IDS[:3]}
    assert [ids for ids, _ in open_predictions(maps).chunks(IDS)] == [[i] for i in IDS[:3]]


def test_a_missing_package_is_named() -> None:
    with pytest.raises(EvalInputError, match=r"needs nowhere.*pip install 'avsl-toolkit\[extra\]'"):
        need("nowhere.at_all", "extra", "this")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8, bool])
def test_numbers_of_any_type_are_maps(dtype: Any) -> None:
    assert checked_heatmap(np.ones((2, 2), dtype), "a", "t").dtype == np.float32


# The peak of this process alone: ru_maxrss of a child begins with its parent's.
MEASURE = """
import re, sys
from avsl_eval.predictions import open_predictions
p = open_predictions(sys.argv[1])
n = sum(len(ids) for ids, _ in p.chunks(p.clip_ids))
print(n, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def write_large(folder: Path, kind: str, n: int) -> Path:
    """Write n maps of 224 x 224, in little memory too."""
    ids, rng = [f"clip_{i:06d}" for i in range(n)], np.random.default_rng(0)
    if kind == "npz":
        np.savez(folder / "p.npz", clip_id=np.array(ids), heatmap=rng.random((n, 224, 224), np.float32))
        return folder / "p.npz"
    if kind == "hdf5":
        with h5py.File(folder / "p.h5", "w") as file:
            file["clip_id"], file["heatmap"] = ids, rng.random((n, 224, 224), np.float32)
        return folder / "p.h5"
    values = pa.array(rng.random(n * 224 * 224, np.float32))
    maps = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(values, 224), 224)
    pq.write_table(pa.table({"clip_id": ids, "heatmap": maps}), folder / "p.parquet", row_group_size=n)
    return folder / "p.parquet"


@pytest.mark.parametrize("kind", ["npz", "hdf5", "parquet"])
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path) -> None:
    path = write_large(tmp_path, kind, 1200)  # 240 MB of float32
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    n, megabytes = map(int, done.stdout.split())
    assert n == 1200
    assert megabytes < 230, f"{kind} took {megabytes} MB"


def test_meta_is_passed_on(tmp_path: Path) -> None:
    meta = np.array(json.dumps({"model": "x"}))
    np.savez(tmp_path / "p.npz", clip_id=np.array(IDS), heatmap=MAPS, meta=meta)
    assert open_predictions(tmp_path / "p.npz").meta == {"model": "x"}


def test_confidences_and_notes_reach_the_scores(tmp_path: Path) -> None:
    boxes = {clip_id: [[0.0, 0.0, 0.5, 1.0]] for clip_id in IDS[:3]} | {IDS[3]: [], IDS[4]: []}
    for clip_id in IDS:
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / f"{clip_id}.png")
    write_confidence(tmp_path)
    scores = evaluate_all(tmp_path, boxes, ["fixed", "slavc"])
    assert scores["fixed"].columns["confidence"] == CONFIDENCE
    assert scores["slavc"].columns["confidence"] != CONFIDENCE  # that rule says itself what confidence is
    assert any("read from pictures" in sentence for sentence in scores["fixed"].evaluation.warnings)


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_constant_maps_compress_well_and_are_no_bomb(kind: str, tmp_path: Path) -> None:
    ids, maps = [f"clip_{i}" for i in range(300)], np.zeros((300, 224, 224), np.float32)
    if kind == "npz":
        path = tmp_path / "p.npz"
        np.savez_compressed(path, clip_id=np.array(ids), heatmap=maps)
    else:
        path = tmp_path / "p.h5"
        with h5py.File(path, "w") as file:
            file["clip_id"] = ids
            file.create_dataset(
                "heatmap", data=maps, chunks=(20, 224, 224), compression="gzip", compression_opts=9
            )
    assert path.stat().st_size < maps.nbytes / 500
    assert sum(len(part) for part, _ in open_predictions(path).chunks(ids)) == 300
