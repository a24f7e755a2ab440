"""Run a test file as several processes that know each other by gloo.

The file calls ``work`` at its end where it is run as a script; the test calls ``found_by``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

TIMEOUT_S = 900
REPOSITORY = Path(__file__).parents[2]


def found_by(file: str, folder: Path, ranks: int = 2) -> list[Any]:
    """Run a file as ``ranks`` processes and return what each of them found."""
    run_as(file, folder, ranks)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


def run_as(file: str, folder: Path, ranks: int) -> None:
    """Run a file as ``ranks`` processes, each with its number, theirs and a folder as arguments."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, file, str(rank), str(ranks), str(folder)],
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


def like_torchrun(rank: int, ranks: int, folder: Path) -> None:
    """Set what torchrun tells a process, so that Fabric joins the others instead of starting them."""
    port = folder / "port"
    if rank == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port.with_suffix(".new").write_text(str(free.getsockname()[1]))
        port.with_suffix(".new").rename(port)
    while not port.exists():
        time.sleep(0.05)
    os.environ.update(
        {
            "TORCHELASTIC_RUN_ID": "test",
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
            **{"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port.read_text()},
        }
    )


def work(find: Callable[..., Any]) -> None:
    """Be one of the processes: meet the others, call ``find`` and write what it returns."""
    rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    meeting, patience = f"file://{folder}/meeting", timedelta(seconds=TIMEOUT_S)
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=ranks, timeout=patience)
    torch.save(find(rank), folder / f"{rank}.pt")
    distributed.destroy_process_group()
