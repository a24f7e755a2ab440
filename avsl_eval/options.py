"""What an evaluation can be asked for besides protocols: subsets, groups, negatives, batches."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsl_eval.breakdown import label_subsets
from avsl_eval.clip_ids import other_spellings
from avsl_eval.errors import EvalInputError, first_few, unknown_name
from avsl_eval.predictions import Predictions
from avsl_eval.protocol import Protocol

GROUP_BY = ("last-underscore",)
"""Ways to derive groups from clip ids; annotations may define groups themselves."""

UNIVERSAL = {"max": "max", "1.1max": "max_margin", "q3": "third_quartile"}
"""How a universal threshold follows from negatives, and its name in `avsl_eval.negatives`."""


@dataclass(frozen=True)
class Options:
    """Hold what is asked for.

    Parameters
    ----------
    subsets
        Name to clip ids or to classes; scores of each stand in the breakdown.
    group_by
        One of `GROUP_BY`, or None for the groups that the annotations define.
    negatives
        Kind (``silence``, ``noise``, ``offscreen``) to predictions of the same model on negative audio.
    universal
        How they set the threshold: a key of `UNIVERSAL`, or a number.
    official_batch
        Batch size of AVSBench's published F; None leaves it out.

    Raises
    ------
    EvalInputError
        If a name is unknown or a number out of its range.
    """

    subsets: Mapping[str, Collection[str]] = field(default_factory=dict)
    group_by: str | None = None
    negatives: Mapping[str, str | Path | Mapping[str, Any] | Predictions] = field(default_factory=dict)
    universal: str | float = "max"
    official_batch: int | None = None

    def __post_init__(self) -> None:
        if self.group_by is not None and self.group_by not in GROUP_BY:
            raise unknown_name("way to group clips", self.group_by, GROUP_BY)
        if isinstance(self.universal, str) and self.universal not in UNIVERSAL:
            try:
                object.__setattr__(self, "universal", float(self.universal))
            except ValueError:
                raise unknown_name("universal threshold", self.universal, [*UNIVERSAL, "a number"]) from None
        if isinstance(self.universal, float) and self.universal != self.universal:
            raise EvalInputError("the universal threshold is NaN; name a number or max, 1.1max, q3")
        if self.official_batch is not None and self.official_batch < 1:
            raise EvalInputError(f"a batch holds at least 1 image, not {self.official_batch}")

    def refuse_unused(self, rules: Iterable[Protocol]) -> None:
        """Check that what is asked for changes something.

        Parameters
        ----------
        rules
            The protocols to score under.

        Raises
        ------
        EvalInputError
            If negatives, a universal threshold or a batch size is given and no rule uses it.
        """
        wanted = list(rules)
        universal = any(rule.threshold == "universal" for rule in wanted)
        batches = any(rule.task == "segmentation" for rule in wanted)
        unused = {
            "--negative is for vssl-eval": self.negatives and not universal,
            "--universal is for vssl-eval": self.universal != "max" and not universal,
            "--official-batch is for avsbench": self.official_batch is not None and not batches,
        }
        if problems := [use for use, is_unused in unused.items() if is_unused]:
            raise EvalInputError(
                f"{' and '.join(problems)}, which is not among the protocols; add it, or leave the option out"
            )


def read_names(path: Path) -> list[str]:
    """Read a list of ids or classes.

    Parameters
    ----------
    path
        A text file with one per line, or a ``.csv``, whose first column counts; empty lines do not.

    Returns
    -------
    list of str
        In the file's order.

    Raises
    ------
    EvalInputError
        If it cannot be read or is empty.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() == ".csv":
                names = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
            else:  # names of classes hold commas
                names = [line.strip() for line in file if line.strip()]
    except OSError as error:
        raise EvalInputError(f"cannot read the subset {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise EvalInputError(f"the subset {path} is not a text or CSV file: {error}") from error
    if not names:
        raise EvalInputError(f"the subset {path} is empty; write one clip id or class per line")
    return names


def parse_named(text: str, option: str) -> tuple[str, Path]:
    """Split ``NAME=FILE``.

    Parameters
    ----------
    text
        The argument.
    option
        For the message.

    Returns
    -------
    name, path
        Its parts.

    Raises
    ------
    EvalInputError
        If it is something else.

    Examples
    --------
    >>> parse_named("heard=lists/heard.txt", "--subset")[0]
    'heard'
    """
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise EvalInputError(f"{option} {text!r} is not NAME=FILE, for example heard=heard.txt")
    return name, Path(path)


def clips_of_subsets(
    clip_ids: Sequence[str], labels: Sequence[str], subsets: Mapping[str, Collection[str]]
) -> dict[str, Collection[str]]:
    """Turn subsets of clips or classes into subsets of clips.

    Parameters
    ----------
    clip_ids, labels
        Id and class of each clip.
    subsets
        Name to ids, in any spelling that `avsl_eval.clip_ids.other_spellings` knows, or to classes: if it
        names a class and no clip, it is a list of classes.

    Returns
    -------
    dict
        Name to ids.
    """
    known_ids, known_labels = set(clip_ids), set(labels)
    found: dict[str, Collection[str]] = {}
    for name, wanted in subsets.items():
        members = set(wanted)
        if members & known_labels and not members & known_ids:
            found |= label_subsets(clip_ids, labels, {name: members})
        else:
            found[name] = [_spelling(clip_id, known_ids) for clip_id in wanted]
    return found


def subset_warnings(
    clip_ids: Sequence[str], labels: Sequence[str], subsets: Mapping[str, Collection[str]]
) -> list[str]:
    """Say which subsets list what the test set does not have.

    Parameters
    ----------
    clip_ids, labels, subsets
        As of `clips_of_subsets`.

    Returns
    -------
    list of str
        A sentence for each such subset of which the test set has something.

    Examples
    --------
    >>> print(*subset_warnings(["a_000001"], ["cat"], {"heard": ["a_000001", "b_000002"]}))
    subset heard: 1 of its 2 ids are of no clip of the test set and are left out (b_000002)
    """
    known_ids, known_labels = set(clip_ids), set(labels)
    found = []
    for name, wanted in subsets.items():
        listed = list(dict.fromkeys(wanted))
        outside = [i for i in listed if _spelling(i, known_ids) not in known_ids]
        what = "ids"
        if len(outside) == len(listed):
            outside, what = [label for label in listed if label not in known_labels], "classes"
        if 0 < len(outside) < len(listed):
            found.append(
                f"subset {name}: {len(outside)} of its {len(listed)} {what} are of no clip of the test set "
                f"and are left out ({first_few(outside, 3)})"
            )
    return found


def _spelling(clip_id: str, known: Collection[str]) -> str:
    return next((s for s in (clip_id, *other_spellings(clip_id)) if s in known), clip_id)
