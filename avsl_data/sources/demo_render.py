"""Pixels and samples of the demo source's scenes.

Shape letters: T frames, H = W = ``DemoSpec.size`` pixels, n samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl_data.sources.demo_scenes import COLOURS, PITCHES_HZ, DemoObject, DemoScene, DemoSpec, DemoVideo

Floats = NDArray[np.floating[Any]]


def render_video(spec: DemoSpec, video: DemoVideo) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Render one video.

    Parameters
    ----------
    spec, video
        The specification and one of its videos.

    Returns
    -------
    frames : uint8 [T, H, W, 3]
        RGB frames, T = scenes * scene_s * fps.
    samples : float32 [n]
        Mono sound in [-1, 1], n = scenes * scene_s * sample_rate.
    sample_rate : int
        Samples per second.
    """
    frames = np.concatenate([render_frames(spec, scene) for scene in video.scenes])
    samples = np.concatenate([render_sound(spec, scene) for scene in video.scenes])
    return frames, samples, spec.sample_rate


def render_frames(spec: DemoSpec, scene: DemoScene) -> NDArray[np.uint8]:
    """Render the frames of one scene.

    Parameters
    ----------
    spec, scene
        The specification and the scene.

    Returns
    -------
    uint8 [T, H, W, 3]
        RGB frames, T = scene_s * fps; frame t shows the time t / fps.
    """
    rng = np.random.default_rng([scene.stream, 0])
    background = _background(rng, spec.size)
    centres = (np.arange(spec.size, dtype=np.float32) + 0.5) / spec.size
    x, y = centres[None, :], centres[:, None]
    frames = np.empty((spec.scene_s * spec.fps, spec.size, spec.size, 3), np.uint8)
    for t in range(len(frames)):
        elapsed = t / spec.fps - spec.frame_time_s
        image = background.copy()
        for item in (*scene.silent, scene.sounding):
            _paint(image, item, x, y, elapsed, spec.size)
        frames[t] = np.clip(image, 0, 255).astype(np.uint8)
    return frames


def _background(rng: np.random.Generator, size: int) -> Floats:
    """Draw a texture: smooth colour noise on two scales over a muted base colour, [H, W, 3] in 0..255."""
    base = rng.uniform(70, 180, size=3)
    texture = np.zeros((size, size, 3), np.float32)
    for cells, strength in ((4, 26.0), (16, 16.0)):
        grid = rng.normal(0, strength, size=(cells + 1, cells + 1, 3)).astype(np.float32)
        texture += _enlarge(grid, size)
    grain = rng.normal(0, 5, size=(size, size, 1)).astype(np.float32)
    return (base.astype(np.float32) + texture + grain).astype(np.float32)


def _enlarge(grid: Floats, size: int) -> Floats:
    """Enlarge a [k, k, 3] grid to [size, size, 3] by linear interpolation between its nodes."""
    position = np.linspace(0, len(grid) - 1, size, dtype=np.float32)
    low = np.minimum(position.astype(np.int64), len(grid) - 2)
    weight = (position - low).astype(np.float32)
    rows = grid[low] * (1 - weight)[:, None, None] + grid[low + 1] * weight[:, None, None]
    return np.asarray(
        rows[:, low] * (1 - weight)[None, :, None] + rows[:, low + 1] * weight[None, :, None], np.float32
    )


def _paint(
    image: Floats,
    item: DemoObject,
    x: Floats,
    y: Floats,
    elapsed: float,
    size: int,
) -> None:
    """Paint one object into ``image`` with a soft edge of about one pixel and a light shading."""
    x0, y0, x1, y1 = item.box
    shift_x, shift_y = item.velocity[0] * elapsed, item.velocity[1] * elapsed
    half_width, half_height = (x1 - x0) / 2, (y1 - y0) / 2
    u = (x - ((x0 + x1) / 2 + shift_x)) / half_width
    v = (y - ((y0 + y1) / 2 + shift_y)) / half_height
    softness = 1 / (size * min(half_width, half_height))
    cover = np.clip(0.5 - _distance(item.shape, u, v) / softness, 0, 1)[..., None]
    colour = np.array(COLOURS[item.colour], np.float32) + np.array(item.tint, np.float32)
    shaded = colour * (1 - 0.18 * np.clip(v, -1, 1))[..., None]
    image *= 1 - cover
    image += cover * shaded


