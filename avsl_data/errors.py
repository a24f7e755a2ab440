"""Errors that the data stages raise on purpose.

`DataInputError` is the user's to mend: the command line prints its one message and exits with code 2.
`StopEverythingError` means that going on would do harm, such as marking live clips as gone: exit code 3, and
the same command continues later.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataInputError(ValueError):
    """Say what is wrong with an input, where, and what to do next."""


class StopEverythingError(RuntimeError):
    """Say why a download stopped before its end; nothing that was not tried is recorded as failed.

    Parameters
    ----------
    why
        The message.
    until
        When the server may be asked again, in seconds since 1970; None if nothing says when.
    """

    def __init__(self, why: str, until: float | None = None) -> None:
        super().__init__(why)
        self.until = until


def unknown_name(kind: str, name: str, known: Iterable[str]) -> DataInputError:
    """Build the error for a name that is not registered.

    Parameters
    ----------
    kind
        What the name stands for, such as ``"source"``.
    name
        The name that was given.
    known
        Every name that exists.

    Returns
    -------
    DataInputError
        Its message suggests the nearest name and lists all.

    Examples
    --------
    >>> print(unknown_name("source", "vgss", ["demo", "vggss"]))
    unknown source 'vgss': did you mean 'vggss'? There are: demo, vggss
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else "."
    return DataInputError(f"unknown {kind} '{name}'{hint} There are: {', '.join(names)}")
