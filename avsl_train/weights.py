"""Weights of networks: from torchvision, from a file, or from an address with its digest.

A specification is one of

- ``imagenet``, ``audioset``: a name that the encoder knows;
- a path of a file that `torch.save` wrote;
- ``URL#sha256=DIGEST``: downloaded once into the cache, resumed where it broke off, and checked.

Files are read with ``weights_only=True``: tensors, never code. What does not fit is one message that says how
much of it does.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import logging
import os
import pickle
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor, nn

from avsl_train.errors import TrainInputError
from avsl_train.files import DAMAGED

logger = logging.getLogger(__name__)

CACHE: Final = "AVSL_CACHE"
"""Environment variable: the folder that downloads are kept in; default ``~/.cache/avsl``."""
ATTEMPTS: Final = 5
WAIT_S: Final = 1.0
"""Wait before the second attempt, doubled before each further one."""
TIMEOUT_S: Final = 30.0
SAY_EVERY_S: Final = 5.0
CHUNK: Final = 1 << 20
SHORTEST_DIGEST: Final = 8
"""Digits that the file names of torch's own downloads carry; more is better."""
WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints keep their weights."""

State = dict[str, Tensor]


def locate(spec: str, where: str) -> Path:
    """Return the local file of a path or of ``URL#sha256=DIGEST``.

    Parameters
    ----------
    spec
        The specification.
    where
        The configuration's key, for messages.

    Raises
    ------
    TrainInputError
        There is no such file, the address has no digest, or it cannot be fetched.
    """
    address, _, digest = spec.partition("#sha256=")
    if urllib.parse.urlsplit(address).scheme in {"http", "https"}:
        if not re.fullmatch(rf"[0-9a-fA-F]{{{SHORTEST_DIGEST},64}}", digest):
            raise TrainInputError(
                f"{where}: {address} needs its digest, so that what comes is what was meant: append "
                f"#sha256=DIGEST with {SHORTEST_DIGEST} to 64 hexadecimal digits (`sha256sum FILE` prints it)"
            )
        return fetch(address, digest.lower(), where)
    path = Path(address)
    if not path.is_file():
        raise TrainInputError(
            f"{where}: no file {path}; use `imagenet` to let torchvision download its weights, a path, "
            "URL#sha256=DIGEST, or null"
        )
    if digest:
        _check_digest(path, digest.lower(), f"{where}: {path}")
    return path


def fetch(url: str, sha256: str, where: str, folder: Path | None = None) -> Path:
    """Download a file into the cache unless it is there, and check its digest.

    A download that broke off goes on where it stopped, in this run or a later one. Several processes may ask
    for the same file: one downloads it, the others wait.

    Parameters
    ----------
    url
        Address, http or https.
    sha256
        First digits of the file's digest, in lower case.
    where
        The configuration's key, for messages.
    folder
        Where files are kept; None: ``weights`` in `cache_folder`.

    Raises
    ------
    TrainInputError
        The address does not answer, or what it gives has another digest.
    """
    folder = cache_folder() / "weights" if folder is None else folder
    name = Path(urllib.parse.urlsplit(url).path).name or "weights"
    target = folder / f"{sha256[:16]}-{name}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{target.name}.part"
    with part.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if target.exists():  # another process had the lock and has finished
            part.unlink(missing_ok=True)
            return target
        resumed = file.seek(0, os.SEEK_END) > 0
        try:
            _download(url, file, where)
        except TrainInputError:
            if not part.stat().st_size:
                part.unlink()
            raise
        if resumed and not _digest(part).startswith(sha256):  # the beginning was of another file
            file.truncate(0)
            _download(url, file, where)
        try:
            _check_digest(part, sha256, f"{where}: {url}")
        except TrainInputError:
            part.unlink()
            raise
        os.fsync(file.fileno())
        part.replace(target)
    return target


def cache_folder() -> Path:
    """Return the folder of downloads: ``$AVSL_CACHE``, or ``~/.cache/avsl``."""
    given = os.environ.get(CACHE)
    return Path(given) if given else Path.home() / ".cache" / "avsl"


def torchvision_state(weights: Any, where: str) -> State:
    """Return the state_dict of a member of torchvision's weights enumerations.

    Raises
    ------
    TrainInputError
        It cannot be downloaded.
    """
    try:
        state: State = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        raise TrainInputError(
            f"{where}: cannot download {weights.url} ({error}): fetch it where there is a network and put it "
            f"at {cached}, or give its path"
        ) from error
    return state


def read_state(path: Path, where: str) -> State:
    """Return the weights in a file: a state_dict, bare or in a checkpoint, without ``module.`` before names.

    Raises
    ------
    TrainInputError
        The file is damaged, holds Python objects, or no weights.
    """
    try:
        with torch.serialization.safe_globals(_numbers()):
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|type) (\S+) ", str(error))
        if found is None:
            raise TrainInputError(
                f"{where}: {path} cannot be read as a state_dict: it may be cut short"
            ) from error
        raise TrainInputError(
            f"{where}: {path} holds a Python object ({found[1]}), which is never loaded because it can run "
            "code: open it where you trust it and save its state_dict()"
        ) from error
    except DAMAGED as error:
        raise TrainInputError(
            f"{where}: {path} cannot be read as a state_dict: it may be cut short"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(values, dict) and isinstance(values.get(wrapper), dict):
            values = values[wrapper]
            break
    state = {name: value for name, value in _items(values) if isinstance(value, Tensor)}
    if not state:
        raise TrainInputError(f"{where}: {path} holds no weights: is it a state_dict or a checkpoint?")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], source: str, what: str, unused: Iterable[str] = ()
) -> None:
    """Load weights into a network, all of them or none.

    Parameters
    ----------
    module
        The network.
    state
        Weights by name.
    source
        Where they come from, for messages.
    what
        What they should be, for messages: ``a state_dict of torchvision's resnet18``.
    unused
        Beginnings of names that the network has no use for.

    Raises
    ------
    TrainInputError
        A name is missing or unknown, or a shape is another one; the message counts and names them.
    """
    unused = tuple(unused)
    wanted = {name: value.shape for name, value in module.state_dict().items()}
    given = {
        name: value.shape for name, value in state.items() if name in wanted or not name.startswith(unused)
    }
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in wanted]
    shapes = [
        f"{name} is {_shape(given[name])} instead of {_shape(shape)}"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    if missing or unknown or shapes:
        fits = sum(given.get(name) == shape for name, shape in wanted.items())
        faults = [*_listed("missing", missing), *_listed("unknown", unknown), *_listed("shapes", shapes)]
        raise TrainInputError(
            f"{source} is no {what}: {fits} of {len(wanted)} names fit; {'; '.join(faults)}"
            + _likely_mistake(set(wanted), set(state), bool(shapes and not missing and not unknown))
        )
    module.load_state_dict({name: state[name] for name in given}, strict=False)


def renamed(state: Mapping[str, Tensor], rename: Callable[[str], str]) -> State:
    """Return weights under other names."""
    return {rename(name): value for name, value in state.items()}


def _numbers() -> list[Any]:
    """Return what a file may hold besides tensors: numpy's numbers, in which checkpoints keep their scores.

    They stand under the name that numpy gave them before its version 2, or the one since.
    """
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType, np.dtypes.BoolDType]
    return [*names, np.dtype, *kinds]


def _items(values: object) -> Iterable[tuple[str, object]]:
    return ((str(name), value) for name, value in values.items()) if isinstance(values, dict) else ()


def _shape(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a number"


def _listed(kind: str, names: list[str], shown: int = 3) -> list[str]:
    """Return nothing for no names, else their first ones in a phrase."""
    if not names:
        return []
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return [f"{kind}: {', '.join(names[:shown])}{more}"]


def _likely_mistake(wanted: set[str], given: set[str], only_shapes: bool) -> str:
    """Guess why weights do not fit: a prefix, the same network with other sizes, or another network."""
    if only_shapes:
        return ". The names fit: is it the same network with other sizes?"
    for name in sorted(given):
        for end in sorted(wanted):
            if name.endswith(f".{end}"):
                prefix = name.removesuffix(end)
                if sum(prefix + other in given for other in wanted) > len(wanted) // 2:
                    return f". Its names begin with {prefix!r}: save that part of it alone"
    return ". Is it the file of another network?"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(path: Path, sha256: str, source: str) -> None:
    found = _digest(path)
    if not found.startswith(sha256):
        raise TrainInputError(
            f"{source} has the SHA-256 {found}, not {sha256}: it is another file than the one meant, or the "
            "digest is of another file"
        )


def _download(url: str, file: IO[bytes], where: str) -> None:
    """Append to a file what it lacks of an address; try again where the connection breaks off."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            logger.info("%s: %s; trying again from %.1f MB on", url, reason, file.tell() / 1e6)
            time.sleep(WAIT_S * 2 ** (attempt - 1))
        try:
            reason = _receive(url, file)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code not in {408, 429}:
                break
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        if not reason:
            return
    kept = f"; its first {file.tell() / 1e6:.1f} MB are kept, so that the same command goes on there"
    raise TrainInputError(
        f"{where}: cannot download {url} ({reason}){kept if file.tell() else ''}. Or fetch the file by other "
        "means and give its path"
    )