def _distance(shape: str, u: Floats, v: Floats) -> Floats:
    """Return a signed distance, negative inside, of a shape that touches the square [-1, 1] x [-1, 1].

    Each fills 56 to 100 % of the square, about as much as real objects fill of their boxes.
    """
    radius = np.sqrt(u * u + v * v)
    across, along = np.abs(u), np.abs(v)
    square = np.maximum(across, along) - 1
    distance: Floats
    if shape == "disc":
        distance = radius - 1
    elif shape == "square":
        distance = square
    elif shape == "triangle":  # its corners are cut by the square
        distance = np.maximum(square, (2 * across - v - 1.36) / np.float32(math.sqrt(5)))
    elif shape == "cross":
        bar, beam = np.maximum(across - 0.48, along - 1), np.maximum(across - 1, along - 0.48)
        distance = np.minimum(bar, beam)
    elif shape == "ring":
        distance = np.abs(radius - 0.7) - 0.3
    else:  # star with five points
        distance = radius - (0.84 + 0.16 * np.cos(5 * np.arctan2(u, -v)))
    return distance


def render_sound(spec: DemoSpec, scene: DemoScene) -> NDArray[np.float32]:
    """Render the sound of one scene: the sounding object's tone over faint noise.

    Parameters
    ----------
    spec, scene
        The specification and the scene.

    Returns
    -------
    float32 [n]
        Mono samples in [-1, 1], n = scene_s * sample_rate.
    """
    rng = np.random.default_rng([scene.stream, 1])
    n = spec.scene_s * spec.sample_rate
    time = np.arange(n) / spec.sample_rate
    pitch = PITCHES_HZ[list(COLOURS).index(scene.sounding.colour)] * math.exp(rng.normal(0, 0.012))
    tone = _timbre(scene.sounding.shape, pitch, time, rng)
    tone = tone / np.sqrt(np.mean(tone**2))
    fade = np.clip(np.minimum(time, time[-1] - time) / 0.02, 0, 1)
    level = 0.12 * 10 ** (rng.uniform(-6, 3) / 20)
    noise = rng.normal(0, 0.12 * 10 ** (-26 / 20), size=n)
    mixed: NDArray[np.float32] = np.clip(tone * fade * level + noise, -1, 1).astype(np.float32)
    return mixed


def _timbre(shape: str, pitch: float, time: Floats, rng: np.random.Generator) -> Floats:
    """Return the tone of a shape at a pitch: six kinds, told apart by overtones and by envelope."""
    phase = 2 * math.pi * pitch * time + rng.uniform(0, 2 * math.pi)
    jitter = np.exp(rng.normal(0, 0.15, size=9))
    overtone = [jitter[h] * np.sin(h * phase) for h in range(9)]
    tone: Floats
    if shape == "disc":  # nearly a sine
        tone = np.sin(phase) + 0.05 * overtone[2]
    elif shape == "square":  # odd overtones only
        tone = sum((overtone[h] / h for h in (1, 3, 5, 7)), np.zeros_like(time))
    elif shape == "triangle":  # all overtones, strong
        tone = sum((overtone[h] / math.sqrt(h) for h in range(1, 9)), np.zeros_like(time))
    elif shape == "cross":  # struck four to six times a second
        strikes = np.mod(time * rng.uniform(4, 6) + rng.uniform(0, 1), 1.0)
        tone = np.exp(-6 * strikes) * sum((overtone[h] / h for h in range(1, 9)), np.zeros_like(time))
    elif shape == "ring":  # inharmonic bell: frequency modulation at 1.41 times the pitch
        tone = np.sin(phase + 2.2 * jitter[0] * np.sin(1.41 * phase))
    else:  # star: a fast tremolo
        tremolo = 0.55 + 0.45 * np.sin(2 * math.pi * rng.uniform(10, 14) * time)
        tone = tremolo * (overtone[1] + 0.7 * overtone[2] + 0.4 * overtone[3])
    return tone
