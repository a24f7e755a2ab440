"""Where a training runs: its processes, their device and precision, and what wraps the models.

Lightning Fabric starts the processes (its own launcher, ``torchrun`` or SLURM's ``srun``), averages gradients
over them and scales losses in fp16. It is imported only where a training starts.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import Tensor, nn

from avsl_train.config import ExperimentConfig
from avsl_train.distributed import world_size
from avsl_train.encoders import Encoder
from avsl_train.errors import TrainInputError
from avsl_train.synced_batchnorm import synchronise

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

PRECISIONS: Final = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Fabric's names of precisions."""
PATIENCE_S: Final = 2.0
"""How long a process waits with its own message for that of the process which failed first."""


def choose_device(name: str) -> torch.device:
    """Return the device a configuration asks for.

    Raises
    ------
    TrainInputError
        ``cuda`` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainInputError(
            "device is cuda and no CUDA device is visible: use device: auto, or check the driver"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def start(config: ExperimentConfig) -> Fabric:
    """Start the processes of a training, or join them where this is one of them.

    Raises
    ------
    TrainInputError
        The device, precision or number of devices cannot be had.
    """
    device = choose_device(config.device)
    devices, nodes = _processes(config, device)
    if config.precision == "fp16" and device.type == "cpu":
        raise TrainInputError("precision fp16 needs a CUDA device: use bf16 or fp32 on the CPU")
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it repeats what the log says
    # The warm-up of a method leaves parameters unused, and which ones changes when it ends.
    together = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    # A machine that knows SLURM is no reason to warn: whoever wants srun starts the command with it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    try:
        fabric = Fabric(
            accelerator=device.type,
            devices=devices,
            num_nodes=nodes,
            precision=cast("Any", PRECISIONS[config.precision]),
            strategy=together if devices * nodes > 1 else "auto",
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise TrainInputError(
            f"{devices} devices on {nodes} nodes cannot be started ({reason}): check devices and num_nodes "
            "against what torchrun or SLURM was asked for"
        ) from error
    if fabric.global_rank > 0:
        logging.getLogger("avsl_train").setLevel(logging.WARNING)
    return fabric


def _processes(config: ExperimentConfig, device: torch.device) -> tuple[int, int]:
    """Return devices per node and nodes; where torchrun started this process, it has decided both."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return per_node, int(os.environ["WORLD_SIZE"]) // per_node
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    devices = there if config.devices == "auto" else config.devices
    if device.type == "cuda" and devices > there:
        raise TrainInputError(f"devices is {devices}, but this node has {there} visible CUDA devices")
    return devices, config.num_nodes


@contextmanager
def processes(config: ExperimentConfig) -> Iterator[Fabric]:
    """Start the processes of a training and see to it that they end together, with one message.

    The process that fails first says why. The others wait for a moment to be ended by it, because their own
    error would only be that they lost it.
    """
    fabric = start(config)
    children = _take_children(fabric)
    try:
        if children:
            threading.Thread(target=_watch, args=(children,), daemon=True).start()
        yield fabric
        for child in children:
            child.wait()
    except BaseException as error:
        if fabric.global_rank > 0 and isinstance(error, Exception):
            time.sleep(PATIENCE_S)
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            _leave_if_another_failed(children)
        raise
    finally:
        for child in children:
            child.kill()
            child.wait()


def _take_children(fabric: Fabric) -> list[subprocess.Popen[bytes]]:
    """Return the processes that Fabric started, and let it forget them: it answers an error by SIGKILL."""
    launcher = getattr(fabric.strategy, "launcher", None)
    children = list(getattr(launcher, "procs", []))
    if children:
        launcher.procs.clear()  # type: ignore[union-attr]
    return children


def _watch(children: list[subprocess.Popen[bytes]]) -> None:
    """End this process soon after one that it started has failed, even where it waits for it for ever."""
    while all(child.poll() in (None, 0) for child in children):
        if all(child.poll() == 0 for child in children):
            return
        time.sleep(0.2)
    time.sleep(2 * PATIENCE_S)
    for child in children:
        child.kill()
    os._exit(_failure(children) or 1)


