"""A user's own video, picture or moment: where its sound comes from, drawn over it.

A video is read twice: first a map is made every so many seconds, of the picture of that moment and of the
sound around it; then every picture is drawn with the map between its two neighbours in time. Only the small
maps stay in memory, whatever the video's length.

Shape letters: K moments, H x W picture, h x w map.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from avsl_train.errors import TrainInputError
from avsl_train.files import whole_file
from avsl_train.inputs import Int16, samples_of
from avsl_train.model import PROBABILITY, Float32, Model
from avsl_train.overlay import Pixels, Style, draw, even
from avsl_train.video import Facts, Picture, SoundTrack, pictures, require_both
from avsl_train.video_writer import Writer

T = TypeVar("T")

EVERY_S: Final = 0.5
BATCH: Final = 4
LEAD_S: Final = 2.0
"""Read before the part that is wanted, so that the decoder has settled."""
ROUNDING_S: Final = 1e-3
"""Time stamps are rounded to the container's unit of time."""
STILLS: Final = (".png", ".jpg", ".jpeg")
JPEG_QUALITY: Final = 95


@dataclass(frozen=True)
class Track:
    """Maps over time.

    Parameters
    ----------
    times_s : float64 [K]
        Ascending.
    maps : float32 [K, h, w]
        One per moment.
    """

    times_s: NDArray[np.float64]
    maps: Float32

    def at(self, time_s: float) -> Float32:
        """Return the map [h, w] of a time: linear between two moments, the nearest one's outside.

        Examples
        --------
        >>> track = Track(np.array([0.0, 2.0]), np.float32([[[0.0]], [[1.0]]]))
        >>> [track.at(time_s).item() for time_s in (-1.0, 0.5, 5.0)]
        [0.0, 0.25, 1.0]
        """
        after = int(np.searchsorted(self.times_s, time_s))
        if after in (0, len(self.times_s)):
            after = min(after, len(self.times_s) - 1)
            return np.asarray(self.maps[after])
        before = after - 1
        gap = self.times_s[after] - self.times_s[before]
        share = np.float32((time_s - self.times_s[before]) / gap)
        found: Float32 = (1 - share) * self.maps[before] + share * self.maps[after]
        return found


def localize_video(
    model: Model,
    video: Path,
    out: Path,
    style: Style,
    every_s: float = EVERY_S,
    window_s: float | None = None,
) -> Track:
    """Draw a model's maps over a video and write it, with its sound, as mp4.

    Size (made even), pictures per second, time stamps and length are those of the video.

    Parameters
    ----------
    model
        What localizes.
    video
        The video, with sound.
    out
        File to write, ``.mp4``; it appears whole or not at all.
    style
        How maps are drawn.
    every_s
        Seconds between two maps.
    window_s
        Seconds of sound around each; None: as many as the model hears.

    Returns
    -------
    Track
        The maps that were made.

    Raises
    ------
    TrainInputError
        The video cannot be used, a value is out of range, or the file cannot be written.
    """
    if out.suffix.lower() != ".mp4":
        raise TrainInputError(f"--out {out} is no .mp4: videos are written as mp4, stills as png or jpg")
    if not every_s > 0:
        raise TrainInputError(f"--every is {every_s:g}: seconds between two maps, more than 0")
    window_s = check_window(model, window_s)
    check_out(out, video)
    facts = require_both(video)
    track = _track(model, video, facts, every_s, window_s)
    low, high = limits(model, style, track.maps)

    def drawn(time_s: float, pixels: Pixels) -> Pixels:
        if pixels.shape[:2] != (facts.height, facts.width):  # a video may change its size
            pixels = np.asarray(Image.fromarray(pixels).resize((facts.width, facts.height)))
        return even(_drawn(model, track.at(time_s), pixels, style, low, high))

    width, height = (1 + style.side_by_side) * facts.width, facts.height
    with (
        whole_file(out) as temporary,
        Writer(temporary, facts, width + width % 2, height + height % 2) as writer,
    ):
        for _ in _with_bar(writer.copy(video, drawn), facts.pictures, "drawing"):
            pass
    return track


def localize_moment(
    model: Model, video: Path, at_s: float, out: Path, style: Style, window_s: float | None = None
) -> Float32:
    """Draw a model's map over the picture of one time of a video; write a PNG or JPEG.

    Returns
    -------
    float32 [h, w]
        The map.

    Raises
    ------
    TrainInputError
        As `localize_video`, or the video has no such time.
    """
    check_still(out)
    window_s = check_window(model, window_s)
    check_out(out, video)
    facts = require_both(video)
    if at_s < 0:
        raise TrainInputError(f"--at is {at_s:g}: seconds from the video's beginning")
    shown = _shown_at(video, at_s)
    end_s = max(facts.duration_s, shown.time_s + 1 / float(facts.rate))
    if at_s > end_s:
        raise TrainInputError(f"--at is {at_s:g}, and {video} lasts {end_s:.1f} s")
    with SoundTrack(video, max(at_s - window_s - LEAD_S, 0.0)) as sound:
        heard = samples_of(sound.around(shown.time_s, window_s), sound.sample_rate, model.sample_rate)
    return _still(model, Image.fromarray(shown.pixels()), heard, out, style)


