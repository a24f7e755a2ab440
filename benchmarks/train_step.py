"""Measure how much of a training step is spent in the models, and what XPL's step costs beside its parts.

A *bare* step runs the models of a step forward and backward once more, on the views that they saw, with the
sum of their outputs as the loss: no views, no losses, no optimiser. The share of a step in the models is bare
by whole. The parts of an XPL step are two supervised steps with the contrastive loss, one with model A and
one with model B, on the same clips.

Times on a CPU are CPU seconds of this process, so that other work on the machine counts little; on a GPU the
clock's. Each is the least of some repetitions. Clips are random and lie in memory; what loading costs is
measured by ``benchmarks/data_path.py``, and on a GPU here: how many clips per second the loading processes
give.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import data_path
import torch
import yaml
from torch import Tensor, nn

from avsl_train.config import DataConfig, ExperimentConfig, parse_config
from avsl_train.data import Clips, ClipSet
from avsl_train.draws import Draws
from avsl_train.methods import METHODS, XPL, Method
from avsl_train.methods.method import Batch
from avsl_train.optimizer import Optimizer
from avsl_train.study import merge
from avsl_train.views import Viewer

REPOSITORY: Final = Path(__file__).resolve().parents[1]
GOALS: Final = {"share_in_models": 0.85, "xpl_by_parts": 1.15}
LABELED: Final = 12 / 40
"""Share of a batch that is labelled, as in the demo's training set."""
STEP: Final = 500
"""The step that is measured: after warm-up, when all losses are on."""
FULL: Final = {
    "model": {"visual": "resnet18", "audio": "resnet18"},
    "optim": {"steps": 1000, "batch_labeled": 32, "batch_unlabeled": 96},
}


def main() -> None:
    """Write times and ratios as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--batch", type=int, default=8, help="clips of a ResNet-18 step on the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured: dict[str, Any] = {
        "goals": GOALS,
        "threads": arguments.threads,
        "cpu": {},
        "cuda": "not measured",
    }
    for name, config, batch in (
        *((f"demo {method}", demo(method), 40) for method in ("supervised", "xpl")),
        *((f"resnet18 {method}", full(method), arguments.batch) for method in ("ezvsl", "supervised", "xpl")),
    ):
        measured["cpu"][name] = _measure(config, batch, arguments.repeats)
        print(name, json.dumps(measured["cpu"][name]), flush=True)
    if torch.cuda.is_available():
        measured["cuda"] = {
            name: _measure(full(name, device="cuda", precision="bf16"), 128, 4 * arguments.repeats)
            for name in ("ezvsl", "xpl")
        }
        measured["cuda"]["loader_clips_per_s"] = _loader_rate()
    print("cuda:", json.dumps(measured["cuda"]))
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def demo(method: str) -> ExperimentConfig:
    """Return the demo's training configuration of a method."""
    study = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text(encoding="utf-8"))
    demo = study["trainsets"]["demo"]
    own = merge(demo["methods"].get(method, {}), {"name": method})
    return parse_config(merge(demo["recipe"], {"method": own, "device": "cpu"}), "the demo")


def full(method: str, **over: Any) -> ExperimentConfig:
    """Return ResNet-18 encoders of 224-pixel images and 3 s of sound."""
    return parse_config({**FULL, "method": {"name": method}, "device": "cpu", **over}, "the benchmark")


def _measure(config: ExperimentConfig, batch: int, repeats: int) -> dict[str, float]:
    """Return milliseconds of a step and of its models alone, and what follows from them."""
    method = _method(config, batch)
    clips = _clips(batch, config.data)
    step, bare = _step(method, clips), _bare(method, clips)
    whole, models = _least(step, repeats, method), _least(bare, repeats, method)
    found = {"batch": batch, "step_ms": whole, "models_ms": models, "share_in_models": models / whole}
    if isinstance(method, XPL):
        found["parts_ms"] = sum(_part(config, name, clips, repeats) for name in "ab")
        found["xpl_by_parts"] = whole / found["parts_ms"]
        begin = _least(lambda: method.begin_epoch(STEP, lambda: [_unlabeled(clips)]), repeats, method)
        found["labels_ms_per_clip"] = begin / len(_unlabeled(clips))
    if method.viewer.device.type == "cuda":
        found["images_per_s"] = 1000 * batch / whole
        found["images_per_s_models_alone"] = 1000 * batch / models
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def _part(config: ExperimentConfig, name: str, clips: Clips, repeats: int) -> float:
    """Return the milliseconds of a supervised step of one of XPL's models, with the contrastive loss."""
    model = config.model if name == "a" else config.model_b()
    own = {"name": "supervised", "lambda_con": 1.0}
    part = config.model_dump(mode="json") | {"method": own, "model": model.model_dump(mode="json")}
    method = _method(parse_config(part, "a part of XPL"), len(clips))
    return _least(_step(method, clips), repeats, method)


