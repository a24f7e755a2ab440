"""Measure the catalog, audit and split stages on synthetic clips: time and memory per clip.

One process makes a list of N ids, the catalog of it, an audit against a test set of 5,000 clips and a split
with a label budget of 3 %. It is run for one million and for ten million clips, so that growth is seen. The
bound of the project is 2 minutes and 6 GB for ten million.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from avsl_data.__main__ import main as avsl_data

ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)
CLASSES = 309
TEST_CLIPS = 5_000
NEEDS_GB = 8


def main() -> None:
    """Write the measurements of every size as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000_000], help="sizes (default 1,000,000)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(arguments.one)))
        return
    runs = []
    for n_clips in arguments.clips:
        free_gb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        if n_clips > 2_000_000 and free_gb < NEEDS_GB:
            sys.exit(f"only {free_gb:.1f} GB of memory are free, {n_clips} clips need up to {NEEDS_GB}")
        command = [sys.executable, __file__, "--one", str(n_clips), "--out", os.devnull]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout))
        print(json.dumps(runs[-1]), flush=True)
    arguments.out.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")


def _measure(n_clips: int) -> dict[str, object]:
    """Run every stage once in this process."""
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_lists(folder, n_clips)
        stages = {
            "catalog": (
                *("catalog", "vggsound", "--table", folder / "all.csv", "--buckets", "1000"),
                *("--out", folder / "catalog.parquet"),
            ),
            "audit": (
                *("audit", folder / "catalog.parquet", "--test", folder / "test.txt"),
                *("--json", "--out", folder / "audit.json"),
            ),
            "split": (
                *("split", "by-hash", "--catalog", folder / "catalog.parquet", "--labels", "3%"),
                *("--held-out", folder / "test.txt", "--out", folder / "split.parquet"),
            ),
        }
        for stage, command in stages.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                stdout, sys.stdout = sys.stdout, nowhere
                try:
                    code = avsl_data([str(word) for word in command])
                finally:
                    sys.stdout = stdout
            if code:
                sys.exit(f"{stage} ended with {code}")
            seconds[stage] = round(time.perf_counter() - started, 2)
            cpu_seconds[stage] = round(time.process_time() - cpu_started, 2)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        audit = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    total = sum(seconds.values())
    return {
        "clips": n_clips,
        "seconds": seconds | {"all": round(total, 2)},
        "cpu_seconds": cpu_seconds | {"all": round(sum(cpu_seconds.values()), 2)},
        "microseconds_per_clip": round(total / n_clips * 1e6, 3),
        "peak_memory_gb": round(peak / 2**30, 3),
        "memory_bytes_per_clip": round(peak / n_clips),
        "leaks_found": [row["clips_of_test_videos"] for row in audit["rows"]],
        "file_bytes": sizes,
    }


def _write_lists(folder: Path, n_clips: int) -> None:
    """Write a table in vggsound.csv's format, in random order, and a test list that shares 1,000 videos."""
    random = np.random.default_rng(0)
    n_videos = max(1, n_clips * 4 // 5)
    starts, step = random.permutation(n_clips), 500_000
    with (folder / "all.csv").open("wb") as file:
        for begin in range(0, n_clips, step):
            numbers = starts[begin : begin + step]
            ids, rounds = _video_ids(numbers % n_videos), (numbers // n_videos) * 10
            file.writelines(
                b'%b,%d,"class %d, with a comma",train\n' % (video, start, number % CLASSES)
                for video, start, number in zip(ids, rounds.tolist(), numbers.tolist(), strict=True)
            )
    shared = _video_ids(np.arange(min(1000, n_videos)))
    others = _video_ids(np.arange(n_videos, n_videos + TEST_CLIPS - len(shared)))
    (folder / "test.txt").write_bytes(b"\n".join(video + b"_000300" for video in shared + others))


def _video_ids(numbers: np.ndarray) -> list[bytes]:
    """Return eleven characters per number, distinct, in no order."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    digits = np.empty((len(mixed), 11), np.uint8)
    for place in range(11):
        digits[:, place] = ALPHABET[(mixed & np.uint64(63)).astype(np.intp)]
        mixed >>= np.uint64(6)
    return digits.view("S11").ravel().tolist()


if __name__ == "__main__":
    main()