def _failure(children: list[subprocess.Popen[bytes]]) -> int:
    """Return the exit status of the first process that failed by itself, or 0."""
    return next((code for child in children if (code := child.poll()) is not None and code > 0), 0)


def _leave_if_another_failed(children: list[subprocess.Popen[bytes]]) -> None:
    """Leave without a message of our own if a process that we started has told what is wrong."""
    deadline = time.monotonic() + 2 * PATIENCE_S
    while children and time.monotonic() < deadline:
        if code := _failure(children):
            raise SystemExit(code)
        time.sleep(0.1)


class Work(nn.Module):
    """Holds a method's models and does any work with them as its forward.

    Gradients are averaged over processes, and fp16 losses scaled, only for what runs inside the forward of
    the module that Fabric wraps. Autocast is left to the method, which wants it for its networks only.
    """

    def __init__(self, models: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.models = models
        self.device_type = device.type

    def forward(self, work: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Do the work."""
        with torch.autocast(self.device_type, enabled=False):
            return work()


def prepare(models: nn.Module, config: ExperimentConfig, device: torch.device) -> None:
    """Give the models the layout, the BatchNorm and the compilation that the run asks for; names stay."""
    if not config.channels_last:
        models.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for encoder in encoders(models):
            encoder.register_forward_pre_hook(_with_channels_first)
    synchronise(models, device)
    if config.compile:
        for encoder in encoders(models):
            encoder.compile()  # in place: the names in a checkpoint stay as they are


def _with_channels_first(encoder: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
    """Return an encoder's inputs in the usual layout."""
    return tuple(x.contiguous() for x in inputs)


class Stepper:
    """Makes an optimiser's step: backward over micro-batches, gradients of all processes, clipping, update.

    Parameters
    ----------
    fabric
        The processes.
    models
        What is trained.
    optimizer
        Their optimiser.
    clip_norm
        Largest norm of the gradient; None: no limit.
    """

    def __init__(
        self,
        fabric: Fabric,
        models: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None,
    ) -> None:
        self.fabric = fabric
        self.clip_norm = math.inf if clip_norm is None else clip_norm
        self.work: Any = _wrapped(fabric, models)
        self.optimizer: Any = fabric.setup_optimizers(optimizer)

    def backward(self, losses: Callable[[], dict[str, Tensor]], part: int, parts: int) -> dict[str, Tensor]:
        """Add the gradient of one micro-batch of a step; return its loss terms.

        Parameters
        ----------
        losses
            Computes the loss terms, which are summed.
        part, parts
            Number of the micro-batch, from 0, and how many the step has. The gradients of all processes are
            averaged with the last one.
        """
        waits = world_size() > 1 and part + 1 < parts
        with self.fabric.no_backward_sync(self.work) if waits else nullcontext():
            terms: dict[str, Tensor] = self.work(losses)
            self.fabric.backward(torch.stack(list(terms.values())).sum() / parts)
        return {name: term.detach() for name, term in terms.items()}

    def clip(self) -> float:
        """Shorten the gradient to ``clip_norm``; return the norm it had."""
        norm = self.fabric.clip_gradients(
            self.work, self.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False
        )
        assert norm is not None
        return norm.item()

    def step(self) -> None:
        """Update the parameters and forget the gradient."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _wrapped(fabric: Fabric, models: nn.Module) -> nn.Module:
    """Return `Work` on some models as Fabric wraps it.

    It is wrapped with every trunk free that will be trained one day: gradients are averaged only of the
    parameters that asked for one at this moment.
    """
    later = [encoder for encoder in encoders(models) if encoder.frozen and encoder.thaws]
    for encoder in later:
        encoder.trunk.requires_grad_(True)
    work = fabric.setup_module(Work(models, fabric.device))
    for encoder in later:
        encoder.trunk.requires_grad_(False)
    return work


def encoders(models: nn.Module) -> list[Encoder]:
    """Return every encoder among some models."""
    return [module for module in models.modules() if isinstance(module, Encoder)]


def begin_epoch(models: Iterable[nn.Module], epoch: int) -> None:
    """Tell every encoder how many epochs are done."""
    for model in models:
        for encoder in encoders(model):
            encoder.begin_epoch(epoch)
