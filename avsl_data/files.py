"""Files that are whole or absent: atomic replacement and checksums."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avsl_data.errors import DataInputError


@contextmanager
def replacing(path: Path, work: Path | None = None) -> Iterator[Path]:
    """Give a temporary path and rename it to ``path`` if the block succeeds.

    Parameters
    ----------
    path
        The file to write. Its folder is made if absent.
    work
        Where the temporary file lies: a folder of the same file system, by default that of ``path``.

    Yields
    ------
    Path
        Where to write. It is removed if the block raises; ``path`` then is what it was before.

    Raises
    ------
    DataInputError
        If ``path`` is a folder or its folder cannot be made.
    """
    if path.is_dir():
        raise DataInputError(f"{path} is a folder: give a file name for the output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataInputError(
            f"cannot make the folder {path.parent}: a file of that name is in the way"
        ) from error
    temporary = (work or path.parent) / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic by contract
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, with the line ends as given.

    Parameters
    ----------
    path
        The file.
    text
        Its content.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
