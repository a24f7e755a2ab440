"""Run a test file as several processes that know each other by gloo.

The file calls ``work`` at its end where it is run as a script; the test calls ``found_by``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

TIMEOUT_S = 180
REPOSITORY = Path(__file__).parents[2]


def found_by(file: str, folder: Path, ranks: int = 2, *arguments: str) -> list[Any]:
    """Run a file as ``ranks`` processes and return what each of them found."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, file, str(rank), str(ranks), str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        for rank in range(ranks)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, output.decode()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


def work(find: Callable[..., Any]) -> None:
    """Be one of the processes: meet the others, call ``find`` and write what it returns."""
    rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    meeting, patience = f"file://{folder}/meeting", timedelta(seconds=TIMEOUT_S)
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=ranks, timeout=patience)
    torch.save(find(rank, *sys.argv[4:]), folder / f"{rank}.pt")
    distributed.destroy_process_group()
