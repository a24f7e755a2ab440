"""The command ``localize``: a heat map over the user's own video, moment, or picture and sound."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_train.cli import Commands, add_command, add_threads
from avsl_train.errors import TrainInputError

COLOURS = ("inferno", "viridis", "jet", "red")  # of avsl_train.overlay, which the parser does without


def add_localize(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``localize``."""
    sub = add_command(
        commands,
        "localize",
        _localize,
        "draw where the sound comes from over a video, one of its moments, or a picture",
        "video.mp4 --checkpoint runs/mine/seed0/checkpoint.pt --out overlay.mp4\n"
        "  avsl-train localize video.mp4 --at 3.5 --checkpoint owner/name --out still.png\n"
        "  avsl-train localize --image frame.jpg --audio sound.wav --checkpoint exported --out still.png",
    )
    sub.add_argument("video", type=Path, nargs="?", help="a video with sound")
    sub.add_argument("--image", type=Path, metavar="FILE", help="a picture, instead of a video")
    sub.add_argument("--audio", type=Path, metavar="FILE", help="the picture's sound")
    sub.add_argument(
        "--checkpoint", required=True, metavar="C", help="checkpoint, exported folder, owner/name"
    )
    sub.add_argument("--out", type=Path, required=True, help=".mp4; with --at or --image .png or .jpg")
    sub.add_argument("--at", type=float, metavar="SECONDS", help="one moment of the video, as a still")
    sub.add_argument("--every", type=float, default=0.5, metavar="SECONDS", help="between two maps (0.5)")
    sub.add_argument(
        "--window", type=float, metavar="SECONDS", help="of sound around each (as much as the model hears)"
    )
    sub.add_argument("--which", choices=("mean", "a", "b"), help="whose map, of a method with two models")
    sub.add_argument("--colours", choices=COLOURS, default="inferno", help="(inferno)")
    sub.add_argument("--alpha", type=float, default=0.7, help="opacity of the highest value, 0 to 1 (0.7)")
    sub.add_argument(
        "--range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="values of the first and last colour (probabilities: 0 1; others: of all maps that are drawn)",
    )
    sub.add_argument("--contour", type=float, metavar="VALUE", help="outline what has at least this value")
    sub.add_argument("--side-by-side", action="store_true", help="with the original on the left")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), help="(as the model was configured)")
    add_threads(sub)


def _localize(args: argparse.Namespace) -> None:
    _check_source(args)
    import torch

    from avsl_train.load import load_model
    from avsl_train.localize import localize_moment, localize_pair, localize_video
    from avsl_train.overlay import Style

    if args.threads:
        torch.set_num_threads(args.threads)
    low, high = args.range or (None, None)
    style = Style(args.colours, args.alpha, args.contour, args.side_by_side, low, high)
    model = load_model(args.checkpoint, which=args.which, device=args.device)
    if args.image:
        localize_pair(model, args.image, args.audio, args.out, style, args.window)
    elif args.at is not None:
        localize_moment(model, args.video, args.at, args.out, style, args.window)
    else:
        localize_video(model, args.video, args.out, style, args.every, args.window)


def _check_source(args: argparse.Namespace) -> None:
    if (args.video is None) == (args.image is None):
        raise TrainInputError("give a video, or a picture and its sound by --image and --audio")
    if (args.image is None) != (args.audio is None):
        raise TrainInputError("--image and --audio belong together: a picture and its sound")
    if args.image and args.at is not None:
        raise TrainInputError("--at is a moment of a video; a picture has one only")
    for path in (args.video, args.image, args.audio):
        if path is not None and not path.is_file():
            raise TrainInputError(f"no file {path}")
