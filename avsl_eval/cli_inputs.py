"""The commands ``check`` and ``export``, and the options by which a command is given its input."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from avsl_eval.cli import Commands, add_command
from avsl_eval.errors import EvalInputError

if TYPE_CHECKING:
    from avsl_eval.truth import Annotations

_FORMATS = "formats: docs/formats.md"


def add_predictions(parser: argparse.ArgumentParser) -> None:
    """Declare ``--predictions``."""
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="P",
        help=".npz (clip_id [N], heatmap [N, h, w]), folder of <clip_id>.npy, .png or .jpg, HDF5, Parquet, "
        f"or saved dataset; {_FORMATS}",
    )


def add_annotations(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declare ``--annotations`` and what changes them; `annotations_of` reads them."""
    group = parser.add_argument_group("annotations")
    group.add_argument(
        "--annotations",
        type=Path,
        required=required,
        metavar="A",
        help="our JSON, vggss.json, COCO, a list of IS3, VPO, MS3 or S4, a folder of Flickr-SoundNet XML or "
        f"of masks; {_FORMATS}",
    )
    group.add_argument(
        "--extended",
        type=Path,
        metavar="CSV",
        help="published *_plus_silent.csv whose silent pairs are added",
    )
    group.add_argument(
        "--only", type=Path, metavar="LIST", help="published list of ids to which the test set is restricted"
    )
    group.add_argument(
        "--masks", type=Path, metavar="DIR", help="folder of the mask pictures that --annotations names"
    )
    group.add_argument(
        "--truth",
        metavar="union|consensus|mask",
        help="how boxes or masks make the truth (default: as the format says)",
    )


def annotations_of(arguments: argparse.Namespace) -> Annotations:
    """Read the annotations that `add_annotations` has declared.

    Parameters
    ----------
    arguments
        Of a command.

    Returns
    -------
    Annotations
        Restricted and extended as asked for.

    Raises
    ------
    EvalInputError
        If they cannot be read.
    """
    from avsl_eval.errors import unknown_name
    from avsl_eval.truth import Truth, read_annotations

    if arguments.truth is not None and arguments.truth not in get_args(Truth):
        raise unknown_name("truth", arguments.truth, get_args(Truth))
    return read_annotations(
        arguments.annotations,
        truth=arguments.truth,
        masks=arguments.masks,
        extended=arguments.extended,
        only=arguments.only,
    )


def input_paths(arguments: argparse.Namespace) -> list[Path]:
    """Return the files that these options name, which no output may overwrite."""
    named = (arguments.annotations, arguments.extended, arguments.only, arguments.masks)
    return [path for path in named if path is not None]


def add_check(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``check``."""
    sub = add_command(
        commands,
        "check",
        _check,
        "look predictions over before they are scored, naming every problem",
        "check predictions.npz --annotations vggss.json",
    )
    sub.add_argument("predictions", type=Path, metavar="P", help="file or folder of predictions")
    add_annotations(sub, required=False)


def _check(arguments: argparse.Namespace) -> None:
    from avsl_eval.check import check

    beside = [path for path in (arguments.extended, arguments.only, arguments.masks) if path]
    if arguments.annotations is None and (beside or arguments.truth):
        raise EvalInputError(
            "--extended, --only, --masks and --truth change annotations; name them by --annotations"
        )
    annotations = annotations_of(arguments) if arguments.annotations else None
    found = check(arguments.predictions, annotations)
    _print(found.facts, "")
    _print(found.warnings, "warning: ")
    _print(found.problems, "problem: ")
    if found.problems:
        n = len(found.problems)
        raise EvalInputError(
            f"{arguments.predictions} cannot be scored as it is: {n} problem{'s' if n > 1 else ''}, named "
            "above"
        )
    print("no problem found")


def _print(lines: Iterable[str], prefix: str) -> None:
    for line in lines:
        print(f"{prefix}{line}")


def add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the command ``export``."""
    sub = add_command(
        commands,
        "export",
        _export,
        "write the masks that a protocol makes, for other tools",
        "export --predictions predictions.npz --protocol ezvsl --format coco --out results.json",
    )
    add_predictions(sub)
    sub.add_argument("--protocol", required=True, metavar="NAME", help="see avsl-eval protocols")
    sub.add_argument(
        "--format", default="coco", metavar="coco", help="format to write (default and only: coco)"
    )
    sub.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="a fixed one in the rule's place; acl and vssl-eval have none of their own",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="JSON", help="file to write")
    add_annotations(sub, required=False)


def _export(arguments: argparse.Namespace) -> None:
    from avsl_eval.annotations.coco import coco_images
    from avsl_eval.errors import unknown_name
    from avsl_eval.export import coco_results, to_json
    from avsl_eval.io import refuse_overwriting, write_files
    from avsl_eval.predictions import open_predictions
    from avsl_eval.protocol_table import get_protocol

    if arguments.format != "coco":
        raise unknown_name("format", arguments.format, ["coco"])
    refuse_overwriting([arguments.out], [arguments.predictions, *input_paths(arguments)])
    rule = get_protocol(arguments.protocol)
    annotations = annotations_of(arguments) if arguments.annotations else None
    images = coco_images(arguments.annotations) if arguments.annotations else {}
    predictions = open_predictions(arguments.predictions)
    results = coco_results(predictions, rule, annotations, images, arguments.threshold)
    write_files({arguments.out: to_json(results)})
    n = len(
        {clip.clip_id for clip in annotations.clips} & set(predictions.clip_ids)
        if annotations
        else predictions.clip_ids
    )
    print(f"wrote {arguments.out}: {len(results)} masks; {n - len(results)} clips have an empty one")
