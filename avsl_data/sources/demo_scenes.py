"""Scenes of the demo source: what is seen, what is heard and where.

A scene is a textured background with one sounding object and up to three silent ones. The sound tells
*which* object it is: the shape gives the timbre and the colour gives the pitch, each with a slight random
variation. Neither the picture nor the sound alone gives the answer: the picture holds several candidates,
and the sound has no direction.

Six shapes times five colours make 30 classes. Twenty are *heard* (they occur in training), ten are
*unheard*; every shape and every colour occurs among the heard ones, so the unheard set is open by
composition. In training videos unheard classes are not seen either, not even as silent objects.

The area of the sounding object's box is drawn from the distribution of VGG-SS's ground-truth union area
(5th percentile .03, median .25, 95th percentile .78 of the image), which is logit-normal with location
-1.10 and scale 1.445: both tails lie 2.38 logits from the median.

Objects drift slowly. The boxes are those of the frame at ``DemoSpec.frame_time_s``; a frame taken at
another time does not fit them.

Everything is a pure function of the specification: the same seed gives the same pixels, samples and boxes.

This module draws what a scene holds; `avsl_data.sources.demo_render` turns it into pixels and samples.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

SHAPES: Final = ("disc", "square", "triangle", "cross", "ring", "star")
"""Shape of an object; its index chooses the timbre."""

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (216, 52, 44),
    "yellow": (232, 196, 36),
    "green": (52, 168, 72),
    "blue": (48, 92, 216),
    "magenta": (204, 60, 190),
}
"""Colour names and 8-bit RGB values; the index chooses the pitch."""

PITCHES_HZ: Final = (196.0, 311.1, 493.9, 784.0, 1244.5)
"""Fundamental of each colour: eight semitones apart, so that a 3 % variation never confuses two."""

CLASSES: Final = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
UNHEARD: Final = tuple(
    f"{colour} {shape}"
    for s, shape in enumerate(SHAPES)
    for c, colour in enumerate(COLOURS)
    if (s + c) % 3 == 0
)
HEARD: Final = tuple(name for name in CLASSES if name not in UNHEARD)

AREA_LOGIT_MEAN: Final = -1.10
AREA_LOGIT_SCALE: Final = 1.445
AREA_RANGE: Final = (0.012, 0.88)
SILENT_COUNT_PROBABILITIES: Final = (0.05, 0.25, 0.35, 0.35)
SILENT_SCALE_DEVIATION: Final = 0.5
"""Standard deviation of the log of a silent object's area relative to the sounding one's."""

MAX_OVERLAP: Final = 0.08
"""Largest share of the smaller of two boxes that the other one may cover."""

PLACING_TRIES: Final = 120

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in [0, 1]."""

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class DemoSpec:
    """Everything that the demo's pixels, samples and boxes depend on.

    Parameters
    ----------
    seed
        Seed of every random draw.
    n_videos, scenes_per_video
        80 videos of 20 scenes are 1,600 clips.
    scene_s
        Length of a scene and of its clip in seconds; a whole number, because clip ids hold whole seconds.
    fps
        Frames per second of the rendered video.
    size
        Height and width of the video in pixels; even, as H.264 wants it.
    frame_time_s
        Time within the clip at which the boxes hold. Like VGG-SS's 4.96 s of 10 s it lies just before the
        middle, on a frame.
    sample_rate
        Audio samples per second of the rendered video.
    n_val, n_test
        Videos whose ``official_split`` is ``val`` and ``test``; the others are ``train``.
    """

    seed: int = 7
    n_videos: int = 80
    scenes_per_video: int = 20
    scene_s: int = 2
    fps: int = 10
    size: int = 128
    frame_time_s: float = 0.9
    sample_rate: int = 16000
    n_val: int = 4
    n_test: int = 20

    def __post_init__(self) -> None:
        if self.n_val + self.n_test >= self.n_videos:
            raise ValueError(
                f"{self.n_videos} videos leave none for training after {self.n_val} for val and "
                f"{self.n_test} for test: ask for more videos"
            )
        if self.size % 2 or self.size < 32:
            raise ValueError(f"size must be an even number of pixels from 32, got {self.size}")
        if not 0 <= self.frame_time_s < self.scene_s:
            raise ValueError(f"frame_time_s {self.frame_time_s} lies outside the scene of {self.scene_s} s")


@dataclass(frozen=True)
class DemoObject:
    """One object of a scene.

    Parameters
    ----------
    shape, colour
        Names from `SHAPES` and `COLOURS`.
    box
        (x0, y0, x1, y1) in [0, 1] at the specification's ``frame_time_s``.
    velocity
        (dx, dy) of the box in widths and heights of the image per second.
    tint
        Added to the colour's RGB value: the slight variation of a class.
    """

    shape: str
    colour: str
    box: Box
    velocity: tuple[float, float]
    tint: tuple[int, int, int]

    @property
    def label(self) -> str:
        """Class name, colour first: ``red disc``."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class DemoScene:
    """One scene: its place in the video, its objects and the random stream of its texture and sound."""

    clip_id: str
    start_s: int
    sounding: DemoObject
    silent: tuple[DemoObject, ...]
    stream: int

    @property
    def label(self) -> str:
        """Class of the sounding object."""
        return self.sounding.label

    @property
    def boxes(self) -> list[Box]:
        """Ground truth: the sounding object's box, xyxy in [0, 1]."""
        return [self.sounding.box]


