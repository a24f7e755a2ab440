"""Errors that a user of the scorer can mend, and the wording of the most common one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EvalInputError(ValueError):
    """Report input that cannot be scored: says what, where, the likely mistake and what to do next."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> EvalInputError:
    """Make the error for a name that does not exist.

    Parameters
    ----------
    kind
        What was named, for example ``"protocol"``.
    name
        The name that was asked for.
    known
        Every name that exists.

    Returns
    -------
    EvalInputError
        Suggests the nearest name where one is near, and lists all.

    Examples
    --------
    >>> print(unknown_name("protocol", "lsv", ["lvs", "fixed"]))
    unknown protocol 'lsv'; did you mean 'lvs'? Known: lvs, fixed
    """
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return EvalInputError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}")


def first_few(names: Iterable[str], limit: int = 5) -> str:
    """Join the first names for a message, and say how many more there are.

    Parameters
    ----------
    names
        Names in the order of the message.
    limit
        How many are spelt out.

    Returns
    -------
    str
        For example ``"a, b and 3 more"``.

    Examples
    --------
    >>> first_few(["a", "b", "c", "d"], limit=2)
    'a, b and 2 more'
    """
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
