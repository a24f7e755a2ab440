"""Damage valid files of every format and look at what the readers make of them.

Usage: python tests/eval/fuzz_readers.py [--seconds 60] [--seed 0] [--kinds npz,coco,...] [--memory-gb 3]

Every input is either read or refused by an `EvalInputError`, in bounded time and memory; anything else is a
fault, printed with the numbers that make it again. Inputs run in a child process with an address-space limit,
so that a crash or a hang of a library is found and not fatal. Exit status 1 if there is a fault.

Each input is a valid file after one to four random changes: bits, bytes, numbers and keywords exchanged,
ranges cut, doubled or taken from another file. Archives are also packed anew around changed members, with
correct checksums, so that changes get past them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from avsl_eval.annotations.coco import coco_images
from avsl_eval.check import check
from avsl_eval.errors import EvalInputError
from avsl_eval.predictions import open_predictions
from avsl_eval.truth import read_annotations

IDS = ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040", "ccccccccccc_000000"]
SLOWEST_S = 10.0
"""Seconds that one small input may take."""
HANG_S = 40.0
LONGEST_MESSAGE = 2000
LARGEST_MB = 500
"""What a process may grow to; it begins with about 100 MB."""

MAPS = np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)
INTERESTING = [
    b"\x00",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x04",
]
TOKENS = [
    b"-1",
    b"0",
    b"99999999999",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b"[[[[",
    b"\\u0000",
]
TOKENS += [
    b"4097",
    b"'|O'",
    b"'<f8'",
    b"'<U9'",
    b"'<M8[s]'",
    b"True",
    b"(5,)",
    b"(-3, 5, 7)",
    b"<!DOCTYPE a>",
]


@dataclass(frozen=True)
class Kind:
    """One format: its valid file, what is changed in it, and how it is read."""

    write: Callable[[Path], Path]
    read: Callable[[Path], None]


def read_predictions(path: Path) -> None:
    predictions = open_predictions(path)
    wanted = set(predictions.clip_ids)
    refusals = []
    for read in (predictions.chunks, predictions.stacks):
        try:
            for _, maps in read(wanted):
                assert np.isfinite(maps).all()
        except EvalInputError as refusal:
            refusals.append(refusal)
    problems = check(path).problems
    if refusals:
        assert problems, f"check finds no problem: {refusals[0]}"
        raise refusals[0]


def read_truth(path: Path) -> None:
    annotations = read_annotations(path)
    for clip in annotations.clips[:5]:
        levels = clip.levels(32, annotations.truth)
        assert levels.shape == (32, 32)
        assert levels.max() <= annotations.unit
        for source in clip.sources[:5]:
            source.levels(32, annotations.truth)
    annotations.digest()


def read_coco(path: Path) -> None:
    read_truth(path)
    coco_images(path)


def read_lists(path: Path) -> None:
    boxes = {clip_id: [[0, 0, 1, 1]] for clip_id in IDS}
    name = {"silent.csv": "extended", "only.txt": "only"}[path.name]
    read_annotations(boxes, **{name: path})


def npz(folder: Path) -> Path:
    np.savez_compressed(folder / "p.npz", clip_id=np.array(IDS), heatmap=MAPS)
    return folder / "p.npz"


def npz_all(folder: Path) -> Path:
    more = {"confidence": np.arange(3.0), "meta": np.array('{"a": [1]}')}
    np.savez(folder / "p.npz", clip_id=np.array(IDS, "S"), heatmap=np.asfortranarray(MAPS), **more)
    return folder / "p.npz"


def npy(folder: Path) -> Path:
    for clip_id, heatmap in zip(IDS, MAPS, strict=True):
        np.save(folder / f"{clip_id}.npy", heatmap)
    (folder / "confidence.csv").write_text("clip_id,confidence\n" + "".join(f"{i},1.5\n" for i in IDS))
    return folder


def pictures(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for clip_id, heatmap in zip(IDS, MAPS, strict=True):
            Image.fromarray((255 * heatmap).astype(np.uint8)).save(folder / f"{clip_id}{suffix}")
        return folder

    return write


def hdf5(folder: Path) -> Path:
    with h5py.File(folder / "p.h5", "w") as file:
        file["clip_id"], file["confidence"] = IDS, np.arange(3.0)
        file.create_dataset("heatmap", data=MAPS, chunks=(2, 5, 7), compression="gzip")
    return folder / "p.h5"


def hdf5_one_by_one(folder: Path) -> Path:
    with h5py.File(folder / "p.h5", "w") as file:
        for clip_id, heatmap in zip(IDS, MAPS, strict=True):
            file[clip_id] = heatmap
    return folder / "p.h5"


def parquet(folder: Path) -> Path:
    table = {"clip_id": IDS, "heatmap": [m.tolist() for m in MAPS], "confidence": [1.0, 2.0, 3.0]}
    pq.write_table(pa.table(table), folder / "p.parquet", row_group_size=2)
    return folder / "p.parquet"


def parquet_flat(folder: Path) -> Path:
    table = {"clip_id": IDS, "heatmap": [m.ravel() for m in MAPS], "shape": [[5, 7]] * 3}
    pq.write_table(pa.table(table), folder / "p.parquet", compression="none", use_dictionary=False)
    return folder / "p.parquet"


def saved_dataset(folder: Path) -> Path:
    table = pa.table({"clip_id": IDS, "heatmap": [m.tolist() for m in MAPS]})
    with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return folder


def ours(folder: Path) -> Path:
    rle = {"size": [4, 4], "counts": "0444"}
    clips = [
        {"clip_id": IDS[0], "label": "x", "boxes": [[0, 0, 0.5, 1]], "group": "g"},
        {"clip_id": IDS[1], "mask": {"size": [2, 2], "counts": [1, 2, 1]}},
        {"clip_id": IDS[2], "sources": [{"label": "y", "boxes": [[0, 0, 1, 1]]}, {"mask": rle}]},
        {"clip_id": "d", "silent": "noise"},
    ]
    dropped = [{"clip_id": IDS[0], "box": [0, 0, 0, 0], "why": "covers nothing"}]
    content = {"schema": "avsl-annotations/1", "truth": "mask", "clips": clips, "dropped": dropped}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def vggss(folder: Path) -> Path:
    rows = [{"file": i, "class": "x", "bbox": [[0.1, 0.2, 0.5, 0.9]]} for i in IDS]
    (folder / "vggss.json").write_text(json.dumps(rows))
    return folder / "vggss.json"


def flickr(folder: Path) -> Path:
    box = "<bbox><name>o</name><a>10</a><b>20</b><c>100</c><d>200</d></bbox>"
    for clip_id in IDS:
        (folder / f"{clip_id}.xml").write_text(f"<r><a>{box}{box}</a><a>{box}</a></r>")
    return folder


def coco(folder: Path) -> Path:
    images = [{"id": k, "file_name": f"{i}.jpg", "width": 9, "height": 7} for k, i in enumerate(IDS)]
    shapes = [[[1, 1, 6, 1, 6, 5]], {"size": [7, 9], "counts": [10, 20, 33]}, []]
    annotations = [
        {"image_id": k, "category_id": 1, "bbox": [1, 1, 5, 4], "segmentation": shapes[k]} for k in range(3)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def pixel_list(folder: Path) -> Path:
    rows = [
        {"image": f"/x/COCO_AV/{i}.jpg", "audio": "a.wav", "gt_box": [3.0, 4.0, 90.0, 224.0]} for i in IDS
    ]
    (folder / "vpo.json").write_text(json.dumps(rows))
    return folder / "vpo.json"


def silent(folder: Path) -> Path:
    rows = [f"{IDS[0]},{IDS[1]},non-sounding", "z,z,non-sounding"]
    (folder / "silent.csv").write_text("\n".join(["video,audio,label", *rows]))
    return folder / "silent.csv"


def only(folder: Path) -> Path:
    (folder / "only.txt").write_text(f"{IDS[0]}.jpg\nccccccccccc_0_10000\n")
    return folder / "only.txt"


KINDS = {
    "npz": Kind(npz, read_predictions),
    "npz_all": Kind(npz_all, read_predictions),
    "npy": Kind(npy, read_predictions),
    "png": Kind(pictures(".png"), read_predictions),
    "jpg": Kind(pictures(".jpg"), read_predictions),
    "hdf5": Kind(hdf5, read_predictions),
    "hdf5_one_by_one": Kind(hdf5_one_by_one, read_predictions),
    "parquet": Kind(parquet, read_predictions),
    "parquet_flat": Kind(parquet_flat, read_predictions),
    "saved_dataset": Kind(saved_dataset, read_predictions),
    "ours": Kind(ours, read_truth),
    "vggss": Kind(vggss, read_truth),
    "flickr": Kind(flickr, read_truth),
    "coco": Kind(coco, read_coco),
    "pixel_list": Kind(pixel_list, read_truth),
    "masks": Kind(pictures(".png"), read_truth),
    "silent": Kind(silent, read_lists),
    "only": Kind(only, read_lists),
}


def mutate(content: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Change a file in one to four places."""
    data = bytearray(content)
    small = rng.random() < 0.5  # half of the inputs are one small change, which gets further into a reader
    for _ in range(1 if small else int(rng.integers(1, 5))):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 2 + len(data) // 4))
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?|[A-Za-z_|<]\w+", data))
        match int(rng.choice([0, 1, 2, 7]) if small else rng.integers(9)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2:
                value = INTERESTING[int(rng.integers(len(INTERESTING)))]
                data[at : at + len(value)] = value
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length] * int(rng.integers(1, 4))
            case 5:
                del data[at:]
            case 6:
                other = others[int(rng.integers(len(others)))]
                start = int(rng.integers(len(other)))
                data[at : at + length] = other[start : start + length]
            case _ if numbers:
                found = numbers[int(rng.integers(len(numbers)))]
                data[found.start() : found.end()] = TOKENS[int(rng.integers(len(TOKENS)))]
    return bytes(data)


