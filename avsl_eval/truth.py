"""Ground truth: what is known about a clip, and the map that it makes.

Conventions
-----------
Boxes are xyxy in [0, 1] of the full frame. On a map of S pixels a corner v lies at ``int(S * clip(v, 0, 1))``
and a box covers the half-open slice [y0:y1, x0:x1].

========= ==================================================================================================
truth     g of a pixel
========= ==================================================================================================
union     1 inside any box (VGG-SS)
consensus 1/2 per box, at most 1 (Flickr-SoundNet; counted per box, not per annotator, as the published
          parsers do)
mask      1 inside the clip's mask (AVSBench, IS3, VPO); a clip without mask is drawn from its boxes
========= ==================================================================================================

A clip that has neither a mask nor boxes of its own is the union of its sources.

A box that covers nothing or has a corrupt coordinate cannot be used; it is dropped and listed, its clip
stays. A clip that never had a box nor a mask, itself or in a source, is *silent*: nothing in it sounds.

The formats of annotation files are those of `avsl_eval.annotations`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl_eval.errors import first_few
from avsl_eval.masks import Mask

Truth = Literal["union", "consensus", "mask"]

UNITS: dict[Truth, int] = {"union": 1, "consensus": 2, "mask": 1}
"""How many levels above 0 a truth has: g = level / unit."""


@dataclass(frozen=True)
class Source:
    """Hold one of several sounding things of a clip.

    Parameters
    ----------
    label
        Its class.
    boxes : float64 [n, 4]
        Its usable boxes, xyxy in [0, 1].
    mask
        Its mask, if there is one.
    """

    label: str
    boxes: NDArray[np.float64]
    mask: Mask | None = None

    def levels(self, size: int, truth: Truth) -> NDArray[np.uint8]:
        """Draw the map of this source alone; as `AnnotatedClip.levels`."""
        return _levels(self.boxes, self.mask, size, truth)


@dataclass(frozen=True)
class AnnotatedClip:
    """Hold what is known about one clip.

    Parameters
    ----------
    clip_id, label
        Its id and class ("" where the format has none).
    boxes : float64 [n, 4]
        Usable boxes, xyxy in [0, 1] (values outside are clipped when drawn).
    n_dropped
        Number of boxes that could not be used.
    mask
        Its mask, if there is one.
    group
        What it shares with other clips, "" if nothing: clips of one image with different sounds have one
        group (IS3, VPO-MS).
    sources
        The sounding things one by one, where the format tells them apart; ``boxes`` holds all of them.
    silence
        Why nothing sounds, for a silent clip: ``mismatched`` (the sound is another clip's), ``silent``, or
        another word of the annotations.
    """

    clip_id: str
    label: str
    boxes: NDArray[np.float64]
    n_dropped: int = 0
    mask: Mask | None = None
    group: str = ""
    sources: tuple[Source, ...] = ()
    silence: str = ""

    @property
    def is_silent(self) -> bool:
        """Whether nothing sounds in the picture: no box, usable or dropped, no mask, nor a source's."""
        own = len(self.boxes) or self.n_dropped or self.mask is not None
        return not own and not any(len(s.boxes) or s.mask is not None for s in self.sources)

    @property
    def has_mask(self) -> bool:
        """Whether it or one of its sources has a mask."""
        return self.mask is not None or any(source.mask is not None for source in self.sources)

    def levels(self, size: int, truth: Truth) -> NDArray[np.uint8]:
        """Draw the ground-truth map.

        Parameters
        ----------
        size
            Map size S in pixels.
        truth
            How; `Annotations.truth`.

        Returns
        -------
        uint8 [S, S]
            Levels: g times `UNITS`.

        Examples
        --------
        >>> clip = AnnotatedClip("a_000001", "", np.array([[0, 0, 0.5, 1]]))
        >>> clip.levels(2, "union").tolist(), clip.levels(2, "mask").tolist()
        ([[1, 0], [1, 0]], [[1, 0], [1, 0]])
        """
        if self._is_of_sources(truth):
            levels: NDArray[np.uint8] = np.stack([s.levels(size, truth) for s in self.sources]).max(axis=0)
            return levels
        return _levels(self.boxes, self.mask, size, truth)

    def is_of_boxes(self, truth: Truth) -> bool:
        """Say whether the map is drawn from the clip's own boxes alone."""
        return not (truth == "mask" and self.mask is not None) and not self._is_of_sources(truth)

    def _is_of_sources(self, truth: Truth) -> bool:
        """Say whether the map is that of the sources: the clip has neither a mask nor boxes of its own."""
        if self.mask is not None or not self.sources:
            return False
        if len(self.boxes) == 0:
            return True
        # Boxes that are those of the sources would hide sources that have a mask only.
        of_sources = np.concatenate([source.boxes for source in self.sources])
        return truth == "mask" and self.has_mask and np.array_equal(self.boxes, of_sources)


@dataclass(frozen=True)
class DroppedBox:
    """Name a box that could not be used, and why."""

    clip_id: str
    box: tuple[float, ...]
    why: str


@dataclass(frozen=True)
class Annotations:
    """Hold the annotations of a test set; its clips are the denominator of every score.

    Parameters
    ----------
    clips
        Annotated clips, in the file's order.
    truth
        How boxes or masks make a map.
    dropped
        Boxes that could not be used.
    path
        Where they were read, or None.
    name
        Of the test set, as far as the format tells (``vggss``, ``flickr``, ``is3``, ...), else "".
    notes
        One sentence each on how the set differs from the file that was read: silent pairs added, or
        restricted to a list.
    """

    clips: tuple[AnnotatedClip, ...]
    truth: Truth
    dropped: tuple[DroppedBox, ...] = ()
    path: Path | None = None
    name: str = ""
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> int:
        """The number of levels of `rasterise`, g = level / unit."""
        return UNITS[self.truth]

    @cached_property
    def sounding(self) -> NDArray[np.bool_]:
        """In which clips something sounds, bool [N]."""
        return np.array([not clip.is_silent for clip in self.clips], bool)

    @property
    def n_silent(self) -> int:
        """The number of clips in which nothing sounds."""
        return int(np.count_nonzero(~self.sounding))

    def digest(self) -> str:
        """Identify the test set, in whatever format and order it was written.

        Returns
        -------
        str
            SHA-256 of one line of JSON per clip, ``[clip_id, boxes, n_dropped, mask, sources]``, sorted by
            id with sorted boxes, after a line with the truth. Labels, groups and paths do not count: equal
            digests mean equal ground-truth maps of the same clips.

        Examples
        --------
        >>> one = AnnotatedClip("a_000001", "cat", np.array([[0, 0, 0.5, 1]]))
        >>> two = AnnotatedClip("b_000002", "dog", np.array([[0.5, 0, 1, 1]]))
        >>> Annotations((one, two), "union").digest() == Annotations((two, one), "union").digest()
        True
        """
        entries: list[Any] = []
        for clip in sorted(self.clips, key=lambda clip: clip.clip_id):
            sources = (
                sorted((_canonical(s.boxes, s.mask) for s in clip.sources), key=str) if clip.sources else []
            )
            boxes, mask = _canonical(clip.boxes, clip.mask)
            entries += [[clip.clip_id, boxes, mask, clip.n_dropped, sources], ""]
        # One call of the encoder for all clips takes a third of the time of a call for each. Within a line no
        # empty text stands between two commas: texts begin or end a list.
        lines = json.dumps(entries, separators=(",", ":"))[1:-1] + "," if entries else ""
        text = f"avsl-testset/1 {self.truth}\n" + lines.replace(',"",', "\n")
        return hashlib.sha256(text.encode()).hexdigest()

    def drawn_as(self, truth: Truth) -> Annotations:
        """Return the same clips, drawn in another way."""
        return replace(self, truth=truth)


def _canonical(boxes: NDArray[np.float64], mask: Mask | None) -> list[Any]:
    runs = [mask.height, mask.width, mask.counts.decode("ascii")] if mask else None
    listed = (boxes + 0.0).tolist()  # + 0.0 makes -0.0 plain 0.0
    return [sorted(listed) if len(listed) > 1 else listed, runs]


def _levels(boxes: NDArray[np.float64], mask: Mask | None, size: int, truth: Truth) -> NDArray[np.uint8]:
    if truth == "mask" and mask is not None:
        return mask.drawn(size)
    return rasterise(boxes, size, truth)


def rasterise(boxes: NDArray[np.floating[Any]], size: int, truth: Truth) -> NDArray[np.uint8]:
    """Draw boxes as a ground-truth map.

    Parameters
    ----------
    boxes : float [n, 4]
        xyxy in [0, 1].
    size
        Map size S in pixels.
    truth
        ``union`` (``mask`` is the same for boxes) or ``consensus``.

    Returns
    -------
    uint8 [S, S]
        Levels: g times 1 (union) or 2 (consensus).

    Examples
    --------
    >>> rasterise(np.array([[0, 0, 0.5, 1], [0, 0, 1, 0.5]]), 2, "consensus").tolist()
    [[2, 1], [1, 0]]
    """
    levels = np.zeros((size, size), np.uint8)
    for x0, y0, x1, y1 in corners_of(boxes, size).tolist():
        region = levels[y0:y1, x0:x1]
        if truth == "consensus":
            np.minimum(region + 1, 2, out=region)
        else:
            region[...] = 1
    return levels


def corners_of(boxes: NDArray[np.floating[Any]], size: int) -> NDArray[np.intp]:
    """Return the corners of boxes in pixels, int [n, 4]: ``int(S * clip(v, 0, 1))``."""
    corners = size * np.minimum(np.maximum(boxes, 0), 1)
    return np.asarray(corners, np.intp).reshape(-1, 4)


def read_annotations(
    source: str | Path | Mapping[str, Any] | Annotations,
    *,
    truth: Truth | None = None,
    masks: str | Path | None = None,
    extended: str | Path | None = None,
    only: str | Path | None = None,
) -> Annotations:
    """Read annotations of any known format.

    Parameters
    ----------
    source
        A file or folder (formats: `avsl_eval.annotations`), or a mapping from clip id to boxes [n, 4] xyxy
        in [0, 1] (drawn as a union), or annotations already read.
    truth
        How to draw them, if not as their format says: the boxes of a file that has masks, for example.
    masks
        Folder of the mask pictures that a published list of masks names.
    extended
        A published ``*_plus_silent.csv``, whose silent pairs are added. The clip id of a pair is
        ``<video>+<audio>``.
    only
        A published list of ids: the set is restricted to these clips.

    Returns
    -------
    Annotations
        With at least one clip.

    Raises
    ------
    EvalInputError
        If the source does not exist, is of no known format, is empty or damaged, or repeats a clip; or a
        list names clips that are not annotated.

    Examples
    --------
    >>> read_annotations({"a_000001": [[0.1, 0.1, 0.6, 0.5], [0.2, 0.2, 0.2, 0.9]]}).dropped[0].why
    'covers nothing'
    """
    from avsl_eval.annotations import derive, read  # they make the classes of this module

    annotations = source if isinstance(source, Annotations) else read(source, masks)
    return derive(annotations, truth=truth, extended=extended, only=only)


def describe_dropped(dropped: Sequence[DroppedBox]) -> str:
    """Summarise unusable boxes in one line.

    Parameters
    ----------
    dropped
        The boxes.

    Returns
    -------
    str
        For a log line.

    Examples
    --------
    >>> describe_dropped([DroppedBox("a_000001", (0.2, 0.2, 0.2, 0.9), "covers nothing")])
    '1 boxes of 1 clips cannot be used (a_000001)'
    """
    clips = list(dict.fromkeys(d.clip_id for d in dropped))
    return f"{len(dropped)} boxes of {len(clips)} clips cannot be used ({first_few(clips)})"
