"""A Slurm cluster of one node on this machine; `make test-slurm` installs Slurm and runs these tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
START_S = 30
CONF = """\
ClusterName=avsl
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=2
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests, with the reason, unless they are asked for."""
    if os.environ.get("AVSL_TEST_SLURM"):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs Slurm and root: run make test-slurm"))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports: list[int] = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start munged, slurmctld and slurmd on the loopback interface; end them afterwards."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent or os.geteuid():
        pytest.fail(
            f"these tests need root and Slurm (absent: {', '.join(absent) or 'none'}): make test-slurm"
        )
    if SYSTEM_CONF.exists():
        pytest.fail(f"{SYSTEM_CONF} exists: this machine belongs to a cluster, which is not to be disturbed")
    folder = Path("/run") / f"avsl-slurm-{os.getpid()}"  # munged wants a folder that only root can change
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    port, node_port = _free_ports(2)
    host = socket.gethostname().partition(".")[0]
    conf = CONF.format(host=host, folder=folder, port=port, node_port=node_port)
    (folder / "slurm.conf").write_text(conf)
    # By its usual name, because the executor takes SLURM_CONF out of the environment of a job's steps.
    SYSTEM_CONF.parent.mkdir(parents=True, exist_ok=True)
    SYSTEM_CONF.symlink_to(folder / "slurm.conf")
    munge = folder / "munge"
    commands = [
        [
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/socket"),
            *(f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"),
        ],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as log:
                daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
            time.sleep(1)
        _wait_for_node()
        yield folder
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        SYSTEM_CONF.unlink()
        shutil.rmtree(folder)


def _wait_for_node() -> None:
    give_up = time.monotonic() + START_S
    while True:
        said = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
        if said.stdout.strip() == "idle":
            return
        if time.monotonic() > give_up:
            pytest.fail(f"the node is not idle after {START_S} s: {said.stdout}{said.stderr}")
        time.sleep(0.5)
