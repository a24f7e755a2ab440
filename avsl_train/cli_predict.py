"""The command ``predict``: heat maps of prepared clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_train.cli import Commands, add_command, add_shards, add_threads
from avsl_train.errors import TrainInputError


def add_predict(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``predict``."""
    sub = add_command(commands, "predict", _predict, "write heatmaps of some clips")
    sub.add_argument("--checkpoint", type=Path, required=True)
    add_shards(sub)
    sub.add_argument("--clips", required=True, help="SPLIT.parquet:SUBSET[,SUBSET...]")
    sub.add_argument("--out", type=Path, required=True, help="predictions file (.npz)")
    sub.add_argument("--which", choices=("mean", "a", "b"), help="XPL: whose map (default: as configured)")
    add_threads(sub)


def _predict(args: argparse.Namespace) -> None:
    import torch

    from avsl_train.data import read_split
    from avsl_train.predict import write_predictions

    if args.threads:
        torch.set_num_threads(args.threads)
    path, _, names = args.clips.rpartition(":")
    if not path or not names:
        raise TrainInputError(f"--clips is SPLIT.parquet:SUBSET[,SUBSET...], got {args.clips!r}")
    subsets = read_split(Path(path))
    unknown = [name for name in names.split(",") if name not in subsets]
    if unknown:
        raise TrainInputError(f"{path} has no subset {unknown[0]!r} (it has: {', '.join(subsets)})")
    ids = [clip_id for name in names.split(",") for clip_id in subsets[name]]
    write_predictions(args.checkpoint, args.shards, ids, args.out, args.which)
