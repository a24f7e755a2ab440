"""Errors that a user of the scorer can mend, and the wording of the most common one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_SPELT_OUT = 3
"""Problems that one message names."""
_LONGEST_QUOTE = 200


class EvalInputError(ValueError):
    """Report input that cannot be scored: says what, where, the likely mistake and what to do next.

    Attributes
    ----------
    problems : tuple of str
        Every problem that was found; one, unless the error was made by `of`.
    """

    problems: tuple[str, ...]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.problems = (message,)

    @classmethod
    def of(cls, problems: Sequence[str]) -> EvalInputError:
        """Make one error of several problems.

        Parameters
        ----------
        problems
            At least one, the worst first.

        Returns
        -------
        EvalInputError
            Its message names the first few, ``problems`` all.

        Examples
        --------
        >>> print(EvalInputError.of(["x is 3; write 2", "y is missing"]))
        x is 3; write 2; also: y is missing
        """
        more = len(problems) - _SPELT_OUT
        error = cls(
            "; also: ".join(problems[:_SPELT_OUT]) + (f"; and {more} problems more" if more > 0 else "")
        )
        error.problems = tuple(problems)
        return error


def brief(error: Exception) -> str:
    r"""Return what a library says of a damaged file, in one line that is not too long.

    Parameters
    ----------
    error
        From the library, whose message may quote the file.

    Returns
    -------
    str
        The first line of its message, at most 200 characters; its type where it has none.

    Examples
    --------
    >>> brief(ValueError("bad header\nat byte 3")), brief(EOFError())
    ('bad header', 'EOFError')
    """
    line = str(error).partition("\n")[0]
    return (line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]} ...") or type(error).__name__


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
    in_lower_case = {known_name.lower(): known_name for known_name in names}
    near = difflib.get_close_matches(name.lower(), in_lower_case, n=1, cutoff=0.5)
    hint = f"; did you mean {in_lower_case[near[0]]!r}?" if near else "."
    return EvalInputError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}")


def kind_of(value: object) -> str:
    """Name what was given instead of something else, for a message.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    str
        ``None``, or its type.

    Examples
    --------
    >>> kind_of(None), kind_of(["x"])
    ('None', 'of type list')
    """
    return "None" if value is None else f"of type {type(value).__name__}"


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
