"""Say what is wrong in a configuration: the key by its path, the fault, and the nearest known name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

_LONGEST_VALUE = 60
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Parameters
    ----------
    path
        Keys and positions from the top of the configuration down to the faulty one.
    text
        What is wrong with it.
    """

    path: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        """Return path and text as one line."""
        return f"{'.'.join(self.path)}: {self.text}" if self.path else self.text


def explain(model: type[BaseModel], error: ValidationError) -> list[Fault]:
    """List what pydantic found wrong, in the words of the configuration.

    Parameters
    ----------
    model
        The model that was validated; its fields are the known keys.
    error
        What pydantic raised.

    Examples
    --------
    >>> class Optim(BaseModel, extra="forbid"):
    ...     steps: int = 100
    >>> try:
    ...     Optim.model_validate({"stpes": 5})
    ... except ValidationError as error:
    ...     print(*explain(Optim, error))
    stpes: unknown key, did you mean 'steps'? (known: steps)
    """
    faults = []
    for found in error.errors(include_url=False):
        place = found["loc"]
        path, _ = _follow(model, place)
        match found["type"]:
            case "extra_forbidden":
                section, there = _follow(model, place[:-1])
                path = (*section, str(place[-1]))
                text = f"unknown key{nearest(path[-1], _fields(there))}"
            case "missing":
                text = "this key is missing and has no default"
            case "literal_error":
                known = _quoted(found["ctx"]["expected"]) or [found["ctx"]["expected"]]
                text = _unknown(str(found["input"]), known)
            case "union_tag_invalid":
                path = (*path, str(found["ctx"]["discriminator"]).strip("'"))
                text = _unknown(found["ctx"]["tag"], _quoted(found["ctx"]["expected_tags"]))
            case "union_tag_not_found":
                path = (*path, str(found["ctx"]["discriminator"]).strip("'"))
                text = "this key is missing and has no default"
            case "value_error":
                text = str(found["ctx"]["error"])
            case _:
                text = f"{found['msg']}, got {_shortened(found['input'])}"
        faults.append(Fault(path, text))
    return faults


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, then all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f", did you mean {near[0]!r}?" if near else ""
    return f"{guess} (known: {', '.join(names)})"


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"unknown name {name!r}{nearest(name, known)}"


def _quoted(text: str) -> list[str]:
    """Return what stands in quotes: pydantic lists the legal values as text."""
    return re.findall(r"'([^']+)'", text)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _fields(annotation: Any) -> list[str]:
    return list(getattr(annotation, "model_fields", {}))


def _follow(annotation: Any, place: Sequence[int | str]) -> tuple[tuple[str, ...], Any]:
    """Return the keys of a place as pydantic names it, and the type that stands there.

    A place also holds marks that are no keys: ``[key]`` for the key of a mapping, and the tag of a union.
    """
    keys: list[str] = []
    for part in place:
        annotation = _only_model(annotation)
        if part == "[key]" or _is_choice_of_values(annotation):
            continue
        members = [member for member in get_args(annotation) if _fields(member)]
        if get_origin(annotation) not in (dict, list) and members:  # a union: this part is its tag
            annotation = next((member for member in members if _tagged(member, part)), None)
            continue
        keys.append(str(part))
        if part in _fields(annotation):
            annotation = annotation.model_fields[part].annotation
        else:
            annotation = next(reversed(get_args(annotation)), None)
    return tuple(keys), _only_model(annotation)


def _only_model(annotation: Any) -> Any:
    """Return the model of ``Model | None``, and any other type as it is."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    optional = get_origin(annotation) not in (dict, list) and len(members) == 1 and _fields(members[0])
    return members[0] if optional else annotation


def _is_choice_of_values(annotation: Any) -> bool:
    """Return whether a place below this type names one of several types of a value: ``bool | int``."""
    kinds = [member for member in get_args(annotation) if member is not type(None)]
    return get_origin(annotation) in (Union, UnionType) and len(kinds) > 1 and not any(map(_fields, kinds))


def _tagged(model: type[BaseModel], tag: int | str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())
