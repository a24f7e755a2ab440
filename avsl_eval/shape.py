"""What JSON that was read must look like, checked in one place, so that nothing behind it has to doubt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

NUMBER: Final = (int, float)
"""A finite number."""

_NAMES: Final[Mapping[Any, str]] = {str: "a text", int: "a whole number", NUMBER: "a number"}


@dataclass(frozen=True)
class Each:
    """A mapping from any name to values of one shape, at least `least` of them."""

    shape: Any
    least: int = 0

    def faults(self, value: Any, where: str) -> Iterator[str]:
        """Yield what is wrong, see `faults`."""
        if not isinstance(value, dict) or len(value) < self.least:
            yield _sentence(where, value, "an object that holds something" if self.least else "an object")
            return
        for key, inner in value.items():
            yield from faults(inner, self.shape, _inside(where, key))


@dataclass(frozen=True)
class ListOf:
    """A list of values of one shape, of `length` if that is given."""

    shape: Any
    length: int | None = None

    def faults(self, value: Any, where: str) -> Iterator[str]:
        """Yield what is wrong, see `faults`."""
        if not isinstance(value, list) or self.length not in {None, len(value)}:
            yield _sentence(where, value, f"a list{f' of {self.length}' if self.length else ''}")
            return
        for k, inner in enumerate(value):
            yield from faults(inner, self.shape, f"{where}[{k}]")


@dataclass(frozen=True)
class OrNull:
    """A value of some shape, or null."""

    shape: Any

    def faults(self, value: Any, where: str) -> Iterator[str]:
        """Yield what is wrong, see `faults`."""
        if value is not None:
            yield from faults(value, self.shape, where)


def faults(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """Find where a value differs from a shape.

    Parameters
    ----------
    value
        From JSON.
    shape
        A type (``object``: anything) or `NUMBER`; a mapping from the names that an object must have to their
        shapes, those that end in ``?`` only where they are there; or one of the classes here.
    where
        The place of the value, for messages.

    Yields
    ------
    str
        One sentence per fault, in the order of the shape.

    Examples
    --------
    >>> list(faults({"a": [1, "x"]}, {"a": ListOf(int), "b": str}))
    ["a[1] is 'x', not a whole number", 'b is absent']
    """
    if isinstance(shape, Each | ListOf | OrNull):
        yield from shape.faults(value, where)
    elif not isinstance(shape, Mapping):
        if not _is(value, shape):
            yield _sentence(where, value, _NAMES[shape])
    elif not isinstance(value, dict):
        yield _sentence(where, value, "an object")
    else:
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key in value:
                yield from faults(value[key], inner, _inside(where, key))
            elif key == name:
                yield f"{_inside(where, key)} is absent"


def _is(value: Any, kind: Any) -> bool:
    if kind is object:
        return True
    if isinstance(value, bool):  # which is an int to Python
        return False
    return isinstance(value, kind) and not (isinstance(value, float) and not math.isfinite(value))


def _inside(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _sentence(where: str, value: Any, wanted: str) -> str:
    return f"{where or 'the whole'} is {value!r:.60}, not {wanted}"
