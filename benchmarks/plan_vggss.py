"""Measure how long Snakemake needs to plan the VGG-SS study, and its memory.

Two studies: the one of config/config.yaml, whose plan is 8 + 144 buckets downloaded and decoded, one training
and its scores; and all of VGGSound, 200,000 clips in 400 buckets of 500. Neither needs data or a network. The
bounds of the project are 5 seconds and 300 MB. Planning waits for nothing: on a machine that is busy with
other work the processor's seconds are the ones to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = "results/xpl_vggss.json"
STUDIES: dict[str, list[str]] = {
    "as configured": [],
    "200,000 clips": ["--config", "datasets={vggsound: {buckets: 400}}"],
}
KIB_PER_MIB = 1024


def main() -> None:
    """Write the times of some dry runs as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    measured: dict[str, Any] = {"target": TARGET}
    for name, overlay in STUDIES.items():
        runs = [_plan(overlay) for _ in range(arguments.repeats)]
        seconds, processor, memory = (list(column) for column in zip(*runs, strict=True))
        measured[name] = {
            "seconds": {"median": statistics.median(seconds), "all": seconds},
            "processor_seconds": {"median": statistics.median(processor), "all": processor},
            "peak_memory_mb": max(memory),
        }
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


def _plan(overlay: list[str]) -> tuple[float, float, float]:
    """Return the seconds, the processor's seconds and the largest memory, in MB, of one dry run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")),
            *("--directory", folder, "-n", "--cores", "8", TARGET, *overlay),
        ]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        errors = process.stderr.read() if process.stderr else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"the dry run failed:\n{errors}")
        processor = used.ru_utime + used.ru_stime
        return time.perf_counter() - started, processor, used.ru_maxrss / KIB_PER_MIB


if __name__ == "__main__":
    main()