@dataclass(frozen=True)
class DemoVideo:
    """One video: its id, its side of the official split and its scenes in order."""

    video_id: str
    official_split: str
    scenes: tuple[DemoScene, ...] = field(repr=False)


def demo_videos(spec: DemoSpec) -> list[DemoVideo]:
    """Draw the videos of a specification.

    Parameters
    ----------
    spec
        The specification.

    Returns
    -------
    list of DemoVideo
        ``spec.n_videos`` videos, train first. Training and val videos hold heard classes only; a test video
        holds heard ones if its number is even and unheard ones if it is odd, balanced over the classes.

    Examples
    --------
    >>> videos = demo_videos(DemoSpec(n_videos=6, scenes_per_video=2, n_val=1, n_test=2))
    >>> [video.official_split for video in videos]
    ['train', 'train', 'train', 'val', 'test', 'test']
    >>> videos[5].scenes[0].label in UNHEARD
    True
    """
    n_train = spec.n_videos - spec.n_val - spec.n_test
    splits = ["train"] * n_train + ["val"] * spec.n_val + ["test"] * spec.n_test
    return [_draw_video(spec, number, split) for number, split in enumerate(splits)]


def _draw_video(spec: DemoSpec, number: int, split: str) -> DemoVideo:
    """Draw one video from its own random stream, so that more videos change no other one."""
    rng = np.random.default_rng([spec.seed, number])
    digest = hashlib.sha256(f"avsl demo {spec.seed} {number}".encode()).digest()
    video_id = "demo" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:7])
    unheard = split == "test" and number % 2 == 1
    sounding_pool = UNHEARD if unheard else HEARD
    silent_pool = CLASSES if split == "test" else HEARD
    labels = _balanced(rng, sounding_pool, spec.scenes_per_video)
    scenes = tuple(
        _draw_scene(rng, f"{video_id}_{position * spec.scene_s:06d}", label, silent_pool)
        for position, label in enumerate(labels)
    )
    return DemoVideo(video_id, split, scenes)


def _balanced(rng: np.random.Generator, pool: tuple[str, ...], count: int) -> list[str]:
    """Draw ``count`` classes, each equally often up to one."""
    rounds = math.ceil(count / len(pool))
    return [name for _ in range(rounds) for name in rng.permutation(np.array(pool)).tolist()][:count]


def _draw_scene(
    rng: np.random.Generator, clip_id: str, label: str, silent_pool: tuple[str, ...]
) -> DemoScene:
    sounding = _draw_object(rng, label, _draw_box(rng, _draw_area(rng)))
    silent: list[DemoObject] = []
    for _ in range(int(rng.choice(len(SILENT_COUNT_PROBABILITIES), p=SILENT_COUNT_PROBABILITIES))):
        other = _silent_label(rng, label, silent_pool, [item.label for item in silent])
        box = _free_box(rng, sounding.box, [item.box for item in silent])
        if box is not None:
            silent.append(_draw_object(rng, other, box))
    stream = int(rng.integers(2**62))
    return DemoScene(clip_id, int(clip_id[-6:]), sounding, tuple(silent), stream)


def _silent_label(rng: np.random.Generator, label: str, pool: tuple[str, ...], taken: list[str]) -> str:
    """Choose a silent class that differs from every other object; half of them share colour or shape."""
    free = [name for name in pool if name != label and name not in taken]
    related = [name for name in free if set(name.split()) & set(label.split())]
    choices = related if related and rng.random() < 0.5 else free
    return choices[int(rng.integers(len(choices)))]


def _draw_area(rng: np.random.Generator) -> float:
    """Draw a box area as a share of the image from VGG-SS's distribution."""
    logit = rng.normal(AREA_LOGIT_MEAN, AREA_LOGIT_SCALE)
    return float(np.clip(1 / (1 + math.exp(-logit)), *AREA_RANGE))


def _draw_box(rng: np.random.Generator, area: float) -> Box:
    """Place a box of the given area anywhere inside the image, with an aspect ratio of up to 1.4."""
    log_limit = min(math.log(1.4), -math.log(area) * 0.95)
    aspect = math.exp(rng.uniform(-log_limit, log_limit))
    width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    x0, y0 = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return (float(x0), float(y0), float(x0 + width), float(y0 + height))


def _free_box(rng: np.random.Generator, sounding: Box, silent: list[Box]) -> Box | None:
    """Place one more box that hardly overlaps the others, or None where no room is left.

    Its area is like the sounding one's, so that size does not tell which object sounds; where that does not
    fit, it shrinks from try to try.
    """
    wanted = _area(sounding) * math.exp(rng.normal(0, SILENT_SCALE_DEVIATION))
    for attempt in range(PLACING_TRIES):
        box = _draw_box(rng, float(np.clip(wanted * 0.975**attempt, *AREA_RANGE)))
        if all(_covered_share(box, other) <= MAX_OVERLAP for other in (sounding, *silent)):
            return box
    return None


def _area(box: Box) -> float:
    """Return the area of a box as a share of the image."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _covered_share(first: Box, second: Box) -> float:
    """Return the intersection of two boxes as a share of the smaller one."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(_area(first), _area(second))


def _draw_object(rng: np.random.Generator, label: str, box: Box) -> DemoObject:
    colour, shape = label.split()
    angle = rng.uniform(0, 2 * math.pi)
    speed = rng.uniform(0.01, 0.04)
    red, green, blue = (int(value) for value in rng.integers(-14, 15, size=3))
    velocity = (speed * math.cos(angle), speed * math.sin(angle))
    return DemoObject(shape, colour, box, velocity, (red, green, blue))
