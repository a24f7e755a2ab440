"""Warnings that belong to a score: what a reader has to know before believing it.

Each is one sentence; they are collected in the scores file and printed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import first_few
from avsl_eval.negatives import KINDS
from avsl_eval.protocol import Protocol
from avsl_eval.protocol_table import PROTOCOLS, TAU

TIED_SHARE = 0.01
"""Share of maps with large ties above which there is a warning."""
LARGE_TIE = 0.01
"""Share of a map's pixels at the threshold from which a tie is large: they are what > and >= differ by."""
EIGHT_BIT_LEVELS = 256
RANGE_TOLERANCE = 1e-6
"""How far float32 rounding may carry a heatmap beyond the bounds of a protocol."""

_SIZE_NAMES = {"vggss": "VGG-SS", "flickr": "Flickr-SoundNet"}


@dataclass
class MapsSeen:
    """Collect what is peculiar about the maps while they are read.

    Parameters
    ----------
    constant
        Ids of constant maps.
    n
        Number of maps.
    low, high
        Smallest and largest value of all maps.
    n_levels
        Number of maps that look like 8-bit pictures.
    """

    constant: list[str] = field(default_factory=list)
    n: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    n_levels: int = 0

    def look(
        self, clip_ids: Sequence[str], maps: NDArray[np.float32], low: NDArray[Any], high: NDArray[Any]
    ) -> None:
        """Look at a chunk of maps.

        Parameters
        ----------
        clip_ids
            n ids.
        maps : float32 [n, h, w]
            Their maps.
        low, high : float32 [n]
            Smallest and largest value of each.
        """
        self.constant += [i for i, flat in zip(clip_ids, low == high, strict=True) if flat]
        self.n += len(clip_ids)
        self.low, self.high = min(self.low, float(low.min())), max(self.high, float(high.max()))
        few = maps.reshape(len(maps), -1)[:, :: max(1, maps[0].size // 8)]  # a few pixels tell most maps
        if _whole(few).any() or _whole(few * np.float32(255)).any():
            self.n_levels += sum(map(looks_8_bit, maps))


def looks_8_bit(heatmap: NDArray[np.float32]) -> bool:
    """Say whether a map looks as if it had been an 8-bit picture.

    Parameters
    ----------
    heatmap : float32 [h, w]
        Any map.

    Returns
    -------
    bool
        Whether all its values are whole numbers from 0 to 255, or those over 255, and more than two of them.

    Examples
    --------
    >>> ramp = np.arange(6, dtype=np.float32)[None]
    >>> looks_8_bit(ramp / 255), looks_8_bit(ramp / 7)
    (True, False)
    """
    flat = heatmap.ravel()
    for scale in (np.float32(1), np.float32(255)):
        if not _whole(flat[None] * scale).all():
            continue
        levels = np.unique(np.rint(flat * scale))
        if levels[0] >= 0 and levels[-1] <= 255 and len(levels) > 2:
            return True
    return False


def _whole(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say of rows [n, k] whether they hold whole numbers only."""
    return np.asarray((np.abs(values - np.rint(values)) < 1e-4).all(axis=1))


def map_warnings(seen: MapsSeen, protocols: Sequence[Protocol]) -> list[str]:
    """Say what is peculiar about the maps.

    Parameters
    ----------
    seen
        What was collected.
    protocols
        The rules that they were scored under.

    Returns
    -------
    list of str
        Sentences.
    """
    found = []
    if seen.constant:
        found.append(
            f"{len(seen.constant)} heatmaps are constant, the rule decides their mask "
            f"({first_few(seen.constant, 3)})"
        )
    if seen.n_levels:
        found.append(
            f"{seen.n_levels} of {seen.n} heatmaps have at most {EIGHT_BIT_LEVELS} values, like 8-bit "
            "pictures: ties decide their masks; predict floats"
        )
    cosine = [p.name for p in protocols if p.scale == PROTOCOLS["slavc"].scale and p.offset]
    if cosine and seen.n and max(abs(seen.low), abs(seen.high)) <= 1:
        found.append(
            f"{' and '.join(cosine)} {_verb('expect', cosine)} cosine / tau with tau = {TAU}, values up to "
            f"{1 / TAU:.1f}, but these maps lie in [{seen.low:.3g}, {seen.high:.3g}]; are they not divided "
            "by tau?"
        )
    logits = [p.name for p in protocols if p.sigmoid]
    if logits and seen.n and seen.low >= 0 and seen.high <= 1:
        found.append(
            f"{' and '.join(logits)} {_verb('take', logits)} the sigmoid of logits, but these maps lie in "
            f"[{seen.low:.3g}, {seen.high:.3g}]; are they probabilities already?"
        )
    return found


def _verb(plural: str, names: Sequence[str]) -> str:
    return plural if len(names) > 1 else f"{plural}s"


def tie_warnings(ties: Mapping[str, Mapping[str, Any]], n: int) -> list[str]:
    """Say under which rules ties decide.

    Parameters
    ----------
    ties
        Protocol name to ``tied`` of the scores file.
    n
        Number of maps.

    Returns
    -------
    list of str
        No sentence or one.
    """
    tied = {name: found["n_large"] for name, found in ties.items() if found["n_large"] > TIED_SHARE * n}
    if not tied:
        return []
    return [
        f"ties decide: {', '.join(f'{count} of {n} maps under {name}' for name, count in tied.items())} have "
        f"more than {100 * LARGE_TIE:g} % of their pixels equal to the threshold; see the strict protocols"
    ]


def size_warnings(testset: str, n_clips: int, protocols: Sequence[Protocol]) -> list[str]:
    """Say whether a test set has a size that nobody published scores on.

    Parameters
    ----------
    testset
        Name of the test set, "" where it is not known.
    n_clips
        Number of its clips.
    protocols
        The rules.

    Returns
    -------
    list of str
        Sentences; none for a set that is not recognised.

    Examples
    --------
    >>> print(size_warnings("flickr", 240, [PROTOCOLS["lvs"]])[0].split(";")[0])
    the test set has 240 clips, but scores on Flickr-SoundNet were published on 178, 249, 250 and 500
    """
    everywhere = sorted(
        {n for p in PROTOCOLS.values() for name, n in p.published_sizes if name.split("-")[0] == testset}
    )
    if not everywhere:
        return []
    title = _SIZE_NAMES.get(testset, testset)
    if n_clips not in everywhere:
        sizes = ", ".join(map(str, everywhere[:-1])) + f" and {everywhere[-1]}"
        return [
            f"the test set has {n_clips} clips, but scores on {title} were published on {sizes}; compare "
            "with none of them"
        ]
    others = []
    for protocol in protocols:
        sizes_of_rule = [n for name, n in protocol.published_sizes if name.split("-")[0] == testset]
        if sizes_of_rule and n_clips not in sizes_of_rule:
            others.append(f"{protocol.name} ({', '.join(map(str, sizes_of_rule))})")
    if not others:
        return []
    return [
        f"the test set has {n_clips} clips, but published scores of these rules on {title} are on other "
        f"sizes: {', '.join(others)}"
    ]


def sweep_warnings(protocols: Sequence[Protocol]) -> list[str]:
    """Say what intervals leave out where the threshold was chosen on the test set.

    Parameters
    ----------
    protocols
        The rules.

    Returns
    -------
    list of str
        No sentence or one.
    """
    sweeps = [p.name for p in protocols if p.threshold == "sweep"]
    if not sweeps:
        return []
    return [
        f"the intervals of {' and '.join(sweeps)} hold the threshold fixed, which was chosen on this test "
        "set itself: they leave out what its choice adds"
    ]


def negative_warnings(kinds: Collection[str]) -> list[str]:
    """Say which kinds of negative audio are not those that papers report, and which of these are absent.

    Parameters
    ----------
    kinds
        Names of the kinds that were given.

    Returns
    -------
    list of str
        Sentences; none without negatives.

    Examples
    --------
    >>> print(*negative_warnings(["silence", "noise"]))
    no negatives of kind offscreen: the mean over kinds is over silence, noise alone
    """
    if not kinds:
        return []
    found = []
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        found.append(
            f"papers report no negatives of kind {', '.join(map(repr, unknown))}, but {', '.join(KINDS)}; is "
            "the name misspelt? The mean over kinds counts it"
        )
    if absent := [kind for kind in KINDS if kind not in kinds]:
        found.append(
            f"no negatives of kind {', '.join(absent)}: the mean over kinds is over {', '.join(kinds)} alone"
        )
    return found


def range_fault(
    clip_ids: Sequence[str], low: NDArray[np.float32], high: NDArray[np.float32], protocol: Protocol
) -> str:
    """Say which map leaves the range of a protocol.

    Parameters
    ----------
    clip_ids
        n ids.
    low, high : float32 [n]
        Smallest and largest value of each map.
    protocol
        The rule.

    Returns
    -------
    str
        A sentence with a guess at the mistake, "" if all keep it.
    """
    if protocol.value_range is None:
        return ""
    lower, upper = protocol.value_range
    outside = (low < lower - RANGE_TOLERANCE) | (high > upper + RANGE_TOLERANCE)
    if not outside.any():
        return ""
    row = int(outside.argmax())
    least, most = float(low[row]), float(high[row])
    if -1 - RANGE_TOLERANCE <= least < 0 and most <= 1 + RANGE_TOLERANCE:
        guess = "cosine similarities? Map them to probabilities first"
    elif least >= 0 and most <= 255:
        guess = "8-bit images? Divide by 255; or logits? Apply the sigmoid"
    else:
        guess = "logits? Apply the sigmoid"
    return (
        f"heatmap of clip {clip_ids[row]} lies in [{least:.4g}, {most:.4g}], but protocol {protocol.name} "
        f"thresholds values in [{lower:g}, {upper:g}]; {guess}; strict-median and strict-adaptive take any "
        "values"
    )
