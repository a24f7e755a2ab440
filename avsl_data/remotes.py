"""Published files: fetched once, verified always.

A `Remote` is a url with the SHA-256 of what lies there. `fetch` takes it from the network into a cache, or
from a mirror folder in which ``https://HOST/PATH`` lies at ``HOST/PATH``. Either way a file with another
checksum is refused: a list that changed is another list.
"""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from avsl_data.errors import DataInputError
from avsl_data.files import replacing, sha256_of

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A published file.

    Parameters
    ----------
    url
        Where it lies; a fixed version, such as a commit's.
    sha256
        Checksum of its bytes, 64 hexadecimal digits.
    licence
        What its publisher says about its use.
    """

    url: str
    sha256: str
    licence: str


def default_cache() -> Path:
    """Return the folder that keeps fetched files: ``$AVSL_CACHE``, else a folder of the user's cache.

    Returns
    -------
    Path
        It may not exist yet.
    """
    if configured := os.environ.get("AVSL_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "avsl"


def place_of(remote: Remote, mirror: Path | None = None, cache: Path | None = None) -> Path:
    """Return where a local copy of a published file lies or would lie.

    Parameters
    ----------
    remote, mirror, cache
        As in `fetch`.

    Returns
    -------
    Path
        It may not exist.
    """
    parts = urlsplit(remote.url)
    if mirror is not None:
        return mirror / (parts.hostname or "") / PurePosixPath(parts.path).relative_to("/")
    return (cache or default_cache()) / "lists" / remote.sha256 / PurePosixPath(parts.path).name


def fetch(remote: Remote, mirror: Path | None = None, cache: Path | None = None) -> Path:
    """Return a local copy of a published file whose checksum is right.

    Parameters
    ----------
    remote
        The file.
    mirror
        A folder with copies; the network is not used then.
    cache
        Where fetched files are kept, `default_cache` by default.

    Returns
    -------
    Path
        The verified file.

    Raises
    ------
    DataInputError
        If the mirror lacks the file, the network does not give it, or its checksum differs.
    """
    path = place_of(remote, mirror, cache)
    if mirror is not None:
        if not path.is_file():
            raise DataInputError(
                f"the mirror {mirror} has no copy of {remote.url} (looked at {path}): "
                "leave --mirror out to fetch it"
            )
        return _verified(path, remote)
    if not path.is_file():
        _download(remote, path)
    return _verified(path, remote)


def _verified(path: Path, remote: Remote) -> Path:
    found = sha256_of(path)
    if found != remote.sha256:
        raise DataInputError(
            f"{path} is not the published {remote.url}: its sha256 is {found}, expected {remote.sha256}. "
            "Remove it and fetch it again"
        )
    return path


def _download(remote: Remote, path: Path) -> None:
    """Fetch into the cache; only bytes with the right checksum ever get the final name."""
    logger.info("fetching %s", remote.url)
    try:
        with replacing(path) as temporary:
            with (
                urllib.request.urlopen(remote.url, timeout=TIMEOUT_S) as response,  # noqa: S310 - our own urls
                temporary.open("wb") as file,
            ):
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
            _verified(temporary, remote)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataInputError(
            f"cannot fetch {remote.url} ({error}): try again later, or give a folder of copies with --mirror"
        ) from error
