"""Command line of `avsl_train`: ``avsl-train`` and ``python -m avsl_train``."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from avsl_train.errors import TrainInputError

EXAMPLES = """examples:
  avsl-train fit --config runs/demo/xpl/config.json --shards data/demo/shards \\
      --split data/demo/splits/demo-semi.parquet --seed 0 --out runs/demo/xpl/seed0
  avsl-train predict --checkpoint runs/demo/xpl/seed0/checkpoint.pt --shards data/demo/shards \\
      --clips data/demo/splits/demo-semi.parquet:heard,unheard --out predictions.npz
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 2 for bad input, 130 if interrupted."""
    args = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        args.run(args)
    except TrainInputError as error:
        print(f"avsl-train: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("avsl-train: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avsl-train",
        description="Train localizers and predict heatmaps.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    resolve = commands.add_parser(
        "resolve", help="write an experiment's whole configuration, defaults filled in"
    )
    resolve.add_argument("--study", required=True, help="the workflow's configuration (or its part) as JSON")
    resolve.add_argument("--trainset", required=True)
    resolve.add_argument("--experiment", required=True)
    resolve.add_argument("--out", type=Path, required=True)
    resolve.set_defaults(run=_resolve)

    fit = commands.add_parser("fit", help="train, or go on with a training that was stopped")
    fit.add_argument("--config", type=Path, required=True, help="a configuration as `resolve` writes it")
    fit.add_argument(
        "--shards", type=Path, action="append", required=True, help="folder of shards; repeatable"
    )
    fit.add_argument("--split", type=Path, required=True, help="split with the subsets labeled and unlabeled")
    fit.add_argument("--seed", type=int, required=True)
    fit.add_argument("--out", type=Path, required=True, help="folder of the run")
    fit.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    fit.add_argument(
        "--on-change",
        choices=("error", "restart"),
        default="error",
        help="what to do where --out holds a training of another configuration, seed or set of clips",
    )
    fit.set_defaults(run=_fit)

    predict = commands.add_parser("predict", help="write heatmaps of some clips")
    predict.add_argument("--checkpoint", type=Path, required=True)
    predict.add_argument(
        "--shards", type=Path, action="append", required=True, help="folder of shards; repeatable"
    )
    predict.add_argument("--clips", required=True, help="SPLIT.parquet:SUBSET[,SUBSET...]")
    predict.add_argument("--out", type=Path, required=True, help="predictions file (.npz)")
    predict.add_argument(
        "--which", choices=("mean", "a", "b"), help="XPL: whose map (default: as configured)"
    )
    predict.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    predict.set_defaults(run=_predict)
    return parser


def _resolve(args: argparse.Namespace) -> None:
    from avsl_train.config import parse_config
    from avsl_train.files import write_json
    from avsl_train.study import training_overrides

    try:
        study = json.loads(args.study)
    except json.JSONDecodeError as error:
        raise TrainInputError(f"--study is not JSON: {error}") from error
    overrides = training_overrides(study, args.trainset, args.experiment)
    config = parse_config(overrides, f"experiment {args.experiment!r} on {args.trainset!r}")
    write_json(config.model_dump(mode="json"), args.out)


def _fit(args: argparse.Namespace) -> None:
    from avsl_train.config import load_config

    config = load_config(args.config)  # before torch is imported: a misspelt key answers at once
    from avsl_train.fit import NotFiniteError, fit, read_training_clips

    clips = read_training_clips(config, args.shards, args.split)
    try:
        fit(config, clips, args.seed, args.out, args.threads, args.on_change)
    except NotFiniteError as error:
        raise TrainInputError(str(error)) from error


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


if __name__ == "__main__":
    raise SystemExit(main())
