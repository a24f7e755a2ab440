"""How much memory the scorer needs for 5,158 maps of 224 x 224 on disk, and how long it takes to import.

The maps are 1 GB in float32; they are written chunk by chunk, and read so. Each measurement is a process of
its own.

Usage: OMP_NUM_THREADS=1 python benchmarks/eval_memory.py [--clips 5158] [--protocol all] [--out FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from avsl_eval.evaluate import evaluate_all

LIMIT_MB, LIMIT_S = 300, 0.5


def write(folder: Path, n: int) -> None:
    """Write annotations and predictions, one map in memory at a time."""
    rng = np.random.default_rng(0)
    ids = [f"clip{k:06}" for k in range(n)]
    corners = np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4)
    boxes = [{"file": i, "class": "x", "bbox": [b]} for i, b in zip(ids, corners.tolist(), strict=True)]
    (folder / "annotations.json").write_text(json.dumps(boxes))
    with zipfile.ZipFile(folder / "predictions.npz", "w") as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.array(ids))
        archive.writestr("clip_id.npy", buffer.getvalue())
        with archive.open("heatmap.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (n, 224, 224)}
            )
            ramp = np.linspace(0, 0.5, 224, dtype=np.float32)
            for _ in range(n):
                member.write((ramp + 0.5 * rng.random((224, 224), dtype=np.float32)).tobytes())


def measure(folder: Path, protocols: list[str]) -> None:
    """Score, and print seconds and the largest resident size; in a process of its own."""
    logging.disable(logging.WARNING)
    begin = time.perf_counter()
    evaluate_all(folder / "predictions.npz", folder / "annotations.json", protocols)
    seconds = time.perf_counter() - begin
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def import_seconds() -> float:
    """Return the seconds that importing the scorer takes, the best of five."""
    code = "import time; t = time.perf_counter(); import avsl_eval; print(time.perf_counter() - t)"
    found = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(5)]
    return min(map(float, found))


def main() -> None:
    """Measure, print, and fail above the limits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=5158)
    parser.add_argument("--protocol", nargs="+", default=["all"])
    parser.add_argument("--out", type=Path, default=Path("eval_memory.json"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.protocol)
        return
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.clips)
        command = [sys.executable, __file__, "--measure", name, "--protocol", *arguments.protocol]
        seconds, megabytes = map(float, subprocess.check_output(command, text=True).split())
    found = {
        "clips": arguments.clips,
        "protocols": arguments.protocol,
        "seconds": seconds,
        "peak_mb": megabytes,
        "import_s": import_seconds(),
    }
    print(f"{arguments.clips} maps of 224 x 224: {megabytes:.0f} MB at most, {seconds:.1f} s")
    print(f"import avsl_eval: {found['import_s']:.2f} s")
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    if megabytes > LIMIT_MB or found["import_s"] > LIMIT_S:
        sys.exit(f"above the limits of {LIMIT_MB} MB and {LIMIT_S} s")


if __name__ == "__main__":
    main()
