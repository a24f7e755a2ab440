"""The command ``resolve``: an experiment's whole configuration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from avsl_train.cli import Commands, add_command
from avsl_train.errors import TrainInputError


def add_resolve(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``resolve``."""
    sub = add_command(
        commands, "resolve", _resolve, "write an experiment's whole configuration, defaults filled in"
    )
    sub.add_argument("--study", required=True, help="the workflow's configuration (or its part) as JSON")
    sub.add_argument("--trainset", required=True)
    sub.add_argument("--experiment", required=True)
    sub.add_argument("--out", type=Path, required=True)


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
