"""Commands that get clips: download."""

from __future__ import annotations

import argparse
from pathlib import Path

from avsl_data.cli import Commands, Parser, add_command, counts_text, require_positive, say


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_download(commands)


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
    where = command.add_mutually_exclusive_group()
    where.add_argument("--site", type=Path, metavar="DIR", help="demo: serve this folder while downloading")
    where.add_argument("--base-url", metavar="URL", help="demo: a server that is running already")
    where.add_argument("--from-folder", type=Path, metavar="DIR", help="take clips from DIR as they are")
    command.add_argument(
        "--attempts", type=int, default=3, help="for transient failures (default %(default)s)"
    )
    command.add_argument("--max-height", type=int, default=480, help="of the picture (default %(default)s)")
    command.add_argument("--cookies", type=Path, metavar="FILE", help="cookie file for yt-dlp (default none)")
    command.set_defaults(run=_download)


def _download(arguments: argparse.Namespace) -> None:
    from contextlib import nullcontext

    from avsl_data.catalog import read_bucket
    from avsl_data.download import FromFolder, FromNetwork, download_bucket
    from avsl_data.fetch import FetchPolicy
    from avsl_data.server import SiteServer
    from avsl_data.sources.demo import read_site

    require_positive(arguments, "attempts", "max_height")
    clips = read_bucket(arguments.catalog, arguments.bucket)
    what = f"download bucket {arguments.bucket}"
    if arguments.from_folder is not None:
        counts = download_bucket(clips, FromFolder.of(arguments.from_folder), arguments.ledger, what)
    else:
        if arguments.site is not None:
            read_site(arguments.site)
        policy = FetchPolicy(
            attempts=arguments.attempts, max_height=arguments.max_height, cookies=arguments.cookies
        )
        folder = arguments.clips / f"{arguments.bucket:04d}"
        with SiteServer(arguments.site) if arguments.site else nullcontext() as server:
            base_url = server.base_url if server else arguments.base_url
            counts = download_bucket(clips, FromNetwork(folder, policy, base_url), arguments.ledger, what)
    say(f"{arguments.ledger}: {len(clips)} clips: {counts_text(counts)}")