def _receive(url: str, file: IO[bytes]) -> str:
    """Make one request; return why the file is still incomplete, or nothing."""
    start = file.seek(0, os.SEEK_END)
    headers = {"User-Agent": "avsl-train"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https only, see `locate`
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()  # all of it is there, or more: the digest tells
        return ""
    with response:
        continued = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and continued and int(continued[1]) == start:
            total = None if continued[2] == "*" else int(continued[2])
        else:  # the server sends the whole file
            file.truncate(0)
            length = response.headers.get("Content-Length")
            total = None if length is None else int(length)
        _copy(response, file, Path(urllib.parse.urlsplit(url).path).name, total)
    size = file.tell()
    return "" if total is None or size >= total else f"broke off after {size} of {total} bytes"


def _copy(response: IO[bytes], file: IO[bytes], name: str, total: int | None) -> None:
    """Append a response to a file and say now and then how far it is."""
    size = began_at = file.seek(0, os.SEEK_END)
    began = said = time.monotonic()
    while chunk := response.read(CHUNK):
        file.write(chunk)
        size += len(chunk)
        now = time.monotonic()
        if now - said >= SAY_EVERY_S:
            said = now
            of = "" if total is None else f" of {total / 1e6:.0f}"
            logger.info(
                "%s: %.0f%s MB (%.1f MB/s)", name, size / 1e6, of, (size - began_at) / 1e6 / (now - began)
            )
    file.flush()
