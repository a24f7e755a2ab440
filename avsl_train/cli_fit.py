"""The command ``fit``: training."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from avsl_train.cli import Commands, add_command, add_shards, add_threads

OVERRIDES = {
    "device": "auto, cpu or cuda",
    "devices": "processes per node: a number, or auto for one per GPU",
    "num_nodes": "nodes",
}
"""Keys of the configuration that say where a training runs; a checkpoint goes on with other values."""


def add_fit(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``fit``."""
    sub = add_command(commands, "fit", _fit, "train, or go on with a training that was stopped")
    sub.set_defaults(stopped="the same command goes on from the last checkpoint")
    sub.add_argument("--config", type=Path, required=True, help="a configuration as `resolve` writes it")
    add_shards(sub)
    sub.add_argument("--split", type=Path, required=True, help="split with the subsets labeled and unlabeled")
    sub.add_argument("--seed", type=int, required=True, help="of everything that is drawn")
    sub.add_argument("--out", type=Path, required=True, help="folder of the run")
    add_threads(sub)
    for key, text in OVERRIDES.items():
        sub.add_argument(
            f"--{key.replace('_', '-')}", metavar=key.upper(), help=f"{text}, instead of `{key}`"
        )
    sub.add_argument(
        "--on-change",
        choices=("error", "restart"),
        default="error",
        help="what to do where --out holds a training of another configuration, seed or set of clips",
    )


def _fit(args: argparse.Namespace) -> None:
    from avsl_train.config import load_config, parse_config

    config = load_config(args.config)  # before torch is imported: a misspelt key answers at once
    # torch warns that all parameters are used; in the warm-up of a method they are not
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = {key: getattr(args, key) for key in OVERRIDES if getattr(args, key) is not None}
    if given:
        config = parse_config({**config.model_dump(mode="json"), **given}, "the command line")
    from avsl_train.engine import processes
    from avsl_train.fit import fit, read_training_clips

    with processes(config) as fabric:
        clips = read_training_clips(config, args.shards, args.split)
        fit(config, clips, args.seed, args.out, args.threads, args.on_change, fabric)
