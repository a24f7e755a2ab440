"""Choose the clips that a report shows: best, typical and worst ones, and those where methods disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import EvalInputError
from avsl_eval.per_clip import read_per_clip
from avsl_eval.results_file import Results

PREFERRED_PROTOCOL = "fixed"
"""The rule that decides, where scored: the size of a mask is the model's own."""

DRAWN_RULES = ("median", "fixed", "adaptive")
"""Threshold rules that give one mask per clip from the map and the boxes alone."""

KINDS = ("largest difference", "best", "typical", "worst")


@dataclass(frozen=True)
class Pick:
    """Name a chosen clip, its subset and why it was chosen (one of `KINDS`)."""

    clip_id: str
    subset: str
    kind: str


def gallery_protocol(results: Sequence[Results], subset: str) -> str:
    """Choose the protocol under which a subset's gallery is chosen and drawn.

    Parameters
    ----------
    results
        One per method.
    subset
        Which subset.

    Returns
    -------
    str
        ``fixed`` if every method was scored under it, else the first that all share and that can be drawn.

    Raises
    ------
    EvalInputError
        If there is none.
    """
    shared = drawn_protocols(results, subset)
    if not shared:
        raise EvalInputError(
            f"the results share no protocol on subset {subset} that gives one mask per clip; score them "
            "under one"
        )
    return PREFERRED_PROTOCOL if PREFERRED_PROTOCOL in shared else shared[0]


def drawn_protocols(results: Sequence[Results], subset: str) -> list[str]:
    """List the protocols that all methods share and that give one mask per clip.

    Parameters
    ----------
    results
        One per method.
    subset
        Which subset; methods without it do not count.

    Returns
    -------
    list of str
        In the order of the first method.
    """
    scored = [r.subsets[subset]["protocols"] for r in results if subset in r.subsets]
    return [
        protocol
        for protocol, found in scored[0].items()
        if all(protocol in other for other in scored) and found["rule"]["threshold"] in DRAWN_RULES
    ]


def choose(results: Sequence[Results], n: int) -> list[Pick]:
    """Choose clips of every subset by the cIoU of the lowest seeds.

    Parameters
    ----------
    results
        One per method, of one test set.
    n
        Number of clips, shared out evenly over the subsets; fewer if there are fewer.

    Returns
    -------
    list of Pick
        By subset, then by kind. The same results give the same clips.

    Raises
    ------
    EvalInputError
        If n is not positive or tables differ in their clips.
    """
    if n < 1:
        raise EvalInputError(f"a gallery of {n} clips; give --n a positive number")
    subsets = list(dict.fromkeys(s for r in results for s in r.subsets))
    tables = [_table(results, subset) for subset in subsets]
    shares = _share(n, [len(ids) for ids, _ in tables])
    picks = []
    for subset, share, (ids, ciou) in zip(subsets, shares, tables, strict=True):
        chosen = sorted(_rotate(ciou, share), key=lambda pair: KINDS.index(pair[1]))
        picks += [Pick(ids[row], subset, kind) for row, kind in chosen]
    return picks


def _share(n: int, sizes: Sequence[int]) -> list[int]:
    """Share n out evenly over subsets of some sizes; what a small one cannot take goes to the others."""
    shares = [0] * len(sizes)
    for _ in range(min(n, sum(sizes))):
        open_subsets = [k for k, size in enumerate(sizes) if shares[k] < size]
        shares[min(open_subsets, key=lambda k: (shares[k], k))] += 1
    return shares


def _table(results: Sequence[Results], subset: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the ids of clips with truth that some method scored, and their cIoU [methods, N]."""
    protocol = gallery_protocol(results, subset)
    tables = [
        read_per_clip(Path(r.file(subset, protocol)["per_clip"]), protocol)
        for r in results
        if subset in r.subsets
    ]
    if any(table.clip_id != tables[0].clip_id for table in tables):
        raise EvalInputError(
            f"the per-clip tables of subset {subset} have different clips; score the methods again"
        )
    ciou = np.stack([table.ciou for table in tables])
    seen = np.array([table.status for table in tables]) == "scored"
    keep = np.flatnonzero(seen.any(axis=0))
    return tuple(tables[0].clip_id[k] for k in keep), np.nan_to_num(ciou[:, keep])


def _rotate(ciou: NDArray[np.float64], n: int) -> Iterator[tuple[int, str]]:
    """Take the next unused clip of each kind in turn, n in all."""
    mean, spread = ciou.mean(axis=0), np.ptp(ciou, axis=0)
    orders = {
        "largest difference": np.argsort(-spread, kind="stable"),
        "best": np.argsort(-mean, kind="stable"),
        "typical": np.argsort(np.abs(mean - np.median(mean)), kind="stable"),
        "worst": np.argsort(mean, kind="stable"),
    }
    if len(ciou) == 1:
        del orders["largest difference"]
    used: set[int] = set()
    left = min(n, ciou.shape[1])
    while left:
        for kind, order in orders.items():
            if not left:
                return
            row = next(int(k) for k in order if int(k) not in used)
            used.add(row)
            left -= 1
            yield row, kind
