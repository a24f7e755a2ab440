"""Measure preprocessing: against the published way, two workers against one, memory for more clips.

The published way is two calls of ffmpeg per clip: every picture at 25 per second as a JPEG, then the sound as
a wav file. Times are the least of some rounds, the contestants taking turns, because other work on the
machine only ever adds. Needs real clips: $AVSL_CLIPS, or clips/vggss in $AVSL_SHARED.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from avsl_data.decode import ffmpeg_executable

REPOSITORY = Path(__file__).resolve().parents[1]
BOUNDS = {"published_by_ours": 3.0, "one_worker_by_two": 1.7, "memory_600_by_60": 1.15}

SHARD = """
import resource, sys, time
from pathlib import Path
from avsl_data.files import sha256_of
from avsl_data.ledger import LedgerRow
from avsl_data.options import PreprocessOptions
from avsl_data.preprocess import write_shard
from avsl_data.sources.source import CatalogClip

out, workers, n, *paths = sys.argv[1:]
sums = {path: sha256_of(Path(path)) for path in paths}
ledger, catalog = [], {}
for number in range(int(n)):
    path, clip_id = paths[number % len(paths)], f"video{number:06d}_000000"
    ledger.append(LedgerRow(clip_id, clip_id[:-7], path, "ok", None, None, sums[path], 10.0, 1, ""))
    catalog[clip_id] = CatalogClip(clip_id, clip_id[:-7], "folder:///x", 0.0, None, "", "test")
began = time.perf_counter()
counts = write_shard(Path(out), ledger, catalog, {}, PreprocessOptions(), int(workers))
assert counts["ok"] == len(ledger), counts
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Write times, memory and ratios as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=36, help="per round, of the real ones in turn")
    parser.add_argument("--many", type=int, default=600, help="clips of the memory test")
    arguments = parser.parse_args()
    paths = _clips()
    if not paths:
        print("no real clips here: set AVSL_CLIPS to a folder of mp4 files; nothing measured")
        return
    n = arguments.clips
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        ways: dict[str, Callable[[], float]] = {
            "published": lambda: _published(paths, n, work),
            "ours_1": lambda: _shard(paths, n, 1, work)[0],
            "ours_2": lambda: _shard(paths, n, 2, work)[0],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                seconds[name].append(way() / n)
        few, many = (_shard(paths, count, 1, work)[1] for count in (arguments.many // 10, arguments.many))
    least = {name: min(values) for name, values in seconds.items()}
    ratios = {
        "published_by_ours": least["published"] / least["ours_1"],
        "one_worker_by_two": least["ours_1"] / least["ours_2"],
        "memory_600_by_60": many / few,
    }
    measured = {
        "clips_per_round": n,
        "seconds_per_clip": {"least": least, "all": seconds},
        "peak_memory_mb": {"few": few / 1024, "many": many / 1024},
        "ratios": ratios,
        "bounds": BOUNDS,
        "cpus": os.cpu_count(),
    }
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps(
            {"seconds_per_clip": least, "peak_memory_mb": measured["peak_memory_mb"], "ratios": ratios}
        )
    )


def _clips() -> list[Path]:
    shared = Path(os.environ.get("AVSL_SHARED", REPOSITORY.parent / "shared"))
    folder = Path(os.environ.get("AVSL_CLIPS", shared / "clips" / "vggss"))
    return sorted(folder.glob("*.mp4"))


def _published(paths: Sequence[Path], n: int, work: Path) -> float:
    """Return the seconds that the published way takes for n clips, one after the other."""
    ffmpeg = [ffmpeg_executable(), "-y", "-nostdin", "-v", "error"]
    began = time.perf_counter()
    for number in range(n):
        clip = str(paths[number % len(paths)])
        pictures = work / "pictures"
        pictures.mkdir(exist_ok=True)
        # One thread, as ours has per worker: two workers then use two cores.
        one = ["-threads", "1"]
        subprocess.run(
            [*ffmpeg, *one, "-i", clip, "-vf", "fps=25", *one, str(pictures / "%03d.jpg")], check=True
        )
        sound = ["-vn", "-ac", "1", "-ar", "16000", str(work / "sound.wav")]
        subprocess.run([*ffmpeg, *one, "-i", clip, *sound], check=True)
    return time.perf_counter() - began


def _shard(paths: Sequence[Path], n: int, workers: int, work: Path) -> tuple[float, float]:
    """Return the seconds for a shard of n clips, and the process's peak memory in kB."""
    command = [
        sys.executable,
        "-c",
        SHARD,
        str(work / "shard.parquet"),
        str(workers),
        str(n),
        *map(str, paths),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


if __name__ == "__main__":
    main()
