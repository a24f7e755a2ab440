"""The commands ``export`` and ``import``: trained models out to others, published ones in."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_train.cli import PROGRAM, Commands, add_command
from avsl_train.errors import TrainInputError


def add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``export``."""
    sub = add_command(
        commands,
        "export",
        _export,
        "write a trained model as a folder for the Hugging Face hub, with its card; push it on request",
        "--checkpoint runs/mine/seed0/checkpoint.pt --out exported --scores scores.json --push owner/name",
    )
    sub.add_argument("--checkpoint", required=True, metavar="C", help="checkpoint, imported one, or folder")
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    sub.add_argument("--scores", type=Path, metavar="FILE", help="scores or results of it, for the card")
    sub.add_argument("--name", help="title of the card (default: the folder's name)")
    sub.add_argument("--trained-on", default="", metavar="TEXT", help="the training data, for the card")
    sub.add_argument(
        "--licence", default="other", metavar="ID", help="as the hub names it (default: not chosen)"
    )
    sub.add_argument("--push", metavar="OWNER/NAME", help="upload it; the repository is made if absent")
    sub.add_argument("--public", action="store_true", help="make that repository one that everybody sees")


def add_import(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``import``."""
    sub = add_command(
        commands,
        "import",
        _import,
        "take over a published checkpoint, for predict, localize and export",
        "ezvsl best.pth --out ezvsl.pt",
    )
    sub.add_argument("method", help="ezvsl, slavc, fnac, lvs, ssltie or alignment")
    sub.add_argument("file", type=Path, help="the authors' file")
    sub.add_argument("--out", type=Path, required=True, metavar="C", help="checkpoint to write (.pt)")


def _export(args: argparse.Namespace) -> None:
    from avsl_train import hub_model, model_card
    from avsl_train.load import network_of, read_model
    from avsl_train.model import Model

    if args.public and not args.push:
        raise TrainInputError("--public is of the repository that --push makes")
    hub_model.check_out(args.out)
    if args.push:
        hub_model.require_token(args.push)  # before anything is written
    model = read_model(args.checkpoint)
    use = Model(network_of(model, args.checkpoint, device="cpu"))
    facts = model_card.CardFacts(
        name=args.name or args.out.resolve().name,
        place=args.push or str(args.out),
        licence=args.licence,
        trained_on=args.trained_on,
        run=model_card.read_run(Path(args.checkpoint)),
        scores=None if args.scores is None else model_card.read_scores(args.scores, model),
    )
    card = model_card.write_card(model, use, facts)
    hub_model.write_folder(model, use, card, args.out)
    print(f"wrote {args.out}: {', '.join(hub_model.FILES)}")
    if args.push:
        print(hub_model.push_folder(args.out, args.push, public=args.public))
    else:
        print(f"load it: avsl_train.load_model({str(args.out)!r})")


def _import(args: argparse.Namespace) -> None:
    from avsl_train.import_published import import_published
    from avsl_train.localize import check_out

    check_out(args.out, args.file)
    model = import_published(args.method, args.file, args.out)
    print(f"wrote {args.out}: {model.method}, {len(model.weights)} tensors of {args.file}")
    print(f"use it: {PROGRAM} localize video.mp4 --checkpoint {args.out} --out overlay.mp4")
