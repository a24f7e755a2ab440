"""Files: digests of what was read, and writing that leaves either everything or nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, or of the files of a folder.

    Parameters
    ----------
    path
        A file, or a folder whose direct files count.

    Returns
    -------
    str
        Hexadecimal digest. A folder's is that of the lines ``<digest>  <name>``, sorted by name, which is
        what ``sha256sum *`` prints.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for member in sorted(p for p in path.iterdir() if p.is_file()):
        total.update(f"{sha256_of(member)}  {member.name}\n".encode())
    return total.hexdigest()


def write_files(files: Mapping[Path, str]) -> None:
    """Write several text files, all or none.

    Each is written beside its place under another name; only when all are complete are they moved there.

    Parameters
    ----------
    files
        Path to content. Missing folders are made.

    Raises
    ------
    EvalInputError
        If one cannot be written.
    """
    for path in files:
        if path.is_dir():
            raise EvalInputError(f"cannot write {path}: it is a folder; name a file")
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, part in parts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(files[path], encoding="utf-8")
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise cannot_write(error, parts) from error
    finally:
        for part in parts.values():
            # A path that could not be made (its parent is a file) cannot be removed either.
            if os.path.lexists(part):
                part.unlink()


def cannot_write(error: OSError, parts: Mapping[Path, Path]) -> EvalInputError:
    """Make the error for files that cannot be written.

    Parameters
    ----------
    error
        What the system says.
    parts
        File to the temporary name that it is written under, which nobody asked for.

    Returns
    -------
    EvalInputError
        Names the file, or the folder that is none.

    Examples
    --------
    >>> print(cannot_write(OSError(28, "No space left", ".a.part"), {Path("a"): Path(".a.part")}))
    cannot write a: No space left
    """
    if isinstance(error, FileExistsError):  # only a folder that has to be made can be in the way
        return EvalInputError(f"cannot write into {error.filename}: it is a file, not a folder")
    asked_for = {str(part): str(path) for path, part in parts.items()}
    name = asked_for.get(str(error.filename), error.filename or ", ".join(asked_for.values()))
    return EvalInputError(f"cannot write {name}: {error.strerror}")


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check, before anything is computed, that outputs can be written and none is an input or given twice.

    Parameters
    ----------
    outputs, inputs
        Paths of a command.

    Raises
    ------
    EvalInputError
        If one is, or cannot be written.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise EvalInputError(
                f"{path} is named twice, as an output and as another file; choose another name for it"
            )
        taken.add(path.resolve())
        _refuse_unwritable(path)


def _refuse_unwritable(path: Path) -> None:
    import tempfile  # with what it imports it is not for free, and only commands that write need it

    try:
        if path.is_dir():
            raise EvalInputError(f"cannot write {path}: it is a folder; name a file")
        folder = next(above for above in path.parents if above.exists())  # those below will be made
        if not folder.is_dir():
            raise EvalInputError(f"cannot write into {folder}: it is a file, not a folder")
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell, a disk may be read-only
            pass
    except OSError as error:
        raise EvalInputError(f"cannot write {path}: {error.strerror}") from error


def read_json(path: Path, schema: str | None, made_by: str) -> dict[str, Any]:
    """Read a JSON object of a known schema.

    Parameters
    ----------
    path
        The file.
    schema
        Value that its key ``schema`` must have, or None for any object.
    made_by
        The command that writes such files, for the message.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    EvalInputError
        If it cannot be read or is something else.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=str)  # JSON proper has no NaN
    except OSError as error:
        raise EvalInputError(f"cannot read {path}: {error.strerror}; {made_by} writes it") from error
    except (ValueError, RecursionError) as error:
        raise EvalInputError(f"{path} is not JSON ({error}); {made_by} writes such files") from error
    if not isinstance(content, dict) or (schema is not None and content.get("schema") != schema):
        what = f"schema {schema}" if schema else "an object"
        raise EvalInputError(f"{path} is JSON, but not {what}; {made_by} writes such files")
    return content
