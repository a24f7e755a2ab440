"""The command ``mix``: object-guided localisation."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_eval.cli import PROGRAM, Commands, add_command

RULES = ("ezvsl", "ezvsl-val", "slavc")  # of avsl_eval.ogl, which the parser does without


def add_mix(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``mix``."""
    sub = add_command(
        commands,
        "mix",
        _mix,
        "mix a model's predictions with object maps (object-guided localisation)",
        "mix --predictions maps.npz --objects objects.npz --rule ezvsl --out mixed.npz",
    )
    sub.add_argument(
        "--predictions", type=Path, required=True, metavar="P", help="the model's predictions, as for score"
    )
    sub.add_argument(
        "--objects", type=Path, required=True, metavar="O", help="object maps of the same clips, any order"
    )
    sub.add_argument("--rule", required=True, metavar="NAME", help=f"one of {', '.join(RULES)}")
    sub.add_argument(
        "--alpha",
        type=float,
        metavar="A",
        help="weight of the model's maps, 0 to 1 (default: the published one, 0.4 of ezvsl, 0.9 of slavc)",
    )
    sub.add_argument(
        "--out", type=Path, required=True, metavar="NPZ", help="predictions to write, at 224 x 224"
    )


def _mix(arguments: argparse.Namespace) -> None:
    from avsl_eval.io import refuse_overwriting
    from avsl_eval.ogl import get_rule, mix

    refuse_overwriting([arguments.out], [arguments.predictions, arguments.objects])
    rule = get_rule(arguments.rule)
    n = mix(arguments.predictions, arguments.objects, arguments.out, rule.name, arguments.alpha)
    alpha = rule.alpha if arguments.alpha is None else arguments.alpha
    print(f"wrote {arguments.out}: {n} clips mixed by {rule.name}, alpha {alpha:g}")
    print(
        f"score them: {PROGRAM} score --predictions {arguments.out} --annotations ... --protocol "
        f"{rule.scored_by[0]} --out scores.json"
        + (f" (or {' or '.join(rule.scored_by[1:])})" if rule.scored_by[1:] else "")
    )
