"""Interactive metrics: an image counts only if all of its sounds are localised.

Conventions
-----------
N clips fall into G groups: the same image with different sounds (IS3), of which a model that looks but does
not listen gets only one right. A group's name is given, or it is the clip's id up to the last ``_``. A
group's cIoU is the smallest cIoU of its members, NaN where a member's is: it reaches a threshold if and
only if every member does.

Metrics (fractions; larger is better)
-------------------------------------
``iiou@0.5``
    The fraction of groups whose every member has cIoU >= 0.5.
``iauc``
    The area under the curve "fraction of groups that reach x" over the 21 thresholds of `avsl_eval.ciou`.

Source: Senocak et al., Sound Source Localization is All about Cross-Modal Alignment, ICCV 2023, and its
published evaluator, which does not check that groups are complete. Here they count as they are, too, and
are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_eval.ciou import metrics

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """Say which clips belong together.

    Parameters
    ----------
    names
        G names, in the order of their first clips.
    group_of : int64 [N]
        Index of each clip's group.
    expected_size
        How many members a group should have.
    """

    names: tuple[str, ...]
    group_of: NDArray[np.int64]
    expected_size: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of members of each group, int64 [G]."""
        return np.bincount(self.group_of, minlength=len(self.names)).astype(np.int64)


def group_name(clip_id: str) -> str:
    """Name the group of a clip.

    Parameters
    ----------
    clip_id
        For example ``accordion_airplane_0001_accordion``.

    Returns
    -------
    str
        The id up to its last ``_``; all of it where it has none.

    Examples
    --------
    >>> group_name("scene007_dog"), group_name("scene")
    ('scene007', 'scene')
    """
    return clip_id.rpartition("_")[0] or clip_id


def find_groups(
    clip_ids: Sequence[str], names: Sequence[str] | None = None, expected_size: int | None = None
) -> Groups:
    """Group clips.

    Parameters
    ----------
    clip_ids
        N ids.
    names
        The group of each clip; None derives it from the id by `group_name`.
    expected_size
        Members that a group should have; None takes the most common size, the larger of two equally common
        ones.

    Returns
    -------
    Groups
        In the order of the groups' first clips.

    Raises
    ------
    ValueError
        If names and clips differ in number.

    Examples
    --------
    >>> groups = find_groups(["a_1", "a_2", "b_1", "b_2", "c_1"])
    >>> groups.names, groups.expected_size, groups.sizes.tolist()
    (('a', 'b', 'c'), 2, [2, 2, 1])
    """
    of_clip = [group_name(i) for i in clip_ids] if names is None else list(names)
    if len(of_clip) != len(clip_ids):
        raise ValueError(f"one group per clip: got {len(of_clip)} groups for {len(clip_ids)} clips")
    index = {name: k for k, name in enumerate(dict.fromkeys(of_clip))}
    group_of = np.array([index[name] for name in of_clip], dtype=np.int64)
    if expected_size is None:
        how_often = np.bincount(np.bincount(group_of)) if len(group_of) else np.zeros(1)
        expected_size = int(np.flatnonzero(how_often == how_often.max())[-1])
    return Groups(tuple(index), group_of, expected_size)


def group_ciou(groups: Groups, ciou: Float64) -> Float64:
    """Compute the cIoU of each group.

    Parameters
    ----------
    groups
        Which clips belong together.
    ciou : float64 [N]
        cIoU of each clip, NaN for 0/0.

    Returns
    -------
    float64 [G]
        The smallest of the members', NaN where one is NaN. Whatever is computed from one cIoU per clip
        (`avsl_eval.ciou.metrics`, bootstrap intervals) can be computed from one per group.

    Examples
    --------
    >>> group_ciou(find_groups(["a_1", "a_2", "b_1"]), np.array([0.7, 0.4, 0.9])).tolist()
    [0.4, 0.9]
    """
    out = np.full(len(groups.names), np.inf)
    undefined = np.isnan(ciou)
    np.minimum.at(out, groups.group_of, np.where(undefined, np.inf, ciou))
    out[groups.group_of[undefined]] = np.nan  # it fails at every threshold, and its group with it
    return out


def incomplete_groups(groups: Groups, missing: NDArray[np.bool_] | None = None) -> list[dict[str, Any]]:
    """List groups that cannot be compared with the others.

    Parameters
    ----------
    groups
        Which clips belong together.
    missing : bool [N], optional
        Clips without prediction.

    Returns
    -------
    list of dict
        ``name``, ``n`` (members), ``expected`` and ``missing`` (members without prediction) of every group
        of another size than expected, and of every group with a member missing.

    Examples
    --------
    >>> incomplete_groups(find_groups(["a_1", "a_2", "b_1", "b_2", "c_1"]))
    [{'name': 'c', 'n': 1, 'expected': 2, 'missing': 0}]
    """
    gone = np.zeros(len(groups.names), np.int64)
    if missing is not None:
        np.add.at(gone, groups.group_of, np.asarray(missing, bool))
    return [
        {"name": name, "n": int(n), "expected": groups.expected_size, "missing": int(lost)}
        for name, n, lost in zip(groups.names, groups.sizes, gone, strict=True)
        if n != groups.expected_size or lost
    ]


def group_metrics(groups: Groups, ciou: Float64) -> dict[str, float]:
    """Compute the interactive metrics.

    Parameters
    ----------
    groups
        Which clips belong together; at least one group.
    ciou : float64 [N]
        cIoU of each clip, NaN for 0/0.

    Returns
    -------
    dict
        ``iiou@0.5`` and ``iauc``.

    Examples
    --------
    >>> group_metrics(find_groups(["a_1", "a_2", "b_1", "b_2"]), np.array([0.7, 0.4, 0.9, 0.5]))["iiou@0.5"]
    0.5
    """
    found = metrics(group_ciou(groups, ciou))
    return {"iiou@0.5": found["ciou@0.5"], "iauc": found["auc"]}
