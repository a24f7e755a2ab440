"""Command line of `avsl_train`: ``avsl-train`` and ``python -m avsl_train``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from avsl_eval.cli import Version
from avsl_train.cli import PROGRAM
from avsl_train.cli_fit import add_fit
from avsl_train.cli_localize import add_localize
from avsl_train.cli_model import add_export, add_import
from avsl_train.cli_predict import add_predict
from avsl_train.cli_resolve import add_resolve
from avsl_train.errors import TrainInputError

EXAMPLES = """examples:
  avsl-train fit --config runs/demo/xpl/config.json --shards data/demo/shards \\
      --split data/demo/splits/demo-semi.parquet --seed 0 --out runs/demo/xpl/seed0
  avsl-train predict --checkpoint runs/demo/xpl/seed0/checkpoint.pt --shards data/demo/shards \\
      --clips data/demo/splits/demo-semi.parquet:heard,unheard --out predictions.npz
  avsl-train localize video.mp4 --checkpoint runs/demo/xpl/seed0/checkpoint.pt --out overlay.mp4
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 2 for bad input, 130 if interrupted."""
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("avsl_train").setLevel(logging.INFO)  # others, such as the hub's client, when they warn
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        args.run(args)
    except TrainInputError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped; {args.stopped}", file=sys.stderr)
        return 130
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Train localizers, predict heatmaps, and use trained models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_resolve(commands)
    add_fit(commands)
    add_predict(commands)
    add_localize(commands)
    add_export(commands)
    add_import(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
