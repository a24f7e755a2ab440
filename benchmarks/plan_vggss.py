"""Measure how long Snakemake needs to plan the VGG-SS study, and its memory.

The plan is 8 + 144 buckets downloaded and decoded, one training and its scores; it needs neither data nor
network. The bound of the project is 5 seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = "results/xpl_vggss.json"


def main() -> None:
    """Write the times of some dry runs as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    seconds = [_plan() for _ in range(arguments.repeats)]
    measured = {
        "target": TARGET,
        "seconds": {"median": statistics.median(seconds), "all": seconds},
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


def _plan() -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")),
            *("--directory", folder, "-n", "--cores", "8", TARGET),
        ]
        started = time.perf_counter()
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