def mutate_members(content: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Change one member of a zip archive and pack it anew."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w") as new:
        names = archive.namelist()
        changed = names[int(rng.integers(len(names)))]
        for name in names:
            data = archive.read(name)
            new.writestr(name, mutate(data, rng, others) if name == changed else data)
    return out.getvalue()


def run_input(name: str, seeds: Path, place: Path, number: list[int], others: list[bytes]) -> str:
    """Make one input and read it; return how it ended."""
    rng = np.random.default_rng(number)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(seeds / name, place)
    files = sorted(p for p in place.iterdir() if p.is_file())
    victim = files[int(rng.integers(len(files)))]
    content = victim.read_bytes()
    packed = victim.suffix == ".npz" and rng.random() < 0.6
    victim.write_bytes((mutate_members if packed else mutate)(content, rng, others))
    entry = place if len(files) > 1 else victim
    started, peak = time.monotonic(), peak_mb()
    message = ""
    try:
        KINDS[name].read(entry)
    except EvalInputError as refusal:
        message = str(refusal) or "(empty)"
    assert "\n" not in message, f"a message of several lines: {message}"
    assert len(message) < LONGEST_MESSAGE, f"a message of {len(message)} characters: {message}"
    if (took := time.monotonic() - started) > SLOWEST_S:
        raise TimeoutError(f"took {took:.1f} s")
    if peak_mb() > max(LARGEST_MB, peak):
        raise MemoryError(f"took {peak_mb()} MB")
    return "refused" if message else "read"


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def child(names: list[str], seeds: Path, seed: int, first: int, until: float, pipe: int, memory: int) -> None:
    """Run inputs until the time is over; write a line before and after each."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(1000)
    others = [p.read_bytes() for p in sorted(seeds.rglob("*")) if p.is_file() and p.stat().st_size]
    with tempfile.TemporaryDirectory(dir=seeds.parent) as folder, os.fdopen(pipe, "w", buffering=1) as out:
        index = first
        while time.monotonic() < until:
            name = names[index % len(names)]
            print("start", index, file=out)
            try:
                outcome = run_input(name, seeds, Path(folder) / "x", [seed, index], others)
            except BaseException as error:  # noqa: BLE001 - every other end is what is looked for
                last = traceback.extract_tb(error.__traceback__)[-1]
                outcome = f"fault {type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
            print("end", outcome.replace("\n", " ")[:500], file=out)
            index += 1
        print("peak", peak_mb(), file=out)


def fuzz(
    names: list[str], seconds: float, seed: int, memory: int
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Run inputs for some time; return outcomes by (kind, outcome), and faults."""
    outcomes: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-readers-") as top:
        seeds = Path(top) / "seeds"
        for name in names:
            (seeds / name).mkdir(parents=True)
            path = KINDS[name].write(seeds / name)
            KINDS[name].read(path)  # the valid file is read
        index = 0
        while time.monotonic() < until:
            index = _one_child(names, seeds, seed, index, until, memory, outcomes, faults)
    return outcomes, faults


