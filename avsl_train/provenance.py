"""Where a result comes from: program versions, commit and device."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def commit() -> str | None:
    """Return the checkout's commit, with ``+dirty`` if files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    command = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--dirty=+dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def device_name(device: torch.device) -> str:
    """Return the device by the name that its maker gave it."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {_processor()}"


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    names = ("avsl-toolkit", "torch", "torchaudio", "torchvision", "numpy", "pyarrow", "pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
