"""Commands that get clips: download, and status, how far it is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from avsl_data.cli import Commands, Parser, add_command, counts_text, say
from avsl_data.errors import DataInputError

if TYPE_CHECKING:
    from avsl_data.download import Acquire
    from avsl_data.fetch import FetchPolicy

POLICY_VARIABLE: Final = "AVSL_DOWNLOAD"
"""Environment variable with options of the download as JSON; the workflow passes its configuration by it."""


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_download(commands)
    _add_status(commands)


def _add_download(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "download",
        "Fetch, cut and verify the clips of one bucket.",
        "--catalog data/vggss/catalog.parquet --bucket 0 --clips data/vggss/clips "
        "--ledger data/vggss/ledger/0000.parquet",
    )
    command.add_argument(
        "--catalog", type=Path, required=True, metavar="PARQUET", help="from `avsl-data catalog`"
    )
    command.add_argument("--bucket", type=int, required=True, metavar="K", help="number of the bucket")
    command.add_argument(
        "--clips", type=Path, required=True, metavar="DIR", help="where clips go, in DIR/<bucket>"
    )
    command.add_argument(
        "--ledger", type=Path, required=True, metavar="PARQUET", help="what became of each clip"
    )
    _add_origins(command)
    _add_policy(command)
    command.set_defaults(run=_download)


def _add_origins(command: Parser) -> None:
    here = command.add_argument_group("clips that are here already, matched by their ids in any spelling")
    here.add_argument("--from-folder", type=Path, metavar="DIR", help="a folder, with all folders in it")
    here.add_argument(
        "--from-tar", type=Path, nargs="+", default=[], metavar="FILE", help="archives: tar, tar.gz"
    )
    here.add_argument(
        "--fetch-missing", action="store_true", help="download what they lack or have in a bad state"
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--site", type=Path, metavar="DIR", help="demo: serve this folder while downloading")
    where.add_argument("--base-url", metavar="URL", help="demo: a server that is running already")
    where.add_argument(
        "--video-url", metavar="URL", help="where videos are instead: an address with {video_id} in it"
    )


def _add_policy(command: Parser) -> None:
    group = command.add_argument_group(
        "how to download", f"options that are not given come from ${POLICY_VARIABLE}, then the defaults"
    )
    text = {
        "--attempts": ("N", "for transient failures (default 3)"),
        "--backoff": ("SECONDS", "pause before the second attempt, doubled for each further one (default 2)"),
        "--timeout": ("SECONDS", "without an answer, or with one that trickles (default 20)"),
        "--max-height": ("PIXELS", "of the picture (default 480)"),
        "--rate-limit": ("BYTES", "per second, of one process (default none)"),
        "--cooldown": ("SECONDS", "pause after a refusal that does not say how long (default 3600)"),
        "--sleep-requests": ("SECONDS", "pause between the requests of one video (default 0.75)"),
        "--cookies": ("FILE", "cookie file in Netscape's format (default none)"),
        "--proxy": ("URL", "http, https or socks5 (default none)"),
        "--js-runtime": ("NAME[:PATH]", "deno, node, bun or quickjs (default deno)"),
        "--source-address": ("IP", "address of this machine to ask from"),
    }
    for flag, (metavar, about) in text.items():
        group.add_argument(flag, metavar=metavar, help=about)
    group.add_argument("--player-client", nargs="+", metavar="NAME", help="YouTube's clients to ask as")
    group.add_argument(
        "--sleep",
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="seconds between videos of a host, over all processes (default 5 10)",
    )
    group.add_argument("--wait", action="store_true", default=None, help="sleep through a pause; do not stop")
    group.add_argument("--now", action="store_true", help="go on although the server asked for a pause")


def _policy(arguments: argparse.Namespace) -> FetchPolicy:
    """Build the policy from the options, the environment and the defaults."""
    from avsl_data.policy import OPTIONS, policy_of

    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    return policy_of(given, os.environ.get(POLICY_VARIABLE))


def _download(arguments: argparse.Namespace) -> None:
    from contextlib import nullcontext

    from avsl_data.catalog import read_bucket
    from avsl_data.copies import InTurn
    from avsl_data.download import FromNetwork, download_bucket
    from avsl_data.server import SiteServer
    from avsl_data.sources.demo import read_site

    policy = _policy(arguments)
    clips = read_bucket(arguments.catalog, arguments.bucket)
    ways: list[Acquire] = list(_copies(arguments))
    if arguments.fetch_missing and not ways:
        raise DataInputError(
            "--fetch-missing needs copies that may lack a clip: add --from-folder or --from-tar"
        )
    if arguments.site is not None:
        read_site(arguments.site)
    with SiteServer(arguments.site) if arguments.site else nullcontext() as server:
        if arguments.fetch_missing or not ways:
            base_url = server.base_url if server else arguments.base_url
            folder = arguments.clips / f"{arguments.bucket:04d}"
            network = FromNetwork(folder, policy, base_url, arguments.video_url)
            if arguments.now:
                network.forget_pauses(clips)
            ways.append(network)
        what = f"download bucket {arguments.bucket}"
        counts = download_bucket(clips, InTurn(ways), arguments.ledger, what)
    say(f"{arguments.ledger}: {len(clips)} clips: {counts_text(counts)}")


def _copies(arguments: argparse.Namespace) -> Iterator[Acquire]:
    from avsl_data.archives import open_archive
    from avsl_data.catalog import read_catalog
    from avsl_data.copies import FromArchives, FromFolder, key_of

    bucket = arguments.clips / f"{arguments.bucket:04d}"
    if arguments.from_folder is not None:
        yield FromFolder.of(arguments.from_folder, bucket)
    if arguments.from_tar:
        wanted = read_catalog(arguments.catalog).column("clip_id").to_pylist()
        archives = [open_archive(path, wanted, arguments.clips, key_of) for path in arguments.from_tar]
        yield FromArchives(archives, bucket)


def _add_status(commands: Commands[Parser]) -> None:
    command = add_command(commands, "status", "Say how far the download of a data set is.", "data/vggss")
    command.add_argument(
        "dataset", type=Path, nargs="?", metavar="FOLDER", help="of a data set: its catalog and its ledgers"
    )
    command.add_argument(
        "--ledger", type=Path, nargs="+", metavar="PARQUET", help="some ledgers instead, finished or not"
    )
    command.add_argument("--catalog", type=Path, metavar="PARQUET", help="of those ledgers")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> None:
    from avsl_data.status import ledgers_of, read_status, status_text

    if (arguments.dataset is None) == (arguments.ledger is None):
        raise DataInputError("give the folder of a data set, such as data/vggss, or ledgers with --ledger")
    if arguments.dataset is not None:
        if arguments.catalog is not None:
            raise DataInputError("--catalog belongs to --ledger: a data set's folder has its own")
        ledgers, catalog = ledgers_of(arguments.dataset)
    else:
        ledgers, catalog = arguments.ledger, arguments.catalog
    say(status_text(read_status(ledgers, catalog), as_json=arguments.json))