def _one_child(
    names: list[str],
    seeds: Path,
    seed: int,
    index: int,
    until: float,
    memory: int,
    outcomes: Counter[tuple[str, str]],
    faults: list[str],
) -> int:
    """Run inputs in a new process until the time is over or it dies; return the next input's number."""
    end, start = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(end)
        code = 1
        try:
            child(names, seeds, seed, index, until, start, memory)
            code = 0
        finally:
            os._exit(code)
    os.close(start)
    running = None
    killed = ""
    with os.fdopen(end) as lines:
        while True:
            if not select.select([lines], [], [], HANG_S)[0]:
                os.kill(process, signal.SIGKILL)
                killed = f"no end after {HANG_S:g} s"
            line = lines.readline()
            if not line:
                break
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "start":
                running = int(rest)
                continue
            if word == "peak":
                outcomes["all", "peak"] = max(outcomes["all", "peak"], int(rest))
                continue
            name = names[int(running or 0) % len(names)]
            outcomes[name, rest.split(" ", 1)[0]] += 1
            if rest.startswith("fault"):
                faults.append(f"{name}, input {running} of seed {seed}: {rest}")
            index, running = int(running or 0) + 1, None
    status = os.waitpid(process, 0)[1]
    if running is not None:
        name = names[running % len(names)]
        outcomes[name, "fault"] += 1
        faults.append(
            f"{name}, input {running} of seed {seed}: {killed or f'killed by signal {status & 127}'}"
        )
        index = running + 1
    return index


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--memory-gb", type=float, default=3.0)
    arguments = parser.parse_args()
    names: list[str] = arguments.kinds.split(",")
    warnings.simplefilter("ignore")
    outcomes, faults = fuzz(names, arguments.seconds, arguments.seed, int(arguments.memory_gb * 1024**3))
    for name in names:
        row: dict[str, Any] = {what: outcomes[name, what] for what in ("read", "refused", "fault")}
        print(f"{name:<16}" + "".join(f"{what} {n:>7}  " for what, n in row.items()))
    peak = outcomes.pop(("all", "peak"), 0)
    print(f"largest process {peak} MB")
    print(f"{outcomes.total()} inputs, {len(faults)} faults")
    for fault in faults[:200]:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