def _method(config: ExperimentConfig, batch: int) -> Method:
    """Return a method in training, with labels of all of its unlabelled clips."""
    device = torch.device(config.device)
    clips = _clips(batch, config.data)
    method = METHODS[config.method.name](config, Viewer(config.data, device), 0, len(_unlabeled(clips)))
    if method.uses_unlabeled:
        method.begin_epoch(STEP, lambda: [_unlabeled(clips)])
    if isinstance(method, XPL):
        method.selected[:] = True
    method.models.train()
    return method


def _clips(n: int, config: DataConfig) -> Clips:
    """Return random clips with a box each; the unlabelled ones are numbered from 0."""
    draw = torch.Generator().manual_seed(0)
    size, samples = config.frame_size, round(config.clip_s * config.sample_rate)
    index = torch.arange(n) - round(LABELED * n)
    return Clips(
        index,
        torch.randint(0, 256, (n, 3, size, size), generator=draw, dtype=torch.uint8),
        torch.randint(-9000, 9000, (n, samples), generator=draw, dtype=torch.int16),
        torch.tensor([[[0.2, 0.2, 0.7, 0.8]]]).repeat(n, 1, 1),
        torch.arange(n),
    )


def _unlabeled(clips: Clips) -> Clips:
    return clips[clips.index >= 0]


def _step(method: Method, clips: Clips) -> Callable[[], None]:
    """Return what does one step of a training."""
    optimizer = Optimizer(method.config.optim, method.parameter_groups())
    batch = Batch(clips, int((clips.index < 0).sum()))

    def step() -> None:
        terms = method.losses(batch, STEP)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.torch.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(method.models.parameters(), method.config.optim.clip_norm or torch.inf)
        optimizer.torch.step()
        method.after_step(STEP)

    return step


def _bare(method: Method, clips: Clips) -> Callable[[], None]:
    """Return what runs the models of a step forward and backward on what they saw."""
    seen: list[tuple[nn.Module, tuple[Any, ...]]] = []
    hooks = [
        model.register_forward_pre_hook(lambda module, inputs: seen.append((module, inputs)))
        for model in method.models.values()
    ]
    method.losses(Batch(clips, int((clips.index < 0).sum())), STEP)
    for hook in hooks:
        hook.remove()

    def bare() -> None:
        for model, inputs in seen:
            with method.autocast():
                found = model(*inputs)
            outputs = [getattr(found, field.name) for field in fields(found)]
            loss = torch.stack([part.float().sum() for part in outputs if isinstance(part, Tensor)]).sum()
            loss.backward()
        method.models.zero_grad(set_to_none=True)

    return bare


def _least(work: Callable[[], Any], repeats: int, method: Method) -> float:
    """Return the least milliseconds of some repetitions, after two that are not counted."""
    gpu = method.viewer.device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    times = []
    for _ in range(repeats + 2):
        if gpu:
            torch.cuda.synchronize()
        began = clock()
        work()
        if gpu:
            torch.cuda.synchronize()
        times.append(clock() - began)
    return 1000 * min(times[2:])


def _loader_rate(clips: int = 512, workers: int = 8, batch: int = 128) -> float:
    """Return how many clips per second loading processes give of a shard of rendered clips."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shard = data_path.shard_of(data_path.rendered(work / "videos"), clips, work)
        names = [data_path.clip_name(number) for number in range(clips)]
        stored = ClipSet([shard], names, DataConfig(workers=workers))
        list(stored.in_order(batch))  # processes start, pages are checked
        began = time.perf_counter()
        count = sum(len(part) for part in stored.in_order(batch, heard=(Draws(0, "weak"),)))
        return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
