"""The download's options as the user writes them, on the command line or in the workflow's configuration.

Both hold the same few names. Everything that yt-dlp can do beyond them is left out on purpose: its options
can run programs and write anywhere.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from avsl_data.errors import DataInputError, unknown_name
from avsl_data.fetch import FetchPolicy

JS_RUNTIMES: Final = ("deno", "node", "bun", "quickjs")
PROXY_SCHEMES: Final = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
MAX_SECONDS: Final = 86_400.0
MIN_TIMEOUT_S: Final = 0.1


def policy_of(given: Mapping[str, Any], environment: str | None = None) -> FetchPolicy:
    """Build the policy of a download.

    Parameters
    ----------
    given
        Options of the command line by name (`OPTIONS`), as text or already as values.
    environment
        JSON object of further options; ``given`` wins. None for no options.

    Returns
    -------
    FetchPolicy
        Defaults where neither says anything.

    Raises
    ------
    DataInputError
        If an option has no such name or a value that makes no sense.

    Examples
    --------
    >>> policy_of({"attempts": "5"}, '{"sleep": [1, 2], "attempts": 2}').sleep_s
    (1.0, 2.0)
    >>> policy_of({"rate_limit": "2M"}).rate_limit
    2000000
    """
    options = {**_parsed(environment), **given}
    for name in options:
        if name not in OPTIONS:
            raise unknown_name("download option", name, OPTIONS)
    values: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        field, read = OPTIONS[name]
        try:
            values[field] = read(value)
        except (ValueError, TypeError) as error:
            raise DataInputError(f"--{name.replace('_', '-')} {value}: {error}") from error
    return dataclasses.replace(FetchPolicy(), **values)


def _parsed(environment: str | None) -> dict[str, Any]:
    if not environment:
        return {}
    try:
        found = json.loads(environment)
    except ValueError as error:
        raise DataInputError(f"$AVSL_DOWNLOAD is no JSON ({error}): unset or mend it") from error
    if not isinstance(found, dict):
        raise DataInputError('$AVSL_DOWNLOAD is no JSON object such as {"sleep": [5, 10]}: unset or mend it')
    return found


def _count(value: Any) -> int:
    number = int(value)
    if number < 1 or number != float(value):
        raise ValueError("must be a whole number, at least 1")
    return number


def _seconds(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= MAX_SECONDS:
        raise ValueError(f"must be seconds from 0 to {MAX_SECONDS:.0f}")
    return number


def _timeout(value: Any) -> float:
    number = _seconds(value)
    if number < MIN_TIMEOUT_S:
        raise ValueError(f"must be at least {MIN_TIMEOUT_S:g} s")
    return number


def _range(value: Any) -> tuple[float, float]:
    low, high = (_seconds(item) for item in value)
    if low > high:
        raise ValueError("the first must not be larger than the second")
    return low, high


def _rate(value: Any) -> int:
    text = str(value).strip().upper()
    factor = {"K": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    number = float(text[:-1] if factor > 1 else text) * factor
    if not 1_000 <= number < 1e12:
        raise ValueError("must be bytes per second from 1000, such as 500K or 2M")
    return int(number)


def _file(value: Any) -> Path:
    path = Path(str(value)).expanduser()
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


def _proxy(value: Any) -> str:
    parts = urlsplit(str(value))
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise ValueError(f"expected SCHEME://HOST:PORT with one of {', '.join(PROXY_SCHEMES)}")
    return str(value)


def _runtime(value: Any) -> str:
    name, _, path = str(value).partition(":")
    if name not in JS_RUNTIMES:
        raise ValueError(f"expected one of {', '.join(JS_RUNTIMES)}, perhaps followed by :PATH")
    if path and not Path(path).exists():
        raise ValueError(f"there is no {path}")
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    names = tuple(str(item) for item in ([value] if isinstance(value, str) else value))
    if not all(name.replace("_", "").isalnum() for name in names):
        raise ValueError("expected names such as web or mweb")
    return names


def _address(value: Any) -> str:
    return str(ipaddress.ip_address(str(value)))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


OPTIONS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "attempts": ("attempts", _count),
    "backoff": ("backoff_s", _seconds),
    "timeout": ("timeout_s", _timeout),
    "max_height": ("max_height", _count),
    "rate_limit": ("rate_limit", _rate),
    "sleep": ("sleep_s", _range),
    "sleep_requests": ("sleep_requests_s", _seconds),
    "cooldown": ("cooldown_s", _seconds),
    "wait": ("wait", _flag),
    "cookies": ("cookies", _file),
    "proxy": ("proxy", _proxy),
    "js_runtime": ("js_runtime", _runtime),
    "player_client": ("player_client", _names),
    "source_address": ("source_address", _address),
}
"""Field of `FetchPolicy` and reader of each option."""
