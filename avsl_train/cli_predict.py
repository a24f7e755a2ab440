"""The command ``predict``: heat maps of prepared clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_train.cli import Commands, add_command, add_shards, add_threads
from avsl_train.errors import TrainInputError

RULES = ("ezvsl", "ezvsl-val", "slavc")  # of avsl_eval.ogl, which the parser does without


def add_predict(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``predict``."""
    sub = add_command(commands, "predict", _predict, "write heatmaps of some clips")
    sub.add_argument(
        "--checkpoint", required=True, help="checkpoint, exported folder, or owner/name of the hub"
    )
    add_shards(sub)
    sub.add_argument("--clips", required=True, help="SPLIT.parquet:SUBSET[,SUBSET...]")
    sub.add_argument("--out", type=Path, required=True, help="predictions file (.npz)")
    sub.add_argument(
        "--which", choices=("mean", "a", "b"), help="XPL, DMT: whose map (default: as configured)"
    )
    ogl = sub.add_argument_group("object-guided localisation")
    ogl.add_argument(
        "--ogl", type=Path, metavar="FILE", help="also write object maps of the clips, for `avsl-eval mix`"
    )
    ogl.add_argument(
        "--ogl-rule",
        choices=RULES,
        help="write the model's maps mixed with them instead, by this published rule",
    )
    ogl.add_argument(
        "--ogl-alpha",
        type=float,
        metavar="A",
        help="weight of the model's maps, 0 to 1 (default: the published one, 0.4 of ezvsl, 0.9 of slavc)",
    )
    ogl.add_argument(
        "--ogl-weights",
        default="imagenet",
        metavar="W",
        help="of the object network, ResNet-18: imagenet (default), a file, or URL#sha256=DIGEST",
    )
    add_threads(sub)


def _predict(args: argparse.Namespace) -> None:
    import torch

    from avsl_train.data import read_split
    from avsl_train.ogl import Guidance
    from avsl_train.predict import write_predictions

    guidance = None
    if args.ogl:
        if args.ogl.resolve() == args.out.resolve():
            raise TrainInputError(f"--ogl and --out are the same file, {args.out}: they hold different maps")
        guidance = Guidance(args.ogl, args.ogl_rule, args.ogl_alpha, args.ogl_weights)
    elif args.ogl_rule or args.ogl_alpha is not None:
        raise TrainInputError("--ogl-rule and --ogl-alpha need --ogl FILE, where the mixed maps go")
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
    write_predictions(args.checkpoint, args.shards, ids, args.out, args.which, guidance)