def localize_pair(
    model: Model, image: Path, audio: Path, out: Path, style: Style, window_s: float | None = None
) -> Float32:
    """Draw a model's map of a picture and a sound, each a file of its own; write a PNG or JPEG.

    Of a sound that is longer than the window the middle is heard.

    Returns
    -------
    float32 [h, w]
        The map.

    Raises
    ------
    TrainInputError
        A file cannot be used, a value is out of range, or the file cannot be written.
    """
    check_still(out)
    window_s = check_window(model, window_s)
    check_out(out, image)
    check_out(out, audio)
    try:
        with Image.open(image) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError as error:
        raise TrainInputError(f"no file {image}") from error
    except OSError as error:
        raise TrainInputError(f"{image} cannot be read as a picture ({error})") from error
    with SoundTrack(audio) as sound:
        middle = sound.around(sound.duration_s / 2, window_s)
        heard = samples_of(middle, sound.sample_rate, model.sample_rate)
    return _still(model, picture, heard, out, style)


def limits(model: Model, style: Style, maps: Float32) -> tuple[float, float]:
    """Return the values of the first and last colour: as the style says, else the model's or the maps'."""
    known = model.values == PROBABILITY
    low = style.low if style.low is not None else (model.values.low if known else float(maps.min()))
    high = style.high if style.high is not None else (model.values.high if known else float(maps.max()))
    return low, high


def check_window(model: Model, window_s: float | None) -> float:
    """Return how much sound a map is made of.

    Raises
    ------
    TrainInputError
        It is not more than 0, or more than the model hears.
    """
    if window_s is None:
        return model.window_s
    if not 0 < window_s <= model.window_s:
        raise TrainInputError(
            f"--window is {window_s:g}: the model hears {model.window_s:g} s at once, so it lies between 0 "
            f"and {model.window_s:g}"
        )
    return window_s


def check_out(out: Path, source: Path) -> None:
    """Raise TrainInputError if a file would be written over what it is made of, or is a folder."""
    if out.exists() and source.exists() and out.samefile(source):
        raise TrainInputError(f"--out {out} is the input itself: choose another name")
    if out.is_dir():
        raise TrainInputError(f"--out {out} is a folder: name the file")


def check_still(out: Path) -> None:
    """Raise TrainInputError unless a name is that of a PNG or JPEG."""
    if out.suffix.lower() not in STILLS:
        raise TrainInputError(f"--out {out}: a still is written as {', '.join(STILLS)}")


def _track(model: Model, video: Path, facts: Facts, every_s: float, window_s: float) -> Track:
    """Return the maps of a video."""
    times: list[float] = []
    maps: list[Float32] = []
    waiting: list[tuple[Image.Image, Int16]] = []
    due_s = 0.0
    with SoundTrack(video) as sound:
        for picture in _with_bar(pictures(video), facts.pictures, "localizing"):
            if times and picture.time_s < due_s - ROUNDING_S:
                continue
            times.append(picture.time_s)
            due_s = (math.floor((picture.time_s + ROUNDING_S) / every_s) + 1) * every_s
            heard = samples_of(sound.around(picture.time_s, window_s), sound.sample_rate, model.sample_rate)
            waiting.append((Image.fromarray(picture.pixels()), heard))
            if len(waiting) == BATCH:
                maps.append(model.maps(*zip(*waiting, strict=True)))
                waiting = []
    if waiting:
        maps.append(model.maps(*zip(*waiting, strict=True)))
    return Track(np.array(times), np.concatenate(maps))


def _shown_at(video: Path, at_s: float) -> Picture:
    """Return the picture that is shown at a time; of a time after the end the last one."""
    shown: Picture | None = None
    for start_s in (max(at_s - LEAD_S, 0.0), 0.0):  # beyond the end nothing may be left to be read
        for picture in pictures(video, start_s):
            if shown is not None and picture.time_s > at_s + ROUNDING_S:
                break
            shown = picture
        if shown is not None:
            return shown
    raise TrainInputError(f"{video} has no picture that can be decoded: is it cut short?")


def _still(model: Model, picture: Image.Image, heard: Int16, out: Path, style: Style) -> Float32:
    heatmap = np.asarray(model.maps([picture], [heard])[0])
    low, high = limits(model, style, heatmap)
    pixels = _drawn(model, heatmap, np.asarray(picture), style, low, high)
    try:
        with whole_file(out) as temporary:
            Image.fromarray(pixels).save(temporary, quality=JPEG_QUALITY)
    except OSError as error:
        raise TrainInputError(f"cannot write {out}: {error}") from error
    return heatmap


def _drawn(model: Model, heatmap: Float32, pixels: Pixels, style: Style, low: float, high: float) -> Pixels:
    height, width = pixels.shape[:2]
    return draw(pixels, model.on_frame(heatmap, width, height), style, low, high)


def _with_bar(items: Iterator[T], count: int, what: str) -> Iterator[T]:
    """Yield the same, with a progress bar on a terminal."""
    from tqdm import tqdm

    yield from tqdm(
        items, desc=what, total=count or None, unit=" pictures", leave=False, disable=not sys.stderr.isatty()
    )
